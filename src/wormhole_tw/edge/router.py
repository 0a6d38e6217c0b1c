"""The router: host name and path of a request, and the route that the catalog has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.edge.ruled import rule
from wormhole_tw.errors import HttpError
from wormhole_tw.http.memo import MAX_HEAD, remember
from wormhole_tw.http.targets import normalise_host, normalise_target

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.model import AddedFields, LocalAnswer, Route, Site
    from wormhole_tw.edge.caching.caching import Caching
    from wormhole_tw.edge.caching.hearing import Beside
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IGate
    from wormhole_tw.edge.middleware.stacks import Stack
    from wormhole_tw.edge.noted import Noted
    from wormhole_tw.http.added import Lines
    from wormhole_tw.http.events import RequestHead, ResponseHead

__all__ = ["Answered", "Routed", "Way", "host_of", "redirect_location", "route_request", "site_of"]


class Routed(NamedTuple):
    """Where a request goes.

    :ivar host: the host name it asked for, normalised
    :ivar target: what is forwarded: the path that was routed, or what it was rewritten to, and the query
    :ivar answer: what the edge answers itself; None where a service is asked
    :ivar besides: what the visitor's answer says besides
    :ivar lasting: the same visitor, asking the same again, goes the same way
    """

    host: str
    target: bytes
    route: Route
    answer: LocalAnswer | None = None
    besides: Lines = ()
    lasting: bool = True


class Answered:
    """The last answer on a way, so that the same one, which mostly comes again, is not made again.

    For requests whose answers depend on what the service says alone: without a body, and nobody between them and the
    service (gates, middleware, a cache).

    :ivar came: its head as the service said it, a shared one; None before there was any
    :ivar dated: the ``Date`` that was added to it; None where it came with one
    :ivar went: its head as the visitor got it, with all that its route and site want of it
    :ivar noted: what the request and its answers share for whoever keeps a record of them, by the upstream's key; None
        before the first
    """

    __slots__ = ("came", "dated", "noted", "went")

    def __init__(self) -> None:
        self.came: ResponseHead | None = None
        self.dated: tuple[bytes, bytes] | None = None
        self.went: ResponseHead | None = None
        self.noted: dict[Hashable, Noted] | None = None


@dataclass(slots=True, eq=False)
class Way:
    """All that was found out about a request before it was sent; it holds for the same request again.

    Not a tuple: Python finds the attributes of one ten times as slowly, and each request looks at a dozen.

    :ivar head: as it came
    :ivar catalog: what it was judged by
    :ivar host: the host name it asked for, normalised
    :ivar forward: as it goes on; None where the edge answers itself
    :ivar limits: those of its site
    :ivar added: fields that its answer gets, or None
    :ivar gates: who is asked before it goes on, in order; None for nobody
    :ivar answer: what the edge answers itself, where it does
    :ivar besides: what its answer says besides
    :ivar stack: the middleware that it goes through behind them, or None; where there is some, ``gates`` is no None
    :ivar caching: the cache of its route, or what hears of it for the caches of others; None for none
    :ivar answered: its last answer, where one is kept
    """

    head: RequestHead
    catalog: Catalog
    host: str
    route: Route
    forward: RequestHead | None
    limits: Limits
    added: AddedFields | None
    gates: tuple[IGate, ...] | None
    answer: LocalAnswer | None = None
    besides: Lines = ()
    stack: Stack | None = None
    caching: Caching | Beside | None = None
    answered: Answered | None = None


def _refuse(reason: str) -> NoReturn:
    answer = ANSWERS[reason]
    raise HttpError(answer.status, reason, answer.message)


def host_of(head: RequestHead) -> str:
    """The host name that a request is for, normalised.

    :raises HttpError: 400, it is not valid
    """
    host, _ = normalise_host(head.authority)
    # the catalog writes an IPv6 address as Python does, without the brackets of an authority
    return host[1:-1] if host[0] == "[" else host


def site_of(catalog: Catalog, head: RequestHead) -> Site | None:
    """The site that a request is for, also one that has no route for it; None where there is none."""
    try:
        return catalog.site_for(host_of(head))
    except HttpError:
        return None


def route_request(context: EdgeContext, catalog: Catalog, facts: ConnectionFacts, head: RequestHead) -> Routed:
    """Find the route.

    A name that is no site is 404 before it can be 421: another connection would not help there.

    :raises HttpError: 400 for a host name or path that is not valid, 404 for an unknown name or path, 421 where the
        certificate that was served for SNI is not good for the host name (RFC 9110 §15.5.20), or the visitor was not
        asked for the certificate that the site wants, or TLS for that name is its service's to end; 403 where the
        visitor could not have been asked: no SNI, no TLS
    """
    key = (id(catalog), head.authority, head.target)
    known = _routed.get(key)
    if known is not None and known[0] is catalog:
        routed = known[1]
        if routed.host != facts.judged_host or facts.judged_in is not catalog:
            _judge_direction(catalog, facts, routed.host, catalog.site_for(routed.host))
        return routed
    named = catalog.authorities.get(head.authority)
    if named is not None:
        host, site = named
    else:
        host = host_of(head)
        found = catalog.site_for(host)
        if found is None:
            _refuse("unknown-host")
        site = found
    if site.passthrough:
        _refuse("misdirected")
    _judge_direction(catalog, facts, host, site)
    path, query = normalise_target(head.target)
    rules = None if site.plain else catalog.rules[site.name]
    if rules is not None:
        ruled = rule(context, rules, host, path, query, head, facts)
        if ruled is None:
            _refuse("no-route")
        return Routed(host, ruled.target, ruled.route, ruled.answer, ruled.besides, rules.lasting)
    route = catalog.match(site, path)
    if route is None:
        _refuse("no-route")
    routed = Routed(host, path if query is None else b"%s?%s" % (path, query), route)
    if len(head.target) <= MAX_HEAD:
        remember(_routed, key, (catalog, routed))
    return routed


_routed: dict[tuple[int, bytes, bytes], tuple[Catalog, Routed]] = {}
"""What was found before on sites of plain prefixes: it depends on the catalog, the host name and the target alone."""


def _judge_direction(catalog: Catalog, facts: ConnectionFacts, host: str, site: Site | None) -> None:
    """Whether TLS on this connection is what it would be on one that was made for this host."""
    served = facts.served
    if served is not None and served.misdirected(host):
        _refuse("misdirected")
    asked = site.client_certificates if site is not None else None
    if facts.visitors != asked:
        # with a name in TLS another connection helps; without TLS, or without a name in it, none of the kind will
        _refuse("misdirected" if served is not None and served.server_name else "client-certificate-required")
    facts.judged_host = host
    facts.judged_in = catalog


def redirect_location(catalog: Catalog, names: Container[str], head: RequestHead, port: int) -> bytes:
    """The https address of a request that came without TLS.

    :param names: the edge's own names, which are redirected too
    :param port: the port that visitors reach with https
    :raises HttpError: 400 as above, 404 for a name that is neither a site's nor the edge's: an edge that redirects to
        any name it is told is a tool for phishing
    """
    host = host_of(head)
    if host not in names and catalog.site_for(host) is None:
        _refuse("unknown-host")
    path, query = normalise_target(head.target)
    if path == b"*":
        path = b"/"
    authority = f"[{host}]" if ":" in host else host
    if port != 443:
        authority = f"{authority}:{port}"
    return b"https://%s%s%s" % (authority.encode("ascii"), path, b"" if query is None else b"?" + query)
