"""Routing on a site whose routes are more than prefixes: which rule takes a request, and what that makes of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.http.asked import Asked
from wormhole_tw.http.rewriting import Redirect

if TYPE_CHECKING:
    from wormhole_tw.control.model import Route
    from wormhole_tw.control.rules import RuleIndex
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.http.added import Lines
    from wormhole_tw.http.events import RequestHead

__all__ = ["STICKY_FOR", "Ruled", "rule"]

STICKY_FOR = 30 * 24 * 3600
"""Seconds for which a visitor keeps the cookie that says on which side of a share it is: longer than most canaries."""


class Ruled(NamedTuple):
    """What the rules say of a request.

    :ivar target: what the service gets; as it was routed where nothing is rewritten
    :ivar answer: what the edge answers itself; None where a service is asked
    :ivar besides: what the visitor's answer says besides: cookies that were drawn for it
    """

    route: Route
    target: bytes
    answer: LocalAnswer | None
    besides: Lines


def rule(
    context: EdgeContext,
    index: RuleIndex,
    host: str,
    path: bytes,
    query: bytes | None,
    head: RequestHead,
    facts: ConnectionFacts,
) -> Ruled | None:
    """Find the rule, and follow it; None where no one takes the request.

    :param path: canonical
    :raises HttpError: 400, the path that comes of a rewrite climbs above ``/``
    """
    # Latin-1 cannot fail, and an octet outside ASCII matches no rule, for those are escaped
    text = str(path, "latin-1")
    asked = Asked(
        host,
        text,
        query,
        method=head.method,
        fields=head.fields,
        scheme=facts.forwarding.scheme,
        address=facts.address,
        chance=context.chance,
        offers=context.offers,
    )
    route = index.find(asked)
    if route is None:
        return None
    besides: Lines = ()
    if asked.drawn is not None:
        secure = facts.forwarding.scheme == "https"
        besides = tuple(_cookie(name, value, secure=secure) for name, value in asked.drawn.items())
    answer = route.answer
    if isinstance(answer, Redirect):
        answer = _redirect(answer, answer.location(route.values(text), query))
    rewrite = route.rewrite
    if rewrite is not None and path != b"*":
        target = rewrite.target(text, route.values(text), query)
    else:
        target = path if query is None else b"%s?%s" % (path, query)
    return Ruled(route, target, answer, besides)


def _redirect(redirect: Redirect, location: bytes) -> LocalAnswer:
    body = b"%s.\n" % HTTPStatus(redirect.status).phrase.encode()
    fields = ((b"Location", location), (b"Content-Type", b"text/plain; charset=utf-8"))
    return LocalAnswer(redirect.status, fields, body)


def _cookie(name: bytes, value: bytes, *, secure: bool) -> tuple[bytes, bytes]:
    line = b"%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax" % (name, value, STICKY_FOR)
    return b"Set-Cookie", line + b"; Secure" if secure else line
