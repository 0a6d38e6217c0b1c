"""Which of several edges an agent is connected to: all of them, or the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger

from wormhole_tw.agent.connector import Connector
from wormhole_tw.agent.dialling import CarrierEndpoint
from wormhole_tw.net.turn import turn_end_of

__all__ = ["AllEdges", "Edges", "NearestEdge"]

_log = Logger()

MEASURE_AGAIN = 300.0
"""Seconds between two looks at which edge is the nearest: routes change in hours, and a look costs each edge a few
handshakes."""

LOOKS = 3
"""Connections by which an edge is measured; the fastest counts, since what is slow by chance says nothing."""

PATIENCE = 1.0
"""Seconds that other edges get after the first one was measured: who takes longer is not the nearest."""

MUCH_NEARER = 0.7
"""An edge is moved to where it takes less than this part of the time of the one that serves …"""

AT_LEAST = 0.005
"""… and at least these seconds less: two that are about equal are not changed for one another."""


class Edges(Protocol):
    """Who starts and stops the connectors, one for each edge. The service itself stops all of them at its end."""

    def start(self) -> None:
        """The agent starts."""

    def stop(self) -> None:
        """It stops: leave nothing scheduled. May be called again."""

    def changed(self) -> None:
        """A connector's session is another."""


class AllEdges:
    """A link to each; what happens to one does not touch the others."""

    def __init__(self, connectors: Sequence[Connector]) -> None:
        self._connectors = connectors

    def start(self) -> None:
        for connector in self._connectors:
            connector.forget()
            connector.start()

    def stop(self) -> None:
        """Nothing is scheduled."""

    def changed(self) -> None:
        """Each for itself."""


class NearestEdge:
    """A link to the edge that is reached fastest, and to the next one where it is lost.

    What is measured is the time for a connection as a link has it: the name, TCP and TLS, through a proxy too.

    :param drain: seconds that what runs over a link gets when another edge has become the nearest
    """

    def __init__(self, reactor: Any, connectors: Sequence[Connector], drain: float) -> None:
        self._reactor = reactor
        self._turn = turn_end_of(reactor)
        self._drain = drain
        self._connectors = list(connectors)
        self._order = list(connectors)
        self._active: Connector | None = None
        self._candidate: Connector | None = None
        self._timer: IDelayedCall | None = None
        self._next: IDelayedCall | None = None
        self._measuring: _Measurement | None = None
        self._running = False
        for connector in connectors:
            connector.on_failure = lambda connector=connector: self._turn.call(lambda: self._failed(connector))

    def start(self) -> None:
        self._running = True
        for connector in self._connectors:
            connector.forget()
        self._measure()

    def stop(self) -> None:
        self._running = False
        self._active = self._candidate = None
        for name in ("_timer", "_next"):
            call: IDelayedCall | None = getattr(self, name)
            setattr(self, name, None)
            if call is not None:
                call.cancel()
        measuring, self._measuring = self._measuring, None
        if measuring is not None:
            measuring.stop()

    def changed(self) -> None:
        candidate = self._candidate
        if candidate is not None and candidate.session is not None:
            old, self._active, self._candidate = self._active, candidate, None
            if old is not None:
                self._turn.call(lambda: self._retire(old))

    def _retire(self, connector: Connector) -> None:
        if connector is not self._active:
            connector.stop(self._drain)  # the service waits for what is left of it

    # Measuring.

    def _measure(self) -> None:
        self._timer = None
        endpoints = [connector.ways.in_order(self._reactor.seconds())[0] for connector in self._connectors]
        self._measuring = _Measurement(self._reactor, endpoints, self._measured)

    def _measured(self, seconds: list[float]) -> None:
        self._measuring = None
        if not self._running:
            return
        self._timer = self._reactor.callLater(MEASURE_AGAIN, self._measure)
        taken = dict(zip(self._connectors, seconds, strict=True))
        self._order = sorted(self._connectors, key=lambda connector: taken[connector])
        active, now = self._active, self._reactor.seconds()
        # One that has asked for a wait is not tried before, however near it is.
        nearest = next((one for one in self._order if one is active or one.not_before <= now), self._order[0])
        told = ", ".join(
            f"{connector.address} {taken[connector] * 1000:.0f} ms"
            if taken[connector] < inf
            # one that was not reached, or not in time
            else f"{connector.address} –"
            for connector in self._order
        )
        if self._next is not None:
            return  # the next one has its time
        if active is None:
            _log.info("edges by the time of a connection: {told}", told=told)
            self._use(nearest)
        elif (
            self._candidate is None
            and active.session is not None
            and taken[nearest] < MUCH_NEARER * taken[active]
            and taken[nearest] + AT_LEAST < taken[active]
        ):
            _log.info("another edge has become the nearest: {told}", told=told)
            self._candidate = nearest
            nearest.start()

    # Using.

    def _use(self, connector: Connector) -> None:
        self._next = None
        self._active = connector
        connector.start()

    def _failed(self, connector: Connector) -> None:
        """A try to reach an edge has failed."""
        if not self._running or connector.session is not None:
            return
        if connector is self._candidate:
            self._candidate = None
            self._retire(connector)
        elif connector is self._active and self._next is None and self._candidate is None:
            now = self._reactor.seconds()
            # the nearest of those that may be dialled now; else whoever may be dialled first
            following = min(self._order, key=lambda one: max(0.0, one.not_before - now))
            if following is connector:
                return  # it goes on itself
            self._active = None
            self._retire(connector)
            wait = max(0.0, following.not_before - now)
            self._next = self._reactor.callLater(wait, self._use, following)


class _Measurement:
    """Looks at several edges at once, and says how many seconds a connection to each takes: ``inf`` where it failed or
    took much longer than the fastest.

    :param done: called once, with the seconds in the order of the endpoints
    """

    def __init__(self, reactor: Any, endpoints: Sequence[CarrierEndpoint], done: Any) -> None:
        self._reactor = reactor
        self._done = done
        self._seconds = [inf] * len(endpoints)
        self._looks: dict[int, Deferred[None]] = {}
        self._patience: IDelayedCall | None = None
        looks = [Deferred.fromCoroutine(self._look(number, endpoint)) for number, endpoint in enumerate(endpoints)]
        for number, look in enumerate(looks):
            self._looks[number] = look
        for number, look in enumerate(looks):
            look.addBoth(self._ended, number)

    async def _look(self, number: int, endpoint: CarrierEndpoint) -> None:
        for _ in range(LOOKS):
            began = self._reactor.seconds()
            protocol = await endpoint.connect(_LOOKS)
            self._seconds[number] = min(self._seconds[number], self._reactor.seconds() - began)
            probe = cast(_Look, protocol)
            probe.transport.abortConnection()
            await probe.gone

    def _ended(self, _result: object, number: int) -> None:
        del self._looks[number]
        if not self._looks:
            self._finish()
        elif self._patience is None and self._seconds[number] < inf:
            self._patience = self._reactor.callLater(PATIENCE, self.stop, finish=True)

    def _finish(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(self._seconds)

    def stop(self, *, finish: bool = False) -> None:
        """Look no more.

        :param finish: tell what was found
        """
        if not finish:
            self._done = None
        for look in list(self._looks.values()):
            look.cancel()
        self._finish()


class _Look(TwistedProtocol):
    """A connection that is only made."""

    transport: Any

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        if not self.gone.called:
            self.gone.callback(None)


_LOOKS = Factory.forProtocol(_Look)
_LOOKS.noisy = False
