"""Holding a link to one edge, for ever.

A :class:`~twisted.application.internet.ClientService` dials and dials again.  What it holds is not the link itself but
a *lease*: a protocol without bytes that ends when the link takes nothing new any more.  So a link that drains lives on
while the next one is dialled, and an agent opens its next link before it leaves the last.
"""

from __future__ import annotations

import secrets
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.agent.bridge import Bridge
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.dialling import TRY_TLS_AGAIN, CarrierEndpoint, Ways
from wormhole_tw.agent.events import AgentEvent, AgentSession, Connected, Draining, Failed, Lost, Refused
from wormhole_tw.agent.explain import explain_edge_failure
from wormhole_tw.agent.link import AgentLink, LinkFactory
from wormhole_tw.errors import LinkLost, LinkRefused, ProxyRefused
from wormhole_tw.net.addresses import format_host_port
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Goaway, Hello

__all__ = ["FINAL", "SLOW", "Connector", "ConnectorOwner", "Identity"]

_log = Logger()

FINAL = frozenset({GoawayCode.UNAUTHORIZED, GoawayCode.VERSION, GoawayCode.TOKEN_REVOKED})
"""Refusals that no retry heals. It goes on slowly all the same: the operator may mend the edge's side."""

SLOW = FINAL | {GoawayCode.RATE_LIMITED, GoawayCode.NOT_AVAILABLE, GoawayCode.OVER_LIMIT}
"""Refusals after which trying again at once would only be refused again."""

_LEAVES = frozenset({GoawayCode.NORMAL, GoawayCode.IDS_EXHAUSTED})
"""What is no fault of anybody's: the next link is dialled, and nothing was lost."""

_TAKEN = frozenset({GoawayCode.REPLACED, GoawayCode.STALE_GENERATION})

STABLE = 10.0
"""Seconds that a link has to stand before its loss counts as the first failure again: one that is welcomed and dropped
in a circle backs off as one that is not welcomed."""

SAY_AGAIN = 600.0
"""Seconds after which a failure that stays the same is logged once more."""


@dataclass
class Identity:
    """Who the agent is to its edges: the same for all links of a service.

    :ivar instance: 128 random bits, never shown to anybody
    """

    instance: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def renew(self) -> None:
        """Somebody else has our bits (a process that was copied): be another instance, a replica beside it."""
        self.instance = secrets.token_bytes(16)


class ConnectorOwner(typing.Protocol):
    """What a connector asks of its service; the service gives itself."""

    config: AgentConfig
    identity: Identity
    bridge: Bridge
    session_config: SessionConfig

    def status(self) -> tuple[bool, str]:
        """Ready or not, and why not."""

    def hello(self, *, slot: int, generation: int, draining: bool) -> Hello:
        """What to say first."""

    def tell(self, event: AgentEvent) -> None:
        """Something happened. The application hears of it later, so that it may do what it likes."""

    def connector_changed(self) -> None:
        """A connector's ``session`` or ``refusal`` is another."""


class Connector:
    """One edge's place of an agent.

    :param ways: the carriers that dial the edge; each looks its name up anew every time
    :param slot: the number of this place among the agent's
    :param random: gives a float from 0 to below 1

    :ivar session: the link that takes streams, None while there is none
    :ivar refusal: the edge's last answer, where it was one that no retry heals
    :ivar on_failure: called when a try to reach the edge has failed, where somebody set it
    :ivar not_before: the reactor's time before which the edge should not be dialled again
    """

    def __init__(
        self,
        owner: ConnectorOwner,
        reactor: Any,
        ways: Ways,
        host: str,
        port: int,
        slot: int,
        random: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._reactor = reactor
        self.ways = ways
        self._host = host
        self._port = port
        self._slot = slot
        self._random = random
        self.address = format_host_port(host, port)
        self.session: AgentSession | None = None
        self.refusal: LinkRefused | None = None
        self._client: ClientService | None = None
        self._links: dict[AgentLink, None] = {}
        self._current: AgentLink | None = None
        self._lease: Any = None
        self._generation = 0
        self._failures = 0
        self._welcomed_at = 0.0
        self._over: tuple[AgentSession | None, Exception] | None = None
        self._said = ""
        self._said_at = 0.0
        self._look: IDelayedCall | None = None
        self._moving: Deferred[None] | None = None
        self.on_failure: Callable[[], object] | None = None
        self.not_before = 0.0

    def forget(self) -> None:
        """What came of earlier tries counts no more: the service starts."""
        self._failures = 0
        self._said = ""
        self.refusal = None
        self.not_before = 0.0

    def start(self) -> None:
        """Dial, and hold a link from now on."""
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        self._client = ClientService(_LeaseEndpoint(self), factory, retryPolicy=self._next_wait, clock=self._reactor)
        self._client.startService()

    def stop(self, drain: float) -> Deferred[None]:
        """Say GOAWAY, let what runs end, and close; fires when no connection to this edge is left. May be called again.

        :param drain: seconds after which what still runs is ended
        """
        waiting: list[Deferred[Any]] = []
        client, self._client = self._client, None
        if client is not None:
            waiting.append(client.stopService())
        for link in list(self._links):
            waiting.append(link.protocol.when_lost())
            link.protocol.drain(drain, message="the agent is stopping")
        self._end_lease()
        return gatherResults(waiting).addCallback(lambda _: None)

    def say_status(self, ready: bool, reason: str) -> None:
        """Tell the edge, on every link, whether the service takes requests."""
        for link in self._links:
            link.protocol.set_status(ready, reason)

    # The link's life.

    async def dial(self, factory: IProtocolFactory) -> IProtocol:
        """One try: connect, say HELLO, wait for WELCOME; gives the lease. What goes wrong is kept for the wait."""
        try:
            link, session = await self._by_any_way()
        except CancelledError:
            raise
        except Exception as error:
            self._over = (None, error)
            raise
        self._lease = factory.buildProtocol(None)  # type: ignore[arg-type]
        self._lease.makeConnection(_LeaseTransport())
        self._take(link, session)
        return self._lease  # type: ignore[no-any-return]

    async def _by_any_way(self) -> tuple[AgentLink, AgentSession]:
        """A link that stands, by the first carrier that comes through."""
        ways = self.ways
        failures: list[Exception] = []
        best_failed = False
        for endpoint in ways.in_order(self._reactor.seconds()):
            try:
                link, session = await self._open(endpoint)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told in the end
                failures.append(error)
                best_failed = best_failed or endpoint is ways.best
                if not ways.may_try_another(error):
                    break
            else:
                ways.worked(endpoint, self._reactor.seconds(), best_failed=best_failed)
                if best_failed:
                    reason = self._explain(failures[0])
                    _log.info("{reason}; connected by {carrier}", reason=reason, carrier=endpoint.carrier)
                return link, session
        if len(failures) > 1 and ways.may_try_another(failures[-1]):
            raise LinkLost("; ".join(dict.fromkeys(self._explain(error) for error in failures)))
        raise failures[-1]

    async def _open(self, endpoint: CarrierEndpoint) -> tuple[AgentLink, AgentSession]:
        links = LinkFactory(self, lambda: self._make_link(endpoint.carrier))
        await endpoint.connect(links)
        link = links.link
        assert link is not None  # the endpoint fired, so it has built its protocol
        return link, await link.when_welcomed()

    def _take(self, link: AgentLink, session: AgentSession) -> None:
        """This link is the one that takes streams."""
        self._current = link
        self._welcomed_at = self._reactor.seconds()
        self._said = ""
        self.session = session
        self.refusal = None
        self._owner.tell(Connected(session))
        self._owner.connector_changed()
        if session.carrier != self.ways.best.carrier:
            self._look = self._reactor.callLater(TRY_TLS_AGAIN, self._look_again)

    def _look_again(self) -> None:
        """A link stands by the second best carrier: does the best one work by now?"""
        self._look = None
        self._moving = Deferred.fromCoroutine(self._move())
        self._moving.addErrback(self._stays)

    async def _move(self) -> None:
        link, session = await self._open(self.ways.best)
        self._moving = None
        old = self.session
        self.ways.worked(self.ways.best, self._reactor.seconds(), best_failed=False)
        _log.info("{old} is reached by {carrier} again", old=old, carrier=session.carrier)
        self._take(link, session)  # the edge lets the one before drain

    def link_moving(self, link: AgentLink, reason: str) -> None:
        """The edge's successor is there: dial it now. This link serves until the edge says GOAWAY on it."""
        if link is self._current and self._moving is None:
            self._stop_looking()
            _log.info("{session} moves: {reason}", session=self.session, reason=reason or "no reason given")
            self._moving = Deferred.fromCoroutine(self._follow())
            self._moving.addErrback(self._follows_no_more)

    async def _follow(self) -> None:
        while True:
            try:
                link, session = await self._by_any_way()
                break
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, there is still the link that it has
                _log.debug("no next link yet: {reason}", reason=self._explain(error))
                await deferLater(self._reactor, self._wait_after(error))
        self._moving = None
        self._failures = 0
        self._take(link, session)

    @staticmethod
    def _follows_no_more(failure: Failure) -> None:
        """The link that it had is gone, too, or the agent stops."""
        failure.trap(CancelledError)

    def _stays(self, failure: Failure) -> None:
        self._moving = None
        if self._lease is not None:
            self.ways.still_bad(self._reactor.seconds())
            _log.debug("no better way yet: {reason}", reason=self._explain(cast(Exception, failure.value)))
            self._look = self._reactor.callLater(TRY_TLS_AGAIN, self._look_again)

    def _stop_looking(self) -> None:
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
        moving, self._moving = self._moving, None
        if moving is not None:
            moving.cancel()

    def _make_link(self, carrier: str) -> AgentLink:
        self._generation += 1
        owner = self._owner
        hello = owner.hello(slot=self._slot, generation=self._generation, draining=bool(self._links))
        link = AgentLink(self, owner.bridge, self._reactor, owner.session_config, hello, self.address, carrier)
        link.protocol.set_status(*owner.status())
        return link

    def link_made(self, link: AgentLink) -> None:
        """The connection stands."""
        self._links[link] = None

    def link_leaving(self, link: AgentLink, goaway: Goaway) -> None:
        """The edge said GOAWAY: leave when nothing runs here any more, and dial the next one now."""
        welcome = link.protocol.welcome_message
        if goaway.code != GoawayCode.IDS_EXHAUSTED and welcome is not None:
            # What runs until the stream ids came to their end has no deadline: the edge stays.
            link.protocol.drain(welcome.timers.drain, message="the edge leaves")
        if link is self._current:
            reason = LinkRefused(goaway.code, goaway.message, goaway.retry_after)
            if goaway.code in _LEAVES:
                assert self.session is not None
                sentence = goaway.message or "it goes"
                _log.info("{session} takes nothing new: {reason}", session=self.session, reason=sentence)
                self._owner.tell(Draining(self.session, sentence))
            self._end_lease(reason)

    def link_lost(self, link: AgentLink, reason: Exception) -> None:
        """The connection is gone, with all its streams."""
        self._links.pop(link, None)
        if link is self._current:
            self._end_lease(reason)
        elif link.session is not None:
            _log.debug("left {session}: {reason}", session=link.session, reason=str(reason))

    def _end_lease(self, reason: Exception | None = None) -> None:
        """The current link takes nothing new. Without a reason it was ours to end."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        self._stop_looking()
        session, self.session, self._current = self.session, None, None
        if reason is not None:
            self._over = (session, reason)
        self._owner.connector_changed()
        lease.connectionLost(Failure(reason if reason is not None else LinkLost("the agent is stopping")))

    # Trying again.

    def _next_wait(self, _attempt: int) -> float:
        """The ClientService's question after every end, whatever it was: how many seconds until the next try?"""
        over, self._over = self._over, None
        session, error = over if over is not None else (None, LinkLost("the connection was lost"))
        if session is not None and self._reactor.seconds() - self._welcomed_at >= STABLE:
            self._failures = 0
        code = error.code if isinstance(error, LinkRefused) else None
        if code in _TAKEN:
            _log.warn("{edge}: another agent has taken this one's place: {error}", edge=self.address, error=str(error))
            self._owner.identity.renew()
        wait = self._wait_after(error)
        self.not_before = self._reactor.seconds() + wait
        self._report(session, error, wait)
        refusal = error if isinstance(error, LinkRefused) and code in FINAL else None
        if refusal is not self.refusal:
            self.refusal = refusal
            self._owner.connector_changed()
        if session is None and self.on_failure is not None:
            self.on_failure()
        return wait

    def _wait_after(self, error: Exception) -> float:
        config = self._owner.config
        least: float | None = None
        if isinstance(error, LinkRefused):
            least = error.retry_after
            if least is None and error.code in SLOW:
                least = config.refused_retry
        elif isinstance(error, ProxyRefused) and error.credentials:
            least = config.refused_retry
        if least is not None:  # not earlier, and not all at once
            return max(least, config.backoff_min) * (1 + self._random() / 4)
        cap = min(config.backoff_max, config.backoff_min * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return cap * self._random()

    def _report(self, session: AgentSession | None, error: Exception, wait: float) -> None:
        """One line for the log and one event; a failure that stays the same is not logged again and again."""
        owner = self._owner
        if isinstance(error, LinkRefused) and (session is None or error.code in SLOW):
            sentence = f"{error.message or 'no reason given'} ({_code_name(error.code)})"
            repeated = self._says_again(f"{self.address} refuses this agent: {sentence}", wait)
            final = error.code in FINAL
            owner.tell(Refused(self.address, error.code, error.message, wait, repeated, final))
        elif session is None:
            sentence = self._explain(error)
            repeated = self._says_again(sentence, wait)
            owner.tell(Failed(self.address, sentence, wait, repeated))
        elif not isinstance(error, LinkRefused) or error.code not in _LEAVES:
            _log.warn("lost {session}: {error}; trying again", session=session, error=str(error))
            owner.tell(Lost(session, str(error), wait))

    def _explain(self, error: Exception) -> str:
        config = self._owner.config
        return explain_edge_failure(
            Failure(error),
            self._host,
            self._port,
            timeout=config.edge_timeout,
            ca_option=config.sources.get("ca_file", "--ca-file"),
        )

    def _says_again(self, sentence: str, wait: float) -> bool:
        """Log it, unless it is what was said last; gives whether it is."""
        now = self._reactor.seconds()
        repeated = sentence == self._said
        if not repeated or now - self._said_at >= SAY_AGAIN:
            self._said, self._said_at = sentence, now
            if wait > self._owner.config.backoff_max:
                _log.error("{sentence}; next try in {wait:.0f} s", sentence=sentence, wait=wait)
            else:
                _log.warn("{sentence}; trying on", sentence=sentence)
        else:
            _log.debug("{sentence}; next try in {wait:.1f} s", sentence=sentence, wait=wait)
        return repeated


def _code_name(code: int) -> str:
    try:
        return GoawayCode(code).name.lower().replace("_", " ")
    except ValueError:
        return f"code {code}"


@implementer(IStreamClientEndpoint)
class _LeaseEndpoint:
    """Dials a link, and connects when it is welcomed."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connector.dial(protocolFactory))

    def __repr__(self) -> str:
        return f"<edge {self._connector.address}>"


class _LeaseTransport:
    """What a lease is connected to: nothing that carries bytes."""

    def loseConnection(self) -> None:
        """The client stops; the connector ends the lease itself, when it has told its links."""
