"""Requests on connections to services that speak HTTP/2: shared, each by itself, and told what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from twisted.internet.error import ConnectError

from tests.edge.h2_service import CONNECT, GET1, POST1, UPGRADE, Service, asked, service_of, status, visit, warmed
from tests.edge.h2_visitor import POST
from tests.edge.house import House
from tests.http.h2.talk import raw
from wormhole_tw.control.model import H2C, HTTP1
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode

Build = Callable[..., House]


# requests and answers


def test_a_request_and_its_answer(spoken: House) -> None:
    visitor = asked(spoken, GET1.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\nConnection: TE\r\nX-Some: thing\r\n\r\n"))
    service = service_of(spoken)
    fields = service[1].fields
    assert {name: fields[name] for name in (":method", ":scheme", ":authority", ":path", "te", "x-some")} == {
        ":method": "GET",
        ":scheme": "http",
        ":authority": "app.test",
        ":path": "/a",
        "te": "trailers",
        "x-some": "thing",
    }
    assert fields["x-forwarded-for"] == "192.0.2.7"
    assert fields["x-request-id"]
    assert service[1].ended
    service.answer(1, b"hello", ("x-answer", "yes"))
    [(head, body)] = visitor.answers()
    assert (head.status_code, head.reason, body) == (200, b"OK", b"hello")
    assert dict(head.headers)[b"via"] == b"2.0 wormhole"
    assert dict(head.headers)[b"x-answer"] == b"yes"


def test_requests_share_a_connection(spoken: House) -> None:
    visitors = [asked(spoken) for _ in range(5)]
    [stream] = spoken.streams
    assert not stream.open.dedicated
    assert stream.open.visitor is None
    service = service_of(spoken)
    assert len(service) == 5
    for number in reversed(range(5)):
        service.answer(1 + 2 * number, b"%d" % number)
    assert [visitor.answers()[0][1] for visitor in visitors] == [b"%d" % number for number in range(5)]
    assert spoken.done[0].attempts == 1


def test_a_body_and_trailers_both_ways(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask(POST, ("te", "trailers"), end=False)
    visitor.data(stream, b"first ")
    service = service_of(spoken)
    assert service[1].fields["te"] == "trailers"
    visitor.data(stream, b"second")
    visitor.client.send_headers(stream, [("x-sum", "11")], end_stream=True)
    visitor.say()
    assert service[1].body == b"first second"
    assert service[1].trailers == [("x-sum", "11")]
    service.answer(1, b"message", trailers=[("grpc-status", "0")])
    answer = visitor[stream]
    assert (answer.status, answer.body, answer.trailers) == (200, b"message", [("grpc-status", "0")])
    assert answer.ended


def test_trailers_only(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask(POST, end=False)
    service = service_of(spoken)
    service.answer(1, b"", ("grpc-status", "12"))
    answer = visitor[stream]
    assert answer.fields["grpc-status"] == "12"
    assert "content-length" not in answer.fields
    assert answer.ended
    assert answer.body == b""
    assert service[1].reset == ErrorCodes.NO_ERROR


def test_an_empty_answer_has_a_length_on_http1(spoken: House) -> None:
    visitor = asked(spoken)
    service_of(spoken).answer(1)
    [(head, body)] = visitor.answers()
    assert (dict(head.headers)[b"content-length"], body) == (b"0", b"")


def test_interim_answers(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask(POST, ("expect", "100-continue"), end=False)
    service = service_of(spoken)
    assert service[1].fields["expect"] == "100-continue"
    service.head(1, status="100")
    assert visitor[stream].interim == [100]
    service.head(1, ("link", "</a>"), status="103")
    visitor.data(stream, b"x", end=True)
    spoken.pass_time(40)
    service.head(1, status="102")
    # it is alive: its time begins anew
    spoken.pass_time(40)
    service.answer(1, b"done")
    assert visitor[stream].interim == [100, 103, 102]
    assert visitor[stream].body == b"done"


def test_an_answer_that_comes_beside_its_request(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask(POST, end=False)
    service = service_of(spoken)
    service.head(1)
    for piece in (b"one", b"two"):
        visitor.data(stream, piece)
        assert service[1].body.endswith(piece)
        service.data(1, piece)
        assert visitor[stream].body.endswith(piece)
    visitor.data(stream, b"", end=True)
    service.data(1, b"", end=True)
    assert visitor[stream].ended
    assert spoken.context.pool.idle == 1


# connections


def test_a_full_connection_is_followed_by_another(spoken: House) -> None:
    first = asked(spoken)
    service = service_of(spoken, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    asked(spoken)
    third = asked(spoken)
    assert len(spoken.streams) == 2
    assert len(service) == 2
    service_of(spoken).answer(1, b"third")
    assert third.answers()[0][1] == b"third"
    service.answer(1, b"first")
    assert first.answers()[0][1] == b"first"
    asked(spoken)
    assert len(service) == 3
    assert len(spoken.streams) == 2


def test_load_is_requests(spoken: House) -> None:
    visitors = [asked(spoken) for _ in range(7)]
    upstream = spoken.context.dispatch.pick("app")
    assert upstream is not None
    assert (spoken.sessions[0].load, upstream.load) == (1, 7)
    service = service_of(spoken)
    service.answer(1)
    visitors[1].lose()
    assert upstream.load == 5
    for stream in range(5, 15, 2):
        service.answer(stream)
    assert (spoken.sessions[0].load, upstream.load, upstream.idle) == (1, 0, 1)
    spoken.pass_time(5)
    service.hear()
    assert (spoken.sessions[0].load, upstream.load, upstream.idle) == (0, 0, 0)


def test_load_outlives_an_agent_that_is_not_ready_for_a_while(spoken: House) -> None:
    for _ in range(7):
        asked(spoken)
    session, pick = spoken.sessions[0], spoken.context.dispatch.pick
    for ready in (False, True):
        session.ready = ready
        spoken.registry.changed(session)
        upstream = pick("app")
    assert upstream is not None
    assert upstream.load == 7
    service_of(spoken).answer(1)
    assert upstream.load == 6


def test_an_idle_connection_has_its_time(spoken: House) -> None:
    service = warmed(spoken)
    spoken.pass_time(3)
    asked(spoken)
    assert service[3]
    service.answer(3)
    spoken.pass_time(3)
    assert spoken.context.pool.idle == 1
    spoken.pass_time(1.25)
    assert spoken.context.pool.idle == 0
    service.hear()
    assert service.goaways == [0]
    assert service.stream.disconnected


def test_an_old_connection_takes_what_must_not_be_sent_twice(spoken: House) -> None:
    """Where HTTP/1 would dial: GOAWAY says what was not processed."""
    service = warmed(spoken)
    spoken.pass_time(3)
    asked(spoken, POST1)
    assert service[3].body == b"body"
    assert len(spoken.streams) == 1


def test_an_agent_that_leaves(spoken: House) -> None:
    busy = asked(spoken)
    service = service_of(spoken)
    spoken.sessions[0].leave()
    service.hear()
    assert service.goaways == [0]
    assert not service.stream.disconnected
    service.answer(1, b"as ever")
    service.hear()
    assert busy.answers()[0][1] == b"as ever"
    assert service.stream.disconnected


def test_an_agent_that_leaves_an_idle_connection(spoken: House) -> None:
    service = warmed(spoken)
    spoken.sessions[0].leave()
    service.hear()
    assert service.stream.disconnected
    assert spoken.context.pool.open == 0


def test_a_pool_that_drains_keeps_nothing(spoken: House) -> None:
    warmed(spoken)
    spoken.context.pool.drain()
    assert spoken.context.pool.idle == 0
    visitor = asked(spoken)
    service = service_of(spoken)
    service.answer(1, b"the last one")
    assert visitor.answers()[0][1] == b"the last one"
    service.hear()
    assert service.stream.disconnected


def test_visitors_that_get_connections_of_their_own(build: Build) -> None:
    house = build(protocol=H2C, per_visitor=True)
    one, other = visit(house), visit(house)
    for visitor in (one, other):
        visitor.ask()
        visitor.ask()
    assert len(house.streams) == 2
    assert all(stream.open.dedicated for stream in house.streams)
    services = [service_of(house, number) for number in range(2)]
    assert [len(service) for service in services] == [2, 2]
    for service in services:
        service.answer(1)
        service.answer(3)
    assert house.context.pool.idle == 2
    one.lose()
    services[0].hear()
    assert house.context.pool.idle == 1
    assert services[0].stream.disconnected


def test_a_reload_changes_what_is_spoken_to_new_requests(spoken: House) -> None:
    running = asked(spoken)
    spoken.catalogs.swap(spoken.catalog(HTTP1))
    plain = asked(spoken)
    assert len(spoken.streams) == 2
    spoken.stream.read()
    spoken.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain")
    assert plain.answers()[0][1] == b"plain"
    service_of(spoken, 0).answer(1, b"h2c")
    assert running.answers()[0][1] == b"h2c"
    spoken.catalogs.swap(spoken.catalog(H2C))
    asked(spoken)
    assert len(spoken.streams) == 2


def test_an_agent_that_comes_later_speaks_the_same(spoken: House) -> None:
    asked(spoken)
    session = spoken.agent(instance=2)
    spoken.sessions.append(session)
    spoken.sessions[0].leave()
    asked(spoken)
    assert service_of(spoken).requests.keys() == {1}


def test_a_stream_is_dialled_once_however_many_wait_for_it(spoken: House) -> None:
    session = spoken.sessions[0]
    session.slow = []
    visitors = [asked(spoken) for _ in range(3)]
    gone = asked(spoken)
    gone.lose()
    assert len(session.slow) == 1
    session.slow[0].callback(None)
    service = service_of(spoken)
    assert list(service.requests) == [1, 3, 5, 7]
    assert service[7].reset == ErrorCodes.CANCEL
    for stream in (1, 3, 5):
        service.answer(stream, b"%d" % stream)
    assert [visitor.answers()[0][1] for visitor in visitors] == [b"1", b"3", b"5"]


def test_a_stream_that_is_not_dialled_in_time(spoken: House) -> None:
    spoken.sessions[0].slow = []
    visitors = [asked(spoken), asked(spoken, POST1)]
    spoken.pass_time(5.5)
    assert [status(visitor) for visitor in visitors] == [504, 504]


def test_a_connection_that_nobody_waits_for_any_more(spoken: House) -> None:
    session = spoken.sessions[0]
    session.slow = []
    asked(spoken).lose()
    spoken.context.pool.drain()
    assert spoken.context.pool.open == 0


@pytest.mark.parametrize("error", [StreamReset(ResetCode.OVER_LIMIT, "full", False), ConnectError()])
def test_an_agent_that_refuses_a_stream(build: Build, error: Exception) -> None:
    house = build(protocol=H2C, agents=2)
    house.sessions[0].refuse = error
    visitors = [asked(house, POST1) for _ in range(10)]
    assert house.sessions[0].streams == []
    service = Service(house.sessions[1].streams[0])
    for stream in list(service.requests):
        service.answer(stream, b"ok")
    assert [status(visitor) for visitor in visitors] == [200] * 10
    house.sessions[1].leave()
    assert status(asked(house)) == (502 if isinstance(error, ConnectError) else 503)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_service_that_takes_only_so_many_connections_keeps_those_it_has(spoken: House, when: str) -> None:
    first = asked(spoken)
    service = service_of(spoken, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    refusal = StreamReset(ResetCode.REFUSED, "no more", False)
    if when == "at once":
        spoken.sessions[0].refuse = refusal
        one_too_many = asked(spoken)
    else:
        one_too_many = asked(spoken)
        spoken.stream.lose(refusal)
    assert status(one_too_many) == 502
    service.answer(1)
    assert status(first) == 200
    next_one = asked(spoken)
    assert len(service) == 2
    service.answer(3)
    assert status(next_one) == 200


@pytest.mark.parametrize("stands", [True, False])
def test_an_edge_that_stops_at_once(spoken: House, stands: bool) -> None:
    session = spoken.sessions[0]
    if not stands:
        session.slow = []
    asked(spoken)
    asked(spoken, UPGRADE)
    pool = spoken.context.pool
    pool.abort()
    assert pool.open == 0
    upstream = spoken.context.dispatch.pick("app")
    assert upstream is not None
    assert upstream.load == session.load == 0
    if stands:
        assert spoken.stream.aborted


# what goes wrong


def test_a_stream_that_the_agent_could_not_open_is_sent_elsewhere(build: Build) -> None:
    """RESET with delivered: false takes all that waited on it along."""
    house = build(protocol=H2C, agents=1)
    visitors = [asked(house, POST1) for _ in range(3)]
    house.sessions.append(house.agent(instance=2))
    house.sessions[0].streams[0].reset(ResetCode.UNREACHABLE, delivered=False)
    service = Service(house.sessions[1].streams[0])
    assert [service[stream].body for stream in (1, 3, 5)] == [b"body"] * 3
    for stream in (1, 3, 5):
        service.answer(stream, b"ok")
    assert [status(visitor) for visitor in visitors] == [200] * 3


@pytest.mark.parametrize("request_", [GET1, POST1])
def test_a_service_that_closes(spoken: House, request_: bytes) -> None:
    service = warmed(spoken)
    visitor = asked(spoken, request_)
    service.stream.end_reading()
    if request_ is GET1:
        service_of(spoken).answer(1, b"again")
        assert status(visitor) == 200
    else:
        assert status(visitor) == 502
        assert spoken.done[-1].reason == "service-failed"


def test_a_connection_that_breaks_midway(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask()
    service = service_of(spoken)
    service.head(1)
    service.data(1, b"begun")
    service.stream.reset(ResetCode.LINK_LOST, delivered=True)
    assert visitor[stream].body == b"begun"
    assert visitor[stream].reset == ErrorCodes.INTERNAL_ERROR


@pytest.mark.parametrize("other_agent", [False, True])
def test_a_refused_request_is_sent_again(build: Build, other_agent: bool) -> None:
    """RFC 9113 §8.7: it was not processed, whatever its method: elsewhere, or there where there is nobody else."""
    house = build(protocol=H2C)
    visitor = asked(house, POST1)
    if other_agent:
        house.sessions.append(house.agent(instance=2))
    service = service_of(house, 0)
    service.reset(1, ErrorCodes.REFUSED_STREAM)
    if other_agent:
        service = Service(house.sessions[1].streams[0])
    stream = max(service.requests) if other_agent or len(service) > 1 else 0
    assert service[stream].body == b"body"
    service.answer(stream, b"ok")
    assert status(visitor) == 200
    assert house.done[-1].attempts == 2


def test_a_service_that_refuses_for_ever(spoken: House) -> None:
    visitor = asked(spoken, POST1)
    service = service_of(spoken)
    for stream in (1, 3, 5):
        assert len(service) == (stream + 1) // 2
        service.reset(stream, ErrorCodes.REFUSED_STREAM)
    [(head, _)] = visitor.answers()
    assert head.status_code == 503
    assert dict(head.headers)[b"retry-after"] == b"1"


def test_goaway_sends_elsewhere_what_was_not_processed(spoken: House) -> None:
    visitors = [asked(spoken, POST1) for _ in range(3)]
    service = service_of(spoken)
    service.stream.deliver(raw(7, 0, 0, b"\0\0\0\x01" + bytes(4)))
    again = service_of(spoken)
    assert len(spoken.streams) == 2
    assert len(again) == 2
    again.answer(1, b"b")
    again.answer(3, b"c")
    service.answer(1, b"a")
    assert [visitor.answers()[0][1] for visitor in visitors] == [b"a", b"b", b"c"]
    service.hear()
    assert service.stream.disconnected


@pytest.mark.parametrize("how", ["goaway", "eof"])
def test_a_service_that_starts_anew_ends_all_its_connections(spoken: House, how: str) -> None:
    """It says so on one after the other, and a request must not follow it from each to the next."""
    services = []
    for _ in range(5):
        asked(spoken)
        services.append(service_of(spoken, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}))
    for service in services:
        service.answer(1)
    busy = asked(spoken)
    assert len(services[0]) == 2
    opened = len(spoken.streams)
    if how == "goaway":
        services[0].stream.deliver(raw(7, 0, 0, b"\0\0\0\x01" + bytes(4)))
    else:
        services[0].stream.end_reading()
    assert len(spoken.streams) == opened + 1
    for service in services[1:]:
        service.hear()
        assert service.stream.disconnected
    service_of(spoken).answer(1)
    assert status(busy) == 200
    assert spoken.done[-1].attempts == 2


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (ErrorCodes.CANCEL, 502, "service-failed"),
        (ErrorCodes.INTERNAL_ERROR, 502, "service-failed"),
        (ErrorCodes.ENHANCE_YOUR_CALM, 503, "overloaded"),
        (ErrorCodes.HTTP_1_1_REQUIRED, 502, "http1-required"),
    ],
)
def test_a_reset_before_an_answer(spoken: House, code: int, expected: int, reason: str) -> None:
    visitor = asked(spoken, POST1)
    service = service_of(spoken)
    service.reset(1, code)
    assert status(visitor) == expected
    assert spoken.done[-1].reason == reason
    # it was this request's alone
    asked(spoken)
    assert len(service) == 2


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ErrorCodes.CANCEL, ErrorCodes.CANCEL),
        (ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.ENHANCE_YOUR_CALM),
        (ErrorCodes.INTERNAL_ERROR, ErrorCodes.INTERNAL_ERROR),
        # a cut answer is not whole, was not refused, and its visitor broke nothing
        (ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR),
        (ErrorCodes.REFUSED_STREAM, ErrorCodes.INTERNAL_ERROR),
        (ErrorCodes.PROTOCOL_ERROR, ErrorCodes.INTERNAL_ERROR),
        (4711, ErrorCodes.INTERNAL_ERROR),
    ],
)
def test_a_reset_in_an_answer_reaches_the_visitor(spoken: House, code: int, told: int) -> None:
    visitor = visit(spoken)
    stream = visitor.ask()
    other = visitor.ask()
    service = service_of(spoken)
    service.head(1)
    service.data(1, b"begun")
    service.reset(1, code)
    assert (visitor[stream].body, visitor[stream].reset) == (b"begun", told)
    assert not visitor[stream].ended
    assert len(spoken.streams) == 1
    service.answer(3, b"fine")
    assert visitor[other].body == b"fine"


def test_a_reset_in_an_answer_cuts_an_http1_visitor_off(spoken: House) -> None:
    visitor = asked(spoken)
    service = service_of(spoken)
    service.head(1, ("content-length", "10"))
    assert visitor.hears().endswith(b"\r\n\r\n")
    service.reset(1, ErrorCodes.CANCEL)
    assert visitor.disconnected


def test_a_malformed_answer_is_refused_alone(spoken: House) -> None:
    visitor, other = asked(spoken), asked(spoken)
    service = service_of(spoken)
    service.stream.deliver(raw(1, 5, 1, b"\x88\x88"))
    assert status(visitor) == 502
    assert spoken.done[-1].reason == "bad-answer"
    service.answer(3, b"fine")
    assert status(other) == 200


def test_a_body_that_is_too_short_is_cut_visibly(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask()
    service = service_of(spoken)
    service.head(1, ("content-length", "10"))
    service.data(1, b"short", end=True)
    assert visitor[stream].reset == ErrorCodes.INTERNAL_ERROR
    assert not visitor[stream].ended


def test_a_broken_connection_is_everybodys_and_said_once(spoken: House, log_lines: Any) -> None:
    visitors = [asked(spoken) for _ in range(3)]
    service = service_of(spoken)
    service.stream.deliver(raw(5, 4, 1, b"\0\0\0\x02"))
    assert [status(visitor) for visitor in visitors] == [502] * 3
    service.hear()
    assert service.goaways == [ErrorCodes.PROTOCOL_ERROR]
    assert service.stream.disconnected
    [line] = log_lines.matching("broke HTTP/2")
    assert "backend app" in str(line)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>what?</html>"])
def test_a_service_that_does_not_speak_it(spoken: House, log_lines: Any, said: bytes) -> None:
    visitor = asked(spoken, POST1)
    spoken.stream.deliver(said)
    assert status(visitor) == 502
    assert spoken.done[-1].reason == "not-http2"
    assert 'take protocol = "h2c" away' in log_lines
    again = asked(spoken)
    spoken.stream.deliver(said)
    assert status(again) == 502
    assert len(log_lines.matching("does not speak")) == 1


def test_an_upgrade_hears_of_that_at_once(spoken: House) -> None:
    """It has not left yet: it waits for what the service takes."""
    visitor = asked(spoken, UPGRADE)
    spoken.stream.deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert status(visitor) == 502
    assert spoken.done[-1].reason == "not-http2"
    assert spoken.context.pool.idle == 0


def test_an_upgrade_whose_agent_leaves_before_it_left(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE)
    spoken.sessions.append(spoken.agent(instance=2))
    spoken.sessions[0].leave()
    service_of(spoken, 0, settings=CONNECT)
    service = Service(spoken.sessions[1].streams[0], settings=CONNECT)
    service.head(1)
    assert visitor.hears().startswith(b"HTTP/1.1 101")


def test_a_service_that_closes_without_a_word(spoken: House, log_lines: Any) -> None:
    visitor = asked(spoken, POST1)
    spoken.stream.end_reading()
    assert status(visitor) == 502
    assert "without a word of HTTP/2" in log_lines


def test_a_goaway_with_an_error_is_said(spoken: House, log_lines: Any) -> None:
    asked(spoken)
    service = service_of(spoken)
    service.stream.deliver(raw(7, 0, 0, b"\0\0\0\x01" + b"\0\0\0\x0b" + b"too_many_pings"))
    service.answer(1)
    assert "error code 11 b'too_many_pings'" in log_lines
