"""A visitor's HTTP/2 connection: many exchanges at once, each with its own fate, backpressure and clock."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.edge.h2_visitor import GET, POST, WEBSOCKET, H2Visitor
from tests.edge.house import House
from tests.http.h2.talk import raw
from wormhole_tw.http.h2.websocket import is_accepted

Build = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def visitor_of(house: House, **options: object) -> H2Visitor:
    return H2Visitor(house, **options).hello()  # type: ignore[arg-type]


def accept_of(key: bytes) -> bytes:
    from base64 import b64encode
    from hashlib import sha1

    return b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def test_a_request(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(GET, ("cookie", "a=1"), ("cookie", "b=2"), ("x-forwarded-for", "forged"))
    [(head, body, _)] = house.stream.requests()
    assert (head.method, head.target, body) == (b"GET", b"/", b"")
    fields = dict(head.headers)
    assert fields[b"host"] == b"app.test"
    assert fields[b"cookie"] == b"a=1; b=2"
    assert fields[b"x-forwarded-for"] == b"192.0.2.7"
    assert fields[b"via"] == b"2.0 wormhole"
    house.stream.deliver(OK)
    answer = visitor[stream]
    assert (answer.status, answer.body, answer.ended, answer.reset) == (200, b"ok", True, None)
    assert answer.fields["via"] == "1.1 wormhole"
    assert house.done[0].status == 200


def test_many_requests_at_once_answered_in_any_order(house: House) -> None:
    visitor = visitor_of(house)
    asked = [visitor.ask([*GET[:2], (":path", f"/{number}"), GET[3]]) for number in range(20)]
    assert len(house.streams) == 20
    for stream in reversed(house.streams):
        [(head, _, _)] = stream.requests()
        stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(head.target), head.target))
    for number, stream in enumerate(asked):
        assert visitor[stream].body == b"/%d" % number
    # and on the same connections again
    visitor.ask()
    assert len(house.streams) == 20


def test_a_body_streams_both_ways_and_so_do_trailers(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(POST, ("te", "trailers"), end=False)
    visitor.data(stream, b"one")
    assert house.stream.read().endswith(b"3\r\none\r\n")
    house.stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n")
    answer = visitor[stream]
    assert (answer.interim, answer.status, answer.body, answer.ended) == ([103], 200, b"uno", False)
    visitor.data(stream, b"two")
    visitor.client.send_headers(stream, [("x-sum", "7")], end_stream=True)
    visitor.say()
    assert house.stream.read() == b"3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n"
    house.stream.deliver(b"0\r\nX-Sum: 8\r\n\r\n")
    assert visitor[stream].trailers == [("x-sum", "8")]
    assert visitor[stream].ended


def test_an_origin_that_does_not_read_stops_this_upload_alone(house: House) -> None:
    house.sessions[0].capacity = 1000
    visitor = visitor_of(house)
    stuck = visitor.ask(POST, end=False)
    first = house.stream
    for _ in range(30):
        visitor.data(stuck, bytes(100_000))
        visitor.hear()
    assert visitor.client.local_flow_control_window(stuck) == 0
    assert first.most < 700_000
    other = visitor.ask(POST, end=False)
    visitor.data(other, bytes(500), end=True)
    [(_, body, _)] = house.stream.requests()
    assert len(body) == 500
    house.stream.deliver(OK)
    assert visitor[other].body == b"ok"
    # it reads again: the window opens
    first.read()
    visitor.hear()
    assert visitor.client.local_flow_control_window(stuck) > 0


def test_a_stream_whose_window_is_closed_stops_its_origin_alone(house: House) -> None:
    visitor = visitor_of(house, greedy=False)
    stuck = visitor.ask()
    origin = house.stream
    origin.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
    given = 0
    while not origin.paused:
        origin.deliver(bytes(10000))
        visitor.hear()
        given += 10000
    assert given < 400_000
    # the connection's window is as full: give that one back, and the other stream goes on
    visitor.client.increment_flow_control_window(1 << 20)
    visitor.say()
    other = visitor.ask()
    house.stream.deliver(OK)
    assert visitor[other].body == b"ok"
    assert not visitor[stuck].ended
    visitor.client.increment_flow_control_window(1 << 20, stuck)
    visitor.say()
    visitor.hear()
    assert not origin.paused
    assert len(visitor[stuck].body) == given


def test_a_socket_that_is_full_stops_every_origin_and_goes_on_in_turn(house: House) -> None:
    visitor = visitor_of(house, capacity=20000)
    visitor.client.increment_flow_control_window(1 << 24)
    visitor.client.update_settings({4: 1 << 20})
    visitor.say()
    visitor.hear()
    asked = [visitor.ask() for _ in range(4)]
    for origin in house.streams:
        origin.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
    rest = dict.fromkeys(house.streams, 300_000)
    for _ in range(100):
        for origin in house.streams:
            if not origin.paused and rest[origin]:
                origin.deliver(bytes(10000))
                rest[origin] -= 10000
    assert visitor.most < 150_000
    assert all(rest.values())
    while any(rest.values()):
        visitor.hear()
        for origin in house.streams:
            if not origin.paused and rest[origin]:
                origin.deliver(bytes(10000))
                rest[origin] -= 10000
    assert [len(visitor[stream].body) for stream in asked] == [300_000] * 4
    assert all(visitor[stream].ended for stream in asked)


def test_an_early_answer_ends_the_upload_and_not_the_connection(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(POST, ("content-length", "10000000"), end=False)
    visitor.data(stream, bytes(50000))
    house.stream.deliver(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    answer = visitor[stream]
    assert (answer.status, answer.body, answer.ended, answer.reset) == (413, b"big", True, None)
    house.pass_time(1.5)
    assert visitor[stream].reset == 0
    other = visitor.ask()
    house.streams[-1].deliver(OK)
    assert visitor[other].status == 200


def test_a_limit_on_bodies(house: House) -> None:
    house.context.limits = house.limits = type(house.limits)(body_bytes=1000)
    visitor = H2Visitor(house).hello()
    announced = visitor.ask(POST, ("content-length", "2000"), end=False)
    assert (visitor[announced].status, visitor[announced].ended) == (413, True)
    streamed = visitor.ask(POST, end=False)
    visitor.data(streamed, bytes(1001))
    assert (visitor[streamed].status, visitor[streamed].ended) == (413, True)
    house.pass_time(1.5)
    assert (visitor[announced].reset, visitor[streamed].reset) == (0, 0)


def test_what_the_edge_answers_itself(house: House) -> None:
    visitor = visitor_of(house)
    unknown = visitor.ask([*GET[:3], (":authority", "nobody.test")])
    assert (visitor[unknown].status, visitor[unknown].fields["x-wormhole-error"]) == (404, "unknown-host")
    expecting = visitor.ask(GET, ("expect", "nothing"))
    assert visitor[expecting].status == 417
    climbing = visitor.ask([*GET[:2], (":path", "/../x"), GET[3]])
    assert visitor[climbing].status == 400
    refused = visitor.ask([(":method", "CONNECT"), (":authority", "app.test")], end=False)
    assert visitor[refused].status == 501
    large = visitor.ask(GET, *[("x", "y")] * 100)
    assert visitor[large].status == 431
    assert not visitor.disconnected


def test_one_bad_stream_is_its_own_fault(house: House) -> None:
    visitor = visitor_of(house)
    good = visitor.ask()
    bad = visitor.ask(POST, ("content-length", "5"), end=False)
    origin = house.streams[-1]
    visitor.deliver(raw(0, 1, bad, b"x"))
    assert visitor[bad].reset == 1
    assert origin.aborted
    house.streams[0].deliver(OK)
    assert visitor[good].body == b"ok"


def test_a_visitor_that_cancels(house: House) -> None:
    visitor = visitor_of(house)
    one, two = visitor.ask(), visitor.ask()
    visitor.client.reset_stream(one, 8)
    visitor.say()
    assert house.streams[0].aborted
    assert house.done[0].reason == "visitor-gone"
    house.streams[1].deliver(OK)
    assert visitor[two].body == b"ok"


def test_an_origin_that_breaks_off_resets_its_stream(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    house.stream.lose()
    assert (visitor[stream].body, visitor[stream].ended, visitor[stream].reset) == (b"half", False, 2)
    other = visitor.ask()
    house.stream.deliver(OK)
    assert visitor[other].body == b"ok"


def test_a_connection_that_floods_is_told_to_calm_down(house: House) -> None:
    visitor = visitor_of(house)
    running = visitor.ask()
    for _ in range(300):
        visitor.deliver(raw(6, 0, 0, bytes(8)))
    visitor.hear()
    assert visitor.goaways == [(running, 0xB)]
    assert visitor.write_closed
    assert house.stream.aborted
    house.pass_time(2)
    assert visitor.disconnected
    assert +house.context.counters.early == {"http2-flood": 1}


def test_what_is_refused_without_an_answer_is_counted(house: House) -> None:
    visitor = visitor_of(house)
    good = visitor.ask()
    for stream in (3, 5):
        visitor.deliver(raw(1, 5, stream, b"\x82"))  # nothing but ":method: GET"
    assert len(house.streams) == 1
    house.stream.deliver(OK)
    assert visitor[good].body == b"ok"
    visitor.deliver(raw(8, 0, 0, bytes(4)))  # WINDOW_UPDATE by nothing
    visitor.lose()
    assert +house.context.counters.early == {"http2-malformed": 2, "http2-broken": 1}


def test_streams_past_those_that_may_be_open_are_counted(house: House) -> None:
    visitor = visitor_of(house)
    for stream in range(1, 204, 2):
        visitor.deliver(raw(1, 5, stream, b"\x82\x84\x87\x41\x08app.test"))
    assert len(house.streams) == 100
    visitor.lose()
    assert +house.context.counters.early == {"http2-streams": 2}


def test_a_fault_behind_an_early_answer_is_no_malformed_request(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(POST, end=False)
    house.stream.deliver(OK)
    assert visitor[stream].body == b"ok"
    visitor.deliver(raw(8, 0, stream, bytes(4)))
    visitor.lose()
    assert not +house.context.counters.early


def test_a_connection_that_is_lost_ends_its_exchanges(house: House) -> None:
    visitor = visitor_of(house)
    for _ in range(3):
        visitor.ask()
    visitor.lose()
    assert all(origin.aborted for origin in house.streams)
    assert [exchange.reason for exchange in house.done] == ["visitor-gone"] * 3
    assert not house.context.connections


def test_a_visitor_that_ends_its_direction_has_left(house: House) -> None:
    visitor = visitor_of(house)
    visitor.ask()
    visitor.end_reading()
    assert house.stream.aborted
    assert visitor.disconnected


# WebSockets.


def test_a_websocket(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, ("sec-websocket-version", "13"), end=False)
    head = house.stream.read()
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: app.test\r\n")
    assert b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in head
    assert house.stream.open.dedicated
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    assert is_accepted(key, [(b"Sec-WebSocket-Accept", accept_of(key))])
    house.stream.deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\nhello"
    )
    answer = visitor[stream]
    assert (answer.status, answer.body, answer.ended) == (200, b"hello", False)
    assert "upgrade" not in answer.fields
    visitor.data(stream, b"from it")
    assert house.stream.read() == b"from it"
    # the connection goes on beside it
    other = visitor.ask()
    house.stream.deliver(OK)
    assert visitor[other].body == b"ok"
    house.streams[0].deliver(b"bye")
    visitor.data(stream, b"end", end=True)
    assert house.streams[0].read() == b"end"
    house.streams[0].end_reading()
    assert visitor[stream].body == b"hellobye"
    assert visitor[stream].ended


def test_a_websocket_without_proof(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, end=False)
    house.stream.deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: nothing\r\n\r\n"
    )
    answer = visitor[stream]
    assert (answer.status, answer.fields["x-wormhole-error"]) == (502, "bad-answer")
    house.stream.read()
    assert house.stream.disconnected
    assert [(done.status, done.reason) for done in house.done] == [(502, "bad-answer")]


@pytest.mark.parametrize("whole", [True, False])
def test_a_success_that_opens_no_websocket_is_told_and_noted_as_what_it_is(house: House, whole: bool) -> None:
    # a page that a service shows for every path, for instance
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, ("accept", "application/json"), end=False)
    house.stream.deliver(OK if whole else b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    answer = visitor[stream]
    assert (answer.status, answer.fields["x-wormhole-error"]) == (502, "bad-answer")
    [done] = house.done
    assert answer.fields["x-request-id"] == done.request_id.decode()
    assert json.loads(answer.body)["request_id"] == done.request_id.decode()
    assert (done.status, done.reason) == (502, "bad-answer")
    # the connection goes on
    other = visitor.ask()
    house.streams[-1].deliver(OK)
    assert visitor[other].body == b"ok"


def test_a_websocket_that_is_refused(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, end=False)
    house.stream.deliver(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert (visitor[stream].status, visitor[stream].body) == (403, b"no")


def test_an_idle_websocket_ends(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, end=False)
    key = house.stream.read().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    house.stream.deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n"
    )
    house.pass_time(3000)
    visitor.data(stream, b"alive")
    house.pass_time(3000)
    house.stream.deliver(b"alive")
    house.pass_time(3590)
    assert visitor[stream].reset is None
    house.pass_time(10.5)
    assert visitor[stream].reset == 8
    house.stream.read()
    assert house.stream.disconnected


# Timeouts.


@pytest.mark.parametrize(
    "said", [b"", b"PRI * HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw(4, 0, 0) + b"\0\0\x10\x01"]
)
def test_a_head_that_does_not_come(house: House, said: bytes) -> None:
    visitor = H2Visitor(house)
    if said:
        visitor.deliver(said)
    house.pass_time(9)
    assert not visitor.disconnected
    house.pass_time(1.25)
    assert visitor.disconnected
    assert house.context.counters.shed.total() == 1


def test_a_head_that_drips_has_no_more_time_and_neither_has_its_connection(house: House) -> None:
    visitor = visitor_of(house)
    visitor.ask()
    visitor.deliver(raw(1, 1, 3, b"\x82"))
    for _ in range(5):
        house.pass_time(2)
        visitor.deliver(raw(9, 0, 3, b"\x82"))
    house.pass_time(0.5)
    assert visitor.disconnected
    assert house.stream.aborted


def test_an_idle_connection_is_kept_for_a_while(house: House) -> None:
    visitor = visitor_of(house)
    for _ in range(2):
        stream = visitor.ask()
        house.stream.deliver(OK)
        assert visitor[stream].ended
        house.pass_time(74)
    assert not visitor.write_closed
    house.pass_time(1.5)
    visitor.hear()
    assert visitor.goaways == [(3, 0)]
    house.pass_time(2)
    assert visitor.disconnected


def test_a_body_that_stops_coming(house: House) -> None:
    visitor = visitor_of(house)
    slow, other = visitor.ask(POST, end=False), visitor.ask()
    for _ in range(3):
        house.pass_time(3)
        visitor.data(slow, b"x")
    assert visitor[slow].status == 0
    house.pass_time(2)
    assert (visitor[slow].status, visitor[slow].reset) == (408, 0)
    assert house.streams[0].aborted
    assert house.context.counters.shed == {"body": 1}
    house.streams[1].deliver(OK)
    assert visitor[other].status == 200
    assert not visitor.disconnected


def test_a_connection_ends_with_its_only_body_that_stops_coming(house: House) -> None:
    visitor = visitor_of(house)
    slow = visitor.ask(POST, end=False)
    for _ in range(14):
        house.pass_time(1)
        visitor.hear()
    assert visitor[slow].status == 408
    assert visitor.goaways[-1] == (slow, 0)
    assert visitor.disconnected


@pytest.mark.parametrize(
    ("protocol", "kind", "patient"),
    [
        ("h2c", "application/grpc", True),
        ("h2c", "application/grpc+proto", True),
        ("h2c", "application/octet-stream", False),
        ("http/1.1", "application/grpc", False),
    ],
)
def test_messages_of_grpc_come_when_there_is_something_to_say(
    build: Build, protocol: str, kind: str, patient: bool
) -> None:
    """The service may wait for many before it answers; anybody could call a body so, and not every service is meant."""
    house = build(protocol=protocol, upgrade_idle=100)
    visitor = visitor_of(house)
    stream = visitor.ask(POST, ("content-type", kind), ("te", "trailers"), end=False)
    for _ in range(9):
        house.pass_time(5)
        visitor.hear()
    assert visitor[stream].status == (0 if patient else 408)
    for _ in range(24):
        house.pass_time(5)
        visitor.hear()
    assert visitor[stream].status == 408


@pytest.mark.parametrize(
    ("octets", "statuses"), [(270, [0]), (200, [408]), (270, [0, 408, 408]), (900, [0, 408, 0]), (1100, [0, 0, 0])]
)
def test_bodies_that_share_a_line_have_their_turns(house: House, octets: int, statuses: list[int]) -> None:
    """All the line brings goes to the first; the others wait, and as many are kept as the line has enough for."""
    visitor = visitor_of(house)
    streams = [visitor.ask(POST, end=False) for _ in statuses]
    for _ in range(20):
        house.pass_time(1)
        visitor.data(streams[0], bytes(octets))
        house.streams[0].read()
    assert [visitor[stream].status for stream in streams] == statuses


def test_a_body_that_another_ones_service_keeps_from_coming(house: House) -> None:
    """Services that take nothing fill the connection's window, and the visitor may not send any more on any stream."""
    house.sessions[0].capacity = 1000
    visitor = visitor_of(house)
    streams = [visitor.ask(POST, end=False) for _ in range(5)]
    for stream in streams[:4]:
        for _ in range(20):
            visitor.data(stream, bytes(16384))
    assert visitor.client.local_flow_control_window(streams[4]) == 0
    house.pass_time(40)
    assert [visitor[stream].status for stream in streams] == [0] * 5
    for stream in house.streams:
        stream.take_all()
    house.pass_time(16)
    assert visitor[streams[4]].status == 408


@pytest.mark.parametrize("more", [(), (("expect", "100-continue"),)])
def test_a_body_beside_its_answer_may_be_silent(build: Build, more: tuple[tuple[str, str], ...]) -> None:
    """As gRPC's streams are: the service has answered already, and waits as long as it likes."""
    house = build(upgrade_idle=100)
    visitor = visitor_of(house)
    stream = visitor.ask(POST, *more, end=False)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        house.pass_time(70)
        visitor.data(stream, b"b")
        house.pass_time(70)
        house.stream.deliver(b"1\r\nc\r\n")
    assert (visitor[stream].body, visitor[stream].reset) == (b"ccc", None)
    for _ in range(26):
        house.pass_time(5)
        visitor.hear()
    assert visitor[stream].reset == 2


def test_a_body_that_we_do_not_read_is_not_late(house: House) -> None:
    house.sessions[0].capacity = 1000
    visitor = visitor_of(house)
    stream = visitor.ask(POST, end=False)
    for _ in range(20):
        visitor.data(stream, bytes(16384))
    house.pass_time(55)
    assert visitor[stream].status == 0


@pytest.mark.parametrize("leave", [True, False])
def test_a_body_that_waits_for_its_100(house: House, leave: bool) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(POST, ("expect", "100-continue"), end=False)
    if leave:
        house.stream.deliver(b"HTTP/1.1 100 Continue\r\n\r\n")
        house.pass_time(11)
        assert (visitor[stream].interim, visitor[stream].status) == ([100], 408)
    else:
        house.pass_time(59)
        assert visitor[stream].status == 0
        house.pass_time(2)
        assert visitor[stream].status == 504


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_is_not_taken(house: House, whole: bool) -> None:
    visitor = H2Visitor(house, greedy=False)
    visitor.hello(window=1000)
    stuck, other = visitor.ask(), visitor.ask()
    size = 5000 if whole else 500_000
    house.streams[0].deliver(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(min(size, 70000)))
    house.pass_time(10)
    assert visitor[stuck].reset is None
    house.pass_time(4)
    assert visitor[stuck].reset == 8
    assert house.context.counters.shed == {"reader": 1}
    assert house.context.counters.shed.total() == 1
    assert house.streams[0].disconnected is not whole
    assert [exchange.reason for exchange in house.done] == ([""] if whole else ["slow-reader"])
    house.streams[1].deliver(OK)
    assert visitor[other].body == b"ok"
    assert not visitor.disconnected


def test_who_takes_nothing_at_all_goes(house: House) -> None:
    visitor = H2Visitor(house, greedy=False)
    visitor.hello(window=0)
    visitor.ask()
    house.stream.deliver(OK)
    house.pass_time(14)
    visitor.hear()
    house.pass_time(2)
    assert visitor.disconnected


@pytest.mark.parametrize(("octets", "reset"), [(240, None), (230, 8)])
def test_an_answer_is_taken_at_a_least_rate(house: House, octets: int, reset: int | None) -> None:
    visitor = H2Visitor(house, greedy=False)
    visitor.hello(window=1000)
    stream = visitor.ask()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
    for _ in range(14 if reset else 60):
        house.pass_time(1)
        if visitor[stream].reset is None:
            visitor.client.increment_flow_control_window(octets, stream)
            visitor.say()
    assert visitor[stream].reset == reset


@pytest.mark.parametrize(("octets", "gone"), [(240, False), (230, True)])
def test_a_connections_window_that_opens_slowly(house: House, octets: int, gone: bool) -> None:
    """The streams' own windows are wide open, and their turns come; all together they must go on."""
    visitor = H2Visitor(house, greedy=False)
    visitor.hello(window=1 << 20)
    streams = [visitor.ask() for _ in range(3)]
    for origin in house.streams:
        origin.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
    visitor.hear()
    for _ in range(60):
        house.pass_time(1)
        visitor.client.increment_flow_control_window(3 * octets)
        visitor.say()
        visitor.hear()
    assert any(visitor[stream].reset is not None for stream in streams) is gone


def test_an_answer_that_is_whole_has_to_be_taken_too(house: House) -> None:
    """All of it is in the transport, and no stream is open any more."""
    visitor = visitor_of(house)
    visitor.ask()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
    house.pass_time(14)
    assert visitor.disconnected
    assert house.context.counters.shed == {"reader": 1}


def test_an_answer_whose_turn_comes_late_is_not_shed(house: House) -> None:
    """One slow line, two answers: the second waits for the first, and the connection moves all the while."""
    visitor = H2Visitor(house, greedy=False)
    visitor.hello(window=1 << 20)
    asked = [visitor.ask(), visitor.ask()]
    for origin in house.streams:
        origin.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 150000\r\n\r\n" + bytes(150_000))
    for _ in range(12):
        house.pass_time(10)
        visitor.client.increment_flow_control_window(40_000)
        visitor.say()
        visitor.hear()
    assert [visitor[stream].reset for stream in asked] == [None, None]
    assert [len(visitor[stream].body) for stream in asked] == [150_000] * 2


def test_a_socket_that_takes_nothing(house: House) -> None:
    visitor = visitor_of(house, capacity=1000)
    visitor.ask()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + bytes(100_000))
    house.pass_time(10)
    assert not visitor.disconnected
    house.pass_time(4)
    assert visitor.disconnected
    assert house.context.counters.shed == {"reader": 1}
    assert house.done[-1].reason == "slow-reader"


# The end.


def test_a_drain_lets_running_requests_end(house: House) -> None:
    visitor = visitor_of(house)
    running = visitor.ask()
    done: list[None] = []
    house.context.drain().addCallback(done.append)
    visitor.hear()
    # its ping comes back, and the last stream is named
    assert visitor.goaways == [(2**31 - 1, 0), (running, 0)]
    house.stream.deliver(OK)
    assert visitor[running].body == b"ok"
    assert visitor.write_closed
    visitor.end_reading()
    assert done == [None]


def test_a_drain_closes_idle_connections_at_once(house: House) -> None:
    visitor = visitor_of(house)
    house.context.drain()
    visitor.hear()
    assert visitor.goaways == [(0, 0)]
    assert visitor.write_closed
    house.pass_time(2)
    assert visitor.disconnected
    visitor.connection.drain()
    visitor.connection.abort()


def test_lingering_serves_what_crosses_the_goodbye(house: House) -> None:
    """Another process takes visitors from now on: who is here leaves, and misses nothing."""
    idle, fresh = visitor_of(house), visitor_of(house)
    idle.ask()
    house.stream.deliver(OK)
    idle.hear()
    house.context.linger()
    # a request that is under way when GOAWAY is
    crossing = idle.ask()
    house.stream.deliver(OK)
    idle.hear()
    assert idle[crossing].body == b"ok"
    assert idle.goaways == [(2**31 - 1, 0), (crossing, 0)]
    assert idle.write_closed
    # who has not asked for anything may do so once
    assert fresh.goaways == []
    first = fresh.ask()
    house.stream.deliver(OK)
    fresh.hear()
    assert fresh[first].body == b"ok"
    assert fresh.goaways[0] == (2**31 - 1, 0)


def test_lingering_has_an_end(house: House) -> None:
    silent = visitor_of(house)
    gone: list[None] = []
    house.context.linger()
    assert not silent.write_closed
    house.context.drain().addCallback(gone.append)
    silent.hear()
    assert silent.goaways == [(0, 0)]
    assert silent.write_closed
    silent.end_reading()
    assert gone == [None]


def test_a_connection_has_so_many_requests(house: House) -> None:
    house.context.limits = type(house.limits)(requests_per_connection=2)
    visitor = H2Visitor(house).hello()
    for _ in range(2):
        stream = visitor.ask()
        house.stream.deliver(OK)
        assert visitor[stream].body == b"ok"
    assert visitor.goaways[-1] == (3, 0)
    assert visitor.write_closed


def test_an_exchange_with_a_bug_ends_alone(house: House, logged_failures) -> None:  # type: ignore[no-untyped-def]
    visitor = visitor_of(house)
    good = visitor.ask()
    house.context.dispatch.pick = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
    bad = visitor.ask()
    assert visitor[bad].status == 500
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    house.stream.deliver(OK)
    assert visitor[good].body == b"ok"


def test_a_bug_on_a_visitors_leaving_is_no_others(house: House, logged_failures) -> None:  # type: ignore[no-untyped-def]
    visitor = visitor_of(house)
    bad, good = visitor.ask(), visitor.ask()
    assert bad < good
    running = visitor.connection._streams[bad]
    exchange = running.exchange
    running.exchange = Broken()  # type: ignore[assignment]
    visitor.lose()
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert house.streams[1].aborted
    assert exchange is not None
    exchange.visitor_gone()


class Broken:
    """An exchange with a bug."""

    def visitor_gone(self) -> None:
        raise ZeroDivisionError


def test_who_goes_on_sending_after_the_end_is_cut_off(house: House) -> None:
    visitor = visitor_of(house)
    house.context.drain()
    for _ in range(16):
        visitor.deliver(bytes(1 << 20))
    assert not visitor.disconnected
    visitor.deliver(b"x")
    assert visitor.disconnected
    visitor.connection.readConnectionLost()


def test_trailers_that_are_refused_after_the_answer(house: House) -> None:
    visitor = visitor_of(house, greedy=False)
    stream = visitor.ask(POST, end=False)
    house.stream.deliver(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert visitor[stream].status == 403
    visitor.client.send_headers(stream, [("x", "y")] * 101, end_stream=True)
    visitor.say()
    other = visitor.ask()
    house.streams[-1].deliver(OK)
    assert visitor[other].body == b"ok"


def test_trailers_that_are_too_many(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(POST, end=False)
    visitor.client.send_headers(stream, [("x", "y")] * 101, end_stream=True)
    visitor.say()
    assert visitor[stream].status == 431
    assert house.stream.aborted


def test_a_websocket_ends_with_its_visitor(house: House) -> None:
    visitor = visitor_of(house)
    stream = visitor.ask(WEBSOCKET, end=False)
    key = house.stream.read().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    house.stream.deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n"
    )
    visitor.hear()
    visitor.data(stream, b"last words")
    visitor.client.reset_stream(stream, 8)
    visitor.say()
    assert house.stream.read() == b"last words"
    assert house.stream.disconnected
