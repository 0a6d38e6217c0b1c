"""Dialling a stream like any other connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from tests.tunnel.links import HTTP, TCP, Echo, HalfReader, Pair
from wormhole_tw.errors import StreamReset
from wormhole_tw.tunnel.endpoints import StreamEndpoint
from wormhole_tw.wire.codes import ResetCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Open


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


class Readers(Factory):
    noisy = False
    protocol = HalfReader  # type: ignore[assignment]


def dial(pair: Pair, message: Open, factory: Any = None) -> tuple[Deferred[Any], list[Any]]:
    endpoint = StreamEndpoint(pair.near, message)
    assert verifyObject(IStreamClientEndpoint, endpoint)
    results: list[Any] = []
    connecting = endpoint.connect(factory or Readers())
    connecting.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return connecting, results


def test_http_connects_at_open(pair: Pair) -> None:
    pair.far_owner.on_stream = lambda stream: stream.attach(Echo())
    _, results = dial(pair, HTTP)
    (protocol,) = results
    protocol.transport.write(b"request")
    pair.run()
    assert protocol.data == b"request"


def test_http_hears_of_a_refusal_as_its_loss(pair: Pair) -> None:
    pair.far_owner.on_stream = lambda stream: stream.reset(ResetCode.REFUSED, "no", delivered=False)
    _, (protocol,) = dial(pair, HTTP)
    pair.run()
    assert protocol.error.code == ResetCode.REFUSED
    assert protocol.error.delivered is False


def test_tcp_connects_at_opened(pair: Pair) -> None:
    _, results = dial(pair, TCP)
    pair.run()
    assert results == []
    (stream,) = pair.far_owner.streams
    stream.attach(Echo())
    stream.accept()
    stream.write(b"220 the service speaks first")
    pair.run()
    (protocol,) = results
    assert protocol.data == b"220 the service speaks first"


def test_tcp_refused(pair: Pair) -> None:
    pair.far_owner.on_stream = lambda stream: stream.reset(ResetCode.UNREACHABLE, "no route", delivered=False)
    _, results = dial(pair, TCP)
    pair.run()
    (error,) = results
    assert isinstance(error, StreamReset)
    assert (error.code, error.message, error.delivered) == (ResetCode.UNREACHABLE, "no route", False)


def test_tcp_and_the_link_is_lost(pair: Pair) -> None:
    _, results = dial(pair, TCP)
    pair.run()
    pair.near.abort()
    pair.run()
    assert results[0].code == ResetCode.LINK_LOST


def test_cancelled_before_opened(pair: Pair) -> None:
    connecting, results = dial(pair, TCP)
    far = HalfReader()
    pair.far_owner.on_stream = lambda stream: stream.attach(far)
    pair.run()
    connecting.cancel()
    assert isinstance(results[0], CancelledError)
    pair.run()
    assert far.error.code == ResetCode.CANCELLED


def test_cancelled_while_opened_is_on_its_way(pair: Pair) -> None:
    connecting, results = dial(pair, TCP)
    pair.run()
    (stream,) = pair.far_owner.streams
    stream.attach(HalfReader())
    stream.accept()
    pair.clock.advance(0)
    connecting.cancel()
    pair.run()
    assert len(results) == 1
    assert pair.near.load == pair.far.load == 0


class NoBuilder(Factory):
    noisy = False

    def buildProtocol(self, addr: object) -> None:
        return None


class BadBuilder(Factory):
    noisy = False

    def buildProtocol(self, addr: object) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("message", [HTTP, TCP], ids=["http", "tcp"])
@pytest.mark.parametrize(("factory", "error"), [(NoBuilder, NoProtocol), (BadBuilder, ZeroDivisionError)])
def test_factories_that_build_nothing(pair: Pair, message: Open, factory: Any, error: type[Exception]) -> None:
    pair.far_owner.on_stream = lambda stream: (stream.attach(HalfReader()), stream.accept())
    _, results = dial(pair, message, factory())
    pair.run()
    assert isinstance(results[0], error)
    assert pair.near.load == 0
    assert pair.far.load == 0


def test_a_link_that_drains(pair: Pair) -> None:
    pair.open_both()
    pair.near.drain(30)
    _, results = dial(pair, HTTP)
    assert (results[0].code, results[0].delivered) == (ResetCode.NOT_AVAILABLE, False)


def test_a_link_that_is_lost(pair: Pair) -> None:
    pair.near.abort()
    pair.run()
    _, results = dial(pair, TCP)
    assert (results[0].code, results[0].delivered) == (ResetCode.LINK_LOST, False)


def test_a_link_that_is_full() -> None:
    pair = Pair(config=SessionConfig(max_streams=2))
    pair.open_both()
    pair.open_both()
    _, results = dial(pair, HTTP)
    assert (results[0].code, results[0].delivered) == (ResetCode.OVER_LIMIT, False)
    pair.close()
