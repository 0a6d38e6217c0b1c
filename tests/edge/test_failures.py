"""Requests that go wrong: every answer of the edge's own, and what is sent a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError

from tests._harness import LoggedFailures
from tests.edge.house import House, Visitor
from wormhole_tw.edge.failures import expects_successor, reason_of, undelivered
from wormhole_tw.edge.states import State
from wormhole_tw.errors import HttpError, LinkLost, NoUpstream, StreamReset, TimedOut
from wormhole_tw.wire.codes import ResetCode

Build = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def refused(visitor: Visitor, method: bytes = b"GET") -> tuple[int, str]:
    """Status and reason of the one answer that the visitor heard, which must be one of ours."""
    [(head, body)] = visitor.answers([method])
    fields = dict(head.headers)
    reason = fields[b"x-wormhole-error"].decode()
    assert fields[b"content-type"].startswith(b"text/plain")
    assert b"Traceback" not in body
    assert method == b"HEAD" or reason.encode() in body
    return head.status_code, reason


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (GET.replace(b"app.test", b"nobody.test"), 404, "unknown-host"),
        (GET.replace(b"app.test", b"edge.test"), 404, "unknown-host"),
        (GET.replace(b"app.test", b"192.0.2.1"), 404, "unknown-host"),
        (GET.replace(b"app.test", b"[2001:db8::1]:443"), 404, "unknown-host"),
        (GET.replace(b"app.test", b"docs.test"), 404, "no-route"),
        (GET.replace(b"app.test", b"docs.test").replace(b" / ", b" /only/x "), 503, "no-agent"),
        (GET.replace(b" / ", b" /../x "), 400, "bad-target"),
        (GET.replace(b" / ", b" /%zz "), 400, "bad-target"),
        (GET.replace(b"app.test", b"a b"), 400, "bad-host"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, None),
        (b"GET / HTTP/1.1\nHost: app.test\n\n", 400, None),
        (b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: app.test\r\n\r\n", 414, None),
        (GET[:-2] + b"X: " + b"x" * 40000 + b"\r\n\r\n", 431, None),
        (POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, None),
    ],
)
def test_requests_that_lead_nowhere(house: House, request_: bytes, status: int, reason: str | None) -> None:
    visitor = house.visitor()
    visitor.says(request_)
    heard = refused(visitor)
    assert heard[0] == status
    assert reason in (None, heard[1])
    assert house.streams == []


def test_head_gets_no_page(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET.replace(b"GET", b"HEAD").replace(b"app", b"nobody"))
    assert refused(visitor, b"HEAD") == (404, "unknown-host")


def test_no_agent_says_when_to_come_back(build: Build) -> None:
    house = build(agents=0)
    visitor = house.visitor()
    visitor.says(GET)
    [(head, _)] = visitor.answers()
    assert head.status_code == 503
    assert (b"retry-after", b"2") in head.headers
    assert (b"cache-control", b"no-store") in head.headers


def test_an_agent_that_is_not_ready_is_none(house: House) -> None:
    house.sessions[0].ready = False
    house.registry.changed(house.sessions[0])
    visitor = house.visitor()
    visitor.says(GET)
    assert refused(visitor) == (503, "no-agent")


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (ResetCode.REFUSED, 502, "service-refused"),
        (ResetCode.UNREACHABLE, 502, "service-refused"),
        (ResetCode.TLS_FAILED, 502, "service-refused"),
        (ResetCode.NO_SUCH_SERVICE, 502, "service-refused"),
        (ResetCode.TIMED_OUT, 504, "service-timeout"),
        (ResetCode.OVER_LIMIT, 503, "overloaded"),
        (ResetCode.LINK_LOST, 502, "agent-lost"),
        (ResetCode.SERVICE_FAILED, 502, "service-failed"),
        (ResetCode.INTERNAL, 502, "service-failed"),
    ],
)
def test_what_an_agent_says_becomes_an_answer(house: House, code: ResetCode, status: int, reason: str) -> None:
    visitor = house.visitor()
    visitor.says(POST)
    house.stream.reset(code, delivered=True)
    assert refused(visitor, b"POST") == (status, reason)
    assert len(house.streams) == 1
    visitor.says(GET)
    assert len(house.streams) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "service-failed"),
        (b"HTTP/1.1 200 O", "service-failed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40000 + b"\r\n\r\n", "bad-answer"),
    ],
)
def test_answers_that_are_none(house: House, answer: bytes, reason: str) -> None:
    visitor = house.visitor()
    visitor.says(POST)
    house.stream.read()
    house.stream.deliver(answer)
    house.stream.end_reading()
    assert refused(visitor, b"POST") == (502, reason)


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_an_answer_that_breaks_off_is_visibly_cut(house: House, framing: bytes) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n4\r\nsome\r\n")
    house.stream.end_reading()
    assert visitor.disconnected
    assert not visitor.hears().endswith(b"0\r\n\r\n")
    assert [(each.status, each.reason) for each in house.done] == [(200, "service-failed")]


def test_an_agent_lost_in_the_middle_of_an_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
    house.sessions[0].die()
    assert visitor.disconnected


def test_a_crashed_agent_is_503_at_once(house: House) -> None:
    visitor = house.visitor()
    house.sessions[0].die()
    visitor.says(GET)
    assert refused(visitor) == (503, "no-agent")


# What is sent again.


def test_what_was_not_delivered_goes_to_another_agent_whatever_it_is(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(POST)
    [first] = house.streams
    first.read()
    first.reset(ResetCode.REFUSED, delivered=False)
    [other] = [stream for stream in house.streams if stream is not first]
    assert other.session is not first.session
    assert other.requests()[0][1] == b"body"
    other.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"
    assert house.context.counters.retries == 1


def test_a_stream_that_cannot_be_opened_is_tried_elsewhere(build: Build) -> None:
    house = build(agents=2)
    for session in house.sessions:
        session.refuse = StreamReset(ResetCode.OVER_LIMIT, "full", False)
    visitor = house.visitor()
    visitor.says(GET)
    assert refused(visitor) == (503, "overloaded")
    house.sessions[1].refuse = None
    visitor.says(GET)
    assert len(house.streams) == 1


def test_three_times_and_no_more(build: Build) -> None:
    house = build(agents=5)
    visitor = house.visitor()
    visitor.says(GET)
    for number in range(3):
        assert len(house.streams) == number + 1
        [stream] = [stream for stream in house.streams if not stream.disconnected]
        stream.reset(ResetCode.REFUSED, delivered=False)
    assert refused(visitor) == (502, "service-refused")
    assert len(house.streams) == 3


def test_a_get_survives_the_death_of_its_agent(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(GET)
    [first] = house.streams
    first.session.die()
    [other] = [stream for stream in house.streams if stream is not first]
    other.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_post_that_may_have_arrived_is_never_sent_twice(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(POST)
    [first] = house.streams
    first.read()
    first.session.die()
    assert refused(visitor, b"POST") == (502, "agent-lost")
    assert len(house.streams) == 1


def test_nothing_is_sent_again_once_an_answer_has_begun(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(GET)
    [first] = house.streams
    first.deliver(b"HTTP/1.1 200")
    first.session.die()
    assert refused(visitor) == (502, "agent-lost")


def test_a_long_body_cannot_be_sent_again(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 200000\r\n\r\n")
    [first] = house.streams
    for _ in range(10):
        visitor.says(b"x" * 10000)
        first.read()
    first.reset(ResetCode.REFUSED, delivered=False)
    assert refused(visitor, b"PUT") == (502, "service-refused")


def test_a_body_that_still_comes_goes_on_to_the_other_agent(build: Build) -> None:
    house = build(agents=2)
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 8\r\n\r\nhalf")
    [first] = house.streams
    first.reset(ResetCode.REFUSED, delivered=False)
    [other] = [stream for stream in house.streams if stream is not first]
    assert other.read().endswith(b"half")
    visitor.says(b"rest")
    assert other.requests()[0][1] == b"halfrest"


def test_a_kept_stream_that_was_closing_is_no_reason_to_fail_a_get(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    stream = house.stream
    stream.deliver(OK)
    visitor.hears()
    visitor.says(GET)
    stream.end_reading()
    assert len(house.streams) == 2
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_post_takes_no_stream_that_may_be_closing(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK)
    house.pass_time(0.5)
    visitor.says(POST)
    assert len(house.streams) == 1
    house.stream.read()
    house.stream.deliver(OK)
    house.pass_time(2)
    visitor.says(POST)
    assert len(house.streams) == 2


# Waiting.


def test_requests_wait_for_an_agent_after_start(build: Build) -> None:
    house = build(agents=0, settled=False)
    visitors = [house.visitor() for _ in range(3)]
    for number, visitor in enumerate(visitors):
        visitor.says(b"POST /%d HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody" % number)
    house.pass_time(2)
    session = house.agent()
    house.sessions.append(session)
    assert [stream.requests()[0][0].target for stream in session.streams] == [b"/0", b"/1", b"/2"]
    session.streams[1].deliver(OK)
    assert visitors[1].answers([b"POST"])[0][1] == b"ok"


def test_nobody_waits_for_ever(build: Build) -> None:
    house = build(agents=0, settled=False, waiting_time=2.0)
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(1.5)
    assert visitor.hears() == b""
    house.pass_time(1)
    assert refused(visitor) == (503, "no-agent")


def test_the_queue_is_bounded_and_forgets_who_left(build: Build) -> None:
    house = build(agents=0, settled=False, waiting=2)
    visitors = [house.visitor() for _ in range(3)]
    for visitor in visitors:
        visitor.says(GET)
    assert refused(visitors[2]) == (503, "no-agent")
    assert house.context.dispatch.waiting("app") == 2
    visitors[0].lose()
    visitors[1].lose()
    assert house.context.dispatch.waiting("app") == 0


def test_more_may_wait_for_the_agents_of_a_process_that_was_replaced(build: Build) -> None:
    house = build(agents=0, settled=False, succeeds=True, waiting=2, connections=4)
    visitors = [house.visitor() for _ in range(5)]
    for visitor in visitors:
        visitor.says(GET)
    assert refused(visitors[4]) == (503, "no-agent")
    assert house.context.dispatch.waiting("app") == 4
    for visitor in visitors:
        visitor.lose()
    none = build(agents=0, settled=False, succeeds=True, waiting=0)
    visitor = none.visitor()
    visitor.says(GET)
    assert refused(visitor) == (503, "no-agent")


def test_requests_wait_after_a_goodbye_and_not_after_a_crash(house: House) -> None:
    visitor = house.visitor()
    house.sessions[0].leave()
    visitor.says(GET)
    assert visitor.hears() == b""
    next_one = house.agent(instance=2)
    house.sessions.append(next_one)
    next_one.streams[0].deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_body_that_comes_during_the_wait_is_bounded(build: Build) -> None:
    house = build(agents=0, settled=False)
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    while not visitor.paused:
        visitor.says(b"x" * 16384)
        sent += 16384
    assert sent <= 5 * 16384
    session = house.agent()
    house.sessions.append(session)
    assert len(session.streams[0].read()) > sent
    assert not visitor.paused


def test_streams_that_are_slow_to_open_have_a_limit(house: House) -> None:
    session = house.sessions[0]
    session.slow = []
    visitor = house.visitor()
    visitor.says(GET)
    house.pass_time(6)
    assert refused(visitor) == (504, "service-timeout")
    visitor.says(GET)
    session.slow[-1].callback(None)
    session.streams[-1].deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_visitor_who_leaves_while_the_stream_opens(house: House) -> None:
    session = house.sessions[0]
    session.slow = []
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert house.done[0].reason == "visitor-gone"
    assert session.streams == []


def test_a_visitor_who_leaves_ends_the_request(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert house.stream.aborted


# Faults of our own.


def test_a_fault_in_one_exchange_is_500_there_and_nothing_elsewhere(
    house: House, logged_failures: LoggedFailures
) -> None:
    other, visitor = house.visitor(), house.visitor()
    other.says(GET)
    pick = house.context.dispatch.pick

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a fault")

    house.context.dispatch.pick = broken  # type: ignore[method-assign]
    visitor.says(GET)
    assert refused(visitor) == (500, "internal")
    house.context.dispatch.pick = pick  # type: ignore[method-assign]
    house.stream.deliver(OK)
    assert other.answers()[0][1] == b"ok"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_a_fault_on_an_answer_is_500_there(house: House, logged_failures: LoggedFailures) -> None:
    other, visitor = house.visitor(), house.visitor()
    visitor.says(GET)
    stream = house.stream
    # an exchange that has lost its mind: no move of the table leads to an answer from here
    visitor.protocol._exchange.state = State.NEW
    stream.deliver(OK)
    assert refused(visitor) == (500, "internal")
    assert stream.aborted
    assert len(logged_failures.flush(AssertionError)) == 1
    other.says(GET)
    house.stream.deliver(OK)
    assert other.answers()[0][1] == b"ok"


def test_a_fault_of_the_hook_harms_nobody(house: House, logged_failures: LoggedFailures) -> None:
    def broken(exchange: Any) -> None:
        raise ZeroDivisionError("a fault")

    house.context.on_exchange_done = broken
    visitor = house.visitor()
    for _ in range(2):
        visitor.says(GET)
        house.stream.deliver(OK)
        assert visitor.answers()[0][1] == b"ok"
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_the_meaning_of_every_error() -> None:
    assert reason_of(HttpError(502, "x", "x")) == "bad-answer"
    assert reason_of(TimedOut("limits.first_byte", "x")) == "service-timeout"
    assert reason_of(ConnectionRefusedError()) == "service-refused"
    assert reason_of(NoUpstream()) == "no-agent"
    assert reason_of(LinkLost()) == "agent-lost"
    assert reason_of(RuntimeError()) == "service-failed"
    assert undelivered(StreamReset(ResetCode.REFUSED, "", False))
    assert not undelivered(StreamReset(ResetCode.REFUSED, "", True))
    assert expects_successor(StreamReset(ResetCode.NOT_AVAILABLE, "", False))
    assert not expects_successor(StreamReset(ResetCode.REFUSED, "", False))


def test_a_body_over_the_limit(build: Build) -> None:
    house = build(body_bytes=10)
    visitor = house.visitor()
    visitor.says(POST.replace(b"Length: 4", b"Length: 11"))
    assert refused(visitor, b"POST") == (413, "body-too-large")
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n")
    visitor.says(b"8\r\n12345678\r\n")
    assert refused(visitor, b"POST") == (413, "body-too-large")
    assert house.stream.aborted


def test_a_body_that_turns_out_wrong(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert refused(visitor, b"POST")[0] == 400
    assert house.stream.aborted
    assert visitor.write_closed
