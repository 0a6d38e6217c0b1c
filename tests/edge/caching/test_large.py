"""Long answers, parts of them, and what goes wrong in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.edge.caching.house import MEMORY, CachingHouse
from tests.edge.house import Visitor, judged
from wormhole_tw.edge.caching.stores import StoreSettings, make_store
from wormhole_tw.errors import CacheFault

LONG = bytes(range(256)) * 4096
"""A mebioctet that tells where it was cut."""

TAGGED = 'Cache-Control: max-age=60\r\nETag: "one"'


def head_of(length: int | None, fields: str = TAGGED) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 200 OK\r\n{framing}\r\n{fields}\r\n\r\n".encode()


def serve(house: CachingHouse, data: bytes, *, upto: int | None = None, piece: int = 16384) -> None:
    """The service sends octets as its connection takes them."""
    stream = house.stream
    stream.read()
    for start in range(0, len(data) if upto is None else upto, piece):
        stream.deliver(data[start : min(start + piece, upto or len(data))])


def all_of(visitor: Visitor) -> bytes:
    """Everything that it can hear now."""
    heard = b""
    while more := visitor.hears():
        heard += more
    return heard


def test_a_long_answer_is_kept_and_served(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    serve(cached, head_of(len(LONG)) + LONG)
    assert all_of(visitor).endswith(LONG)
    again = cached.ask("/film")
    assert all_of(again).endswith(LONG)
    assert cached.asked == 1
    assert again.most < 256 * 1024 + 65536


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("0-99", 0, 100), ("1000-", 1000, len(LONG)), ("-500", len(LONG) - 500, len(LONG))]
)
def test_ranges_of_what_is_kept(cached: CachingHouse, wanted: str, start: int, end: int) -> None:
    cached.ask("/film")
    serve(cached, head_of(len(LONG)) + LONG)
    visitor = cached.ask("/film", f"Range: bytes={wanted}")
    heard = all_of(visitor)
    assert heard.startswith(b"HTTP/1.1 206")
    assert b"bytes %d-%d/%d" % (start, end - 1, len(LONG)) in heard
    assert heard.partition(b"\r\n\r\n")[2] == LONG[start:end]
    assert cached.asked == 1


def test_a_range_out_of_a_fetch_that_runs(cached: CachingHouse) -> None:
    first = cached.ask("/film")
    stream = cached.stream
    serve(cached, head_of(len(LONG)) + LONG, upto=200_000)
    part = cached.ask("/film", "Range: bytes=100000-299999")
    heard = all_of(part)
    assert heard.startswith(b"HTTP/1.1 206")
    assert len(heard.partition(b"\r\n\r\n")[2]) < 200_000
    assert cached.asked == 1
    sent = head_of(len(LONG)) + LONG
    for at in range(200_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
        heard += part.hears()
    heard += all_of(part)
    assert heard.partition(b"\r\n\r\n")[2] == LONG[100000:300000]
    assert all_of(first).endswith(LONG[-1000:])


def test_who_reads_slowly_stops_nobody(cached: CachingHouse) -> None:
    slow, fast = cached.ask("/film"), cached.ask("/film")
    stream = cached.stream
    stream.read()
    sent = head_of(len(LONG)) + LONG
    heard = b""
    for at in range(0, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
        heard += fast.hears()
    assert (heard + all_of(fast)).endswith(LONG)
    assert slow.most < 512 * 1024
    assert all_of(slow).endswith(LONG)
    assert cached.asked == 1


def test_a_long_answer_of_unknown_length(cached: CachingHouse) -> None:
    visitors = [cached.ask("/film"), cached.ask("/film", "Range: bytes=5-9")]
    body = b"".join(b"%x\r\n%s\r\n" % (4096, LONG[at : at + 4096]) for at in range(0, 65536, 4096)) + b"0\r\n\r\n"
    serve(cached, head_of(None) + body)
    for visitor in visitors:
        [(head, got)] = visitor.answers()
        assert (head.status_code, got) == (200, LONG[:65536])
    again = cached.get("/film")
    assert again.fields["content-length"] == "65536"
    assert again.body == LONG[:65536]
    assert cached.get("/film", "Range: bytes=5-9").body == LONG[5:10]


def test_what_is_too_large_is_the_first_ones_alone(keep: Callable[..., CachingHouse]) -> None:
    house = keep(memory=1024 * 1024)
    visitor = house.ask("/film")
    serve(house, head_of(len(LONG)))
    for at in range(0, len(LONG), 16384):
        house.stream.deliver(LONG[at : at + 16384])
    # the service waits for the visitor
    assert house.stream.paused
    assert all_of(visitor).endswith(LONG)


def test_what_grows_too_large_is_served_and_not_kept(keep: Callable[..., CachingHouse]) -> None:
    house = keep(memory=1024 * 1024)
    visitors = [house.ask("/film") for _ in range(3)]
    serve(house, head_of(None))
    chunks = b"".join(b"%x\r\n%s\r\n" % (16384, LONG[at : at + 16384]) for at in range(0, len(LONG), 16384))
    for at in range(0, len(chunks), 16384):
        house.stream.deliver(chunks[at : at + 16384])
    heard = [b""] * 3
    for _ in range(40):
        for number, visitor in enumerate(visitors):
            heard[number] += visitor.hears()
    house.stream.deliver(b"0\r\n\r\n")
    for number, visitor in enumerate(visitors):
        heard[number] += all_of(visitor)
        assert judged(heard[number])[0][1] == LONG
    house.get("/film", reply=("Cache-Control: max-age=60",))


# what goes wrong


def test_the_service_leaves_midway_and_a_part_is_kept(cached: CachingHouse) -> None:
    visitors = [cached.ask("/film") for _ in range(3)]
    serve(cached, head_of(len(LONG)) + LONG, upto=100_000)
    for visitor in visitors:
        assert all_of(visitor).startswith(b"HTTP/1.1 200")
    cached.stream.lose()
    for visitor in visitors:
        assert all_of(visitor) == b""
        assert visitor.disconnected
    # the part is served as such …
    heard = all_of(cached.ask("/film", "Range: bytes=10-19"))
    assert heard.startswith(b"HTTP/1.1 206")
    assert heard.endswith(LONG[10:20])
    # … and the rest is asked for where the whole is wanted
    visitor = cached.ask("/film")
    [*_, (request, _, _)] = cached.stream.requests()
    fields = dict(request.headers)
    start = int(fields[b"range"].removeprefix(b"bytes=").removesuffix(b"-"))
    assert fields[b"if-range"] == b'"one"'
    rest = LONG[start:]
    lines = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(rest)}\r\n{TAGGED}\r\n"
    lines += f"Content-Range: bytes {start}-{len(LONG) - 1}/{len(LONG)}\r\n\r\n"
    serve(cached, lines.encode() + rest)
    heard = all_of(visitor)
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(LONG)
    assert all_of(cached.ask("/film")).endswith(LONG)
    assert cached.asked == 2


def test_the_rest_of_something_else_is_fetched_whole(cached: CachingHouse) -> None:
    cached.ask("/film")
    serve(cached, head_of(len(LONG)) + LONG, upto=100_000)
    cached.stream.lose()
    visitor = cached.ask("/film")
    other = b"another film"
    cached.answer("Cache-Control: max-age=60", 'ETag: "two"', body=other)
    assert visitor.answers()[0][1] == other
    assert cached.get("/film").body == other


def test_half_of_what_has_no_strong_tag_is_not_kept(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    serve(cached, head_of(1000, "Cache-Control: max-age=60") + LONG[:500])
    cached.stream.lose()
    assert visitor.disconnected or all_of(visitor)
    got = cached.get("/film", reply=("Cache-Control: max-age=60",))
    assert "uri-miss" in got.cache


def test_the_visitor_leaves_and_the_fetch_with_him(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    stream = cached.stream
    serve(cached, head_of(len(LONG) * 4) + LONG, upto=300_000)
    visitor.lose()
    assert stream.aborted
    heard = all_of(cached.ask("/film", "Range: bytes=0-9"))
    assert heard.endswith(LONG[:10])


def test_the_visitor_leaves_and_little_is_left(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    sent = head_of(len(LONG)) + LONG
    serve(cached, sent, upto=100_000)
    visitor.lose()
    stream = cached.stream
    assert not stream.aborted
    for at in range(100_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
    assert all_of(cached.ask("/film")).endswith(LONG)
    assert cached.asked == 1


def test_the_first_leaves_and_others_go_on(cached: CachingHouse) -> None:
    first, second = cached.ask("/film"), cached.ask("/film")
    sent = head_of(len(LONG) * 4) + LONG * 4
    serve(cached, sent, upto=100_000)
    first.lose()
    stream = cached.stream
    heard = b""
    for at in range(100_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
        heard += second.hears()
    assert (heard + all_of(second)).endswith(LONG * 4)


def test_the_visitor_leaves_before_the_answer(cached: CachingHouse) -> None:
    cached.ask("/film").lose()
    assert cached.stream.aborted
    assert cached.context.cache.running_count == 0


def test_a_purge_during_a_fetch(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    sent = head_of(len(LONG)) + LONG
    serve(cached, sent, upto=100_000)
    stream = cached.stream
    cached.context.cache.purges.add("url", "app", b"/film", cached.clock.seconds())
    # who asks now gets none of it
    after = cached.ask("/film")
    assert cached.asked == 2
    cached.answer("Cache-Control: max-age=60", body=b"new")
    assert after.answers()[0][1] == b"new"
    for at in range(100_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
    # who asked before gets all of it, and nobody else does
    assert all_of(visitor).endswith(LONG)
    assert cached.get("/film").body == b"new"


def test_an_unsafe_request_during_a_fetch(cached: CachingHouse) -> None:
    first = cached.ask("/page")
    stream = cached.stream
    cached.clock.advance(1)
    cached.get("/page", "Content-Length: 0", method="POST", reply=())
    stream.read()
    stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=60\r\n\r\nold")
    assert first.answers()[0][1] == b"old"
    assert cached.get("/page", reply=("Cache-Control: max-age=60",), body=b"new").body == b"new"


def test_a_reload_during_a_fetch(cached: CachingHouse) -> None:
    visitor = cached.ask("/film")
    sent = head_of(len(LONG)) + LONG
    serve(cached, sent, upto=100_000)
    cached.catalogs.swap(cached.catalog("http/1.1"))
    late = cached.ask("/film")
    stream = cached.stream
    for at in range(100_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
    assert all_of(visitor).endswith(LONG)
    assert all_of(late).endswith(LONG)
    assert cached.asked == 1


def test_the_edge_stops_during_a_fetch(cached: CachingHouse) -> None:
    visitors = [cached.ask("/film") for _ in range(3)]
    serve(cached, head_of(len(LONG)) + LONG, upto=100_000)
    cached.context.drain()
    cached.context.abort()
    assert all(visitor.disconnected for visitor in visitors)
    assert cached.context.cache.running_count == 0


# a disk that is slow, and one that breaks


class SlowStore:
    """A store in front of memory that answers when the test says so, as a disk does."""

    name = "slow"

    def __init__(self, clock: Any) -> None:
        self.within = make_store(StoreSettings(clock, memory=MEMORY))
        self.largest = self.within.largest
        self.waiting: list[Deferred[Any]] = []
        self.broken = False

    def find(self, key: bytes) -> Any:
        found = tuple(SlowKept(self, kept) for kept in self.within.find(key))
        return self.later(found)

    def later(self, result: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        waiting.addCallback(lambda _: result)
        self.waiting.append(waiting)
        return waiting

    def go_on(self) -> None:
        while self.waiting:
            waiting = self.waiting.pop(0)
            if not waiting.called:
                waiting.callback(None)

    def begin(self, *arguments: Any) -> Any:
        return self.within.begin(*arguments)

    def refresh(self, kept: Any, stored: Any) -> None:
        self.within.refresh(kept.kept, stored)

    def remove(self, kept: Any) -> None:
        self.within.remove(kept.kept)

    def close(self) -> Deferred[None]:
        return succeed(None)


class SlowKept:
    """An answer of it."""

    body = None

    def __init__(self, store: SlowStore, kept: Any) -> None:
        self.store = store
        self.kept = kept
        self.key = kept.key
        self.size = kept.size
        self.prepared = None

    @property
    def stored(self) -> Any:
        return self.kept.stored

    def read(self, start: int, size: int) -> Deferred[bytes]:
        if self.store.broken:
            self.store.within.remove(self.kept)
            return fail(CacheFault("the disk is broken"))
        return self.store.later(self.kept.body[start : start + size])


def pump(store: SlowStore, visitor: Visitor) -> bytes:
    heard = b""
    while True:
        store.go_on()
        more = all_of(visitor)
        if not more and not store.waiting:
            return heard
        heard += more


@pytest.fixture
def slow(keep: Callable[..., CachingHouse]) -> tuple[CachingHouse, SlowStore]:
    from twisted.internet.task import Clock

    store = SlowStore(Clock())
    return keep(store=store), store


def test_answers_from_a_disk(slow: tuple[CachingHouse, SlowStore]) -> None:
    house, store = slow
    visitor = house.ask("/film")
    assert not house.streams
    store.go_on()
    serve(house, head_of(len(LONG)) + LONG)
    assert all_of(visitor).endswith(LONG)
    assert pump(store, house.ask("/film")).endswith(LONG)
    assert pump(store, house.ask("/film", "Range: bytes=7-9")).endswith(LONG[7:10])
    assert house.asked == 1
    assert house.done[-1].cache == "hit"


def test_who_leaves_while_the_disk_is_asked(slow: tuple[CachingHouse, SlowStore]) -> None:
    house, store = slow
    house.ask("/film").lose()
    store.go_on()
    assert not house.streams


def test_a_disk_that_breaks_before_the_first_octet_is_a_miss(slow: tuple[CachingHouse, SlowStore]) -> None:
    house, store = slow
    house.ask("/film")
    store.go_on()
    serve(house, head_of(len(LONG)) + LONG)
    visitor = house.ask("/film")
    store.broken = True
    pump(store, visitor)
    assert house.asked == 2
    house.answer("Cache-Control: max-age=60", body=b"anew")
    assert visitor.answers()[0][1] == b"anew"


def test_a_disk_that_breaks_midway_is_a_visible_truncation(slow: tuple[CachingHouse, SlowStore]) -> None:
    house, store = slow
    house.ask("/film")
    store.go_on()
    serve(house, head_of(len(LONG)) + LONG)
    visitor = house.ask("/film")
    for _ in range(3):
        store.go_on()
    store.broken = True
    heard = pump(store, visitor)
    assert heard.startswith(b"HTTP/1.1 200")
    assert 0 < len(heard) < len(LONG)
    assert visitor.disconnected
    assert house.done[-1].reason == "cache-fault"


def test_no_cache_where_only_a_part_is_kept(cached: CachingHouse) -> None:
    cached.ask("/film")
    serve(cached, head_of(len(LONG)) + LONG, upto=100_000)
    cached.stream.lose()
    got = cached.get(
        "/film", "Cache-Control: no-cache", reply=("Cache-Control: max-age=60", 'ETag: "one"'), body=b"all"
    )
    assert got.body == b"all"


@pytest.mark.parametrize("asked", ["3145728-3145737", "-3145728"])
def test_a_range_far_behind_is_asked_for_as_it_is(cached: CachingHouse, asked: str) -> None:
    """Also one that is counted from the end: nobody knows how far behind that is."""
    start = 3 * 1024 * 1024
    visitor = cached.ask("/film", f"Range: bytes={asked}")
    [*_, (request, _, _)] = cached.stream.requests()
    assert dict(request.headers)[b"range"] == b"bytes=" + asked.encode()
    wanted = f"Range: bytes={start}-{start + 9}"
    cached.answer(
        "Cache-Control: max-age=60",
        'ETag: "one"',
        f"Content-Range: bytes {start}-{start + 9}/{start * 2}",
        body=b"0123456789",
        status="206 Partial Content",
    )
    [(head, body)] = visitor.answers()
    assert (head.status_code, body) == (206, b"0123456789")
    assert cached.get("/film", wanted).body == b"0123456789"
    assert cached.get("/film", f"Range: bytes={start + 2}-{start + 3}").body == b"23"


@pytest.mark.parametrize("who", ["first", "other"])
def test_one_visitor_that_fails_harms_no_other(
    cached: CachingHouse, who: str, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    first, other = cached.ask("/page"), cached.ask("/page")
    broken, well = (first, other) if who == "first" else (other, first)
    exchange = broken.protocol._exchange
    kind = type(exchange)
    on_answer = kind.on_answer

    def fail(self: Any, head: Any, body: bytes) -> None:
        if self is exchange:
            raise RuntimeError("a bug")
        on_answer(self, head, body)

    monkeypatch.setattr(kind, "on_answer", fail)
    cached.answer("Cache-Control: max-age=60")
    assert well.answers()[0][1] == b"hello"
    assert broken.answers()[0][0].status_code == 500
    assert len(logged_failures.flush(RuntimeError)) == 1


def test_the_service_sees_one_visitor_to_a_stream_and_the_first_leaves(keep: Callable[..., CachingHouse]) -> None:
    """Each visitor has streams of its own towards such an agent; a fetch for several outlives the one it began for."""
    house = keep(per_visitor=True)
    first, second = house.ask("/film"), house.ask("/film")
    stream = house.stream
    sent = head_of(len(LONG) * 2) + LONG * 2
    serve(house, sent, upto=100_000)
    first.lose()
    heard = b""
    for at in range(100_000, len(sent), 16384):
        stream.deliver(sent[at : at + 16384])
        heard += second.hears()
    assert (heard + all_of(second)).endswith(LONG * 2)
    assert house.asked == 1
    # nor is it left behind for a visitor who is gone
    assert stream.disconnecting


def test_who_keeps_others_waiting_where_nothing_is_stored_is_cut(keep: Callable[..., CachingHouse]) -> None:
    house = keep(memory=1024 * 1024)
    slow, fast = house.ask("/film"), house.ask("/film")
    serve(house, head_of(None))
    chunks = b"".join(b"%x\r\n%s\r\n" % (16384, LONG[at : at + 16384]) for at in range(0, len(LONG), 16384))
    heard = b""
    for at in range(0, len(chunks), 16384):
        house.stream.deliver(chunks[at : at + 16384])
        heard += fast.hears()
    assert house.stream.paused
    assert not slow.disconnected
    house.pass_time(6)
    assert slow.disconnected
    heard += all_of(fast)
    house.stream.deliver(b"0\r\n\r\n")
    assert judged(heard + all_of(fast))[0][1] == LONG


class Tardy:
    """What comes in, on a disk that is behind, and may give it up."""

    crowded = False

    def __init__(self, within: Any) -> None:
        self.within = within
        self.behind = 0
        self.lost = False
        self.waiting: Deferred[None] | None = None

    @property
    def size(self) -> int:
        return self.within.size

    def write(self, data: bytes) -> None:
        self.within.write(data)
        self.behind += len(data)

    def caught_up(self) -> Deferred[None]:
        self.waiting = Deferred()
        return self.waiting

    def catch_up(self) -> None:
        self.behind = 0
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)

    def read(self, start: int, size: int) -> Deferred[bytes]:
        return fail(CacheFault("given up")) if self.lost else self.within.read(start, size)

    def commit(self) -> Any:
        return None if self.lost else self.within.commit()

    def commit_part(self) -> Any:
        return None if self.lost else self.within.commit_part()

    def abandon(self) -> None:
        self.within.abandon()


class TardyStore:
    """A store whose disk is behind when the test says so."""

    def __init__(self, clock: Any) -> None:
        self.within = make_store(StoreSettings(clock, memory=MEMORY))
        self.coming: list[Tardy] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.within, name)

    def begin(self, *arguments: Any) -> Tardy:
        self.coming.append(Tardy(self.within.begin(*arguments)))
        return self.coming[-1]


def test_the_service_waits_for_a_disk_that_is_behind(keep: Callable[..., CachingHouse]) -> None:
    store = TardyStore(None)
    house = keep(store=store)
    visitor = house.ask("/film")
    stream = house.stream
    sent = head_of(len(LONG) * 3) + LONG * 3
    stream.read()
    at, heard = 0, b""
    while not stream.paused:
        stream.deliver(sent[at : at + 16384])
        at += 16384
        heard += visitor.hears()
    [coming] = store.coming
    assert 1024 * 1024 <= coming.behind < 1024 * 1024 + 65536
    while at < len(sent):
        coming.catch_up()
        assert not stream.paused
        while not stream.paused and at < len(sent):
            stream.deliver(sent[at : at + 16384])
            at += 16384
            heard += visitor.hears()
    assert (heard + all_of(visitor)).endswith(LONG * 3)
    assert house.asked == 1


def test_a_store_that_gives_up_midway(keep: Callable[..., CachingHouse]) -> None:
    """Who keeps up gets all; who read from the store is cut, visibly; nothing is kept."""
    store = TardyStore(None)
    house = keep(store=store)
    fast, slow = house.ask("/film"), house.ask("/film")
    stream = house.stream
    sent = head_of(len(LONG)) + LONG
    stream.read()
    heard = b""
    for at in range(0, len(sent), 16384):
        if at == 40 * 16384:
            store.coming[0].lost = True
        stream.deliver(sent[at : at + 16384])
        heard += fast.hears()
    assert (heard + all_of(fast)).endswith(LONG)
    assert slow.disconnected
    house.get("/film", reply=("Cache-Control: max-age=60",))


def test_who_waits_for_a_part_that_does_not_come_asks_himself(cached: CachingHouse) -> None:
    """The rest of a span is fetched for one; what it brings has not what the other wants."""
    cached.ask("/film")
    serve(cached, head_of(1000) + LONG[:1000], upto=len(head_of(1000)) + 500)
    cached.stream.lose()
    whole = cached.ask("/film")
    cached.stream.read()
    cached.answer(TAGGED, "Content-Range: bytes 500-999/1000", body=LONG[500:1000], status="206 Partial Content")
    assert whole.answers()[0][1] == LONG[:1000]
    assert cached.get("/film", "Range: bytes=400-599").body == LONG[400:600]
