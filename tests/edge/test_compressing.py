"""Answers that get a content coding on their way, as conversations between a visitor and an origin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.h2_service import Service
from tests.edge.h2_visitor import GET as H2_GET
from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import House, judged
from tests.edge.press import CHUNKED, HEAD, LARGE, NOISE, PAGE, Hands, Press, chunk, fields, get, judged_chunks, sized
from tests.edge.test_dispatch import Home
from tests.http.coding.judges import GIVEN, decoded
from wormhole_tw.control.balancing import Balance, Policy, RetriesTable
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import H2C, LocalAnswer
from wormhole_tw.edge.compressing import OWN_MOST
from wormhole_tw.http.coding import CodingRules
from wormhole_tw.wire.codes import ResetCode

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
