"""What must hold for a cache whatever requests and answers say: see ``targets``.

Inputs are field lines: a request's, those of the answer that it gets, and those of a 304 or an answer to HEAD, with an
empty line between them.
"""

from __future__ import annotations

from wormhole_tw.http.caching import (
    CachePolicy,
    Question,
    Refusal,
    Stored,
    Verdict,
    cache_status,
    conditional,
    confirmed,
    freshen,
    invalidates,
    judge,
    question,
    selected_by,
    serve,
    storable,
    told,
    wanted,
)
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead
from wormhole_tw.structs import msgpack

__all__ = ["caching"]

NOW = 1_795_000_000.0
SIZE = 10
LONG = 2.0**40
"""Seconds: longer than any answer can be fresh by a number or a date of its own."""

_NEVER = {b"age", b"connection", b"keep-alive", b"set-cookie", b"transfer-encoding", b"upgrade", b"warning"}


def _fields(block: bytes) -> Fields:
    """The lines of a block as a codec gives them: names are tokens, values have no line ends in them."""
    found = []
    for line in block.replace(b"\r", b"").replace(b"\0", b"").split(b"\n")[:30]:
        name, mark, value = line.partition(b":")
        if mark and name.isalnum() | name.replace(b"-", b"").isalnum():
            found.append((name, value.strip(b" \t")))
    return found


def caching(data: bytes) -> None:
    """Nothing raises; what is forbidden is not stored; and what is served is what was stored, in part or as a whole."""
    blocks = [*data.split(b"\n\n", 2), b"", b""][:3]
    visitor, fields, later = (_fields(block) for block in blocks)
    head = RequestHead(b"GET", b"/a?b", b"a.test", (1, 1), visitor)
    asked = question(head)
    status = 206 if any(name.lower() == b"content-range" for name, _ in fields) else 200
    answer = ResponseHead(status, b"OK", fields, framing=Framing.LENGTH, length=SIZE)
    for policy in (CachePolicy(), CachePolicy(ttl=60, browser_ttl=5, stale_if_error=5, strip=frozenset({b"x"}))):
        told(answer, policy)
        stored = storable(asked, answer, policy, NOW - 1, NOW)
        if isinstance(stored, Refusal):
            assert cache_status(b"w", detail=stored.reason).isascii()
            continue
        _kept(stored, fields, policy)
        _served(asked, stored, policy)
        anew = ResponseHead(304, b"", later)
        renewed = freshen(stored, anew, asked, policy, NOW + 1, NOW + 2)
        assert confirmed(later, [stored]) in (None, stored)
        if renewed is not None:
            assert (renewed.etag, renewed.length, renewed.first) == (stored.etag, stored.length, stored.first)
            _kept(renewed, [], policy)
    post = RequestHead(b"POST", b"/a?b", b"a.test", (1, 1), visitor)
    for void in invalidates(post, answer, b"https"):
        assert void.target.startswith(b"/")
        assert b"#" not in void.target


def _kept(stored: Stored, fields: Fields, policy: CachePolicy) -> None:
    assert msgpack.decode(msgpack.encode(stored), type=Stored) == stored
    assert not _NEVER & {name for name, _ in stored.fields}
    assert b"x" not in policy.strip or stored.field(b"x") is None
    assert stored.received <= stored.fresh_until <= min(stored.behind_until, stored.error_until)
    assert stored.zero <= stored.received
    control = b",".join(value for name, value in fields if name.lower() == b"cache-control")
    if b'"' not in control and not any(name.lower() == b"cdn-cache-control" for name, _ in fields):
        said = {part.partition(b"=")[0].strip(b" \t").lower() for part in control.split(b",")}
        assert b"private" not in said or b"private=" in control.lower().replace(b" ", b"").replace(b"\t", b"")
        assert b"no-store" not in said or b"must-understand" in said


def _served(asked: Question, stored: Stored, policy: CachePolicy) -> None:
    assert selected_by(asked, stored), "the request that brought it selects it"
    for after in (0.0, 1.5, 1000.0, LONG):
        now = NOW + after
        verdict = judge(asked, stored, policy, now)
        assert verdict is not Verdict.FRESH or now < stored.fresh_until
        assert after != LONG or verdict in (Verdict.REVALIDATE, Verdict.UNAVAILABLE, Verdict.STALE)
        part = wanted(asked, stored, now)
        made = serve(asked, stored, SIZE, now)
        assert part is not None
        if made is None:
            assert part[0] < stored.first or part[1] > stored.first + SIZE
            continue
        assert 0 <= made.start <= made.end <= SIZE
        assert made.head.status in (stored.status, 206, 304, 416)
        if made.head.status in (200, 206):
            assert part == (stored.first + made.start, stored.first + made.end)
            assert made.head.length == made.end - made.start
        ages = [value for name, value in made.head.fields if name == b"age"]
        assert len(ages) == (made.head.status != 416)
    made_fields = conditional([(b"Range", b"x"), (b"A", b"b")], [stored])
    assert (b"A", b"b") in made_fields
    assert all(name != b"Range" for name, _ in made_fields)
