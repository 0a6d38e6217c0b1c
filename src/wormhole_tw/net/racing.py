"""Dialling a host that has several addresses: one attempt after the other, a quarter of a second apart, and the first
connection that stands is taken (RFC 8305, "Happy Eyeballs").

Who has a broken IPv6, or a server of several that is down, waits for a blink instead of a timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, NoProtocol, TimeoutError
from twisted.internet.interfaces import IAddress, IConnector, IProtocol, IProtocolFactory
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from wormhole_tw.net.transport import tune

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, ITransport

__all__ = ["ATTEMPT_DELAY", "dial_addresses", "in_turns"]

ATTEMPT_DELAY = 0.25
"""Seconds between attempts (RFC 8305 section 5)."""

ATTEMPT_TIMEOUT = 30.0
"""Seconds for one attempt; whoever dials gives up long before."""


def in_turns(addresses: Sequence[str], *, first: int = 6) -> list[str]:
    """The addresses of both families in turn, each family in its own order (section 4).

    :param first: the family that comes first, 6 or 4
    """
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    one, other = (six, four) if first == 6 else (four, six)
    return [address for address in chain.from_iterable(zip_longest(one, other)) if address is not None]


def dial_addresses(
    reactor: Any,
    addresses: Sequence[str],
    port: int,
    factory: IProtocolFactory,
    *,
    won: Callable[[str], object] | None = None,
) -> Deferred[IProtocol]:
    """Connect to the first of these addresses that takes us.

    Fires with the protocol when its connection stands.  Fails with what the last attempt failed with, a refusal before
    anything else.  May be cancelled.

    :param reactor: time and TCP
    :param addresses: at least one, in the order of attempts; no names
    :param won: called with the address that was taken, before the protocol is built
    """
    return _Race(reactor, addresses, port, factory, won).begin()


class _Race:
    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[str],
        port: int,
        factory: IProtocolFactory,
        told: Callable[[str], object] | None,
    ) -> None:
        self._reactor = reactor
        self._left = list(reversed(addresses))
        self._port = port
        self._told = told
        self._running: dict[_Attempt, IConnector] = {}
        self._timer: IDelayedCall | None = None
        self._error: BaseException | None = None
        self.factory = factory
        self.over = False
        self.result: Deferred[IProtocol] = Deferred(lambda _: self._stop())

    def begin(self) -> Deferred[IProtocol]:
        self._next()
        return self.result

    def _next(self) -> None:
        self._timer = None
        address = self._left.pop()
        attempt = _Attempt(self, address)
        self._running[attempt] = self._reactor.connectTCP(address, self._port, attempt, timeout=ATTEMPT_TIMEOUT)
        if self._left:
            self._timer = self._reactor.callLater(ATTEMPT_DELAY, self._next)

    def won(self, attempt: _Attempt) -> None:
        """Its connection stands: the others stop."""
        del self._running[attempt]
        self._stop()
        if self._told is not None:
            self._told(attempt.address)

    def failed(self, attempt: _Attempt, error: BaseException) -> None:
        if self.over:
            return
        del self._running[attempt]
        # that somebody is there and refuses says more than that a family has no route, or that nobody answered
        if not isinstance(self._error, ConnectionRefusedError | TimeoutError) or isinstance(
            error, ConnectionRefusedError
        ):
            self._error = error
        if self._left:
            # the next one need not wait
            if self._timer is not None:
                self._timer.cancel()
            self._next()
        elif not self._running:
            self.over = True
            self.result.errback(Failure(self._error))

    def _stop(self) -> None:
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        running, self._running = self._running, {}
        for connector in running.values():
            connector.stopConnecting()


class _Attempt(ClientFactory):
    noisy = False

    def __init__(self, race: _Race, address: str) -> None:
        self._race = race
        self.address = address

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        race = self._race
        if race.over:
            return None  # in the same turn as the one that won
        race.won(self)
        return _Start(race, addr)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._race.failed(self, reason.value or NoProtocol())


class _Start(Protocol):
    """Stands in until the transport is there, and costs nothing from then on."""

    def __init__(self, race: _Race, address: Any) -> None:
        self._race = race
        self._address = address

    def makeConnection(self, transport: ITransport) -> None:
        result = self._race.result
        below: Any = transport
        tune(below)
        try:
            protocol = self._race.factory.buildProtocol(self._address)
            if protocol is None:
                raise NoProtocol
            below.protocol = protocol
            protocol.makeConnection(transport)
        except Exception:  # noqa: BLE001 - whoever dials is told, whatever it is
            failure = Failure()
            below.protocol = Protocol()
            below.abortConnection()
            result.errback(failure)
        else:
            result.callback(protocol)
