"""Requests and answers as middleware sees and changes them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from wormhole_tw.middleware.body import Body, source_of
from wormhole_tw.middleware.headers import Headers

__all__ = ["Middleware", "Next", "Request", "Response"]

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_TARGET = re.compile(r"/[!-~]*|\*")
_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")
_COOKIE_ATTRIBUTE = re.compile(r"[ -:<-~]*")
_REASON = re.compile(r"[\t -~\x80-\xff]*")

_NO_BODY = frozenset({204, 304})
"""Statuses whose answers have none (RFC 9110 §6.4.1)."""


class Request:
    """A request on its way to the service.

    It may be changed and given to ``next``, which takes it as it is then.  What it has was routed already: another
    path changes what the service is asked for, and not which service that is.

    :ivar headers: its fields, with ``X-Forwarded-For`` and its like as the service will see them
    :ivar scheme: ``https`` or ``http``: how the visitor came
    :ivar host: the name that the visitor asked for, in lower case, without a port
    :ivar address: the visitor's IP address as text; empty where it has none (a Unix socket)
    :ivar port: the visitor's port, 0 where it is not known
    :ivar tls: the version of the visitor's TLS (``TLSv1.3``), or None
    :ivar id: its name in the log, which the service gets as ``X-Request-Id``
    :ivar site: the name of its site
    :ivar route: the name or path of its route
    :ivar upgrade: what it asks to switch to (``websocket``), or None
    :ivar notes: a place for what one middleware wants to tell those behind it, and itself when the answer comes
    """

    __slots__ = (
        "_body",
        "_method",
        "_target",
        "address",
        "headers",
        "host",
        "id",
        "notes",
        "port",
        "route",
        "scheme",
        "site",
        "tls",
        "upgrade",
    )

    def __init__(
        self,
        method: str = "GET",
        url: str = "https://site.example/",
        *,
        headers: Headers | Iterable[tuple[str, str]] | Mapping[str, str] = (),
        body: bytes | AsyncIterable[bytes] | Body = b"",
        address: str = "192.0.2.1",
        port: int = 50000,
        tls: str | None = None,
        id: str = "",
        site: str = "",
        route: str = "/",
        upgrade: str | None = None,
        notes: dict[str, object] | None = None,
    ) -> None:
        """
        :param url: absolute; its path and query become the target
        :raises ValueError: the method or the URL cannot be
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.method = method
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.address = address
        self.port = port
        self.tls = tls
        self.id = id
        self.site = site
        self.route = route
        self.upgrade = upgrade
        self.notes: dict[str, object] = {} if notes is None else notes
        self.body = body

    @property
    def method(self) -> str:
        """``GET``, ``POST`` …

        :raises ValueError: set to what is no method
        """
        return self._method

    @method.setter
    def method(self, method: str) -> None:
        if _METHOD.fullmatch(method) is None or method.upper() == "CONNECT":
            raise ValueError(f"{method!r} is no method that a request here can have")
        self._method = method

    @property
    def target(self) -> str:
        """Path and query as they go to the service; ``*`` for an ``OPTIONS`` of all.

        :raises ValueError: set to what is no path: it begins with ``/``, and everything outside ASCII is escaped
        """
        return self._target

    @target.setter
    def target(self, target: str) -> None:
        if _TARGET.fullmatch(target) is None or "#" in target:
            raise ValueError(f"{target!r} is no path: it begins with / and has no spaces, # or letters outside ASCII")
        self._target = target

    @property
    def path(self) -> str:
        """The target without its query; setting it keeps the query.

        :raises ValueError: as :attr:`target`
        """
        return self._target.partition("?")[0]

    @path.setter
    def path(self, path: str) -> None:
        if "?" in path:
            raise ValueError(f"{path!r} has a query: set target, or path and query")
        _, mark, query = self._target.partition("?")
        self.target = path + mark + query

    @property
    def query(self) -> str | None:
        """The query without its ``?``; None where there is none.

        :raises ValueError: as :attr:`target`
        """
        _, mark, query = self._target.partition("?")
        return query if mark else None

    @query.setter
    def query(self, query: str | None) -> None:
        self.target = self.path if query is None else f"{self.path}?{query}"

    @property
    def url(self) -> str:
        """The address with the visitor's scheme and host name, and the target as it is now."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self._target == '*' else self._target}"

    @property
    def body(self) -> Body:
        """Its body; may be set to bytes, or to an asynchronous iterator of bytes."""
        return self._body

    @body.setter
    def body(self, body: bytes | AsyncIterable[bytes] | Body) -> None:
        self._body = body if isinstance(body, Body) else Body(source_of(body))

    @property
    def cookies(self) -> dict[str, str]:
        """Its cookies, name → value as it was sent; of two with one name the first (RFC 6265 §5.4)."""
        found: dict[str, str] = {}
        for pair in (self.headers.get("Cookie") or "").split(";"):
            name, mark, value = pair.partition("=")
            if mark and (name := name.strip()):
                found.setdefault(name, value.strip().strip('"'))
        return found

    def copy(self) -> Request:
        """Another one with the same values and the same body; what is changed in one does not change the other."""
        other = Request.__new__(Request)
        for name in Request.__slots__:
            setattr(other, name, getattr(self, name))
        other.headers = self.headers.copy()
        return other

    def __repr__(self) -> str:
        return f"<Request {self._method} {self.path}>"


class Response:
    """An answer on its way to the visitor.

    :ivar headers: its fields
    :ivar declared: of an answer of the service without a body (to HEAD, or a 304) the ``Content-Length`` that it has
        all the same; None for none
    """

    __slots__ = ("_body", "_reason", "_status", "_wire", "declared", "headers")

    def __init__(
        self,
        status: int = 200,
        body: bytes | AsyncIterable[bytes] | Body = b"",
        *,
        headers: Headers | Iterable[tuple[str, str]] | Mapping[str, str] = (),
        content_type: str | None = None,
    ) -> None:
        """
        :param content_type: the ``Content-Type``
        :raises ValueError: the status is no final one (200 to 599)
        """
        self._wire: object = None
        self._status = -1
        self.declared: int | None = None
        self.status = status
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        if content_type is not None:
            self.headers["Content-Type"] = content_type
        self.body = body

    @classmethod
    def text(cls, status: int, text: str, *, content_type: str = "text/plain; charset=utf-8") -> Response:
        """An answer that is text, in UTF-8."""
        return cls(status, text.encode(), content_type=content_type)

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Response:
        """A redirect.

        :param location: an absolute URL, or a path
        :raises ValueError: the status is none of a redirect
        """
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"{status} is no redirect: 301, 302, 303, 307 or 308")
        return cls(status, headers={"Location": location})

    @property
    def status(self) -> int:
        """200 to 599; 101 on the answer of ``next`` to a request that switched protocols, which stays as it is.

        :raises ValueError: set to anything else
        """
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if status == self._status:
            return
        if self._status == 101:
            raise ValueError("the connection has switched protocols: this answer stays a 101, or another one is given")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"{status!r} is no status of an answer: 200 to 599")
        self._status = status
        try:
            self._reason = HTTPStatus(status).phrase
        except ValueError:
            self._reason = ""

    @property
    def reason(self) -> str:
        """The phrase behind the status, with which it changes; HTTP/2 has none.

        :raises ValueError: set to what cannot stand there: line ends, control characters, what is not Latin-1
        """
        return self._reason

    @reason.setter
    def reason(self, reason: str) -> None:
        if _REASON.fullmatch(reason) is None:
            raise ValueError(
                "the reason of an answer has no line ends, control characters, or any that are not Latin-1"
            )
        self._reason = reason

    @property
    def body(self) -> Body:
        """Its body; may be set to bytes, or to an asynchronous iterator of bytes, which keeps the trailers."""
        return self._body

    @body.setter
    def body(self, body: bytes | AsyncIterable[bytes] | Body) -> None:
        if self._status == 101:
            raise ValueError("the connection has switched protocols: this answer has no body")
        if not isinstance(body, Body):
            before = getattr(self, "_body", None)
            trailers = before.trailers if before is not None and not isinstance(body, bytes) else None
            body = Body(source_of(body, trailers), answer=True)
        self._body = body

    @property
    def trailers(self) -> Headers:
        """Its trailer fields: those of the service are there when its body has ended."""
        return self._body.trailers

    def copy(self) -> Response:
        """Another one with the same values and the same body; what is changed in one does not change the other."""
        other = Response.__new__(Response)
        other._wire, other._status, other._reason = self._wire, self._status, self._reason
        other.declared = self.declared
        other.headers = self.headers.copy()
        other._body = self._body
        return other

    @property
    def bodiless(self) -> bool:
        """Its status allows no body (204, 304)."""
        return self._status in _NO_BODY

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = True,
        http_only: bool = True,
        same_site: str | None = "Lax",
    ) -> None:
        """Add a ``Set-Cookie`` (RFC 6265 §4.1).

        :param max_age: seconds; None for until the browser is closed
        :raises ValueError: a part of it cannot stand in a cookie
        """
        if _COOKIE_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name of a cookie")
        if _COOKIE_VALUE.fullmatch(value) is None:
            raise ValueError(f"the value for the cookie {name} has spaces, commas, semicolons or the like: encode it")
        parts = [f"{name}={value}"]
        if max_age is not None:
            parts.append(f"Max-Age={max_age:d}")
        for what, text in (("Path", path), ("Domain", domain), ("SameSite", same_site)):
            if text is not None:
                if _COOKIE_ATTRIBUTE.fullmatch(text) is None:
                    raise ValueError(f"{text!r} cannot be the {what} of a cookie")
                parts.append(f"{what}={text}")
        if secure:
            parts.append("Secure")
        if http_only:
            parts.append("HttpOnly")
        self.headers.add("Set-Cookie", "; ".join(parts))

    def __repr__(self) -> str:
        return f"<Response {self._status}>"


Next = Callable[[Request], Awaitable[Response]]
"""What leads on: to the next middleware, and from the last one to the service."""


class Middleware(Protocol):
    """What a middleware is: an object with this method.

    It may answer itself, or give the request to ``next`` (changed or not) and change what comes back.
    """

    async def __call__(self, request: Request, next: Next) -> Response:
        """Answer a request.

        :raises HttpError: the visitor gets this status, with the edge's own page
        """


def response_of_service(
    status: int, reason: str, headers: Headers, body: Body, declared: int | None, call: object
) -> Response:
    """An answer that came over the wire.

    :param call: what it came by
    """
    response = Response.__new__(Response)
    response.declared = declared
    response._wire = call
    response._status = status
    response._reason = reason
    response.headers = headers
    response._body = body
    return response
