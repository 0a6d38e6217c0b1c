"""The edge's side of every tunnel: who an agent is, whether it may come in, and what the edge does with its session.

A link becomes an :class:`AgentSession` when its HELLO was judged: the token names the backend, the registry gives the
place (docs/protocol.md, "Who is who"), and this module carries out what the registry decided.  From then on the rest
of the edge knows the agent only as :class:`~wormhole_tw.control.interfaces.IAgentSession`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.control.catalog import CatalogHolder
from wormhole_tw.control.interfaces import IAgentSession
from wormhole_tw.control.model import Release, ServiceOffer, SessionFacts
from wormhole_tw.control.registry import Outcome, Registry
from wormhole_tw.control.tokens import digest
from wormhole_tw.edge.guard import FailedAuthentications
from wormhole_tw.edge.session_ids import session_id
from wormhole_tw.errors import LinkLost, LinkRefused, NotAnEdge, TunnelProtocolError
from wormhole_tw.tunnel.endpoints import StreamEndpoint
from wormhole_tw.tunnel.interfaces import ILinkOwner
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.messages import Timers, Welcome

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

    from wormhole_tw.tunnel.protocol import LinkProtocol
    from wormhole_tw.tunnel.stream import TunnelStream
    from wormhole_tw.wire.messages import Goaway, Hello, Open

__all__ = ["LAST_WORDS", "MAX_STRANGERS", "RETRY_UNAUTHORIZED", "AgentCounters", "AgentSession", "Agents"]

RETRY_UNAUTHORIZED = 30.0
"""Seconds that an agent with an unknown token is told to wait: the token may be added any moment (SIGHUP), and thirty
are soon enough for a person who watches and slow enough for a thousand such agents."""

MAX_URLS = 64
"""URLs in a WELCOME (the protocol's limit of a list); they are for the agent's log."""

MAX_STRANGERS = 1024
"""Links whose HELLO has not come, at a time: each may hold 64 KiB and ten seconds, so 64 MiB at the worst.  When there
are more, the one that has waited longest is dropped: an agent says HELLO within a round trip, whoever only holds a
connection does not, so a flood of those keeps no agent out."""

LAST_WORDS = 1.0
"""Seconds that an agent has to read our GOAWAY and close when the edge stops: a round trip does; one that was stopped
or is cut off shall not keep the edge from its end."""

OPTION_VISITOR_PER_STREAM = "visitor_per_stream"
OPTION_PROXY_PROTOCOL = "proxy_protocol"
OPTION_MOVES = "moves"

NO_HEADER = "this backend's service wants the PROXY protocol, which this agent does not write; it needs a newer version"

log = Logger()


class AgentCounters:
    """What became of agents since the start; plain numbers that only rise.

    :ivar connected: backend → links that were welcomed
    :ivar reconnected: backend → those of them that were not the first of their agent
    :ivar lost: backend → links that ended without a word
    :ivar refused: the GOAWAY code's name → links that were refused
    """

    __slots__ = ("connected", "lost", "reconnected", "refused")

    def __init__(self) -> None:
        self.connected: Counter[str] = Counter()
        self.reconnected: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()


@implementer(ILinkOwner, IAgentSession)
class AgentSession:
    """One agent's link: owned by :class:`Agents`, told of everything by the link, asked for streams by dispatch.

    :ivar address: the peer's IP address as text, or ``local``
    :ivar facts: set when HELLO was accepted; the registry holds the session only after that
    """

    __slots__ = ("_agents", "_waiting", "address", "admitted", "closing", "draining", "facts", "link", "lost", "ready")

    facts: SessionFacts
    link: LinkProtocol

    def __init__(self, agents: Agents, address: str) -> None:
        self._agents = agents
        self.address = address
        self.ready = False
        self.draining = False
        self.admitted = False
        self.closing = False
        self.lost = False
        self._waiting: list[Deferred[None]] = []

    # IAgentSession

    @property
    def load(self) -> int:
        return self.link.load

    def dial(self, open_info: Open) -> IStreamClientEndpoint:
        return StreamEndpoint(self.link, open_info)

    def drain(self, deadline: float) -> Deferred[None]:
        return self.leave(deadline, GoawayCode.NORMAL, "the edge is shutting down")

    def leave(
        self, deadline: float, code: GoawayCode, message: str, retry_after: float | None = None
    ) -> Deferred[None]:
        """Drain for a reason that the agent is told; see :meth:`IAgentSession.drain`."""
        self._set_draining()
        return self.link.drain(deadline, code, message, retry_after=retry_after)

    def close(self, code: int, message: str) -> None:
        self.closing = True
        self._set_draining()
        self.link.fail(GoawayCode(code), message)

    def when_lost(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._waiting_no_more)
        if self.lost:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def _waiting_no_more(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:  # or it is about to be told, and another one that was told first cancels it
            self._waiting.remove(waiter)

    def _set_draining(self) -> None:
        if not self.draining:
            self.draining = True
            self._changed()

    def _changed(self) -> None:
        if self.admitted:
            self._agents.registry.changed(self)

    # ILinkOwner

    def hello_received(self, link: LinkProtocol, hello: Hello) -> None:
        self._agents.judge(self, link, hello)

    def welcomed(self, link: LinkProtocol, welcome: Welcome) -> None:
        raise AssertionError("the edge accepts links and sends WELCOME, it never gets one")

    def status_changed(self, link: LinkProtocol, ready: bool, reason: str) -> None:
        if ready != self.ready:
            self.ready = ready
            self._agents.say_status(self, reason)
            self._changed()

    def stream_opened(self, link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        stream.reset(ResetCode.UNSUPPORTED_KIND, "an agent opens no streams towards its edge", delivered=False)

    def goaway_received(self, link: LinkProtocol, goaway: Goaway) -> None:
        if self.admitted and not self.draining:
            log.info(
                "agent {session} of backend {backend} leaves when what runs has finished",
                session=self.facts.session_id,
                backend=self.facts.backend,
            )
        self._set_draining()

    def drained(self, link: LinkProtocol) -> None:
        """Nothing to do: the link closes itself, ``link_lost`` follows."""

    def link_lost(self, link: LinkProtocol, reason: Exception) -> None:
        self.lost = True
        self._agents.lost(self, reason)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)


class Agents:
    """Judges every HELLO and keeps the sessions; one an edge.

    :param catalog: whose tokens are good
    :param registry: who is here
    :param guard: failed authentications by address
    :param clock: the reactor's timers
    :param name: the edge's name, and ``region``, for WELCOME
    :param public_port: gives the port of the https URLs that agents are told
    :param tcp_urls: gives those of the TCP services of a backend
    :param seconds: wall clock, seconds since the epoch
    :param random: gives random bytes
    :param drain: seconds that a session gets when its place is taken or its token removed
    """

    def __init__(
        self,
        *,
        catalog: CatalogHolder,
        registry: Registry,
        guard: FailedAuthentications,
        clock: IReactorTime,
        name: str,
        region: str,
        public_port: Callable[[], int],
        seconds: Callable[[], float],
        random: Callable[[int], bytes],
        drain: float,
        tcp_urls: Callable[[str], list[str]] = lambda backend: [],
    ) -> None:
        self.catalog = catalog
        self.registry = registry
        self._guard = guard
        self._clock = clock
        self._name = name
        self._region = region
        self._public_port = public_port
        self._tcp_urls = tcp_urls
        self._seconds = seconds
        self._random = random
        self._drain = drain
        self.counters = AgentCounters()
        self._accepting = True
        self._moved = False
        # A set of everything that has a link, admitted or not: what a shutdown has to end.
        self._sessions: dict[AgentSession, None] = {}
        # Those of them whose HELLO has not come, in the order they came.
        self._strangers: dict[AgentSession, None] = {}

    def accept(self, make: Callable[[AgentSession], LinkProtocol], address: str) -> LinkProtocol:
        """A link for a connection that was just accepted.

        :param make: makes the link, given its owner
        :param address: who it is: an IP address as text; empty for a Unix socket, all whose peers count as one
        """
        session = AgentSession(self, address or "local")
        session.link = make(session)
        self._sessions[session] = None
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.link.abort()
        self._strangers[session] = None
        return session.link

    @property
    def links(self) -> Sequence[AgentSession]:
        """Every link, those included whose HELLO has not come."""
        return tuple(self._sessions)

    def judge(self, session: AgentSession, link: LinkProtocol, hello: Hello) -> None:
        """Answer a HELLO with WELCOME or GOAWAY."""
        self._strangers.pop(session, None)
        address = session.address
        wait = self._guard.wait(address)
        if wait:
            message = "too many failed authentications from this address"
            self._refuse(link, GoawayCode.RATE_LIMITED, message, wait)
            return
        if not self._accepting:
            self._refuse(link, GoawayCode.NORMAL, "the edge is shutting down", 0.0 if self._moved else 1.0)
            return
        if hello.role != "agent":
            self._refuse(link, GoawayCode.NOT_AVAILABLE, "this edge takes no links of other edges", None)
            return
        token = digest(hello.token)
        backend = self.catalog.current.backend_for_digest(token)
        if backend is None:
            self._guard.failed(address)
            log.warn(
                "an agent from {address} ({host}) came with a token that is not in the configuration",
                address=address,
                host=hello.host or "no host name",
            )
            self._refuse(link, GoawayCode.UNAUTHORIZED, "the edge does not know this token", RETRY_UNAUTHORIZED)
            return
        wanted = {OPTION_VISITOR_PER_STREAM, OPTION_MOVES}
        if backend.proxy_protocol is not None:
            wanted.add(OPTION_PROXY_PROTOCOL)
        granted = sorted(wanted.intersection(hello.options))
        if backend.proxy_protocol is not None and OPTION_PROXY_PROTOCOL not in granted:
            log.warn(
                "an agent of backend {backend} from {address} ({host}) was refused: it cannot write the PROXY protocol",
                backend=backend.name,
                address=address,
                host=hello.host or "no host name",
            )
            self._refuse(link, GoawayCode.NOT_AVAILABLE, NO_HEADER, None)
            return
        session.facts = SessionFacts(
            session_id=session_id(self._seconds(), self._random),
            backend=backend.name,
            instance=hello.instance,
            slot=hello.slot,
            generation=hello.generation,
            previous_draining=hello.previous == "draining",
            host=hello.host,
            software=hello.software,
            release=_release_of(hello),
            services=tuple(ServiceOffer(offer.name, tuple(offer.kinds)) for offer in hello.services)
            or (ServiceOffer(),),
            address=address,
            connected_at=self._seconds(),
            visitor_per_stream=OPTION_VISITOR_PER_STREAM in granted,
            moves=OPTION_MOVES in granted,
            writes_proxy_header=OPTION_PROXY_PROTOCOL in hello.options,
            region=self._region,
            token_digest=token,
        )
        admission = self.registry.admit(session)
        old = admission.old
        if admission.outcome is Outcome.REFUSED:
            assert old is not None
            message = f"the place is held by a newer link, session {old.facts.session_id}"
            self._refuse(link, GoawayCode.STALE_GENERATION, message, None)
            return
        session.admitted = True
        self.counters.connected[backend.name] += 1
        if hello.generation > 1:
            self.counters.reconnected[backend.name] += 1
        link.welcome(
            Welcome(
                session=session.facts.session_id,
                edge=self._name,
                region=self._region,
                urls=[
                    *self._tcp_urls(backend.name),
                    *self.catalog.current.urls_for(backend.name, self._public_port()),
                ][:MAX_URLS],
                timers=Timers(drain=max(self._drain, 0.001)),
                granted=granted,
            )
        )
        log.info(
            "agent {session} of backend {backend} connected from {address} ({host}, {software}){took}",
            session=session.facts.session_id,
            backend=backend.name,
            address=address,
            host=hello.host or "no host name",
            software=hello.software or "unknown software",
            took=f", takes over from {old.facts.session_id}" if old is not None else "",
        )
        if old is not None:
            # Only tunnels get their places here, so whoever lost one is a tunnel too.
            replaced = cast(AgentSession, old)
            message = f"a newer link took the place, session {session.facts.session_id}"
            if admission.old_drains:
                # Its owner's concern ends when its streams do; drain() never fails.
                replaced.leave(self._drain, GoawayCode.REPLACED, message)
            else:
                replaced.close(GoawayCode.REPLACED, message)

    def say_status(self, session: AgentSession, reason: str) -> None:
        """Log that a session became ready, or not."""
        if session.admitted:
            log.info(
                "agent {session} of backend {backend} is {state}{reason}",
                session=session.facts.session_id,
                backend=session.facts.backend,
                state="ready" if session.ready else "not ready",
                reason=f": {reason}" if reason else "",
            )

    def end_tokens(self, digests: frozenset[bytes]) -> int:
        """End the sessions that came with one of these tokens, which open nothing any more; gives how many."""
        ended = 0
        for session in self.links:
            if session.admitted and session.facts.token_digest in digests and not session.lost:
                session.close(GoawayCode.TOKEN_REVOKED, "the token was taken away")
                ended += 1
        return ended

    def end_unable(self) -> int:
        """End the sessions that cannot write the header which their backend's service wants now; gives how many."""
        ended = 0
        for session in self.links:
            if session.admitted and not session.lost and not session.facts.writes_proxy_header:
                backend = self.catalog.current.backends.get(session.facts.backend)
                if backend is not None and backend.proxy_protocol is not None:
                    session.close(GoawayCode.NOT_AVAILABLE, NO_HEADER)
                    ended += 1
        return ended

    def move(self) -> None:
        """Another process takes agents from now on: have ours open their next links, which lead there, and serve on
        those that they have.  Who cannot do that gets GOAWAY; it then has no link for a moment."""
        self._accepting, self._moved = False, True
        for session in self.links:
            if not session.admitted:
                continue
            if session.facts.moves:
                session.link.set_status(False, "the edge restarts")
            else:
                session.leave(self._drain, GoawayCode.NORMAL, "the edge restarts", 0.0)

    def drain(self, deadline: float, retry_after: float | None = None) -> list[Deferred[None]]:
        """Take no agent any more and let those that are here go.

        Gives one Deferred for each link, which fires when it is lost and never fails: at the latest when ``deadline``
        and :data:`LAST_WORDS` are over.

        :param deadline: seconds for streams to end
        """
        self._accepting = False
        gone = []
        for session in self.links:
            gone.append(session.when_lost())
            if session.admitted:
                left = session.leave(deadline, GoawayCode.NORMAL, "the edge is shutting down", retry_after)
                left.addCallback(self._await_end, session)
            else:
                session.link.fail(GoawayCode.NORMAL, "the edge is shutting down", retry_after)
                self._await_end(None, session)
        return gone

    def _await_end(self, _: None, session: AgentSession) -> None:
        """GOAWAY was said and no stream is left: what remains is that the agent closes."""
        if not session.lost:
            call = self._clock.callLater(LAST_WORDS, session.link.abort)
            session.when_lost().addCallback(lambda _: call.cancel() if call.active() else None)

    def lost(self, session: AgentSession, reason: Exception) -> None:
        """A session's link is gone."""
        self._sessions.pop(session, None)
        self._strangers.pop(session, None)
        if not session.admitted:
            if isinstance(reason, TunnelProtocolError):
                log.info(
                    "a link of {address} was refused before it said who it is: {reason}",
                    address=session.address,
                    reason=reason,
                )
            return
        # registry.remove() reads ``draining``: a session that left by GOAWAY is expected back, a crashed one is not.
        self.registry.remove(session)
        if not (session.closing or session.draining):
            self.counters.lost[session.facts.backend] += 1
        log.info(
            "agent {session} of backend {backend} {how}",
            session=session.facts.session_id,
            backend=session.facts.backend,
            how=_how_it_ended(session, reason),
        )

    def _refuse(self, link: LinkProtocol, code: GoawayCode, message: str, retry_after: float | None) -> None:
        self.counters.refused[code.name] += 1
        link.fail(code, message, retry_after=retry_after)


def _how_it_ended(session: AgentSession, reason: Exception) -> str:
    if session.closing:
        return "was ended"
    if session.draining:
        return "left"
    if isinstance(reason, LinkRefused | TunnelProtocolError | NotAnEdge | LinkLost):
        return f"was lost: {reason}"
    return f"was lost: {type(reason).__name__}: {reason}"


def _release_of(hello: Hello) -> Release | None:
    release = hello.release
    if release is None:
        return None
    return Release(
        id=release.id,
        branch=release.branch,
        description=release.description,
        vcs_type=release.vcs_type,
        vcs_revision=release.vcs_revision,
        vcs_revision_message=release.vcs_revision_message,
        vcs_revision_time=release.vcs_revision_time,
        vcs_revision_author_name=release.vcs_revision_author_name,
        vcs_revision_author_email=release.vcs_revision_author_email,
    )
