"""Answers that get a content coding on their way, as conversations between a visitor and an origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from tests.edge.h2_service import Service
from tests.edge.h2_visitor import GET as H2_GET
from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import House, Visitor, building, judged
from tests.edge.test_dispatch import Home
from tests.http.coding.judges import GIVEN, decoded
from wormhole_tw.control.balancing import Balance, Policy, RetriesTable
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import H2C, LocalAnswer
from wormhole_tw.edge import compressing
from wormhole_tw.edge.compressing import INLINE, OWN_MOST, Compressors
from wormhole_tw.http.coding import CodingRules
from wormhole_tw.net.threads import Job
from wormhole_tw.wire.codes import ResetCode

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PAGE = b"<p>The quick brown fox</p>\n" * 100
LARGE = b"".join(b'{"id": %d, "of": %d}\n' % (number, number * number % 997) for number in range(30_000))
NOISE = Random(7).randbytes(300_000)


def get(coding: bytes = b"gzip", *, method: bytes = b"GET", version: bytes = b"1.1", more: bytes = b"") -> bytes:
    return b"%s / HTTP/%s\r\nHost: app.test\r\nAccept-Encoding: %s\r\n%s\r\n" % (method, version, coding, more)


def sized(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Hands:
    """Threads that work when they are told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.done = 0
        self.closed = False

    def run(self, call: Any, done: Any) -> Any:
        job = Job(call, done)
        self.jobs.append(job)
        return job

    def work(self) -> None:
        """Do the first one."""
        job = self.jobs.pop(0)
        if job.done is not None:
            try:
                result = job.call()
            except Exception:  # as a thread would
                result = Failure()
            self.done += 1
            job.done(result)

    def work_off(self) -> None:
        while self.jobs:
            self.work()

    def close(self) -> None:
        self.closed = True


class Press(House):
    """A house whose routes compress.

    :param hands: threads; None for none
    """

    def __init__(self, rules: CodingRules | None = None, *, hands: Hands | None = None, **options: Any) -> None:
        self.rules = rules or CodingRules()
        self.local: LocalAnswer | None = None
        super().__init__(**options)
        if hands is not None:
            self.context.compressors = Compressors(self.timers, hands)  # type: ignore[arg-type]

    def catalog(self, protocol: str) -> Catalog:
        usual = super().catalog(protocol)
        sites = [
            replace(
                site,
                routes=tuple(replace(route, compress=self.rules, answer=self.local) for route in site.routes),
            )
            for site in usual.sites
        ]
        return Catalog(sites, usual.backends.values(), own_names=["edge.test"])

    def answers_itself(self, answer: LocalAnswer) -> None:
        self.local = answer
        self.catalogs.swap(self.catalog("http/1.1"))

    def ask(self, request: bytes | None = None, **options: Any) -> Visitor:
        visitor = self.visitor(**options)
        visitor.says(get() if request is None else request)
        return visitor

    def close(self) -> None:
        assert self.context.compressors.running == 0 or any(True for _ in self.context.connections)
        super().close()
        assert self.context.compressors.running == 0


@pytest.fixture
def press() -> Iterator[Callable[..., Press]]:
    with building(Press) as build:
        yield build


def fields(head: Any) -> dict[bytes, bytes]:
    return dict(head.headers)


# what visitors get


@pytest.mark.parametrize("coding", GIVEN)
def test_a_page(press: Any, coding: bytes) -> None:
    house = press()
    visitor = house.ask(get(coding))
    house.stream.deliver(sized(PAGE, b'ETag: "abc"\r\nAccept-Ranges: bytes\r\n'))
    [(head, body)] = visitor.answers()
    said = fields(head)
    assert decoded(coding, body) == PAGE
    assert said[b"content-encoding"] == coding
    assert said[b"vary"] == b"Accept-Encoding"
    assert said[b"etag"] == b'W/"abc"'
    assert said[b"content-length"] == b"%d" % len(body)
    assert b"accept-ranges" not in said
    assert house.done[0].sent == len(body) < len(PAGE)


def test_the_service_is_asked_as_the_visitor_asked(press: Any) -> None:
    house = press()
    house.ask(get(b"gzip, br;q=0.5"))
    [(head, _, _)] = house.stream.requests()
    assert fields(head)[b"accept-encoding"] == b"gzip, br;q=0.5"


def test_who_takes_none_gets_none(press: Any) -> None:
    house = press()
    visitor = house.ask(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    house.stream.deliver(sized(PAGE, b'ETag: "abc"\r\n'))
    [(head, body)] = visitor.answers()
    assert body == PAGE
    assert fields(head)[b"vary"] == b"Accept-Encoding"
    assert fields(head)[b"etag"] == b'"abc"'
    assert b"content-encoding" not in fields(head)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 2\r\n\r\nok",
        HEAD.replace(b"text/html", b"image/png") + b"Content-Length: 4000\r\n\r\n" + bytes(4000),
        HEAD + b"Content-Encoding: br\r\nContent-Length: 4000\r\n\r\n" + bytes(4000),
        HEAD + b"Cache-Control: no-transform\r\nContent-Length: 4000\r\n\r\n" + bytes(4000),
    ],
)
def test_what_is_left_as_it_is(press: Any, answer: bytes) -> None:
    house = press()
    for _ in range(2):
        visitor = house.ask()
        house.stream.deliver(answer)
        [(head, body)] = visitor.answers()
        assert body == answer.partition(b"\r\n\r\n")[2]
        assert b"vary" not in fields(head)
        assert fields(head).get(b"content-encoding") in (None, b"br")


def test_a_coded_answer_of_a_service_in_pieces_passes_octet_by_octet(press: Any) -> None:
    house = press()
    visitor = house.ask()
    house.stream.deliver(HEAD + b"Content-Encoding: gzip\r\n" + CHUNKED)
    for octet in NOISE[:100]:
        house.stream.deliver(chunk(bytes([octet])))
    house.stream.deliver(b"0\r\n\r\n")
    assert visitor.answers()[0][1] == NOISE[:100]


def test_a_head_tells_what_a_get_gets(press: Any) -> None:
    house = press()
    visitor = house.ask(get(method=b"HEAD"))
    house.stream.deliver(HEAD + b"Content-Length: 5000\r\n\r\n")
    [(head, body)] = visitor.answers([b"HEAD"])
    assert (fields(head)[b"content-encoding"], body) == (b"gzip", b"")
    assert b"content-length" not in fields(head)
    visitor.says(get())
    house.stream.deliver(sized(PAGE))
    assert visitor.answers()[0][1]


def test_a_304_a_206_and_a_204(press: Any) -> None:
    house = press()
    visitor = house.ask(get(more=b'If-None-Match: W/"abc"\r\n'))
    house.stream.deliver(b'HTTP/1.1 304 Not Modified\r\nETag: "abc"\r\n\r\n')
    [(head, _)] = visitor.answers()
    assert (head.status_code, fields(head)[b"etag"]) == (304, b'W/"abc"')
    visitor.says(get(more=b"Range: bytes=0-1999\r\n"))
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-1999/5000\r\n"
    house.stream.deliver(part + b"Content-Length: 2000\r\n\r\n" + PAGE[:2000])
    [(head, body)] = visitor.answers()
    assert (body, fields(head)[b"vary"]) == (PAGE[:2000], b"Accept-Encoding")
    visitor.says(get())
    house.stream.deliver(b"HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n")
    [(head, _)] = visitor.answers()
    assert (head.status_code, fields(head).get(b"vary")) == (204, None)


def test_interim_answers_pass(press: Any) -> None:
    house = press()
    visitor = house.ask()
    house.stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
    assert b"103" in visitor.hears()
    house.stream.deliver(sized(PAGE))
    assert decoded(b"gzip", visitor.answers()[0][1]) == PAGE


def test_a_switched_connection_is_left_alone(press: Any) -> None:
    house = press()
    visitor = house.ask(get(more=b"Connection: Upgrade\r\nUpgrade: thing\r\n"))
    house.stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: thing\r\n\r\nhello")
    assert visitor.hears().endswith(b"\r\n\r\nhello")
    visitor.says(b"world")
    assert house.stream.read().endswith(b"world")
    house.stream.deliver(b"!")
    assert visitor.hears() == b"!"


def test_a_visitor_of_http_1_0(press: Any) -> None:
    house = press()
    visitor = house.ask(get(version=b"1.0"))
    house.stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    house.stream.deliver(chunk(PAGE) + b"0\r\n\r\n")
    heard = visitor.hears()
    assert b"Transfer-Encoding" not in heard
    [(_, body)] = judged(heard, closed=True)
    assert decoded(b"gzip", body) == PAGE * 2


@pytest.mark.parametrize("coding", GIVEN)
def test_a_visitor_of_http_2(press: Any, coding: bytes) -> None:
    house = press()
    visitor = H2Visitor(house).hello()
    stream = visitor.ask(H2_GET, ("accept-encoding", coding.decode()))
    house.stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    assert decoded(coding, visitor[stream].body, cut=True) == PAGE
    house.stream.deliver(chunk(PAGE) + b"0\r\nX-Sum: 7\r\n\r\n")
    answer = visitor[stream]
    assert (answer.status, answer.ended) == (200, True)
    assert answer.fields["content-encoding"] == coding.decode()
    assert answer.trailers == [("x-sum", "7")]
    assert decoded(coding, answer.body) == PAGE * 2


# as it comes


@pytest.mark.parametrize("coding", GIVEN)
def test_events_are_not_held_back(press: Any, coding: bytes) -> None:
    house = press(hands=Hands())
    visitor = house.ask(get(coding))
    house.stream.deliver(HEAD.replace(b"text/html", b"text/event-stream") + CHUNKED)
    heard = visitor.hears()
    assert b"Content-Encoding: " + coding in heard
    body, said = b"", b""
    for number in range(50):
        event = b"data: %d\n\n" % number
        house.stream.deliver(chunk(event))
        said += event
        data = visitor.hears()
        assert data
        body += judged_chunks(data)
        assert decoded(coding, body, cut=True) == said
        house.pass_time(30)
    house.stream.deliver(b"0\r\n\r\n")
    body += judged_chunks(visitor.hears().removesuffix(b"0\r\n\r\n"))
    assert decoded(coding, body) == said
    # no thread was needed for that
    assert house.context.compressors.workers.done == 0


def judged_chunks(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        found, data = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


def test_trailers_pass_but_for_digests(press: Any) -> None:
    house = press()
    visitor = house.ask()
    house.stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    house.stream.deliver(b"0\r\nX-Sum: 7\r\nContent-Digest: x\r\n\r\n")
    heard = visitor.hears()
    assert heard.endswith(b"0\r\nX-Sum: 7\r\n\r\n")
    assert decoded(b"gzip", judged(heard)[0][1]) == PAGE


@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(1, 9000), max_size=12),
    coding=st.sampled_from(GIVEN).map(lambda param: param.values[0]),
    says_length=st.booleans(),
    small_reads=st.booleans(),
    workers=st.booleans(),
)
def test_whatever_the_pieces_it_says_what_it_said(
    cuts: list[int], coding: Any, says_length: bool, small_reads: bool, workers: bool
) -> None:
    hands = Hands() if workers else None
    house = Press(hands=hands)
    visitor = house.ask(get(coding))
    pieces = [LARGE[at : at + size] for at, size in zip(range(0, 120_000, 9000), cuts, strict=False)]
    said = b"".join(pieces)
    if says_length:
        house.stream.deliver(HEAD + b"Content-Length: %d\r\n\r\n" % len(said))
    else:
        house.stream.deliver(HEAD + CHUNKED)
    heard = b""
    for piece in pieces:
        house.stream.deliver(piece if says_length else chunk(piece))
        if small_reads:
            heard += visitor.hears()
        if hands is not None and len(piece) % 2:
            hands.work_off()
    if not says_length:
        house.stream.deliver(b"0\r\n\r\n")
    for _ in range(1000):
        heard += visitor.hears()
        if hands is None or not hands.jobs:
            break
        hands.work()
    heard += visitor.hears()
    [(head, body)] = judged(heard)
    if b"content-encoding" in fields(head):
        body = decoded(coding, body)
    assert body == said
    house.close()


# much of it


def test_a_whole_large_answer_is_as_long_as_it_says(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    for _ in range(2):  # the second one is known octet for octet
        visitor = house.ask(capacity=10**7)
        house.stream.deliver(sized(LARGE))
        assert house.done == []
        assert visitor.hears() == b""
        hands.work()
        [(head, body)] = visitor.answers()
        assert fields(head)[b"content-length"] == b"%d" % len(body)
        assert decoded(b"gzip", body) == LARGE
        house.done.clear()


def test_pieces_keep_their_order_behind_a_thread(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    stream.deliver(chunk(LARGE[:40_000]))  # too much for the reactor
    stream.deliver(chunk(LARGE[40_000:40_010]))  # little, but behind it
    assert len(hands.jobs) == 1
    stream.deliver(b"0\r\nX-Sum: 7\r\n\r\n")
    assert len(hands.jobs) == 1
    assert b"X-Sum" not in visitor.hears()
    hands.work_off()
    heard = visitor.hears()
    assert heard.endswith(b"0\r\nX-Sum: 7\r\n\r\n")
    assert decoded(b"gzip", judged_chunks(heard.removesuffix(b"0\r\nX-Sum: 7\r\n\r\n"))) == LARGE[:40_010]


def test_the_end_may_come_while_the_last_piece_is_in_a_thread(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    house.stream.deliver(b"0\r\n\r\n")
    hands.work_off()
    assert decoded(b"gzip", visitor.answers()[0][1]) == LARGE[:40_000]
    # and the connection is free for the next one meanwhile
    assert not house.stream.disconnected


def test_the_service_is_held_back_while_a_thread_is_at_it(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    given = 0
    while not stream.paused:
        stream.deliver(chunk(NOISE[:30_000]))
        given += 30_000
        assert given < 300_000
    assert len(hands.jobs) == 1
    hands.work_off()
    assert not stream.paused
    assert visitor.hears()


def test_a_visitor_who_does_not_read_holds_the_service_back(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=20_000)
    stream = house.stream
    stream.deliver(HEAD + CHUNKED)
    given = 0
    while not stream.paused:
        stream.deliver(chunk(NOISE[:30_000]))  # which no coding makes shorter
        hands.work_off()
        given += 30_000
        assert given < 300_000
    body = b""
    while stream.paused:
        heard = visitor.hears()
        assert heard
        body += heard
        hands.work_off()
    stream.deliver(b"0\r\n\r\n")
    for _ in range(20):
        body += visitor.hears()
        hands.work_off()
    assert decoded(b"gzip", judged(body)[0][1]) == NOISE[:30_000] * (given // 30_000)


def test_a_visitor_who_leaves_ends_it(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor, whole = house.ask(capacity=10**7), house.ask(capacity=10**7)
    first, second = house.streams
    first.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    second.deliver(sized(LARGE))
    assert [job.done is None for job in hands.jobs] == [False, False]
    visitor.lose()
    whole.lose()
    assert [job.done is None for job in hands.jobs] == [True, True]
    assert house.context.compressors.running == 0
    assert first.aborted
    assert not second.disconnected  # its answer was whole: the next one may have it
    assert [exchange.reason for exchange in house.done] == ["visitor-gone"] * 2
    hands.work_off()
    assert hands.done == 0


def test_of_a_body_that_is_said_to_be_long_nothing_is_coded_between_other_things(press: Any) -> None:
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(HEAD + b"Content-Length: %d\r\n\r\n" % (INLINE + 2))
    for piece in (b"a", b"b" * INLINE, b"c"):
        house.stream.deliver(piece)
        assert len(hands.jobs) == 1
        hands.work()
    assert hands.done == 3
    hands.work_off()
    assert decoded(b"gzip", visitor.answers()[0][1]) == b"a" + b"b" * INLINE + b"c"


def test_a_stream_may_say_much_in_the_end(press: Any) -> None:
    """What is little at a time is coded at once; what is much at a time in threads, whatever it was before."""
    hands = Hands()
    house = press(hands=hands)
    house.ask(capacity=10**7)
    house.stream.deliver(HEAD + CHUNKED)
    for _ in range(INLINE // 1000):
        house.stream.deliver(chunk(LARGE[:1000]))
    assert not hands.jobs
    house.stream.deliver(chunk(LARGE[:1000]))
    assert hands.jobs
    hands.work_off()
    house.pass_time(10)
    house.stream.deliver(chunk(LARGE[:1000]))
    assert not hands.jobs
    house.stream.deliver(chunk(LARGE[: INLINE + 1]))
    assert hands.jobs
    hands.work_off()


def test_more_than_there_is_room_for_go_as_they_are(press: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressing, "MOST", 2)
    house = press()
    visitors = [house.ask() for _ in range(3)]
    for stream in house.streams:
        stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    heard = [visitor.hears() for visitor in visitors]
    assert [b"Content-Encoding" in each for each in heard] == [True, True, False]
    assert all(b"Vary: Accept-Encoding" in each for each in heard)
    # what is whole takes no room
    visitor = house.ask()
    house.stream.deliver(sized(PAGE))
    assert b"Content-Encoding" in visitor.hears()
    house.streams[0].deliver(b"0\r\n\r\n")
    visitor = house.ask()
    house.streams[0].deliver(sized(PAGE))
    assert b"Content-Encoding" in visitor.hears()


# what goes wrong


@pytest.mark.parametrize("workers", [False, True])
def test_what_came_before_a_failure_is_heard_and_the_answer_is_cut(press: Any, workers: bool) -> None:
    hands = Hands() if workers else None
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    writes: list[bytes] = []
    write = visitor.write
    visitor.write = lambda data: (writes.append(data), write(data))[1]
    house.stream.deliver(HEAD + CHUNKED + chunk(LARGE[:40_000]))
    house.stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
    if hands is not None:
        assert not visitor.disconnected
        hands.work_off()
    assert visitor.disconnected
    heard = b"".join(writes)
    assert not heard.endswith(b"0\r\n\r\n")
    body = judged_chunks(heard.partition(b"\r\n\r\n")[2])
    assert decoded(b"gzip", body, cut=True) == LARGE[:40_000]
    assert house.done[0].reason == "service-failed"


def test_a_failure_before_the_answer_is_tried_again(press: Any) -> None:
    house = press(agents=2)
    visitor = house.ask()
    house.streams[0].reset(ResetCode.LINK_LOST, delivered=True)
    [*_, stream] = [each for each in house.streams if not each.disconnected]
    stream.deliver(sized(PAGE))
    assert decoded(b"gzip", visitor.answers()[0][1]) == PAGE


@pytest.mark.parametrize("whole", [True, False])
def test_an_encoder_that_fails(press: Any, whole: bool, logged_failures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(compressing, "encoded" if whole else "_code", broken)
    hands = Hands()
    house = press(hands=hands)
    visitor = house.ask(capacity=10**7)
    house.stream.deliver(sized(LARGE) if whole else HEAD + CHUNKED + chunk(LARGE[:40_000]))
    hands.work_off()
    assert len(logged_failures.flush(MemoryError)) == 1
    if whole:
        assert visitor.answers()[0][0].status_code == 500
    else:
        assert visitor.disconnected
    assert house.context.compressors.running == 0


# requests with a body


def test_a_body_goes_the_other_way_as_it_is(press: Any) -> None:
    house = press()
    visitor = house.visitor()
    visitor.says(get(method=b"POST", more=b"Content-Length: 300000\r\n"))
    stream = house.stream
    given = got = 0
    while given < 300_000:
        if visitor.paused:
            got += len(stream.read())  # the service was full
            continue
        visitor.says(NOISE[given : given + 20_000])
        given += 20_000
    got += len(stream.read())
    [(_, body, _)] = stream.requests()
    assert body == NOISE
    stream.deliver(sized(PAGE))
    assert decoded(b"gzip", visitor.answers([b"POST"])[0][1]) == PAGE


def test_an_early_answer_is_compressed_while_the_body_comes(press: Any) -> None:
    house = press()
    visitor = house.visitor()
    visitor.says(get(method=b"POST", more=b"Transfer-Encoding: chunked\r\n") + chunk(b"some"))
    house.stream.deliver(HEAD + CHUNKED + chunk(PAGE))
    heard = visitor.hears()
    visitor.says(chunk(b"more") + b"0\r\n\r\n")
    house.stream.deliver(b"0\r\n\r\n")
    [(_, body)] = judged(heard + visitor.hears(), [b"POST"])
    assert decoded(b"gzip", body) == PAGE


def test_both_ends_of_a_switched_connection_may_end_it(press: Any) -> None:
    house = press()
    for first in ("visitor", "service"):
        visitor = house.ask(get(more=b"Connection: Upgrade\r\nUpgrade: thing\r\n"))
        stream = house.stream
        stream.deliver(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: thing\r\n\r\nhello")
        (visitor if first == "visitor" else stream).end_reading()
        visitor.hears()
        (stream if first == "visitor" else visitor).end_reading()
        visitor.hears()
        stream.read()
        assert len(house.done) == (1 if first == "visitor" else 2)


# services that speak HTTP/2, and two that are asked at once


def test_grpc_is_left_alone(press: Any) -> None:
    house = press(protocol=H2C)
    visitor = H2Visitor(house).hello()
    grpc = [(":method", "POST"), *H2_GET[1:], ("te", "trailers"), ("content-type", "application/grpc+json")]
    stream = visitor.ask(grpc, ("accept-encoding", "gzip"), ("grpc-accept-encoding", "gzip"))
    service = Service(house.stream)
    assert service[1].fields["accept-encoding"] == "gzip"
    message = b"\0\0\0\x0f\xa0" + bytes(4000)
    kind = ("content-type", "application/grpc+json")
    service.answer(1, message, kind, trailers=[("grpc-status", "0"), ("digest", "x")])
    answer = visitor[stream]
    assert (answer.body, answer.trailers) == (message, [("grpc-status", "0"), ("digest", "x")])
    assert not {"content-encoding", "vary"} & answer.fields.keys()


@pytest.mark.parametrize("coding", GIVEN)
def test_a_service_of_http_2(press: Any, coding: bytes) -> None:
    house = press(protocol=H2C)
    visitor = house.ask(get(coding))
    Service(house.stream).answer(1, PAGE, ("content-type", "text/html"), ("etag", '"abc"'))
    [(head, body)] = visitor.answers()
    assert (fields(head)[b"content-encoding"], fields(head)[b"etag"]) == (coding, b'W/"abc"')
    assert decoded(coding, body) == PAGE


def test_a_service_of_http_2_that_says_it_piece_by_piece(press: Any) -> None:
    house = press(protocol=H2C)
    visitor = house.ask()
    service = Service(house.stream)
    assert service[1].fields[":method"] == "GET"
    service.head(1, ("content-type", "text/event-stream"))
    body = judged_chunks(visitor.hears().partition(b"\r\n\r\n")[2])
    for number in range(1, 30):
        service.hear()  # what its windows are
        assert service.data(1, PAGE) == len(PAGE)
        body += judged_chunks(visitor.hears())
        assert decoded(b"gzip", body, cut=True) == PAGE * number
    service.data(1, PAGE, end=True)
    body += judged_chunks(visitor.hears().removesuffix(b"0\r\n\r\n"))
    assert decoded(b"gzip", body) == PAGE * 30


class PressedHome(Home):
    """Two agents that are asked at once where the first takes its time, and whose answers are compressed."""

    def catalog(self, protocol: str) -> Catalog:
        usual = super().catalog(protocol)
        sites = [
            replace(site, routes=tuple(replace(route, compress=CodingRules()) for route in site.routes))
            for site in usual.sites
        ]
        return Catalog(sites, usual.backends.values(), own_names=["edge.test"])


HEDGED = Policy(
    balance=Balance(method="round_robin"), retries=RetriesTable(hedge_after=0.2, hedge_budget=1.0, attempts=3)
)


@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize("whole", [True, False])
def test_whoever_of_two_answers_first_is_compressed(winner: int, whole: bool) -> None:
    house = PressedHome(HEDGED)
    visitor, _, first = house.ask(request=get())
    house.clock.advance(0.25)
    [second] = [stream for _, stream in house.busy() if stream is not first]
    stream = (first, second)[winner]
    if whole:
        stream.deliver(sized(PAGE))
    else:
        stream.deliver(HEAD + CHUNKED + chunk(PAGE))
        stream.deliver(b"0\r\n\r\n")
    [(_, body)] = visitor.answers()
    assert decoded(b"gzip", body) == PAGE
    assert (second, first)[winner].aborted
    assert not stream.disconnected
    house.close()
    assert house.context.compressors.running == 0


def test_both_of_two_may_fail() -> None:
    house = PressedHome(HEDGED)
    visitor, _, first = house.ask(request=get())
    house.clock.advance(0.25)
    [second] = [stream for _, stream in house.busy() if stream is not first]
    for stream in (second, first):
        stream.reset(ResetCode.SERVICE_FAILED, delivered=True)
    while house.busy():
        house.busy()[0][1].reset(ResetCode.SERVICE_FAILED, delivered=True)
    assert visitor.answers()[0][0].status_code == 502
    house.close()


def test_a_visitor_may_leave_two() -> None:
    house = PressedHome(HEDGED)
    visitor, _, first = house.ask(request=get())
    house.clock.advance(0.25)
    assert len(house.busy()) == 2
    visitor.lose()
    assert house.busy() == []
    assert first.aborted
    house.close()


# the edge's own


def test_an_answer_of_the_edges_own(press: Any) -> None:
    house = press()
    page = (b"Content-Type", b"text/html; charset=utf-8")
    house.answers_itself(LocalAnswer(200, (page,), PAGE))
    visitor = house.ask()
    visitor.says(get(method=b"HEAD"))
    visitor.says(get(b"identity"))
    (first, body), (head, nothing), (plain, same) = visitor.answers([b"GET", b"HEAD", b"GET"])
    assert decoded(b"gzip", body) == PAGE
    assert fields(first)[b"content-encoding"] == fields(head)[b"content-encoding"] == b"gzip"
    assert fields(first)[b"content-length"] == fields(head)[b"content-length"] == b"%d" % len(body)
    assert (nothing, same) == (b"", PAGE)
    assert fields(plain)[b"vary"] == b"Accept-Encoding"


def test_long_answers_of_its_own_and_empty_ones_are_left(press: Any) -> None:
    house = press()
    for body in (b"x" * (OWN_MOST + 1), b""):
        house.answers_itself(LocalAnswer(200, ((b"Content-Type", b"text/plain"),), body))
        visitor = house.ask(capacity=10**6)
        [(head, heard)] = visitor.answers()
        assert (heard, fields(head).get(b"content-encoding")) == (body, None)


def test_errors_before_there_is_a_route(press: Any) -> None:
    house = press()
    visitor = house.ask(get().replace(b"app.test", b"nobody.test"))
    assert visitor.answers()[0][0].status_code == 404


def test_a_route_without_it_has_nothing_in_between(house: House) -> None:
    visitor = house.visitor()
    visitor.says(get())
    assert house.stream.protocol is not None
    handler = house.stream.protocol._handler  # type: ignore[attr-defined]
    assert handler.compress is None
    assert handler._connection is house.stream.protocol
    house.stream.deliver(sized(PAGE))
    assert visitor.answers()[0][1] == PAGE
