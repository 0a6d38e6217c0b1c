"""The edge as a Twisted service: the composition root of the public side."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.control.catalog import CatalogHolder, build_catalog, removed_tokens
from wormhole_tw.control.registry import Registry
from wormhole_tw.control.reload import merge, restart_needed
from wormhole_tw.control.tcp import merge_tcp
from wormhole_tw.edge.accept import AcceptFactory
from wormhole_tw.edge.agents import Agents
from wormhole_tw.edge.balancers import check_balancers
from wormhole_tw.edge.certificates.keeper import CertificateKeeper
from wormhole_tw.edge.certificates.visitors import let_go
from wormhole_tw.edge.door import TunnelDoor
from wormhole_tw.edge.guard import FailedAuthentications
from wormhole_tw.edge.leaving import leave
from wormhole_tw.edge.making import HTTPS, make_context
from wormhole_tw.edge.observer import Observer
from wormhole_tw.edge.tcp import TcpPorts
from wormhole_tw.edge.trust import Trust
from wormhole_tw.edge.watching import ReloadWatch
from wormhole_tw.errors import ConfigError, MisuseError
from wormhole_tw.net.addresses import shown_address
from wormhole_tw.net.inherited import NOTHING, Inherited
from wormhole_tw.net.listening import leave_open, open_port
from wormhole_tw.net.turn import turn_end_of
from wormhole_tw.tunnel.protocol import LinkProtocol, Side
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.windows import PROCESS_BUDGET, Budget

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.interfaces import IAddress, IListeningPort

    from wormhole_tw.control.config import EdgeConfig, Listener
    from wormhole_tw.control.interfaces import IStore, Snapshot
    from wormhole_tw.edge.certificates.plan import Pace
    from wormhole_tw.edge.context import EdgeContext

__all__ = ["EdgeService"]

log = Logger()


class EdgeService(Service):
    """An edge: listens, takes agents in, serves visitors.

    It takes its reactor, touches no signal, and may be one of many in a process.  It may be started again after it was
    stopped; everything that lives (ports, agents, connections) belongs to one start.

    :param reactor: a reactor (time, TCP, threads for ``reload``)
    :param config: ``EdgeConfig.load("edge.toml")``
    :param store: where :meth:`reload` reads anew, for instance ``FileStore("edge.toml")``; None where it is not used
    :param pace: how patient it is with the CA of ``mode = "acme"``
    :param inherited: sockets that listen already, of systemd or of the process that this one replaces

    :ivar config: the configuration that holds now
    :ivar registry: the agents that are here; None while stopped
    """

    def __init__(
        self,
        reactor: Any,
        config: EdgeConfig,
        store: IStore | None = None,
        *,
        pace: Pace | None = None,
        inherited: Inherited = NOTHING,
    ) -> None:
        self._reactor = reactor
        self._pace = pace
        self._store = store
        self._inherited = inherited
        self._succeeded = False
        self.config = config
        self._catalogs = CatalogHolder()
        self.registry: Registry | None = None
        self._agents: Agents | None = None
        self._context: EdgeContext | None = None
        self._keeper: CertificateKeeper | None = None
        self._observer: Observer | None = None
        self._ports: list[tuple[Listener, IListeningPort]] = []
        self._doors: list[AcceptFactory] = []  # in the order of the listeners
        self._tcp: TcpPorts | None = None
        self._budget: Budget | None = None
        self._session_config = SessionConfig()
        self._reloading: Deferred[None] | None = None
        self._reload_wanted = False
        self._stopping: Deferred[None] | None = None
        self._watch = ReloadWatch(reactor, store, self.reload)

    # Starting.

    def privilegedStartService(self) -> None:
        """Open the ports, before rights are dropped.

        :raises ConfigError: a port, the state folder or a certificate cannot be had; nothing stays open then
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._open()

    def startService(self) -> None:
        """Open the ports where that has not been done, and serve.

        :raises ConfigError: a port, the state folder or a certificate cannot be had; nothing stays open then
        :raises MisuseError: the last stop has not ended
        """
        if self.running:
            return
        self._open()
        super().startService()  # type: ignore[no-untyped-call]
        assert self._keeper is not None
        self._keeper.start()
        assert self._observer is not None
        self._observer.start()
        for listener, port in self._ports:
            what = "https" if listener.tls else "http"
            where = shown_address(port.getHost())
            log.info("edge {name} serves {what} on {address}", name=self.config.name, what=what, address=where)
        assert self._tcp is not None
        self._tcp.say(self.config.name)
        self._watch.adopt(self.config)

    def _open(self) -> None:
        if self._ports:
            return
        if self._stopping is not None:
            raise MisuseError("the edge is still stopping: wait for the Deferred of stopService()")
        config = self.config
        reactor = self._reactor
        # What can fail comes first, and what lives last.
        catalog = build_catalog(config)
        check_balancers(config.backends, config.source)
        for warning in catalog.warnings:
            log.warn("{warning}", warning=warning)
        self._keeper = CertificateKeeper(reactor, config, pace=self._pace)
        self._catalogs.swap(catalog)
        self._budget = Budget(PROCESS_BUDGET)
        self._session_config = SessionConfig(budget=self._budget, max_streams=config.limits.agent_streams)
        self.registry = Registry(reactor.seconds, succeeds=self._inherited.succeeds)
        self._context = make_context(reactor, config, self._catalogs, self.registry, self._keeper)
        self._agents = Agents(
            catalog=self._catalogs,
            registry=self.registry,
            guard=FailedAuthentications(config.limits.failed_authentications, reactor.seconds),
            clock=reactor,
            name=config.name,
            region=config.region,
            public_port=lambda: self.public_port,
            seconds=time.time,
            random=os.urandom,
            drain=config.limits.drain,
            tcp_urls=lambda backend: [] if self._tcp is None else self._tcp.urls(backend, config.names[0]),
        )
        self._context.door = TunnelDoor(self._context.names, self._make_link, reactor)
        self._tcp = TcpPorts(reactor, self._context)
        try:
            self._context.middleware.take_over(self._context.middleware.prepare(catalog))
            self._observer = Observer(reactor, config, self._context)
            for listener in config.listeners:
                factory = AcceptFactory(
                    self._context,
                    make_link=self._make_link,
                    clock=reactor,
                    tls=self._keeper.tls if listener.tls else None,
                    on_plain=listener.on_plain,
                    trust=Trust.of(listener),
                    proxy_protocol=listener.proxy_protocol,
                    tunnels=listener.tunnels,
                )
                where = {"source": config.source, "key": listener.endpoint_key}
                port = open_port(reactor, listener.endpoint, factory, **where, inherited=self._inherited)
                self._ports.append((listener, port))
                self._doors.append(factory)
            self._tcp.listen(config, self._inherited)
        except BaseException:
            # Nobody was accepted yet: ports close within this turn, and until then it may not be started again.
            closing = self._stopping = self._close_ports()
            self._context.abort()  # the checks of origins, which have begun
            if (kept := self._context.kept) is not None:
                letting_go = kept.close()
                closing.addCallback(lambda _: letting_go)
            if self._observer is not None:
                unobserved = self._observer.stop()
                closing.addCallback(lambda _: unobserved)
            closing.addBoth(self._stopped)
            self._forget()
            raise
        if config.public_https_port is None:
            self._context.public_port = self.public_port

    def _make_link(self, peer: IAddress) -> LinkProtocol:
        assert self._agents is not None
        turn = turn_end_of(self._reactor)
        return self._agents.accept(
            lambda owner: LinkProtocol(self._reactor, Side.ACCEPTOR, self._session_config, owner, turn=turn),
            str(getattr(peer, "host", "")),
        )

    # Facts.

    @property
    def public_port(self) -> int:
        """The port of the https URLs: ``edge.public_https_port``, else that of the first TLS listener."""
        if self.config.public_https_port is not None:
            return self.config.public_https_port
        for listener, port in self._ports:
            number = getattr(port.getHost(), "port", None)
            if listener.tls and isinstance(number, int):
                return number
        return HTTPS

    @property
    def addresses(self) -> list[IAddress]:
        """Where it listens, in the order of the configuration; empty while stopped."""
        return [port.getHost() for _, port in self._ports]

    @property
    def tcp_addresses(self) -> dict[str, IAddress]:
        """Where its TCP services are, by name; empty while stopped."""
        return {} if self._tcp is None else {service.name: port.getHost() for service, _, port in self._tcp.open}

    @property
    def context(self) -> EdgeContext:
        """What the data path shares: connections, counters, pool.

        :raises MisuseError: the edge is not running
        """
        if self._context is None:
            raise MisuseError("the edge is not running")
        return self._context

    @property
    def observer(self) -> Observer:
        """What is kept of its requests: metrics, the access log.

        :raises MisuseError: the edge is not running
        """
        if self._observer is None:
            raise MisuseError("the edge is not running")
        return self._observer

    @property
    def certificates(self) -> CertificateKeeper:
        """What it serves over TLS.

        :raises MisuseError: the edge is not running
        """
        if self._keeper is None:
            raise MisuseError("the edge is not running")
        return self._keeper

    @property
    def agents(self) -> Agents:
        """The far side of its tunnels.

        :raises MisuseError: the edge is not running
        """
        if self._agents is None:
            raise MisuseError("the edge is not running")
        return self._agents

    def unready(self) -> list[str]:
        """Why it should get no new visitors, one sentence each; empty while it should."""
        reasons = []
        if self._stopping is not None or (self._context is not None and self._context.draining):
            reasons.append("the edge is shutting down")
        elif not self._ports:
            reasons.append("no port is open yet")
        elif not self.running:
            reasons.append("the edge is starting")
        if self._context is None:
            reasons.append("no configuration is loaded")
        return reasons

    def certificate_lines(self) -> list[str]:
        """How certificates stand, with ``mode = "acme"``: a line for each name."""
        return [] if self._keeper is None else self._keeper.lines()

    def backend_lines(self) -> list[str]:
        """What is not as it should be with backends, a line each: who was ejected, is not well, or waits."""
        return [] if self._context is None else self._context.dispatch.lines()

    @property
    def ca_file(self) -> Path | None:
        """In ``dev`` mode the certificate of the local CA (there once the edge has started), otherwise None."""
        return self.config.state / "dev" / "ca.pem" if self.config.tls.mode == "dev" else None

    def urls(self, backend: str) -> list[str]:
        """The https URLs under which a backend is reached."""
        return self._catalogs.current.urls_for(backend, self.public_port)

    # Reloading.

    def reopen_logs(self) -> None:
        """Open the access log anew, as after SIGUSR1: the file was moved away. Nothing where there is none."""
        if self._observer is not None and self._observer.access_log is not None:
            self._observer.access_log.reopen()

    def reload(self) -> Deferred[None]:
        """Read the store anew, check it whole, and swap it in; it never fails.

        A configuration with a mistake leaves everything as it was, with one line in the log that names the key.
        Certificates are read again too.  What only a restart can change is said in the log.

        :raises MisuseError: there is no store to read from
        """
        if self._store is None:
            raise MisuseError("there is no store to read from: give EdgeService(…, store=FileStore(path))")
        # A reload that runs may have read what was there before the change that this call is about: it is done once
        # more then, for however many have called meanwhile. Each caller gets a Deferred of its own.
        self._reload_wanted = True
        if self._reloading is None:
            reloading = self._reloading = Deferred.fromCoroutine(self._reload(self._store))
            reloading.addBoth(self._reloaded)
            return _tell_when(reloading)
        return _tell_when(self._reloading)

    async def _reload(self, store: IStore) -> None:
        while self._reload_wanted:
            self._reload_wanted = False
            try:
                snapshot = await store.read(self._reactor)
                if self._stopping is not None:
                    return
                self.apply(snapshot)
            except ConfigError as error:
                log.error("the configuration was not reloaded, the old one stays: {error}", error=error)
            except Exception:  # noqa: BLE001 - a bug, or a store's; whoever asked meanwhile is served all the same
                log.failure("the configuration was not reloaded, the old one stays")

    def _reloaded(self, result: None) -> None:
        self._reloading = None

    def apply(self, snapshot: Snapshot) -> None:
        """Swap a configuration in: sites, routes, backends, tokens, certificates.

        Requests that run keep the catalog that they began with.  Agents whose token opens nothing any more, or another
        backend, are ended.

        :raises ConfigError: a certificate cannot be read or made, a balancer is not there, a middleware cannot be
            loaded; then nothing has changed
        """
        config, catalog = snapshot
        keeper, agents, tcp, context = self._keeper, self._agents, self._tcp, self._context
        if keeper is None or agents is None or tcp is None or context is None:
            self.config = config  # stopped: it holds from the next start on
            return
        check_balancers(config.backends, config.source)
        restart = restart_needed(self.config, config)
        ports = merge_tcp(self.config.tcp, config.tcp)
        merged = replace(merge(self.config, config, restart), tcp=ports.kept)
        certificates = keeper.prepare(merged)
        middleware = context.middleware.prepare(catalog)
        if context.kept is not None:
            context.kept.serve(catalog)
        keeper.serve(merged, certificates)
        self.config = merged
        for door, listener in zip(self._doors, merged.listeners, strict=True):
            door.believe(Trust.of(listener))
        tcp.serve(ports.services)
        if context.origins is not None:
            context.origins.ask(merged)
        old = self._catalogs.swap(catalog)
        context.middleware.take_over(middleware)
        ended = agents.end_tokens(removed_tokens(old, catalog))
        if unable := agents.end_unable():
            log.warn("{count} agents ended that cannot write the PROXY protocol's header", count=unable)
        for warning in catalog.warnings:
            log.warn("{warning}", warning=warning)
        log.info(
            "configuration reloaded: {sites} sites, {backends} backends{ended}",
            sites=len(catalog.sites),
            backends=len(catalog.backends),
            ended=f", {ended} agents ended whose token is gone" if ended else "",
        )
        if left := let_go(context.connections, catalog):
            log.info("{left} connections end after their requests: their site asks for other certificates", left=left)
        if restart:
            log.warn("only a restart changes {keys}", keys=", ".join(restart))
        if self.running:
            self._watch.adopt(merged)

    # Stopping.

    def stopService(self) -> Deferred[None]:
        """Stop: no new connection, running requests finish (``limits.drain`` seconds at most), agents are told to go.

        Fires when nothing of it is left: no port, no connection, no timer.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._stopping is not None:
            return _tell_when(self._stopping)
        stopping = self._stopping = Deferred.fromCoroutine(self._stop())
        stopping.addBoth(self._stopped)
        return _tell_when(stopping)

    def _stopped(self, result: object) -> None:
        self._stopping = None
        self._succeeded = False
        if isinstance(result, Failure):
            log.failure("the edge did not stop as it should", result)

    def ports(self) -> list[tuple[str, IListeningPort]]:
        """Its open ports, with the endpoint description of each, for a process that is to replace this one."""
        tcp = [] if self._tcp is None else [(service.listen, port) for service, _, port in self._tcp.open]
        return [*((listener.endpoint, port) for listener, port in self._ports), *tcp]

    def hand_over(self) -> None:
        """Another process has the ports too, and serves: take nothing any more.  :meth:`stopService` has to follow.

        That process gets visitors and agents from now on.  Agents are told to come to it, and serve here meanwhile what
        visitors' connections still ask for; each of these is told to end with its next answer.
        """
        for _, port in self.ports():
            leave_open(port)
            port.stopReading()  # type: ignore[attr-defined]
        self._succeeded = True

    def _close_ports(self) -> Deferred[Any]:
        ports = [port for _, port in self._ports]
        if self._tcp is not None:
            ports += [port for _, _, port in self._tcp.open]
        self._ports, self._tcp = [], None
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    async def _stop(self) -> None:
        closing, watching = self._close_ports(), self._watch.stop()
        context, agents, keeper = self._context, self._agents, self._keeper
        if keeper is not None:
            keeper.stop()
        if context is not None and agents is not None:
            await leave(self._reactor, context, agents, self.config.limits.drain, succeeded=self._succeeded)
            await context.middleware.close()
            if context.kept is not None:
                await context.kept.close()
        await closing
        if self._observer is not None:
            await self._observer.stop()
        await watching
        if self._reloading is not None:
            await _tell_when(self._reloading)  # its thread; what it reads is not applied any more
        self._forget()

    def _forget(self) -> None:
        self._doors = []
        self._context = None
        self._agents = None
        self._keeper = None
        self._observer = None
        self.registry = None
        self._budget = None


def _tell_when(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred of the caller's own that fires with ``deferred``; cancelling it cancels nothing else."""
    waiter: Deferred[None] = Deferred()

    def tell(result: None) -> None:
        if not waiter.called:
            waiter.callback(None)

    deferred.addCallback(tell)
    return waiter
