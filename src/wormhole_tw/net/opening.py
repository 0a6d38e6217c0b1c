"""Speaking first on a connection that another protocol gets: with a proxy, or to ask for a WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from wormhole_tw.net.handover import hand_over

__all__ = ["Opening", "Openings"]


class Opening(Protocol):
    """Says and hears what comes before the protocol that is wanted, and stands aside for it.

    A subclass has the words: :meth:`begin`, :meth:`hear`, :meth:`closed` and :meth:`late`.

    :param factory: of the protocol that is wanted; it builds it when the opening is done, and not before
    """

    transport: Any

    def __init__(self, factory: IProtocolFactory, address: IAddress | None) -> None:
        self._factory = factory
        self._address = address
        self._stands: Deferred[IProtocol] = Deferred(lambda _: self.transport.abortConnection())

    async def outcome(self, clock: IReactorTime, seconds: float) -> IProtocol:
        """The wanted protocol, connected; to be asked once, when the connection stands. Cancelling drops it.

        :param seconds: for all that has to be heard
        :raises Exception: what :meth:`hear`, :meth:`closed`, :meth:`late` or the factory say
        """
        too_late = clock.callLater(seconds, self._too_late, seconds)
        try:
            return await self._stands
        finally:
            if too_late.active():
                too_late.cancel()

    # The words.

    def begin(self) -> bytes:
        """What to say first."""
        raise NotImplementedError

    def hear(self, data: bytes) -> bytes | None:
        """Take what came; None while there is more to hear, then what came for the wanted protocol already.

        :raises Exception: why there is nothing to wait for
        """
        raise NotImplementedError

    def over(self, protocol: IProtocol) -> IProtocol:
        """What the connection speaks to from then on: the wanted protocol, or something between."""
        return protocol

    def closed(self) -> Exception:
        """The connection was closed first."""
        raise NotImplementedError

    def late(self, seconds: float) -> Exception:
        """The time was over first."""
        raise NotImplementedError

    # Protocol

    def connectionMade(self) -> None:
        self.transport.write(self.begin())

    def dataReceived(self, data: bytes) -> None:
        if self._stands.called:
            return
        try:
            rest = self.hear(bytes(data))
            if rest is None:
                return
            protocol = self._factory.buildProtocol(cast(IAddress, self._address))
            if protocol is None:
                raise NoProtocol()
            hand_over(self.transport, self.over(protocol), rest)
        except Exception:  # noqa: BLE001 - whoever dials is told, whatever it is
            self._fail(Failure())
        else:
            if not self._stands.called:
                self._stands.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail(Failure(self.closed()))

    def _too_late(self, seconds: float) -> None:
        self._fail(Failure(self.late(seconds)))

    def _fail(self, failure: Failure) -> None:
        if not self._stands.called:
            self.transport.abortConnection()
            self._stands.errback(failure)


class Openings(Factory):
    """Makes the opening of one connection.

    :param wanted: the factory that it is for
    """

    noisy = False

    def __init__(self, wanted: IProtocolFactory, make: Callable[[IAddress | None], Opening]) -> None:
        self._wanted = wanted
        self._make = make

    def doStart(self) -> None:
        self._wanted.doStart()

    def doStop(self) -> None:
        self._wanted.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._make(addr)
