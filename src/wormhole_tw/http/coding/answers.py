"""Which answers get a coding, and what their heads say then.

An answer is left as it is where it has a coding already, where it says ``no-transform`` (RFC 9110 §7.7), where its type
is none that shrinks, where it is a part or has no body.  Whether it gets one follows from the two heads alone, so that
a HEAD tells what a GET gets.  One that could have had a coding and gets none, for its visitor takes none, says ``Vary``
all the same: who keeps it must not give it to others for whom it would have had one.
"""

from __future__ import annotations

from typing import NamedTuple

from wormhole_tw.http.coding.negotiation import preferred, refuses_identity
from wormhole_tw.http.coding.rules import CodingRules
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead
from wormhole_tw.http.grammar import list_members
from wormhole_tw.http.memo import remember

__all__ = ["DIGESTS", "Wanted", "asking_for", "coded_head", "coded_trailers", "wanted_coding"]

DIGESTS = frozenset({b"content-digest", b"content-md5", b"digest", b"repr-digest"})
"""What is said of the octets of a body, its coding among them (RFC 9530 §2, §3; RFC 3230; RFC 2616 §14.15).  They are
others now, and to say what these amount to the end would have to be known before the beginning.  ``Unencoded-Digest``
is of what the visitor has in the end, and stays."""

_GONE = DIGESTS | {b"accept-ranges", b"content-encoding", b"content-length"}
"""What a coded answer does not say.  Ranges would be of the octets as the service has them (§14.3); the coding is said
anew, where it was ``identity``."""

_ACCEPT_ENCODING = b"accept-encoding"
_VARIES = (b"Vary", b"Accept-Encoding")

_BODILESS = frozenset({101, 204, 205})
_PARTS = frozenset({206, 416})

_TOLD = frozenset({b"content-encoding", b"content-type", b"cache-control", b"content-range"})


class Wanted(NamedTuple):
    """What a request wants of codings.

    :ivar coding: the one it gets; empty for none
    :ivar always: an answer without one is refused
    """

    coding: bytes
    always: bool


def wanted_coding(head: RequestHead, rules: CodingRules) -> Wanted:
    """What a visitor is given: by ``Accept-Encoding``, and nothing where the request says ``no-transform`` (RFC 9111
    §5.2.1.6)."""
    if head.common:
        key = (id(head), id(rules))
        known = _wanted.get(key)
        if known is None or known[0] is not head or known[1] is not rules:
            known = (head, rules, _read_wanted(head, rules))
            remember(_wanted, key, known)
        return known[2]
    return _read_wanted(head, rules)


_wanted: dict[tuple[int, int], tuple[RequestHead, CodingRules, Wanted]] = {}


def _read_wanted(head: RequestHead, rules: CodingRules) -> Wanted:
    lines: list[bytes] = []
    for name, value in head.fields:
        lower = name.lower()
        if lower == _ACCEPT_ENCODING:
            lines.append(value)
        elif lower == b"cache-control" and b"no-transform" in list_members(value):
            return Wanted(b"", False)
    accept = b",".join(lines)
    coding = preferred(accept, rules.codings)
    return Wanted(coding, bool(coding) and refuses_identity(accept))


def asking_for(fields: Fields, accept: bytes) -> Fields:
    """The fields of a request with this ``Accept-Encoding`` and no other."""
    return [*(line for line in fields if line[0].lower() != _ACCEPT_ENCODING), (b"Accept-Encoding", accept)]


def coded_head(head: ResponseHead, asked: RequestHead, wanted: Wanted, rules: CodingRules) -> tuple[ResponseHead, bool]:
    """An answer's head as its visitor gets it.

    Its length is not known any more: the framing is CHUNKED where there was a body of any length, and stays where there
    was none (HEAD).  A head that is to be changed is copied, for it may be shared.

    :param head: as the service sent it
    :param asked: the request, as the service got it: its method, and in ``If-None-Match`` what the visitor has
    :returns: it, and whether the body gets ``wanted.coding``
    """
    status = head.status
    if status < 200 or status in _BODILESS:
        return head, False
    kind = b""
    for name, value in head.fields:
        lower = name.lower()
        if lower not in _TOLD:
            continue
        if lower == b"content-type":
            kind = value
        elif lower == b"cache-control":
            if b"no-transform" in list_members(value):
                return head, False
        elif lower == b"content-encoding":
            if list_members(value) not in ((), (b"identity",)):
                return head, False
        elif status not in _PARTS:
            return head, False  # a part that does not say so
    if status == 304:
        return _not_modified(head, asked, kind, wanted, rules), False
    if not kind or not rules.types.take(kind):
        return head, False
    if status in _PARTS:
        return _varied(head), False
    length = head.length
    if head.framing is Framing.NONE and asked.method != b"HEAD":
        return head, False
    if length is not None and (not length or (length < rules.smallest and not wanted.always)):
        return head, False
    if not wanted.coding:
        return _varied(head), False
    fields = [
        (name, _weak(value)) if lower == b"etag" else (name, value)
        for name, value in head.fields
        if (lower := name.lower()) not in _GONE
    ]
    coded = _with(head, _varying([*fields, (b"Content-Encoding", wanted.coding)]))
    coded.length = None
    if head.framing is not Framing.NONE:
        coded.framing = Framing.CHUNKED
    return coded, True


def coded_trailers(trailers: Fields) -> Fields:
    """The trailers of an answer that got a coding, without what is said of its octets."""
    return [line for line in trailers if line[0].lower() not in DIGESTS]


def _not_modified(
    head: ResponseHead, asked: RequestHead, kind: bytes, wanted: Wanted, rules: CodingRules
) -> ResponseHead:
    """A 304 tells what a 200 would have told (§15.4.5).

    Where the visitor has the answer in a coding, by the weak name that it was given, a strong one would name another
    representation: RFC 9111 §4.3.4 lets a cache renew nothing by it.
    """
    ours = False
    fields = head.fields
    if wanted.coding:
        has = b",".join([value for name, value in asked.fields if name.lower() == b"if-none-match"])
        for index, (name, value) in enumerate(fields):
            weak = _weak(value)
            # a quoted name holds no quote: what is found is a whole one
            if name.lower() == b"etag" and weak in has and value not in has.replace(weak, b""):
                fields = [*fields[:index], (name, weak), *fields[index + 1 :]]
                ours = weak != value
                break
    if ours or (kind and rules.types.take(kind)):
        return _with(head, _varying(fields))
    return head


def _weak(tag: bytes) -> bytes:
    """An entity tag as that of what means the same and has other octets (§8.8.1)."""
    return tag if tag.startswith(b"W/") else b"W/" + tag


def _with(head: ResponseHead, fields: Fields) -> ResponseHead:
    return ResponseHead(head.status, head.reason, fields, head.version, head.framing, head.length, head.keep_alive)


def _varied(head: ResponseHead) -> ResponseHead:
    """It could have had a coding.  What comes of a head that is shared is shared, too."""
    if not head.common:
        return _with(head, _varying(head.fields))
    known = _varieds.get(id(head))
    if known is None or known[0] is not head:
        known = (head, _with(head, _varying(head.fields)))
        known[1].common = True
        remember(_varieds, id(head), known)
    return known[1]


_varieds: dict[int, tuple[ResponseHead, ResponseHead]] = {}


def _varying(fields: Fields) -> Fields:
    """With ``Accept-Encoding`` in ``Vary``, once."""
    last = -1
    for index, (name, value) in enumerate(fields):
        if name.lower() == b"vary":
            members = list_members(value)
            if b"*" in members or _ACCEPT_ENCODING in members:
                return fields
            last = index
    if last < 0:
        return [*fields, _VARIES]
    name, value = fields[last]
    joined = b"%s, Accept-Encoding" % value if value else b"Accept-Encoding"
    return [*fields[:last], (name, joined), *fields[last + 1 :]]
