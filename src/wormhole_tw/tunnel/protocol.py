"""A link: the shell round one ``wire`` session, the same for both sides, over any Twisted transport.

It has one rhythm: feed the session, handle its events, and at the end of the reactor's turn write what the session
has to send and arm the timer. Everything that streams and owners ask for in between only changes the session;
whatever they are told comes from this rhythm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, INegotiated, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import LinkLost, MisuseError
from wormhole_tw.net.tls_transport import exchange_views, write_at_once
from wormhole_tw.net.transport import NOTSENT_LOWAT, NOTSENT_LOWAT_SLOW, limit_unsent, tune
from wormhole_tw.wire import events as wire
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.events import DataReceived
from wormhole_tw.wire.session import Session, SessionConfig, Side

from .ending import ALPN, Farewell, why_lost
from .pace import Pace
from .streams import OF_A_STREAM, LinkStreams

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.internet.protocol import Factory

    from wormhole_tw.net.tls_transport import TlsTransport
    from wormhole_tw.net.turn import TurnEnd
    from wormhole_tw.wire.messages import Hello, Open, Welcome

    from .interfaces import ILinkOwner
    from .stream import TunnelStream

__all__ = ["BITES_A_TURN", "LinkProtocol", "Side"]

log = Logger()

SHORT = 16 * 1024
"""Octets up to which frames are joined into one piece."""

BITES_A_TURN = 2
"""Bites handed to a transport that does not pause in one turn, so that one link does not keep the reactor from the
others."""


@implementer(IPushProducer)
class LinkProtocol(Protocol):
    """One side of a link.

    :param clock: the reactor, or a ``task.Clock``
    :param side: who dialled
    :param config: the session's numbers
    :param owner: is told what happens
    :param turn: the end of the reactor's turn, ``net.turn.turn_end_of(reactor)``
    :param hello: dialling side: what to say first
    :param peer_name: ``host:port`` as the operator wrote it, for the sentences of errors

    :ivar hello_message: dialling side: the HELLO to say. One that came is the owner's alone: it holds a token, and is a
        kilobyte for each of thousands
    :ivar welcome_message: dialling side: the WELCOME that came
    :ivar peer_ready: what the peer's last STATUS said
    :ivar heard: an octet of the peer's came
    """

    factory: Factory | None = None
    transport: Any  # ITransport and IConsumer, with abortConnection

    def __init__(
        self,
        clock: IReactorTime,
        side: Side,
        config: SessionConfig,
        owner: ILinkOwner,
        *,
        turn: TurnEnd,
        hello: Hello | None = None,
        peer_name: str = "",
    ) -> None:
        if (hello is None) is (side is Side.DIALLER):
            raise MisuseError("the dialling side, and no other, needs a hello")
        self.side = side
        self.peer_name = peer_name
        self.hello_message = hello
        self.welcome_message: Welcome | None = None
        self.peer_ready = False
        self.heard = False
        self._clock = clock
        self._owner = owner
        self._turn = turn
        self._session = Session(side, config=config, now=clock.seconds())
        self._streams = LinkStreams(self._session, clock, self.touch)
        self._paused = False  # by the transport
        self._gathers: TlsTransport | None = None
        self._pace = Pace()
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._lost = False
        self._waiters: list[Deferred[None]] = []
        self._farewell = Farewell(self)

    # Facts.

    @property
    def session_id(self) -> str:
        """The session's name from WELCOME, empty before."""
        return self._streams.session_id

    @property
    def load(self) -> int:
        """Streams in flight."""
        return len(self._streams)

    @property
    def can_open(self) -> bool:
        """Whether :meth:`open` may be called: the link stands, drains neither way, and this side may open streams."""
        return not self._lost and self._session.can_open

    @property
    def draining(self) -> bool:
        """GOAWAY was said or received, or the link is over."""
        session = self._session
        return self._lost or session.goaway_sent is not None or session.goaway_received is not None

    @property
    def standing(self) -> bool:
        """WELCOME was said, and the link is not over."""
        return not self._lost and self._session.state.stands

    @property
    def rtt(self) -> float | None:
        """Seconds of the last measured round trip."""
        return self._session.rtt

    @property
    def peer_address(self) -> IAddress | None:
        """Where the connection comes from or goes to; None before it is made."""
        return cast(IAddress, self.transport.getPeer()) if self.transport is not None else None

    def when_lost(self) -> Deferred[None]:
        """A Deferred of the caller's own that fires when the link is over, at once if it is."""
        if self._lost:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    # What the owner does.

    def open(self, message: Open) -> TunnelStream:
        """Open a stream; give it its protocol by ``attach()``.

        :raises MisuseError: see ``can_open``, or too many streams are open
        """
        stream_id = self._session.open(message, self._clock.seconds())
        self.touch()
        return self._streams.add(stream_id, message, ours=True)

    def welcome(self, welcome: Welcome) -> None:
        """Accepting side: take the peer, after ``hello_received``.

        :raises MisuseError: no HELLO waits for an answer
        """
        self._session.welcome(welcome, self._clock.seconds())
        self._streams.session_id = welcome.session
        self.touch()

    def set_status(self, ready: bool, reason: str = "") -> None:
        """Say whether this side takes streams, and why not. Before WELCOME it is kept and said after it."""
        self._session.set_status(ready, reason)
        self.touch()

    def drain(
        self,
        deadline: float,
        code: GoawayCode = GoawayCode.NORMAL,
        message: str = "",
        retry_after: float | None = None,
    ) -> Deferred[None]:
        """Say GOAWAY, let the streams that are open end, and close.

        Called again, the earlier deadline holds.

        :param deadline: seconds from now after which the streams that are left are reset
        :param retry_after: seconds, for the peer
        :returns: fires when no stream is left, or at the deadline; the link closes then by itself, see ``when_lost()``
        """
        return self._farewell.drain(deadline, code, message, retry_after)

    def fail(self, code: GoawayCode, message: str, retry_after: float | None = None) -> None:
        """Say GOAWAY, reset every stream, and close."""
        self._farewell.fail(code, message, retry_after)

    def abort(self) -> None:
        """Drop the connection now. ``link_lost`` follows."""
        if not self._lost and self.transport is not None:
            self.transport.abortConnection()

    # Transport's side.

    def connectionMade(self) -> None:
        """Start: the dialling side says HELLO, after a look at what ALPN chose."""
        transport = self.transport
        chosen = transport.negotiatedProtocol if INegotiated.providedBy(transport) else None
        if self.hello_message is not None and self.side is Side.DIALLER:
            if chosen is not None and chosen != ALPN:
                self._farewell.not_an_edge()
                return
            self._session.hello(self.hello_message, self._clock.seconds())
        tune(transport)
        write_at_once(transport)  # the end of the turn is ours
        self._gathers = exchange_views(transport)  # the session copies what came before it tells of it
        transport.registerProducer(self, True)
        self._arm_timer()
        self.touch()

    def dataReceived(self, data: bytes) -> None:
        """Feed the session and handle what that gives."""
        if self._lost:
            return
        self.heard = True
        events = self._session.receive_data(data, self._clock.seconds())
        self._handle(events)
        if self._session.has_data or not all(type(event) is DataReceived for event in events):
            self.touch()  # and where only data came and went on, nothing is left for the end of the turn

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone: so is every stream."""
        if self._lost:
            return
        why = why_lost(self, reason, self._session, self._farewell)
        self._lost = True
        self._handle(self._session.receive_eof(self._clock.seconds()))
        self._farewell.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._streams.clear()
        self._tell(self._owner.link_lost, why)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True
        self._pace.paused(self._clock.seconds())

    def resumeProducing(self) -> None:
        """The transport wants more."""
        self._paused = False
        pace = self._pace
        if pace.resumed(self._clock.seconds()):
            limit_unsent(self.transport, NOTSENT_LOWAT_SLOW if pace.slow else NOTSENT_LOWAT)
        self.touch()

    def stopProducing(self) -> None:
        """The transport takes nothing more; ``connectionLost`` follows."""
        self._paused = True

    # The rhythm.

    def touch(self) -> None:
        """Something changed: look after it at the end of this turn."""
        if not self._streams.touched:
            self._streams.touched = True
            self._turn.call(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._streams.touched = False
        self._streams.catch_up()
        if self._lost or self.transport is None:
            return
        self._flush()
        self._farewell.after_flush()
        self._arm_timer()

    def _flush(self) -> None:
        session = self._session
        bite = self._pace.bite
        room = BITES_A_TURN * bite
        while True:
            taken = session.data_to_send(min(bite, room)) if room > 0 and not self._paused else None
            if taken:
                size = sum(map(len, taken))
                if size > SHORT and self._gathers is not None:
                    self._gathers.write_pieces(taken)
                else:
                    self.transport.write(b"".join(taken))
                room -= size
            self._handle(session.take_events())
            self._streams.pull()
            if not taken or not session.has_data:
                break
        if session.has_data and not self._paused:
            self._pace.faster()
            self.touch()  # the turn's limit was reached: the others first

    def _arm_timer(self) -> None:
        now = self._clock.seconds()
        due = self._session.next_timer(now)
        lingers = self._streams.lingers_until
        if lingers is not None and (due is None or lingers < due):
            due = lingers
        timer = self._timer
        if timer is None:
            if due is not None:
                self._timer_due = due
                self._timer = self._clock.callLater(max(0.0, due - now), self._on_time)
        elif due is not None and due < self._timer_due:
            # a later one is found out when the armed one comes: a busy link moves it with every octet
            self._timer_due = due
            timer.reset(max(0.0, due - now))

    def _on_time(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self._streams.end_lingering(now)
        due = self._session.next_timer(now)
        if due is not None and due <= now:
            self._handle(self._session.handle_timer(now))
            self._rest()
        self._arm_timer()
        self.touch()

    def _rest(self) -> None:
        """Nothing came for a while, or nothing has passed but the handshake and the session's first words."""
        if self._gathers is not None:
            self._gathers.rest()

    # Events.

    def _handle(self, events: list[wire.Event]) -> None:
        streams = self._streams.by_id
        for event in events:
            if type(event) is DataReceived:
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.data_came(event.data)
            elif (handler := OF_A_STREAM.get(type(event))) is not None:
                handler(self._streams, event)
            else:
                _OF_THE_LINK[type(event)](self, event)

    def _tell(self, method: Callable[..., None], *args: object) -> None:
        try:
            method(self, *args)
        except Exception:  # noqa: BLE001 - the owner's bug ends this link, not the reactor's turn
            log.failure("the owner of a link failed in {method!r}", method=method)
            self.fail(GoawayCode.INTERNAL, "an internal error")

    def _on_hello(self, event: wire.HelloReceived) -> None:
        self._tell(self._owner.hello_received, event.hello)

    def _on_welcomed(self, event: wire.Welcomed) -> None:
        self.welcome_message = event.welcome
        self._streams.session_id = event.welcome.session
        self._tell(self._owner.welcomed, event.welcome)

    def _on_status(self, event: wire.StatusChanged) -> None:
        self.peer_ready = event.ready
        self._tell(self._owner.status_changed, event.ready, event.reason)
        self._rest()

    def _on_opened(self, event: wire.StreamOpened) -> None:
        stream = self._streams.add(event.stream_id, event.message, ours=False)
        self._tell(self._owner.stream_opened, stream, event.message)

    def _on_goaway(self, event: wire.GoawayReceived) -> None:
        self._tell(self._owner.goaway_received, event.goaway)

    def _on_ids_low(self, event: wire.IdsLow) -> None:
        self._farewell.ids_exhausted()
        sent = self._session.goaway_sent
        if sent is not None:
            self._tell(self._owner.goaway_received, sent)

    def _on_drained(self, event: wire.Drained) -> None:
        self._tell(self._owner.drained)
        self._farewell.drained()

    def _on_failed(self, event: wire.LinkFailed) -> None:
        self._farewell.peer_failed(event.error)

    def _on_dead(self, event: wire.LinkDead) -> None:
        self._farewell.error = LinkLost("the peer was silent for too long")
        self.abort()

    def _on_link_closed(self, event: wire.LinkClosed) -> None:
        if not self._lost:
            self._farewell.close()

    # What the farewell asks for.

    @property
    def session(self) -> Session:
        """The state under the shell: for the parts of this package and for tests."""
        return self._session

    @property
    def clock(self) -> IReactorTime:
        """The clock that the link was made with."""
        return self._clock

    @property
    def lost(self) -> bool:
        """The connection is gone."""
        return self._lost

    def hang_up(self) -> None:
        """Close the connection behind what was written, so that the peer reads it all.

        A TLS transport waits for the peer's close_notify; a bare TCP one is half-closed, since closing it with octets
        unread would make the kernel throw away what the peer has not read yet.
        """
        transport = self.transport
        transport.unregisterProducer()
        if ITCPTransport.providedBy(transport) and not INegotiated.providedBy(transport):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()


_OF_THE_LINK: dict[type, Callable[[LinkProtocol, Any], None]] = {
    wire.HelloReceived: LinkProtocol._on_hello,
    wire.Welcomed: LinkProtocol._on_welcomed,
    wire.StatusChanged: LinkProtocol._on_status,
    wire.StreamOpened: LinkProtocol._on_opened,
    wire.GoawayReceived: LinkProtocol._on_goaway,
    wire.IdsLow: LinkProtocol._on_ids_low,
    wire.Drained: LinkProtocol._on_drained,
    wire.LinkFailed: LinkProtocol._on_failed,
    wire.LinkDead: LinkProtocol._on_dead,
    wire.LinkClosed: LinkProtocol._on_link_closed,
}
