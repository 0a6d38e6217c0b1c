"""Dialling several addresses: the order and the moments of the attempts, and who is taken."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, NoProtocol, NoRouteError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from wormhole_tw.net.racing import ATTEMPT_DELAY, dial_addresses, in_turns

SIX, FOUR, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"


def test_families_take_turns() -> None:
    addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3", "2001:db8::2"]
    assert in_turns(addresses) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    assert in_turns(addresses, first=4) == ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3"]
    assert in_turns(["192.0.2.1"]) == ["192.0.2.1"]


class Course:
    """A race on a reactor of the test's."""

    def __init__(self, *addresses: str, factory: Any = None) -> None:
        self.reactor = MemoryReactorClock()
        self.won: list[Any] = []
        self.lost: list[BaseException | None] = []
        self.result: Deferred[Any] = dial_addresses(
            self.reactor, addresses, 443, factory or Factory.forProtocol(Protocol)
        )
        self.result.addCallbacks(self.won.append, lambda failure: self.lost.append(failure.value))

    @property
    def tried(self) -> list[str]:
        return [host for host, *_ in self.reactor.tcpClients]

    def stands(self, index: int) -> StringTransport | None:
        protocol = self.reactor.tcpClients[index][2].buildProtocol(IPv4Address("TCP", self.tried[index], 443))
        if protocol is None:
            return None
        transport = StringTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def fails(self, index: int, error: Exception) -> None:
        connector = self.reactor.connectors[index]
        self.reactor.tcpClients[index][2].clientConnectionFailed(connector, Failure(error))

    def stopped(self, index: int) -> bool:
        connector: Any = self.reactor.connectors[index]
        return bool(connector.stoppedConnecting)

    def quiet(self) -> bool:
        return not self.reactor.getDelayedCalls()


def test_the_first_that_stands_is_taken_and_nothing_else_is_tried() -> None:
    course = Course(SIX, FOUR)
    assert course.tried == [SIX]
    transport = course.stands(0)
    assert transport is not None
    assert course.won == [transport.protocol]
    assert isinstance(transport.protocol, Protocol)
    assert course.quiet()


def test_an_address_that_is_silent_costs_a_quarter_of_a_second() -> None:
    course = Course(SIX, FOUR, OTHER)
    course.reactor.advance(ATTEMPT_DELAY - 0.01)
    assert course.tried == [SIX]
    course.reactor.advance(0.01)
    assert course.tried == [SIX, FOUR]
    assert course.stands(1) is not None
    assert course.stopped(0)
    assert len(course.won) == 1
    assert course.quiet()


def test_one_that_comes_late_in_the_same_turn_is_not_wanted() -> None:
    course = Course(SIX, FOUR)
    course.reactor.advance(ATTEMPT_DELAY)
    assert course.stands(1) is not None
    assert course.stands(0) is None
    course.fails(0, ConnectError())
    assert len(course.won) == 1


def test_after_a_failure_the_next_is_tried_at_once() -> None:
    course = Course(SIX, FOUR, OTHER)
    course.fails(0, NoRouteError())
    assert course.tried == [SIX, FOUR]
    course.reactor.advance(ATTEMPT_DELAY / 2)
    assert course.tried == [SIX, FOUR]
    course.reactor.advance(ATTEMPT_DELAY / 2)
    assert course.tried == [SIX, FOUR, OTHER]
    course.fails(1, ConnectError())
    course.stands(2)
    assert len(course.won) == 1


@pytest.mark.parametrize("refused", [0, 1])
def test_all_fail_and_a_refusal_says_most(refused: int) -> None:
    course = Course(SIX, FOUR)
    errors = [NoRouteError(), NoRouteError()]
    errors[refused] = ConnectionRefusedError()
    for index, error in enumerate(errors):
        assert course.lost == []
        course.fails(index, error)
    assert course.lost == [errors[refused]]
    assert course.quiet()


def test_given_up() -> None:
    course = Course(SIX, FOUR, OTHER)
    course.reactor.advance(ATTEMPT_DELAY)
    course.result.cancel()
    assert isinstance(course.lost[0], CancelledError)
    assert course.stopped(0)
    assert course.stopped(1)
    assert course.quiet()
    course.fails(0, ConnectError())


class Fussy(Factory):
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def buildProtocol(self, addr: Any) -> Any:
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(("error", "told"), [(ValueError("no"), ValueError), (None, NoProtocol)])
def test_a_factory_that_does_not_want_it(error: Exception | None, told: type[Exception]) -> None:
    course = Course(FOUR, factory=Fussy(error))
    transport = course.stands(0)
    assert transport is not None
    assert isinstance(course.lost[0], told)
    assert transport.disconnected
