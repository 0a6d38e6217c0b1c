"""A visitor's connection: timeouts by the clock, backpressure both ways, and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.edge.house import House
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.listener import VisitorConnection

Build = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


# Timeouts.


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"\r\n"])
def test_a_head_that_does_not_come(house: House, said: bytes) -> None:
    visitor = house.visitor()
    if said:
        visitor.says(said)
    house.pass_time(9)
    assert not visitor.disconnected
    house.pass_time(1.25)
    heard = visitor.hears()
    house.pass_time(2)
    assert visitor.disconnected
    assert heard.startswith(b"HTTP/1.1 408 ") == said.startswith(b"GET")


def test_a_head_that_drips_has_no_more_time(house: House) -> None:
    visitor = house.visitor()
    for octet in GET[:10]:
        visitor.says(bytes((octet,)))
        house.pass_time(1)
    house.pass_time(0.5)
    assert visitor.answers()[0][0].status_code == 408
    house.pass_time(2)
    assert visitor.disconnected
    assert house.context.counters.shed.total() == 1


def test_an_idle_connection_is_kept_for_a_while(house: House) -> None:
    visitor = house.visitor()
    for _ in range(2):
        visitor.says(GET)
        house.stream.deliver(OK)
        visitor.hears()
        house.pass_time(74)
    house.pass_time(2)
    assert visitor.write_closed
    house.pass_time(2)
    assert visitor.disconnected


def test_the_second_head_is_timed_from_its_first_byte(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK)
    visitor.hears()
    house.pass_time(30)
    visitor.says(b"GET")
    house.pass_time(9)
    assert visitor.hears() == b""
    house.pass_time(1.25)
    assert visitor.answers()[0][0].status_code == 408


def test_a_body_that_stops_coming(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\n")
    for _ in range(3):
        house.pass_time(2)
        visitor.says(b"x")
    house.pass_time(3.75)
    assert visitor.hears() == b""
    house.pass_time(1.25)
    [(head, _)] = visitor.answers([b"POST"])
    assert head.status_code == 408
    assert (b"connection", b"close") in head.headers
    assert house.stream.aborted
    assert house.context.counters.shed == {"body": 1}


def upload(house: House, octets: int, seconds: float) -> list[int]:
    """A body that brings so many octets every second; the statuses that the visitor got by then."""
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(int(seconds)):
        house.pass_time(1)
        visitor.says(b"x" * octets)
        house.stream.read()
    return [head.status_code for head, _ in visitor.answers([b"POST"])]


def test_a_body_comes_at_a_least_rate(house: House, build: Build) -> None:
    assert upload(house, 240, 120) == []
    assert upload(house, 230, 12) == [408]
    assert upload(build(body_rate=1000), 990, 12) == [408]
    # a single octet in a window is enough where there is no rate
    assert upload(build(body_rate=0), 1, 120) == []


def test_a_body_that_slows_down_is_late_whatever_it_brought_before(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    visitor.says(b"x" * 60_000)
    house.stream.read()
    for _ in range(13):
        house.pass_time(1)
        visitor.says(b"x")
    assert [head.status_code for head, _ in visitor.answers([b"POST"])] == [408]


def test_a_body_that_goes_on_after_we_paused_has_its_whole_time(house: House) -> None:
    house.sessions[0].capacity = 1000
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 200000\r\n\r\n")
    while not visitor.paused:
        visitor.says(b"x" * 10000)
    house.pass_time(40)
    house.stream.read()
    assert not visitor.paused
    house.pass_time(9.75)
    assert visitor.hears() == b""
    house.pass_time(5)
    assert [head.status_code for head, _ in visitor.answers([b"POST"])] == [408]


@pytest.mark.parametrize("beginning", [b"\r\n1\r\na\r\n", b"Expect: 100-continue\r\n\r\n"])
def test_a_body_beside_its_answer_may_be_silent(build: Build, beginning: bytes) -> None:
    """As gRPC's streams are: the service has answered already, and waits as long as it likes."""
    house = build(upgrade_idle=100)
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n" + beginning)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        house.pass_time(70)
        visitor.says(b"1\r\nb\r\n")
        house.pass_time(70)
        house.stream.deliver(b"1\r\nc\r\n")
    assert visitor.hears().count(b"1\r\nc\r\n") == 3
    assert not visitor.disconnected
    house.pass_time(130)
    assert visitor.disconnected
    assert house.done[-1].reason == "request-timeout"


def test_a_body_that_we_do_not_read_is_not_late(house: House) -> None:
    house.sessions[0].capacity = 1000
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 200000\r\n\r\n")
    while not visitor.paused:
        visitor.says(b"x" * 10000)
    house.pass_time(55)
    assert visitor.hears() == b""


def test_a_rest_of_a_body_that_drips_after_the_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 1000\r\n\r\n")
    assert visitor.answers([b"POST"])[0][0].status_code == 404
    for _ in range(11):
        house.pass_time(1)
        visitor.says(b"x")
    assert visitor.disconnected


def test_an_origin_that_says_nothing(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(59)
    assert visitor.hears() == b""
    house.pass_time(2)
    [(head, _)] = visitor.answers()
    assert (head.status_code, dict(head.headers)[b"x-wormhole-error"]) == (504, b"service-timeout")
    assert house.stream.aborted


def test_an_origin_gets_its_time_from_the_end_of_the_request(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 48000\r\n\r\n")
    for _ in range(16):
        house.pass_time(9)
        visitor.says(b"x" * 3000)
    house.pass_time(50)
    assert visitor.hears() == b""
    house.stream.deliver(b"HTTP/1.1 102 Processing\r\n\r\n")
    house.pass_time(50)
    visitor.hears()
    house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200


def test_a_100_that_never_comes_is_the_origins_fault(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    house.pass_time(61)
    assert visitor.answers([b"PUT"])[0][0].status_code == 504


def test_a_body_that_does_not_follow_its_100(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 100 Continue\r\n\r\n")
    house.pass_time(11)
    assert visitor.answers([b"PUT"])[0][0].status_code == 408


@pytest.mark.parametrize("leave", [b"HTTP/1.1 100 Continue\r\n\r\n", b""], ids=["with leave", "without"])
def test_a_body_behind_an_expectation_has_the_visitors_clock(house: House, leave: bytes) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 24000\r\nExpect: 100-continue\r\n\r\n")
    house.stream.deliver(leave)
    for _ in range(8):
        house.pass_time(9)
        visitor.says(b"x" * 3000)
    house.pass_time(50)
    house.stream.deliver(OK)
    assert [head.status_code for head, _ in visitor.answers([b"PUT"])] == [200]


def test_a_100_behind_the_whole_request_gives_the_origin_more_time(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
    house.pass_time(50)
    house.stream.deliver(b"HTTP/1.1 100 Continue\r\n\r\n")
    house.pass_time(50)
    assert visitor.hears() == b"HTTP/1.1 100 \r\n\r\n"
    house.pass_time(11)
    assert visitor.answers([b"PUT"])[0][0].status_code == 504


def test_an_origin_that_neither_reads_nor_answers(house: House) -> None:
    house.sessions[0].capacity = 10000
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(3):
        while not visitor.paused:
            visitor.says(b"x" * 10000)
        house.pass_time(50)
        assert visitor.hears() == b""
        house.stream.take_all()
    while not visitor.paused:
        visitor.says(b"x" * 10000)
    house.pass_time(61)
    [(head, _)] = visitor.answers([b"POST"])
    assert (head.status_code, dict(head.headers)[b"x-wormhole-error"]) == (504, b"service-timeout")
    assert house.stream.aborted


def test_a_long_answer_has_no_clock(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        house.pass_time(300)
        house.stream.deliver(b"1\r\nx\r\n")
        visitor.hears()
    house.stream.deliver(b"0\r\n\r\n")
    assert visitor.hears() == b"0\r\n\r\n"


def test_a_whole_exchange_may_have_a_clock(build: Build) -> None:
    house = build(whole=20.0)
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(21)
    assert visitor.answers()[0][0].status_code == 504
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    house.pass_time(21)
    assert visitor.disconnected


def test_a_switched_connection_without_a_byte(build: Build) -> None:
    house = build(upgrade_idle=100.0)
    visitor = house.visitor()
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCHED)
    for _ in range(3):
        house.pass_time(90)
        visitor.says(b"ping")
        house.pass_time(90)
        house.stream.deliver(b"pong")
    house.pass_time(101)
    assert visitor.disconnected
    assert house.stream.disconnecting or house.stream.aborted


def test_a_switched_connection_may_be_idle_for_ever(build: Build) -> None:
    house = build(upgrade_idle=0.0)
    visitor = house.visitor()
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCHED)
    house.pass_time(5000)
    assert not visitor.disconnected


def test_a_half_closed_relay_does_not_stay(house: House) -> None:
    visitor = house.visitor()
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCHED)
    house.stream.end_reading()
    visitor.hears()
    assert visitor.write_closed
    house.pass_time(76)
    assert visitor.disconnected


# Backpressure.


def test_a_visitor_that_does_not_read_stops_its_origin_and_only_its_own(house: House) -> None:
    slow, quick = house.visitor(), house.visitor()
    slow.says(GET)
    mine = house.stream
    mine.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while not mine.paused:
        mine.deliver(b"x" * 16384)
    assert slow.most < 256 * 1024
    quick.says(GET)
    assert house.stream is not mine
    house.stream.deliver(OK)
    assert quick.answers()[0][1] == b"ok"
    # half of it read: still paused; all of it: on it goes
    slow.take(slow.queued // 2)
    assert mine.paused
    slow.take()
    assert not mine.paused


def test_a_visitor_that_takes_nothing_is_dropped(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while not house.stream.paused:
        house.stream.deliver(b"x" * 16384)
    house.pass_time(9)
    visitor.take()
    while not house.stream.paused:
        house.stream.deliver(b"x" * 16384)
    house.pass_time(10)
    assert not visitor.disconnected
    house.pass_time(4)
    assert visitor.disconnected
    assert house.stream.aborted
    assert house.context.counters.shed == {"reader": 1}
    assert (house.done[-1].status, house.done[-1].reason) == (200, "slow-reader")


def download(house: House, octets: int, seconds: float) -> bool:
    """A visitor that takes so many octets every second of an answer that does not end; is it there by then?"""
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(int(seconds)):
        while not house.stream.paused:
            house.stream.deliver(b"x" * 16384)
        house.pass_time(1)
        visitor.take(octets)
    return not visitor.disconnected


def test_an_answer_is_taken_at_a_least_rate(house: House, build: Build) -> None:
    assert download(house, 240, 120)
    assert not download(house, 230, 14)
    assert not download(build(stall_rate=1000), 990, 14)
    # a single octet in a window is enough where there is no rate
    assert download(build(stall_rate=0), 1, 120)


@pytest.mark.parametrize("close", [False, True], ids=["and the connection stays", "and the connection closes"])
@pytest.mark.parametrize(("octets", "gone"), [(0, True), (230, True), (250, False)])
def test_an_answer_that_is_whole_has_to_be_taken_too(house: House, close: bool, octets: int, gone: bool) -> None:
    """All of it is in the edge's buffers and the kernel's, and the service knows nothing of it any more."""
    visitor = house.visitor()
    connection = "close" if close else "keep-alive"
    visitor.says(f"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: {connection}\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
    for _ in range(56):
        house.pass_time(0.25)
        visitor.take(octets // 4) if octets else None
    assert visitor.disconnected is gone
    assert house.context.counters.shed == ({"reader": 1} if gone else {})
    if not gone:
        for _ in range(1000):
            house.pass_time(0.25)
            visitor.take(octets // 4)
        assert visitor.queued == 0
        assert visitor.write_closed is close or visitor.disconnected


def test_a_small_answer_that_is_lost_on_its_way_may_be_sent_again(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK)
    house.pass_time(60)
    assert visitor.answers()[0][1] == b"ok"
    assert not visitor.disconnected


def test_who_does_not_take_its_answer_is_not_told_that_its_head_is_late(house: House) -> None:
    """It would not hear it, and have its time twice."""
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
    house.pass_time(2)
    visitor.says(b"G")
    house.pass_time(10.5)
    assert visitor.disconnected


def test_another_request_is_another_answer_to_take(house: House) -> None:
    visitor = house.visitor()
    for _ in range(10):
        visitor.says(GET)
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
        house.pass_time(6)
        assert len(visitor.hears()) > 60000
        house.pass_time(3)
    assert not visitor.disconnected


@pytest.mark.parametrize("host", ["nobody.test", "app.test"], ids=["the edge's answers", "the service's answers"])
def test_who_asks_and_never_reads_is_not_answered_in_memory(house: House, host: str) -> None:
    visitor = house.visitor()
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"
    asked = 0
    while not visitor.paused and asked < 20000:
        visitor.says(request * 100)
        asked += 100
        while house.streams and house.stream.read():
            house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
    assert asked < 20000
    assert visitor.most < 200000
    # once it reads, it gets every answer
    answers = 0
    house.pass_time(9)
    while heard := visitor.answers():
        answers += len(heard)
        while house.streams and house.stream.read():
            house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert answers == asked


def test_who_asks_and_never_reads_is_dropped(house: House) -> None:
    visitor = house.visitor(capacity=1000)
    visitor.says(b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n" * 100)
    assert visitor.paused
    house.pass_time(10)
    assert not visitor.disconnected
    house.pass_time(4)
    assert visitor.disconnected


def test_an_origin_that_does_not_read_stops_the_visitor(house: House) -> None:
    house.sessions[0].capacity = 10000
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    stream = house.stream
    while not visitor.paused:
        visitor.says(b"x" * 10000)
        sent += 10000
    assert sent < 150000
    assert stream.most < 200000
    while sent < 1000000:
        stream.take_all()
        assert not visitor.paused
        visitor.says(b"x" * 10000)
        sent += 10000
    stream.take_all()
    stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][0].status_code == 200


def test_a_relay_is_bounded_both_ways(house: House) -> None:
    house.sessions[0].capacity = 10000
    visitor = house.visitor(capacity=10000)
    visitor.says(UPGRADE)
    stream = house.stream
    stream.read()
    stream.deliver(SWITCHED)
    while not visitor.paused:
        visitor.says(b"x" * 8192)
    while not stream.paused:
        stream.deliver(b"y" * 8192)
    assert max(visitor.most, stream.most) < 128 * 1024
    stream.take_all()
    visitor.take_all()
    assert not visitor.paused
    assert not stream.paused


# Ends.


def test_draining_lets_what_runs_end(house: House) -> None:
    busy, idle, fresh = house.visitor(), house.visitor(), house.visitor()
    idle.says(GET)
    house.stream.deliver(OK)
    idle.hears()
    busy.says(GET + GET)
    gone = house.context.drain()
    assert idle.write_closed
    assert fresh.write_closed
    assert not busy.disconnected
    house.stream.deliver(OK)
    [(head, body)] = busy.answers()
    assert body == b"ok"
    assert (b"connection", b"close") in head.headers
    assert busy.write_closed
    busy.end_reading()
    assert not gone.called
    house.pass_time(2)
    assert gone.called


def test_lingering_answers_once_more_and_says_that_it_is_the_last(house: House) -> None:
    """Another process takes visitors from now on: who is here leaves, and misses nothing."""
    idle, fresh, silent = house.visitor(), house.visitor(), house.visitor()
    idle.says(GET)
    house.stream.deliver(OK)
    idle.hears()
    house.context.linger()
    assert not any(visitor.write_closed for visitor in (idle, fresh, silent))
    for visitor in (idle, fresh):
        visitor.says(GET)
        house.stream.deliver(OK)
        [(head, body)] = visitor.answers()[-1:]
        assert body == b"ok"
        assert (b"connection", b"close") in head.headers
        assert visitor.write_closed
        visitor.end_reading()
    gone = house.context.drain()
    assert silent.write_closed
    silent.end_reading()
    assert gone.called


def test_draining_lets_a_slow_visitor_get_the_end_of_its_answer(house: House) -> None:
    slow, _gone, idle = visitors = [house.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.says(GET)
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + bytes(30000))
    idle.hears()
    house.context.drain()
    for _ in range(8):
        house.pass_time(0.25)
        slow.take(100)
    assert [visitor.disconnected for visitor in visitors] == [False, False, True]
    for _ in range(48):
        house.pass_time(0.25)
        slow.take(100)
    assert [visitor.disconnected for visitor in visitors] == [False, True, True]
    slow.hears()
    house.pass_time(4)
    assert slow.disconnected


def test_draining_leaves_a_relay_until_it_is_cut(house: House) -> None:
    visitor = house.visitor()
    visitor.says(UPGRADE)
    house.stream.deliver(SWITCHED)
    gone = house.context.drain()
    visitor.says(b"still here")
    assert b"still here" in house.stream.read()
    house.context.abort()
    assert gone.called
    assert visitor.disconnected


def test_a_connection_ends_after_so_many_requests(build: Build) -> None:
    house = build(requests_per_connection=3)
    visitor = house.visitor()
    for number in range(3):
        visitor.says(GET)
        house.stream.deliver(OK)
        [(head, _)] = visitor.answers()
        assert ((b"connection", b"close") in head.headers) == (number == 2)
    assert visitor.write_closed


def test_a_visitor_that_half_closed_still_gets_its_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    visitor.end_reading()
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    assert visitor.disconnected


def test_a_visitor_that_half_closed_in_the_middle_of_its_request(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf")
    visitor.end_reading()
    assert visitor.answers([b"POST"])[0][0].status_code == 400
    assert house.stream.aborted
    assert visitor.disconnected


@pytest.mark.parametrize("said", [b"", b"GET / HT", GET])
def test_a_visitor_that_leaves_between_requests(house: House, said: bytes) -> None:
    visitor = house.visitor()
    if said:
        visitor.says(said)
    if said == GET:
        house.stream.deliver(OK)
        visitor.hears()
    visitor.end_reading()
    assert visitor.disconnected


def test_nothing_that_comes_after_the_last_answer_is_a_request(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
    house.stream.deliver(OK)
    visitor.says(GET)
    assert len(visitor.answers()) == 1
    assert house.context.counters.requests == 1


def test_what_the_transport_does_after_its_end_harms_nothing(house: House) -> None:
    connection = VisitorConnection(house.context, ConnectionFacts())
    visitor = house.visitor()
    connection = visitor.protocol
    visitor.lose()
    connection.readConnectionLost()
    connection.drain()
    connection.abort()
    connection.flush()


# What a CA asks for.


def test_a_ca_finds_the_token_that_is_awaited(house: House) -> None:
    context = house.context
    awaited = {b"token-1": b"token-1.thumbprint"}
    context.awaited = awaited

    def asked(target: bytes, method: bytes = b"GET", **facts: object) -> tuple[int, bytes]:
        visitor = house.visitor(**facts)
        visitor.says(b"%s %s HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n" % (method, target))
        [(head, body)] = visitor.answers([method])
        return head.status_code, body

    path = b"/.well-known/acme-challenge/"
    # On a listener that redirects, and on one that serves.
    assert asked(path + b"token-1", redirect=True) == (200, b"token-1.thumbprint")
    assert asked(path + b"token-1", b"HEAD", redirect=True) == (200, b"")
    assert asked(path + b"token-1?x=1") == (200, b"token-1.thumbprint")
    # Nothing else is answered: another token, another method, what is above and below.
    assert asked(path + b"token-2", redirect=True)[0] == 308
    assert asked(path, redirect=True)[0] == 308
    assert asked(path + b"token-1/x", redirect=True)[0] == 308
    assert asked(path + b"token-1", b"POST", redirect=True)[0] == 308
    # Nor is it once the CA has seen it.
    del awaited[b"token-1"]
    assert asked(path + b"token-1", redirect=True)[0] == 308
    assert house.sessions[0].streams == []
