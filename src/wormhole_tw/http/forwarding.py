"""What a proxy changes in the fields that pass through it (RFC 9110 §7.6, RFC 7239, RFC 8586's neighbours).

Towards an origin: what belongs to the visitor's connection alone goes, what the visitor could forge goes, and who the
visitor is stands in ``X-Forwarded-For/-Host/-Port/-Proto``, ``Forwarded`` and ``Via``.  These are always ours.  Where a
trusted peer (another proxy of ours) passes the request on, they tell what it told, as far as that is believed
(:mod:`.visitors`): the visitor first, then the proxies, and nothing that the visitor itself put before them.

``Connection`` may name any field to go with the connection, but none that decides over framing, routing, identity or
caching: such a member of it is ignored, and its field passes (a visitor could else make an edge drop the very field
that a service behind it trusts).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.grammar import (
    FORBIDDEN_TRAILERS,
    MAX_LEARNED_LENGTH,
    MAX_LEARNED_NAMES,
    TE_TRAILERS,
    list_members,
)
from wormhole_tw.http.memo import remember

__all__ = [
    "VisitorFacts",
    "answer_towards_visitor",
    "at_authority",
    "ends_here",
    "fields_of_answer",
    "interim_towards_visitor",
    "names_visitor",
    "passes_always",
    "request_towards_origin",
    "trailers_onwards",
]

PSEUDONYM = b"wormhole"
"""What ``Via`` calls us (RFC 9110 §7.6.3 allows a name in place of a host)."""


class _Policy(IntEnum):
    PASS = 0
    DROP = 1
    """of one connection, or forged by its very presence"""
    CONNECTION = 2
    TE = 3
    FORWARDING = 4
    """ours to write, or another name for the same: dropped from requests, whoever sent it"""
    PROTECTED = 5
    """passes, and Connection cannot name it"""
    UPGRADE = 6
    REQUEST_ID = 7
    """the edge gives each request its own name; what an origin answers passes"""
    FORWARDED_TOO = 8
    """of the X-Forwarded- family, but none that is ours: passes from trusted peers only"""


_DROPPED = (
    b"connection",  # by itself; its members are read first
    b"content-length",  # the codec's
    b"expect",  # the codec's, from ``expect_continue``
    b"host",  # the codec's, from ``authority``
    b"http2-settings",  # of an h2c upgrade, which never passes
    b"keep-alive",
    b"proxy",  # no field of HTTP, but HTTP_PROXY to whatever runs as CGI (CVE-2016-5385)
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"transfer-encoding",  # the codec's
)
_FORWARDING = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    # the certificate that a visitor showed (RFC 9440)
    b"client-cert",
    b"client-cert-chain",
    # other names for the same: a proxy that does not know one passes on what the visitor made up
    b"cf-connecting-ip",
    b"client-ip",
    b"fastly-client-ip",
    b"forwarded-for",
    b"true-client-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-forwarded",
    b"x-original-for",
    b"x-original-forwarded-for",
    b"x-original-host",
    b"x-original-proto",
    b"x-originating-ip",
    b"x-real-ip",
    b"x-remote-addr",
    b"x-remote-ip",
)
_PROTECTED = (
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-type",
    b"cookie",
    b"date",
    b"etag",
    b"location",
    b"origin",
    b"range",
    b"set-cookie",
    b"strict-transport-security",
    b"vary",
    b"via",
    b"www-authenticate",
)

_KNOWN: dict[bytes, _Policy] = {
    **dict.fromkeys(_DROPPED, _Policy.DROP),
    **dict.fromkeys(_FORWARDING, _Policy.FORWARDING),
    **dict.fromkeys(_PROTECTED, _Policy.PROTECTED),
    b"connection": _Policy.CONNECTION,
    b"te": _Policy.TE,
    b"x-request-id": _Policy.REQUEST_ID,
    b"upgrade": _Policy.UPGRADE,
}

_memo: dict[bytes, tuple[bytes, _Policy]] = {}


def _judge(name: bytes) -> tuple[bytes, _Policy]:
    """The lower-case name and its policy.

    A name with underscores is the same as one with hyphens to CGI, WSGI and their like: the look-alike of a field that
    matters is dropped, whoever sent it.
    """
    judged = _memo.get(name)
    if judged is None:
        lower = name.lower()
        policy = _policy(lower)
        if b"_" in lower and _policy(lower.replace(b"_", b"-")) is not _Policy.PASS:
            policy = _Policy.DROP
        judged = (lower, policy)
        if len(name) <= MAX_LEARNED_LENGTH:
            if len(_memo) >= MAX_LEARNED_NAMES:
                _memo.clear()
            _memo[name] = judged
    return judged


def _policy(lower: bytes) -> _Policy:
    known = _KNOWN.get(lower)
    if known is None:
        return _Policy.FORWARDED_TOO if lower.startswith(b"x-forwarded-") else _Policy.PASS
    return known


def passes_always(lower: bytes, *, of_request: bool) -> bool:
    """Whether a field passes whoever sent it: it is neither of one connection, nor the codec's, nor ours to write.

    Answers may carry what is a forwarding field in a request; it means nothing there.

    :param lower: its name, lower-case
    """
    policy = _judge(lower)[1]
    if policy in (_Policy.FORWARDING, _Policy.FORWARDED_TOO):
        return not of_request or policy is _Policy.FORWARDED_TOO
    return policy in (_Policy.PASS, _Policy.PROTECTED)


def names_visitor(name: bytes) -> bool:
    """Whether a field of a request is for proxies to say who the visitor is: what a visitor wrote there itself, in
    whatever spelling, does not pass and means nothing."""
    return _policy(name.lower().replace(b"_", b"-")) in (_Policy.FORWARDING, _Policy.FORWARDED_TOO)


@dataclass(frozen=True, slots=True)
class VisitorFacts:
    """What the edge knows of the visitor of a request; one object for all requests that tell the same.

    :ivar address: its IP address as text, without brackets or port
    :ivar scheme: ``http`` or ``https``
    :ivar port: the public port that the visitor sees
    :ivar trusted: the peer is a proxy whose other fields of the X-Forwarded- family pass
    :ivar hops: trusted proxies between the visitor and the edge, nearest to the visitor first
    :ivar host: the host that the visitor asked the first of them for; None where that is what the request says
    :ivar certificate: ``Client-Cert`` and ``Client-Cert-Chain`` (RFC 9440), where the visitor showed a certificate
    """

    address: str
    scheme: str = "https"
    port: int = 443
    trusted: bool = False
    hops: tuple[str, ...] = ()
    host: bytes | None = None
    certificate: tuple[tuple[bytes, bytes], ...] = ()


@lru_cache(maxsize=4096)
def _own_fields(facts: VisitorFacts, authority: bytes, version: tuple[int, int]) -> Fields:
    """Our forwarding fields: the same for every request of a visitor."""
    host = facts.host or authority
    return [
        (b"X-Forwarded-For", ", ".join((facts.address, *facts.hops)).encode()),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Port", b"%d" % facts.port),
        (b"X-Forwarded-Proto", facts.scheme.encode()),
        (b"Forwarded", _forwarded(facts, host)),
        _via(version),
        *facts.certificate,
    ]


def _forwarded(facts: VisitorFacts, host: bytes) -> bytes:
    """RFC 7239 §4, an element for each; a host with a port is no token, and quoted."""
    if b":" in host:
        host = b'"%s"' % host
    own = b"for=%s;host=%s;proto=%s" % (_node(facts.address), host, facts.scheme.encode())
    return b", ".join((own, *(b"for=%s" % _node(hop) for hop in facts.hops)))


def _node(address: str) -> bytes:
    """IPv6 stands in brackets, and these in quotes (§6)."""
    return b'"[%s]"' % address.encode() if ":" in address else address.encode()


@lru_cache(maxsize=8)
def _via(version: tuple[int, int]) -> tuple[bytes, bytes]:
    return b"Via", b"%d.%d %s" % (*version, PSEUDONYM)


def _named(values: list[bytes]) -> set[bytes]:
    """The fields that Connection takes along, without those it has no say over."""
    return {member for value in values for member in list_members(value) if _judge(member)[1] is _Policy.PASS}


def request_towards_origin(head: RequestHead, target: bytes, facts: VisitorFacts) -> RequestHead:
    """The request as it goes on: a new head, ready for a client codec, with the fields that the codec does not own.

    ``expect_continue`` and ``upgrade`` are carried over as facts; the codec writes their fields.

    :param target: canonical path and query (:func:`wormhole_tw.http.targets.normalise_target`)
    """
    if head.common:
        key = (id(head), id(facts))
        known = _onward_requests.get(key)
        # an id is given to another object when its own is gone, which this memo prevents for its own and not for others
        if known is not None and known[0] is head and known[1] is facts and known[2].target == target:
            return known[2]
        onward = _onward_request(head, target, facts)
        onward.common = True
        remember(_onward_requests, key, (head, facts, onward))
        return onward
    return _onward_request(head, target, facts)


_onward_requests: dict[tuple[int, int], tuple[RequestHead, VisitorFacts, RequestHead]] = {}


def _onward_request(head: RequestHead, target: bytes, facts: VisitorFacts) -> RequestHead:
    trusted = facts.trusted
    fields: Fields = []
    connection: list[bytes] = []
    trailers = False
    hops = _hops(head) if head.method == b"OPTIONS" else None
    for line in head.fields:
        policy = _judge(line[0])[1]
        if policy is _PASS or policy is _PROTECTED_ or (policy is _FORWARDED_TOO_ and trusted):
            fields.append(line)
        elif policy is _Policy.CONNECTION:
            connection.append(line[1])
        elif policy is _Policy.TE:
            trailers = trailers or b"trailers" in list_members(line[1])
    if connection:
        named = _named(connection)
        if named:
            fields = [line for line in fields if _judge(line[0])[0] not in named]
    if hops is not None:
        fields = [line for line in fields if _judge(line[0])[0] != _MAX_FORWARDS]
        fields.append((b"Max-Forwards", b"%d" % (hops - 1)))
    fields += _own_fields(facts, head.authority, head.version)
    if trailers:
        fields.append(TE_TRAILERS)
    return RequestHead(
        head.method,
        target,
        head.authority,
        (1, 1),
        fields,
        head.framing,
        head.length,
        head.expect_continue,
        head.upgrade,
    )


def at_authority(head: RequestHead, facts: VisitorFacts, authority: bytes) -> RequestHead:
    """A request as it goes on, with its host and port spelt in another way, in every field of ours that tells them.

    What a trusted proxy told of the host that its visitor asked for stays.

    :param head: of :func:`request_towards_origin`
    :param authority: another spelling of the same
    """
    fields = head.fields
    if facts.host is None:
        own = {b"X-Forwarded-Host": authority, b"Forwarded": _forwarded(facts, authority)}
        fields = [(name, own.get(name, value)) for name, value in fields]
    return replace(head, authority=authority, fields=fields, common=False)


_MAX_FORWARDS = b"max-forwards"

_HOPS = re.compile(rb"[0-9]{1,9}")
"""More proxies than a billion are nobody's chain."""


def _hops(head: RequestHead) -> int | None:
    found: int | None = None
    for name, value in head.fields:
        if _judge(name)[0] == _MAX_FORWARDS:
            if found is not None or not _HOPS.fullmatch(value):
                raise HttpError(400, "bad-max-forwards", "Max-Forwards is not one number.")
            found = int(value)
    return found


def ends_here(head: RequestHead) -> bool:
    """Whether an OPTIONS has come as far as it wanted to: whoever gets it answers it (RFC 9110 §7.6.2).

    On other methods the field means nothing to a proxy (TRACE is not served), and passes.

    :raises HttpError: 400 for a value that is not one number
    """
    return _hops(head) == 0


_PASS = _Policy.PASS
_PROTECTED_ = _Policy.PROTECTED
_FORWARDED_TOO_ = _Policy.FORWARDED_TOO
_OF_REQUESTS = (_Policy.FORWARDING, _Policy.FORWARDED_TOO)


def answer_towards_visitor(head: ResponseHead, date: Callable[[], tuple[bytes, bytes]]) -> ResponseHead:
    """The answer as it goes on: a new head, ready for a server codec.

    ``keep_alive`` is True: the origin's connection says nothing about the visitor's.

    :param date: gives the ``Date`` of now, for an answer that has none (RFC 9110 §6.6.1); the same object while it is
        the same
    """
    common = head.common
    known = _onward_answers.get(id(head)) if common else None
    if known is not None and known[0] is head:
        fields = known[1]
        dated = known[2]
    else:
        fields = _answer_fields(head.fields, keep_upgrade=head.status in (101, 426))
        fields.append(_via(head.version))
        dated = head.status == 101 or any(len(name) == 4 and name.lower() == b"date" for name, _ in fields)
        if common:
            remember(_onward_answers, id(head), (head, fields, dated))
    if not dated:
        fields = _dated(fields, date(), common=common)
    return ResponseHead(head.status, head.reason, fields, head.version, head.framing, head.length, True, head.common)


def fields_of_answer(head: ResponseHead) -> ResponseHead:
    """An answer for who changes it before it goes on: without what belongs to its connection, and nothing added."""
    fields = _answer_fields(head.fields, keep_upgrade=head.status in (101, 426))
    return ResponseHead(head.status, head.reason, fields, head.version, head.framing, head.length)


_onward_answers: dict[int, tuple[ResponseHead, Fields, bool]] = {}
_dated_answers: dict[int, tuple[Fields, tuple[bytes, bytes], Fields]] = {}


def _dated(fields: Fields, line: tuple[bytes, bytes], *, common: bool) -> Fields:
    """With a ``Date``; fields that are shared stay as they are, and what comes of them is shared for a second."""
    if not common:
        fields.append(line)
        return fields
    known = _dated_answers.get(id(fields))
    if known is None or known[0] is not fields or known[1] is not line:
        known = (fields, line, [*fields, line])
        remember(_dated_answers, id(fields), known)
    return known[2]


def interim_towards_visitor(head: InformationalHead) -> InformationalHead:
    """An interim answer as it goes on."""
    return InformationalHead(head.status, _answer_fields(head.fields, keep_upgrade=False))


def _answer_fields(lines: Fields, *, keep_upgrade: bool) -> Fields:
    fields: Fields = []
    connection: list[bytes] = []
    for line in lines:
        policy = _judge(line[0])[1]
        if policy is _PASS or policy is _PROTECTED_ or policy in _OF_REQUESTS:
            fields.append(line)
        elif policy is _Policy.CONNECTION:
            connection.append(line[1])
        elif policy is _Policy.REQUEST_ID or (policy is _Policy.UPGRADE and keep_upgrade):
            fields.append(line)
    if connection:
        named = _named(connection)
        if named:
            fields = [line for line in fields if _judge(line[0])[0] not in named]
    return fields


def trailers_onwards(trailers: Fields) -> Fields:
    """Trailer fields as they go on, either way, without those that may not stand there or could be forged there."""
    return [
        line
        for line in trailers
        if (judged := _judge(line[0]))[1] in (_PASS, _PROTECTED_) and judged[0] not in FORBIDDEN_TRAILERS
    ]
