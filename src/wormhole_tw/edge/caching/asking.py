"""A request as a route's cache sees it: what its answer is kept under, and what is asked of the service for everybody.

An answer that is kept is served to others, so that nothing may have shaped it that does not stand in its key: what
others cannot see of a visitor's request is either part of the key or is not sent.  (What a service looks at besides, it
has to say in ``Vary``.)
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from wormhole_tw.http.caching import Question, question
from wormhole_tw.http.caching.keying import keyed_values
from wormhole_tw.http.coding import acceptable, asking_for, wanted_coding
from wormhole_tw.http.forwarding import at_authority, names_visitor
from wormhole_tw.http.identity import alike
from wormhole_tw.http.targets import normalise_host, normalise_target

if TYPE_CHECKING:
    from collections.abc import Collection

    from wormhole_tw.control.caching import CacheSettings
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.caching.keying import IgnoredQuery
    from wormhole_tw.http.events import Fields, RequestHead

__all__ = ["Asked", "Place", "ask", "key_of"]

_PORTS = {"http": 80, "https": 443}


class _Kind(Enum):
    PASS = 0
    OVERRIDE = 1
    """another method, path, host or scheme than the request has: a service that heeds it answers another request"""
    PERSONAL = 2
    """who asks: as Authorization is, under another name"""
    TOLD = 3
    """what a trusted proxy says of the way here: it is believed, and so it is in the key"""


_OVERRIDES = frozenset(
    {
        b"base-url",
        b"destination-url",
        b"front-end-https",
        b"http-host",
        b"http-method",
        b"method-override",
        b"original-uri",
        b"original-url",
        b"proxy-host",
        b"proxy-url",
        b"redirect",
        b"request-uri",
        b"url",
        b"x-arr-ssl",
        b"x-backend",
        b"x-backend-host",
        b"x-base-url",
        b"x-destination-url",
        b"x-forwarded",
        b"x-front-end-https",
        b"x-host",
        b"x-host-override",
        b"x-http-destinationurl",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-http-path-override",
        b"x-http-scheme",
        b"x-invoke-error",
        b"x-invoke-output",
        b"x-invoke-path",
        b"x-invoke-query",
        b"x-invoke-status",
        b"x-method",
        b"x-method-override",
        b"x-middleware-prefetch",
        b"x-middleware-rewrite",
        b"x-middleware-subrequest",
        b"x-now-route-matches",
        b"x-matched-path",
        b"x-nextjs-data",
        b"x-original-method",
        b"x-original-path",
        b"x-original-scheme",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-path-override",
        b"x-prefix",
        b"x-proxy-host",
        b"x-proxy-prefix",
        b"x-proxy-url",
        b"x-request-uri",
        b"x-rewrite-url",
        b"x-scheme",
        b"x-script-name",
        b"x-server-name",
        b"x-server-port",
        b"x-url-scheme",
        b"x-wap-profile",
    }
)
"""Names, as :func:`~wormhole_tw.http.identity.alike` gives them, that frameworks and servers take for another method,
path, host or scheme, whoever sent them; those of the X-Forwarded- family no visitor gets through anyway."""

_PERSONAL = frozenset(
    {
        b"api-key",
        b"apikey",
        b"authorization",
        b"cf-access-jwt-assertion",
        b"private-token",
        b"proxy-authorization",
        b"remote-user",
        b"x-access-token",
        b"x-amz-security-token",
        b"x-amzn-oidc-data",
        b"x-amzn-oidc-identity",
        b"x-api-key",
        b"x-apikey",
        b"x-auth-request-email",
        b"x-auth-request-user",
        b"x-auth-token",
        b"x-auth-user",
        b"x-authorization",
        b"x-goog-api-key",
        b"x-goog-iap-jwt-assertion",
        b"x-remote-user",
        b"x-session-id",
        b"x-session-token",
        b"x-token",
        b"x-user",
        b"x-user-id",
        b"x-webauth-user",
    }
)
"""What tells a service who asks: answers to such requests are stored only where they say that they may be (RFC 9111
§3.5), as for ``Authorization``."""


@lru_cache(maxsize=4096)
def _kind(name: bytes) -> _Kind:
    plain = alike(name)
    if plain in _OVERRIDES:
        return _Kind.OVERRIDE
    if plain in _PERSONAL:
        return _Kind.PERSONAL
    if names_visitor(name):
        lower = name.lower()
        # the four that are ours to write follow from scheme, host, port and address
        return _Kind.TOLD if plain.startswith(b"x-forwarded-") and lower not in _OURS else _Kind.PASS
    return _Kind.PASS


_OURS = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"})


class Place:
    """What a purge names an answer by; a key begins with it.

    :ivar target: path and query as the visitor asked for them, canonical, without what makes no difference
    """

    __slots__ = ("host", "scheme", "site", "target")

    def __init__(self, site: str, scheme: str, host: str, target: bytes) -> None:
        self.site = site
        self.scheme = scheme
        self.host = host
        self.target = target


class Asked:
    """One request, looked at once; what is common (``head.common``) has it in common.

    :ivar forward: as the visitor's own request goes on; by its identity this is found again
    :ivar key: what answers are kept under
    :ivar head: the request that may bring an answer for everybody, with the visitor's conditions still in it
    :ivar question: the same, read for the rules
    :ivar group: who may wait for the same fetch: the key, and whether the visitor shows who he is or has cookies; who
        has them can make an answer unstorable, which must not keep the others from the cache
    :ivar accept: on a route that compresses: the one coding (or ``identity``) in which its visitor gets the answer, as
        an ``Accept-Encoding``; else None
    """

    __slots__ = ("accept", "forward", "group", "head", "key", "place", "question")

    def __init__(
        self,
        forward: RequestHead,
        head: RequestHead,
        question: Question,
        place: Place,
        key: bytes,
        group: bytes,
        accept: bytes | None,
    ) -> None:
        self.accept = accept
        self.forward = forward
        self.head = head
        self.question = question
        self.place = place
        self.key = key
        self.group = group


def key_of(parts: Collection[bytes]) -> bytes | None:
    """The parts as one; None where one of them has a NUL, so that it could look like two."""
    key = b"\0".join(parts)
    return key if key.count(b"\0") == len(parts) - 1 else None


def ask(exchange: Exchange, settings: CacheSettings, *, personal: bool, rewritten: bool) -> Asked | None:
    """Look at a request.

    :param personal: an access rule of the route knows who asks
    :param rewritten: the route changes targets
    :returns: None where it cannot have a key
    :raises HttpError: 400, the visitor's target is not valid (it was judged before)
    """
    forward, outer = exchange.forward, exchange.outer
    seen = outer.head
    assert forward is not None
    assert seen is not None
    facts = exchange.facts.forwarding
    ignored = settings.ignore_query
    target = forward.target
    if ignored is not None:
        target = _without(target, ignored)
    visible = target
    if rewritten or outer is not exchange:
        path, query = normalise_target(seen.target)
        if ignored is not None:
            query = ignored.of(query)
        visible = path if query is None else b"%s?%s" % (path, query)
    authority = _authority(exchange.host, seen.authority, facts.scheme)
    head = forward
    if authority != forward.authority:
        head = at_authority(head, facts, authority)
    own = () if outer._request_edits is None else outer._request_edits.lines
    made = _made_within(exchange)
    fields: Fields = []
    told: list[bytes] = []
    personal = personal or bool(facts.certificate)
    keyed = settings.headers
    like_keyed = {alike(name) for name in keyed}
    for line in head.fields:
        kind = _kind(line[0])
        stays_out = kind is _Kind.OVERRIDE
        if keyed and alike(line[0]) in like_keyed:
            # what is in the key goes on; what some services take for the same does not
            stays_out = line[0].lower() not in keyed
        if stays_out and line not in own and line not in made:
            continue
        if kind is _Kind.PERSONAL:
            personal = True
        elif kind is _Kind.TOLD and line not in own:
            told.append(b"%s:%s" % (line[0].lower(), line[1]))
        fields.append(line)
    if not personal:
        # what a gate or a middleware took out of it was said all the same
        personal = any(_kind(name) is _Kind.PERSONAL for name, _ in seen.fields)
    if target != head.target or len(fields) != len(head.fields):
        head = replace(head, target=target, fields=fields, common=False)
    told += [b"+%s:%s" % (name.lower(), value) for name, value in sorted(made)]
    if facts.host is not None:
        told.append(b"host:" + facts.host)
    place = Place(exchange.site, facts.scheme, exchange.host, visible)
    key = key_of(
        (
            place.site.encode(),
            place.scheme.encode(),
            place.host.encode(),
            visible,
            b"" if target == visible else target,
            authority,
            b"%d" % facts.port,
            settings.scope,
            keyed_values(seen.fields, settings.headers, settings.cookies),
            *told,
        )
    )
    if key is None:
        return None
    accept = None
    rules = exchange.compress
    if rules is None:
        accepts = [value for name, value in head.fields if name.lower() == b"accept-encoding"]
        if accepts and accepts != [form := acceptable(b",".join(accepts))]:
            # in one of few forms: who makes up others must not crowd out the variants that visitors ask for
            head = replace(head, fields=asking_for(head.fields, form), common=False)
        asked = question(head, personal=personal)
    else:
        # visitors differ by what they get, not by how they ask for it; a part is one of the answer as it is
        ranged = any(name.lower() == b"range" for name, _ in head.fields)
        accept = b"identity" if ranged else wanted_coding(seen, rules).coding or b"identity"
        asked = question(replace(head, fields=asking_for(head.fields, accept), common=False), personal=personal)
        if _asks(head) or not _asks(seen):
            # where the route takes that away, the service hears nothing of it, and what is kept has a coding of ours
            head = replace(head, fields=asking_for(head.fields, accept), common=False)
    with_cookie = b"cookie" in asked.fields
    return Asked(forward, head, asked, place, key, b"%d%d%s" % (personal, with_cookie, key), accept)


def _asks(head: RequestHead) -> bool:
    return any(name.lower() == b"accept-encoding" for name, _ in head.fields)


def _without(target: bytes, ignored: IgnoredQuery) -> bytes:
    path, mark, query = target.partition(b"?")
    left = ignored.of(query if mark else None)
    return path if left is None else b"%s?%s" % (path, left)


def _authority(host: str, sent: bytes, scheme: str) -> bytes:
    """Host name and port in one form: in lower case, without a final dot and the port that the scheme has anyway."""
    name = b"[%s]" % host.encode() if ":" in host else host.encode()
    if sent == name:
        return name
    port = normalise_host(sent)[1]
    return name if port is None or port == _PORTS[scheme] else b"%s:%d" % (name, port)


def _made_within(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """What a middleware says to the service that the visitor did not: part of the key, for answers may come of it."""
    outer = exchange.outer
    if outer is exchange:
        return []
    assert exchange.forward is not None
    assert outer.forward is not None
    theirs = {(name.lower(), value) for name, value in outer.forward.fields}
    return [line for line in exchange.forward.fields if (line[0].lower(), line[1]) not in theirs]
