"""The answers that the edge gives itself: a status, a reason for programs, a sentence for people.

Every one of them names its reason in ``X-Wormhole-Error`` and in a small plain page (see ``pages``), with the request's
id.  None repeats what the visitor
or an origin sent, and none shows a traceback.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from wormhole_tw.edge.pages import error_page
from wormhole_tw.http.events import Fields, Framing, ResponseHead

if TYPE_CHECKING:
    from wormhole_tw.control.model import ErrorPages, LocalAnswer

__all__ = [
    "ANSWERS",
    "Answer",
    "HttpDate",
    "challenge_answer",
    "error_answer",
    "head_timeout",
    "local_answer",
    "options_answer",
    "plain_http_on_tls_port",
    "redirect_answer",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer.

    :ivar status: the HTTP status
    :ivar message: one sentence for people
    :ivar retry_after: seconds for ``Retry-After``, or None
    """

    status: int
    message: str
    retry_after: int | None = None


ANSWERS: dict[str, Answer] = {
    "unknown-host": Answer(404, "No site of that name is served here."),
    "no-route": Answer(404, "This site has nothing at that path."),
    "bad-host": Answer(400, "The host name of the request is not valid."),
    "bad-request": Answer(400, "The request is not valid HTTP."),
    "misdirected": Answer(421, "This connection's TLS is not for that host name; open another connection."),
    "client-certificate-required": Answer(
        403, "This site asks for a client certificate: come by https, with the site's name in TLS (SNI)."
    ),
    "request-timeout": Answer(408, "The request did not arrive in time."),
    # requests end all the time, so that there is room again soon
    "too-many-requests": Answer(
        429, "Too many requests of this address are running here; wait until one has ended.", retry_after=1
    ),
    "site-busy": Answer(429, "As many requests as this site takes are running; try again in a moment.", retry_after=1),
    # the agent reconnects within a second or two as a rule; more would keep visitors away for nothing
    "no-agent": Answer(503, "The service behind this name is not connected right now.", retry_after=2),
    "overloaded": Answer(503, "The service behind this name has no room for another request right now.", retry_after=1),
    "circuit-open": Answer(
        503, "The service behind this name has failed too often; it is left alone for a moment.", retry_after=5
    ),
    "agent-lost": Answer(502, "The connection to the service was lost before it answered."),
    "service-refused": Answer(502, "The service behind this name does not accept connections."),
    "service-unknown": Answer(502, "The address of the service behind this name cannot be found."),
    "service-forbidden": Answer(502, "The service behind this name has an address that this edge does not go to."),
    "service-untrusted": Answer(502, "The service behind this name could not prove by its certificate who it is."),
    "loop": Answer(508, "The request goes in a circle: the service behind this name leads back to this edge."),
    "service-failed": Answer(502, "The service closed the connection before it answered."),
    "bad-answer": Answer(502, "The service gave an answer that is not valid HTTP."),
    "not-http2": Answer(502, "The service behind this name does not speak HTTP/2, which this edge was told it does."),
    "http1-required": Answer(
        502, "The service behind this name wants HTTP/1.1, and this edge was told it takes HTTP/2."
    ),
    "upgrade-not-supported": Answer(501, "The service behind this name takes no WebSocket or other upgrade."),
    "service-timeout": Answer(504, "The service did not answer in time."),
    "middleware-failed": Answer(500, "A part of this site that handles requests has failed."),
    "middleware-timeout": Answer(504, "A part of this site that handles requests did not do so in time."),
    "internal": Answer(500, "The edge failed to handle this request."),
}
"""Reasons, as ``X-Wormhole-Error`` names them, and what goes with each."""


class HttpDate:
    """The time as ``Date`` wants it (RFC 9110 §5.6.7), formatted at most once a second."""

    __slots__ = ("_line", "_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = b""
        self._line = (b"Date", b"")

    def at(self, now: float) -> bytes:
        """
        :param now: seconds since 1970
        """
        second = int(now)
        if second != self._second:
            self._second = second
            # strftime would speak the language of the process's locale
            t = time.gmtime(second)
            day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[t.tm_wday]
            month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[t.tm_mon - 1]
            self._text = (
                f"{day}, {t.tm_mday:02d} {month} {t.tm_year:04d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
            ).encode("ascii")
            self._line = (b"Date", self._text)
        return self._text

    def line(self, now: float) -> tuple[bytes, bytes]:
        """The whole field; the same object for a second.

        :param now: seconds since 1970
        """
        self.at(now)
        return self._line


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _page(
    status: int,
    reason: str,
    message: str,
    fields: Fields,
    accept: str | None = None,
    request_id: bytes = b"",
    pages: ErrorPages | None = None,
) -> tuple[ResponseHead, bytes]:
    phrase = _phrase(status)
    content_type, body = error_page(status, phrase, reason, message, request_id, accept, pages)
    if request_id:
        fields.append((b"X-Request-Id", request_id))
    fields += [
        (b"Content-Type", content_type),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Wormhole-Error", reason.encode("ascii")),
    ]
    head = ResponseHead(status, phrase.encode("ascii"), fields, framing=Framing.LENGTH, length=len(body))
    return head, body


def error_answer(
    reason: str,
    date: bytes,
    *,
    status: int | None = None,
    message: str | None = None,
    close: bool = False,
    accept: str | None = None,
    request_id: bytes = b"",
    pages: ErrorPages | None = None,
) -> tuple[ResponseHead, bytes]:
    """The head and body of an answer of the edge's own.

    :param reason: a key of :data:`ANSWERS`, or another token with *status* and *message* given
    :param date: the value of ``Date``
    :param close: the connection takes no further request after it
    :param accept: the request's ``Accept``
    :param request_id: the request's name
    :param pages: the site's own pages
    """
    answer = ANSWERS.get(reason) or Answer(500, "The edge failed to handle this request.")
    fields: Fields = [(b"Date", date)]
    if status is None:
        status = answer.status
    if status == 426:
        # RFC 9110 §15.5.22, RFC 6455 §4.2.2
        fields += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    if answer.retry_after is not None:
        fields.append((b"Retry-After", b"%d" % answer.retry_after))
    head, body = _page(status, reason, message or answer.message, fields, accept, request_id, pages)
    head.keep_alive = not close
    return head, body


def redirect_answer(location: bytes, date: bytes) -> tuple[ResponseHead, bytes]:
    """308: the same method and body, over https (RFC 9110 §15.4.9).

    :param location: the whole target, made of a host name that was checked and the path as it was sent
    """
    body = b"This site is served over https.\n"
    fields: Fields = [
        (b"Date", date),
        (b"Location", location),
        (b"Content-Type", b"text/plain; charset=utf-8"),
    ]
    return ResponseHead(308, b"Permanent Redirect", fields, framing=Framing.LENGTH, length=len(body)), body


def local_answer(answer: LocalAnswer, body: bytes, date: bytes) -> tuple[ResponseHead, bytes]:
    """What a route or a gate of it says by itself, where it brings its own body.

    :param body: its body
    """
    status = answer.status
    fields: Fields = [(b"Date", date), *answer.fields]
    if answer.reason and status >= 400:
        fields.append((b"X-Wormhole-Error", answer.reason.encode("ascii")))
    if status in (204, 304):  # RFC 9110 §15.3.5, §15.4.5: these have none
        return ResponseHead(status, _phrase(status).encode("ascii"), fields), b""
    return ResponseHead(status, _phrase(status).encode("ascii"), fields, framing=Framing.LENGTH, length=len(body)), body


def challenge_answer(value: bytes, date: bytes) -> tuple[ResponseHead, bytes]:
    """200 with what a CA looks for, to see that a name is ours (RFC 8555 §8.3)."""
    fields: Fields = [(b"Date", date), (b"Content-Type", b"application/octet-stream")]
    return ResponseHead(200, b"OK", fields, framing=Framing.LENGTH, length=len(value)), value


def options_answer(date: bytes) -> tuple[ResponseHead, bytes]:
    """200 without content: to an OPTIONS that was not to go further than here (RFC 9110 §7.6.2, §9.3.7)."""
    return ResponseHead(200, b"OK", [(b"Date", date)], framing=Framing.LENGTH, length=0), b""


def plain_http_on_tls_port(date: bytes) -> bytes:
    """The whole answer, as bytes, for HTTP without TLS on a TLS port: there is no codec on that connection yet."""
    return _without_codec("plain-http-on-https-port", 400, "This port speaks HTTPS; use https:// in the address.", date)


def head_timeout(date: bytes) -> bytes:
    """The whole answer, as bytes, to a head that did not come to its end: there is no request to answer."""
    return _without_codec("request-timeout", 408, ANSWERS["request-timeout"].message, date)


def _without_codec(reason: str, status: int, message: str, date: bytes) -> bytes:
    head, body = _page(status, reason, message, [(b"Date", date)])
    lines = [b"HTTP/1.1 %d %s" % (status, head.reason), *map(b": ".join, head.fields)]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
    return b"\r\n".join(lines)
