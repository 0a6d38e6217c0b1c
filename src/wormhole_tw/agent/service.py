"""The agent as a Twisted service: the composition root of ``agent/``."""

from __future__ import annotations

import os
import random as _random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from wormhole_tw import __version__
from wormhole_tw.agent.bridge import Bridge
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.connector import Connector, Identity
from wormhole_tw.agent.dialling import TLS, Ways
from wormhole_tw.agent.edges import AllEdges, Edges, NearestEdge
from wormhole_tw.agent.events import (
    AgentEvent,
    AgentSession,
    Connected,
    NotReady,
    Ready,
    ServiceReached,
    Stopped,
)
from wormhole_tw.agent.health import HealthWatch
from wormhole_tw.agent.local import LocalService
from wormhole_tw.agent.readiness import Readiness, ServiceWatch
from wormhole_tw.errors import LinkLost
from wormhole_tw.net.proxy_protocol import encode_header
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Hello
from wormhole_tw.wire.windows import PROCESS_BUDGET, Budget

__all__ = ["AgentService"]

_log = Logger()

PROXY_PROTOCOL = "proxy_protocol"
MOVES = "moves"
"""The option that the agent can begin connections to its service with a header."""

VERSIONS = [1]
"""The versions of the tunnel protocol's minor features that are spoken here."""


class AgentService(Service):
    """Serves a private service through one or several edges.

    It starts and stops as often as one likes; any number may live in one process. Nothing is opened before
    ``startService()``, and nothing is left after the Deferred of ``stopService()`` has fired.

    :param reactor: time, connections and names
    :param config: see :class:`~wormhole_tw.agent.config.AgentConfig`
    :param random: gives a float from 0 to below 1, for jitter

    :ivar ready: it serves: a link stands, and the private service was reached and passes its health check

    :raises ConfigError: an endpoint description or the private service's CA file is wrong
    """

    def __init__(self, reactor: Any, config: AgentConfig, *, random: Callable[[], float] = _random.random) -> None:
        self.config = config
        self.identity = Identity()
        self.session_config = SessionConfig(hello_timeout=config.edge_timeout, budget=Budget(PROCESS_BUDGET))
        self.ready = False
        self._reactor = reactor
        self._turn = turn_end_of(reactor)
        self._host = socket.gethostname()[:255]
        self._local = LocalService(reactor, config)
        self.bridge = Bridge(self._local)
        self._readiness: ServiceWatch = (
            HealthWatch(reactor, self._local, self._service_changed, config.health, random)
            if config.health is not None
            else Readiness(reactor, self._local, self._service_changed)
        )
        self._reached = False
        addresses = config.edge_addresses()
        self._connectors = [
            Connector(self, reactor, Ways.of(reactor, config, host, port), host, port, slot, random)
            for slot, (host, port) in enumerate(addresses)
        ]
        self._edges: Edges = AllEdges(self._connectors)
        if config.edges_used == "nearest" and len(addresses) > 1:
            self._edges = NearestEdge(reactor, self._connectors, config.drain)
        self._observers: list[Callable[[AgentEvent], object]] = []
        self._events: list[AgentEvent] = []
        self._connected_waiters: list[Deferred[AgentSession]] = []
        self._ready_waiters: list[Deferred[AgentSession]] = []
        self._stop_waiters: list[Deferred[None]] = []
        self._stopping = False
        self._ca_file_read = False
        self._ready_file = Path(config.ready_file) if config.ready_file else None
        if self._ready_file is not None and not self._ready_file.absolute().parent.is_dir():
            raise config.error("ready_file", f"the folder of {config.ready_file} does not exist")

    # For the application.

    @property
    def sessions(self) -> tuple[AgentSession, ...]:
        """The links that stand and take streams, at most one for each edge."""
        return tuple(connector.session for connector in self._connectors if connector.session is not None)

    @property
    def load(self) -> int:
        """Streams that are joined to the private service."""
        return self.bridge.load

    def whenConnected(self) -> Deferred[AgentSession]:
        """The session of an edge that has welcomed us, now or when it happens. A Deferred of the caller's own.

        It fails with :class:`~wormhole_tw.errors.LinkRefused` while every edge has answered with a refusal that no
        retry heals (a wrong token, no version in common), though the service goes on trying slowly; and with
        :class:`~wormhole_tw.errors.LinkLost` when the service stops.
        """
        return self._wait(self._connected_waiters)

    def when_ready(self) -> Deferred[AgentSession]:
        """As :meth:`whenConnected`, once the private service was reached too, so that visitors are served."""
        return self._wait(self._ready_waiters)

    def when_stopped(self) -> Deferred[None]:
        """Fires when the service has stopped and nothing of it is left; at once where it does not run."""
        if not self.running and not self._stopping:
            return succeed(None)
        waiter: Deferred[None] = Deferred(lambda d: _forget(d, self._stop_waiters))
        self._stop_waiters.append(waiter)
        return waiter

    def on_event(self, observer: Callable[[AgentEvent], object]) -> Callable[[], None]:
        """Have ``observer(event)`` called for every :mod:`~wormhole_tw.agent.events` event, in their order.

        It is called at the end of the reactor's turn, and may start and stop the service. Gives what unsubscribes it.
        """
        self._observers.append(observer)

        def unsubscribe() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return unsubscribe

    # Service

    def privilegedStartService(self) -> None:
        """Read the CA file for the edges, before rights are dropped.

        :raises ConfigError: it is missing, unreadable or no PEM
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._read_ca_file()

    def startService(self) -> None:
        """Dial the edges and the private service. While a stop is still under way, it starts when that is done.

        The CA file for the edges is read at each start: an edge in the same process, started before, has made it by
        then.

        :raises ConfigError: that file is missing, unreadable or no PEM; then the service does not run
        """
        if self.running:
            return
        self._read_ca_file()
        super().startService()  # type: ignore[no-untyped-call]
        if not self._stopping:
            self._start()

    def stopService(self) -> Deferred[None]:
        """Say GOAWAY, let requests that run end (at most ``config.drain`` seconds), and close everything.

        Fires when nothing is left.
        """
        return self.stop(self.config.drain)

    def stop(self, drain: float) -> Deferred[None]:
        """As :meth:`stopService`, with another time in seconds for what runs. During a stop the earlier end holds."""
        was_running = bool(self.running)
        self._ca_file_read = False  # the next start reads it anew
        super().stopService()  # type: ignore[no-untyped-call]
        begins = was_running and not self._stopping
        self._stopping = self._stopping or was_running
        stopped = self.when_stopped()
        if begins:
            Deferred.fromCoroutine(self._stop(drain)).addErrback(
                lambda failure: _log.failure("stopping the agent failed", failure)
            )
        elif self._stopping:
            self._turn.call(lambda: self._hurry(drain))
        return stopped

    def hand_over(self) -> None:
        """Another process serves in the place of this one: the file that says so is its own. A stop has to follow."""
        self._ready_file = None

    def _hurry(self, drain: float) -> None:
        if self._stopping:  # and not started anew meanwhile
            for connector in self._connectors:
                connector.stop(drain)

    def _read_ca_file(self) -> None:
        if not self._ca_file_read:
            for connector in self._connectors:
                connector.ways.read_ca_file()
            self._ca_file_read = True

    def _start(self) -> None:
        self._set_ready_file(False)  # one may be left of a process that was killed
        self._reached = False
        self._readiness.start()
        self._warn_of_password()
        self._edges.start()

    def _warn_of_password(self) -> None:
        proxy = self.config.proxies.proxy
        if proxy is not None and proxy.password and proxy.source == "--proxy":
            _log.warn("the password in --proxy shows in ps; write the URL into FLY_PROXY")

    async def _stop(self, drain: float) -> None:
        self._readiness.stop()
        self._be_ready(False)
        for waiters in (self._connected_waiters, self._ready_waiters):
            self._fail(waiters, LinkLost("the agent was stopped"))
        try:
            # Whoever stops us may be anywhere, in the middle of a connector's own work too.
            await self._end_of_turn()
            self._edges.stop()
            for connector in [connector.stop(drain) for connector in self._connectors]:
                await connector
            # The links are gone, and with them their streams; their connections to the service are closing.
            self.bridge.abort()
            await self.bridge.when_idle()
        finally:
            self._events.append(Stopped())
            self._deliver()  # now: there may be no other turn
            self._stopping = False
            if self.running:  # started again meanwhile
                self._start()
            stopped, self._stop_waiters = self._stop_waiters, []
            for waiter in stopped:
                if not waiter.called:
                    waiter.callback(None)

    def _end_of_turn(self) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        self._turn.call(lambda: ended.callback(None))
        return ended

    # ConnectorOwner

    def status(self) -> tuple[bool, str]:
        """What STATUS says."""
        return self._readiness.ready, self._readiness.reason

    def hello(self, *, slot: int, generation: int, draining: bool) -> Hello:
        """What a link says first."""
        config = self.config
        return Hello(
            role="agent",
            versions=VERSIONS,
            token=config.token,
            instance=self.identity.instance,
            slot=slot,
            generation=generation,
            previous="draining" if draining else "gone",
            host=self._host,
            software=f"wormhole-tw/{__version__}",
            release=config.release,
            services=self.bridge.services,
            initial_credit=self.session_config.initial_credit,
            options=[PROXY_PROTOCOL, MOVES, *(["visitor_per_stream"] if config.visitor_per_stream else [])],
            hostname=config.hostname,
        )

    def tell(self, event: AgentEvent) -> None:
        """Log what it means, and tell the application at the end of this turn."""
        if isinstance(event, Connected):
            session = event.session
            wanted = PROXY_PROTOCOL in session.granted
            self._readiness.begin_with(encode_header("v2", None) if wanted else b"")
            how = "" if session.carrier == TLS else f" by {session.carrier}"
            _log.info(
                "connected to {session}{how} as {session_id}", session=session, how=how, session_id=session.session_id
            )
            for url in session.urls:
                _log.info("{url} -> {service}", url=url, service=self._local.description)
        self._events.append(event)
        self._turn.call(self._deliver)

    def _deliver(self) -> None:
        events, self._events = self._events, []
        for event in events:
            for observer in tuple(self._observers):
                try:
                    observer(event)
                except Exception:  # noqa: BLE001 - an application's bug is not the tunnel's
                    _log.failure("an observer of the agent failed on {event}", event=type(event).__name__)
        self._settle_waiters()

    def service_starts(self) -> None:
        """The private service is only about to start: that it does not answer yet is no news."""
        self._local.starting = True

    def connector_changed(self) -> None:
        """A link stands, or one less."""
        self._edges.changed()
        self._be_ready(self._readiness.ready and bool(self.sessions) and not self._stopping)
        self._turn.call(self._settle_waiters)

    def _service_changed(self) -> None:
        if not self._reached:
            self._reached = True
            _log.info("the private service {service} is there", service=self._local.description)
            self.tell(ServiceReached(self._local.description))
        for connector in self._connectors:
            connector.say_status(*self.status())
        self.connector_changed()

    # Waiters

    def _wait(self, waiters: list[Deferred[AgentSession]]) -> Deferred[AgentSession]:
        waiter: Deferred[AgentSession] = Deferred(lambda d: _forget(d, waiters))
        waiters.append(waiter)
        self._turn.call(self._settle_waiters)
        return waiter

    def _settle_waiters(self) -> None:
        if not self.running:
            return
        sessions = self.sessions
        if sessions:
            self._fire(self._connected_waiters, sessions[0])
            if self.ready:
                self._fire(self._ready_waiters, sessions[0])
            return
        refusals = [connector.refusal for connector in self._connectors]
        refusal = refusals[0]
        if refusal is not None and None not in refusals:
            for waiters in (self._connected_waiters, self._ready_waiters):
                self._fail(waiters, refusal)

    @staticmethod
    def _fire(waiters: list[Deferred[AgentSession]], session: AgentSession) -> None:
        fired, waiters[:] = waiters[:], []
        for waiter in fired:
            if not waiter.called:  # cancelled, by what one before it has called
                waiter.callback(session)

    @staticmethod
    def _fail(waiters: list[Deferred[AgentSession]], error: Exception) -> None:
        fired, waiters[:] = waiters[:], []
        for waiter in fired:
            if not waiter.called:
                waiter.errback(error)

    # Ready, and the file that says so

    def _be_ready(self, ready: bool) -> None:
        if ready == self.ready:
            return
        self.ready = ready
        self._set_ready_file(ready)
        self.tell(Ready() if ready else NotReady())

    def _set_ready_file(self, there: bool) -> None:
        path = self._ready_file
        if path is None:
            return
        try:
            if there:
                beside = path.with_name(f".{path.name}.{os.getpid()}")
                beside.write_text("".join(f"{url}\n" for session in self.sessions for url in session.urls))
                beside.replace(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            _log.error(
                "{option} {path}: {reason}",
                option=self.config.source("ready_file"),
                path=str(path),
                reason=error.strerror or str(error),
            )


def _forget(waiter: Deferred[Any], waiters: list[Deferred[Any]]) -> None:
    """Cancel a waiter, which may be among those that are being fired, and not in the list any more."""
    if waiter in waiters:
        waiters.remove(waiter)
