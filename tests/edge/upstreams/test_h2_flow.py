"""Requests on shared connections to HTTP/2 services: their time, their flow, WebSockets, and bugs of one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from tests._support import sized
from tests.edge.h2_service import CONNECT, UPGRADE, Service, asked, service_of, status, visit, warmed
from tests.edge.h2_visitor import GET, POST, WEBSOCKET
from tests.edge.house import House, Stream, Visitor, judged
from tests.http.h2.talk import ACCEPT, raw
from wormhole_tw.control.limits import Limits
from wormhole_tw.control.model import H2C
from wormhole_tw.edge.upstreams import h2 as shell
from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import RequestHead
from wormhole_tw.http.h2.limits import CANCELS

Build = Callable[..., House]


# time


def test_a_service_that_does_not_answer(spoken: House) -> None:
    visitor, other = asked(spoken), asked(spoken)
    service = service_of(spoken)
    spoken.pass_time(30)
    service.answer(3, b"alive")
    assert status(other) == 200
    spoken.pass_time(31)
    assert status(visitor) == 504
    assert service[1].reset == ErrorCodes.CANCEL
    asked(spoken)
    assert len(service) == 3


def test_a_connection_that_is_silent_altogether_takes_nothing_new(spoken: House) -> None:
    first = asked(spoken)
    service = service_of(spoken)
    spoken.pass_time(30)
    second = asked(spoken)
    spoken.pass_time(31)
    assert status(first) == 504
    third = asked(spoken)
    assert len(spoken.streams) == 2
    assert len(service) == 2
    service.answer(3, b"late")
    assert second.answers()[0][1] == b"late"
    service_of(spoken).answer(1, b"elsewhere")
    assert third.answers()[0][1] == b"elsewhere"


def test_a_visitor_that_leaves_cancels_its_request_alone(spoken: House) -> None:
    visitor = visit(spoken)
    first, second = visitor.ask(), visitor.ask()
    service = service_of(spoken)
    visitor.client.reset_stream(first, ErrorCodes.CANCEL)
    visitor.say()
    assert service[1].reset == ErrorCodes.CANCEL
    service.answer(3, b"fine")
    assert visitor[second].body == b"fine"


def test_a_visitor_that_cancels_too_often_has_a_connection_retired(spoken: House) -> None:
    last = asked(spoken)
    service = service_of(spoken)
    for _ in range(CANCELS):
        asked(spoken).lose()
    asked(spoken)
    assert len(spoken.streams) == 2
    service.answer(1, b"as ever")
    assert last.answers()[0][1] == b"as ever"


# flow control


def test_a_reader_that_stops_holds_its_own_stream_alone(spoken: House) -> None:
    slow, quick = visit(spoken, greedy=False), visit(spoken)
    slow_stream, quick_stream = slow.ask(), quick.ask()
    service = service_of(spoken)
    service.head(1)
    service.head(3)
    given = 0
    for _ in range(20):
        given += service.data(1, bytes(65536))
        slow.hear()
        service.hear()
    # its own window, what is buffered for it, and what its stream's window towards the service holds
    assert given < 3 * 65536 + 65535
    assert service.data(1, b"x") == 0
    total = 0
    for _ in range(40):
        total += service.data(3, bytes(65536))
        quick.hear()
        service.hear()
    assert total > 20 * 65536
    assert len(quick[quick_stream].body) == total
    assert len(slow.answers[slow_stream].body) == 65535


def test_a_service_that_stops_reading_holds_its_own_upload_alone(spoken: House) -> None:
    visitor = visit(spoken)
    stream, other = visitor.ask(POST, end=False), visitor.ask(POST, end=False)
    service = service_of(spoken, greedy=False)
    sent = 0
    for _ in range(30):
        size = min(65536, visitor.client.local_flow_control_window(stream))
        visitor.data(stream, bytes(size))
        sent += size
        visitor.hear()
        service.hear()
    # the service's window, the queue, and what the visitor's stream may have under way
    assert len(service[1].body) == 65535
    assert sent <= 65535 + 65536 + 256 * 1024
    assert visitor.client.local_flow_control_window(stream) == 0
    service.server.increment_flow_control_window(1 << 20)
    service.say()
    visitor.data(other, b"passes", end=True)
    assert service[3].body == b"passes"
    # it is the service's turn, and it has its time
    spoken.pass_time(61)
    assert visitor[stream].status == 504
    assert service[1].reset == ErrorCodes.CANCEL


def test_an_upload_goes_on_when_the_service_reads_on(spoken: House) -> None:
    visitor = visit(spoken)
    stream = visitor.ask(POST, end=False)
    service = service_of(spoken, greedy=False)
    left = bytes(range(256)) * 4096
    whole = left
    for _ in range(200):
        size = min(len(left), visitor.client.local_flow_control_window(stream), 65536)
        if size:
            visitor.data(stream, left[:size])
            left = left[size:]
        visitor.hear()
        service.hear()
        if not left:
            break
        if service.server.remote_flow_control_window(1) < 10000:
            service.server.increment_flow_control_window(60000)
            service.server.increment_flow_control_window(60000, 1)
            service.say()
            spoken.pass_time(10)
    visitor.data(stream, b"", end=True)
    service.server.increment_flow_control_window(1 << 20)
    service.server.increment_flow_control_window(1 << 20, 1)
    service.say()
    assert service[1].body == whole
    assert service[1].ended


def test_a_link_that_is_full_holds_back_and_goes_on(build: Build) -> None:
    house = build(protocol=H2C)
    house.sessions[0].capacity = 1000
    visitor = visit(house)
    streams = [visitor.ask(POST, end=False) for _ in range(3)]
    service = service_of(house, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    service.server.increment_flow_control_window(1 << 22)
    service.say()
    most = service.stream.queued
    for _ in range(6):
        for stream in streams:
            visitor.data(stream, bytes(30000))
        most = max(most, service.stream.queued)
    # what is written at a time is bounded; the rest waits where it can give way
    assert most < shell.ROOM + 20000
    for stream in streams:
        visitor.data(stream, b"", end=True)
    assert [len(service[number].body) for number in (1, 3, 5)] == [180000] * 3
    assert all(service[number].ended for number in (1, 3, 5))


# WebSockets


def test_a_websocket_of_an_http1_visitor(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE)
    # it waits for what the service takes
    service = service_of(spoken, settings=CONNECT)
    fields = service[1].fields
    assert (fields[":method"], fields[":protocol"], fields["sec-websocket-version"]) == ("CONNECT", "websocket", "13")
    assert "sec-websocket-key" not in fields
    assert "upgrade" not in fields
    service.head(1, ("sec-websocket-protocol", "chat"))
    head = visitor.hears()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: " + ACCEPT in head
    assert b"sec-websocket-protocol: chat" in head
    visitor.says(b"ping")
    assert service[1].body == b"ping"
    service.data(1, b"pong")
    assert visitor.hears() == b"pong"
    service.data(1, b"bye", end=True)
    assert visitor.hears() == b"bye"
    visitor.says(b"bye")
    visitor.end_reading()
    assert service[1].body == b"pingbye"
    assert service[1].ended
    assert spoken.context.pool.idle == 1


def test_a_websocket_of_an_http2_visitor_beside_other_requests(spoken: House) -> None:
    visitor = visit(spoken)
    plain = visitor.ask(GET)
    service = service_of(spoken, settings=CONNECT)
    stream = visitor.ask(WEBSOCKET, end=False)
    assert len(spoken.streams) == 1
    service.hear()
    service.head(3)
    assert visitor[stream].status == 200
    visitor.data(stream, b"ping")
    assert service[3].body == b"ping"
    service.data(3, b"pong")
    assert visitor[stream].body == b"pong"
    service.answer(1, b"plain")
    assert visitor[plain].body == b"plain"
    visitor.data(stream, b"", end=True)
    service.data(3, b"", end=True)
    assert visitor[stream].ended


def test_a_visitor_that_leaves_its_websocket(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE)
    service = service_of(spoken, settings=CONNECT)
    service.head(1)
    visitor.says(b"farewell")
    visitor.lose()
    assert service[1].body == b"farewell"
    assert service[1].ended
    assert service[1].reset is None
    assert spoken.context.pool.idle == 1
    # the service does not end its side: it is not waited for
    spoken.pass_time(2 * shell.LINGER + 1)
    assert service[1].reset == ErrorCodes.NO_ERROR
    spoken.pass_time(5)
    service.hear()
    assert spoken.context.pool.open == 0


@pytest.mark.parametrize("settled", [False, True])
def test_a_service_that_takes_no_websocket(spoken: House, settled: bool) -> None:
    if settled:
        warmed(spoken)
    visitor = asked(spoken, UPGRADE)
    if not settled:
        service_of(spoken)
    [(head, _)] = visitor.answers()
    assert head.status_code == 501
    assert dict(head.headers)[b"x-wormhole-error"] == b"upgrade-not-supported"


def test_an_upgrade_to_something_else(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: other/1"))
    service_of(spoken, settings=CONNECT)
    assert status(visitor) == 501


def test_a_handshake_without_a_key(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key"))
    service_of(spoken, settings=CONNECT)
    assert status(visitor) == 400


def test_a_websocket_that_is_refused(spoken: House) -> None:
    visitor = asked(spoken, UPGRADE)
    service = service_of(spoken, settings=CONNECT)
    service.head(1, status="403")
    service.data(1, b"no", end=True)
    assert status(visitor) == 403
    assert service[1].reset == ErrorCodes.NO_ERROR


def test_a_visitor_that_leaves_while_its_upgrade_waits(spoken: House) -> None:
    visitor, other = asked(spoken, UPGRADE), asked(spoken, UPGRADE)
    visitor.lose()
    service = service_of(spoken, settings=CONNECT)
    assert list(service.requests) == [1]
    service.head(1)
    assert other.hears().startswith(b"HTTP/1.1 101")


def test_upgrades_that_find_the_connection_full(spoken: House) -> None:
    for _ in range(3):
        asked(spoken, UPGRADE)
    service = service_of(spoken, settings={**CONNECT, SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    assert len(service) == 2
    assert len(spoken.streams) == 2


# misuse, and bugs


def test_a_stream_takes_one_request(spoken: House) -> None:
    warmed(spoken)
    upstream = spoken.context.dispatch.pick("app")
    assert upstream is not None
    request = spoken.context.pool.take(upstream)
    assert request is not None
    assert request.writable
    request.cancel()
    request.finish()
    request.consumed(5)
    head = RequestHead(b"GET", b"/", b"app.test", (1, 1), [])
    handler = Crashing()
    request.request(head, handler, whole=True)
    with pytest.raises(MisuseError):
        request.request(head, handler, whole=True)
    request.cancel()


class Crashing:
    """A handler whose every callback is a bug."""

    def __init__(self) -> None:
        self.told = 0
        self.limits = Limits()

    def __getattr__(self, name: str) -> Callable[..., None]:
        def crash(*arguments: object) -> None:
            raise ZeroDivisionError(name)

        return crash

    def crashed(self) -> None:
        self.told += 1


@pytest.mark.parametrize("step", ["head", "end", "reset", "lose"])
def test_one_exchanges_bug_is_no_other_ones(spoken: House, logged_failures: Any, step: str) -> None:
    service = warmed(spoken)
    upstream = spoken.context.dispatch.pick("app")
    assert upstream is not None
    request = spoken.context.pool.take(upstream)
    assert request is not None
    handler = Crashing()
    request.request(RequestHead(b"GET", b"/", b"app.test", (1, 1), []), handler, whole=True)
    other = asked(spoken)
    assert len(service) == 3
    if step == "head":
        service.head(3)
        assert service[3].reset == ErrorCodes.CANCEL
    elif step == "end":
        service.answer(3)
    elif step == "reset":
        service.reset(3, ErrorCodes.CANCEL)
    else:
        service.stream.lose()
    assert handler.told >= 1
    assert logged_failures.flush(ZeroDivisionError)
    if step != "lose":
        service.answer(5, b"fine")
        assert other.answers()[0][1] == b"fine"


# all at once


STEPS = "ask ask ask post answer answer answer answer leave reset refuse goaway break time"


@pytest.mark.parametrize("seed", range(sized(4, 200)))
def test_no_answer_is_another_ones(build: Build, seed: int) -> None:
    """Visitors come, leave and stop reading; services answer, refuse, reset, leave and break, in any order."""
    chance = Random(seed)
    house = build(protocol=H2C, agents=3)
    services: dict[Stream, Service] = {}
    waiting: dict[Visitor, bytes] = {}
    answered = asked_at_all = 0

    def look() -> None:
        for stream in house.streams:
            if stream not in services and not stream.disconnected:
                services[stream] = Service(stream)
        for stream in list(services):
            if stream.disconnected:
                del services[stream]
            else:
                services[stream].hear()

    for _ in range(400):
        look()
        open_ = [(service, number) for service in services.values() for number in service.unanswered]
        step = chance.choice(STEPS.split())
        if step in ("ask", "post"):
            nonce = b"%032x" % chance.getrandbits(128)
            asked_at_all += 1
            body = b"x" * chance.choice([1, 5000])
            more = b"Content-Length: %d\r\n\r\n%s" % (len(body), body) if step == "post" else b"\r\n"
            method = b"POST" if step == "post" else b"GET"
            waiting[asked(house, method + b" /" + nonce + b" HTTP/1.1\r\nHost: app.test\r\n" + more)] = nonce
        elif step == "leave" and waiting:
            visitor = chance.choice(list(waiting))
            del waiting[visitor]
            visitor.lose()
        elif step == "time":
            house.pass_time(1)
        elif open_:
            service, number = chance.choice(open_)
            if step == "answer":
                service.answer(number, service.requests[number].fields[":path"].encode())
            elif step == "reset":
                service.reset(number, ErrorCodes.INTERNAL_ERROR)
            elif step == "refuse":
                service.reset(number, ErrorCodes.REFUSED_STREAM)
            elif step == "goaway":
                service.stream.deliver(raw(7, 0, 0, number.to_bytes(4, "big") + bytes(4)))
            elif step == "break" and chance.random() < 0.3:
                service.stream.lose()
        for visitor in list(waiting):
            data = visitor.hears()
            if data:
                [(head, body)] = judged(data)
                nonce = waiting.pop(visitor)
                assert head.status_code in (200, 502, 503, 504)
                if head.status_code == 200:
                    assert body == b"/" + nonce
                    answered += 1
                visitor.lose()
    assert answered > asked_at_all / 3
