"""One stream of a link, as an ordinary Twisted transport.

What differs from a TCP connection, and what was chosen where TCP leaves a choice:

- ``loseConnection()`` sends what was written, then END, and stops reading at once: what the application holds back and
  what still comes is dropped (and acknowledged, so that the peer can get to its own end). If the peer sends more after
  everything of ours has left, it gets RESET(cancelled) behind our END, as a closed TCP socket answers with RST; if it
  does not end its half within :data:`LINGER` seconds, the same.
- ``connectionLost`` comes once, never from inside a call of the application's: with ``ConnectionDone`` when both halves
  have ended, ``ConnectionAborted`` after ``abortConnection()``, and ``StreamReset`` for a reset by either side or the
  loss of the link.
- A reset by the sender of data stands behind that data: a reader that paused gets what came before it first, and then
  ``connectionLost``. A peer's cancel (``CANCELLED`` without an END before it), a limit that was passed, and any reset
  of a stream that was not accepted yet, are told at once, and what was held is dropped.
- The end of the peer's half goes to ``readConnectionLost`` where the protocol is an ``IHalfCloseableProtocol``;
  otherwise the stream is closed in turn, and ``connectionLost`` follows when what was written has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPullProducer,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import MisuseError, StreamReset
from wormhole_tw.wire.codes import ResetCode

from .addresses import host_of, peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from wormhole_tw.wire.messages import Open, Opened

    from .streams import LinkStreams

__all__ = ["LINGER", "STREAM_BUFFER", "TunnelStream"]

log = Logger()

STREAM_BUFFER = 64 * 1024
"""Octets written and not yet taken by the link, above which a stream's producer is paused. It is resumed at the
session's ``low_water`` (32 KiB), so that there is something to send while the producer wakes."""

SMALL_PIECE = 512
"""Pieces below this size are joined while they are held: a window of two octets at a time must not become an object of
fifty for each."""

LINGER = 10.0
"""Seconds that a stream closed here may wait for the peer's END: the peer's application has seen ours by then, and an
open half costs one of the link's streams."""

_AT_ONCE = frozenset({ResetCode.CANCELLED, ResetCode.OVER_LIMIT, ResetCode.FLOW_CONTROL})
"""Resets that a paused reader hears of at once: nobody wants the data, or holding it is what went too far."""

_DONE = ConnectionDone()


@implementer(ITCPTransport, ITransport, IConsumer, IPushProducer)
class TunnelStream:
    """A stream. Made by the link: by ``link.open()``, or for ``ILinkOwner.stream_opened``.

    :ivar stream_id: its number on the link
    :ivar open_message: what OPEN said
    :ivar ours: this side opened it
    :ivar protocol: what reads it; None before ``attach()`` and after ``connectionLost``
    :ivar accepted: OPENED was said, here or there
    :ivar connected: connectionLost was not called yet
    :ivar disconnecting: ``loseConnection()`` or an abort is under way
    """

    __slots__ = (
        "_closed_on_wire",
        "_delivering",
        "_final",
        "_held",
        "_link",
        "_opening",
        "_paused",
        "_producer",
        "_producer_paused",
        "_read_ended",
        "_read_told",
        "_streaming",
        "_write_closing",
        "_write_ended",
        "accepted",
        "connected",
        "disconnecting",
        "open_message",
        "ours",
        "protocol",
        "stream_id",
    )

    def __init__(self, link: LinkStreams, stream_id: int, message: Open, *, ours: bool) -> None:
        self._link = link
        self.stream_id = stream_id
        self.open_message = message
        self.ours = ours
        self.protocol: IProtocol | None = None
        self.accepted = False
        self.connected = True
        self.disconnecting = False
        self._opening: Callable[[Opened | None, Failure | None], None] | None = None
        self._held: deque[bytes] | None = None
        self._paused = False
        self._delivering = False
        self._read_ended = False  # the peer's END came
        self._read_told = False  # … and was passed on
        self._write_closing = False  # END is to follow the producer
        self._write_ended = False  # END (or RESET) is said
        self._closed_on_wire = False  # the session knows this stream no more
        self._final: Failure | None = None  # connectionLost with this follows what is held
        self._producer: IProducer | None = None
        self._producer_paused = False
        self._streaming = False

    def __repr__(self) -> str:
        state = "lost" if not self.connected else "closing" if self.disconnecting else "open"
        return f"<TunnelStream {self.stream_id} {self.open_message.kind} {state}>"

    # Opening.

    def attach(self, protocol: IProtocol) -> None:
        """Give the stream its protocol: ``makeConnection``, then whatever was held, at the end of this turn.

        On a stream that has ended meanwhile ``connectionLost`` follows in the same way.

        :raises MisuseError: it has one already
        """
        if self.protocol is not None:
            raise MisuseError("the stream has a protocol already")
        self.protocol = protocol
        protocol.makeConnection(self)
        if not self.connected:
            # it ended with nobody to tell: the newcomer is told, once
            self.connected = True
            self._link.later(self)
        elif self._has_news:
            self._link.later(self)

    def accept(self, message: Opened | None = None) -> None:
        """Say OPENED: the connection to the service stands. Writing says it too. Twice does no harm."""
        if not self.accepted and not self.ours and not self._closed_on_wire and not self._write_ended:
            self.accepted = True
            self._link.accept(self, message)

    def when_opened(self, callback: Callable[[Opened | None, Failure | None], None]) -> None:
        """Call ``callback(opened, None)`` at the peer's OPENED, or ``callback(None, failure)`` if it ends before."""
        self._opening = callback

    # ITransport, IConsumer: writing.

    def write(self, data: bytes) -> None:
        """Queue ``data``, of any size; kept by reference. After the end of this half it is dropped."""
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if self._write_ended or not data or (self._write_closing and self._producer is None):
            return
        if not self.ours:
            self.accepted = True  # the session says OPENED before our first octet
        queued = self._link.send(self.stream_id, data)
        if self._producer is not None:
            if not self._streaming:
                self._link.pulled(self)
            elif queued > STREAM_BUFFER and not self._producer_paused:
                self._producer_paused = True
                cast(IPushProducer, self._producer).pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same for several pieces, which are not joined."""
        for piece in data:
            self.write(piece)

    def loseWriteConnection(self) -> None:
        """Send END after what was written (and after a registered producer is done); reading goes on."""
        if not self._write_closing:
            self._write_closing = True
            if self._producer is None:
                self._end_writing()

    def loseConnection(self) -> None:
        """Send what was written, then END; read no more. With a producer registered, that waits for its end."""
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        self._drop_held()
        if self._closed_on_wire:
            self._link.later(self)
        elif not self._write_closing:
            self.loseWriteConnection()
        elif self._write_ended:
            self._link.linger(self)

    def abortConnection(self) -> None:
        """Drop everything, both ways, and tell the peer RESET(cancelled)."""
        self._reset(ResetCode.CANCELLED, "", True, True, ConnectionAborted())

    def reset(self, code: int, message: str = "", *, delivered: bool) -> None:
        """End the stream with a reason. It keeps its place behind what was written; reading stops now.

        :param code: a :class:`~wormhole_tw.wire.codes.ResetCode`
        :param message: a sentence for the peer's log and its visitor
        :param delivered: False promises that no octet of the peer's reached a service
        """
        self._reset(code, message, delivered, False, StreamReset(code, message, delivered))

    def _reset(self, code: int, message: str, delivered: bool, cancel: bool, reason: Exception) -> None:
        if not self.connected or (self._final is not None and self.disconnecting):
            return
        self.disconnecting = True
        self._drop_held()
        if not self._closed_on_wire:
            self._link.reset(self, code, message, delivered, cancel)
            self._close_wire(Failure(reason))
        self._link.later(self)

    def _end_writing(self) -> None:
        if self._write_ended:
            return
        self._write_ended = True
        if not self.ours:
            self.accepted = True
        self._link.end(self)
        if self.disconnecting and not self._read_ended:
            self._link.linger(self)
        elif not self.disconnecting:
            self._link.wrote_all(self)

    # IConsumer: producers.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let ``producer`` write here. A push producer is paused above :data:`STREAM_BUFFER` octets."""
        if self._producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self._producer} was never unregistered."
            )
        if self._write_ended or not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            self._link.pulled(self)
            cast(IPullProducer, producer).resumeProducing()

    def unregisterProducer(self) -> None:
        """The producer is done; an END that waited for it leaves."""
        self._producer = None
        if self._write_closing:
            self._end_writing()

    def send_ready(self) -> None:
        """The link's word: the queue fell to the low-water mark."""
        if self._producer_paused and self._producer is not None:
            self._producer_paused = False
            cast(IPushProducer, self._producer).resumeProducing()

    def pull(self) -> bool:
        """The link's word after a flush: ask a pull producer for more. Gives whether it is to be asked again."""
        if self._producer is None or self._streaming:
            return False
        if self._link.queued(self.stream_id) > STREAM_BUFFER:
            return True
        cast(IPullProducer, self._producer).resumeProducing()
        return self._producer is not None

    # IPushProducer: reading.

    def pauseProducing(self) -> None:
        """Deliver nothing, and acknowledge nothing: the peer stops after a window."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Deliver again, from the end of this turn on."""
        if self._paused:
            self._paused = False
            if self._has_news:
                self._link.later(self)

    def stopProducing(self) -> None:
        """The consumer of what we read is gone."""
        self.loseConnection()

    # The link's side: what came.

    def data_came(self, data: bytes) -> None:
        if self.disconnecting:
            if self._write_ended and not self._link.queued(self.stream_id):
                # nobody reads this; ours has left, so the peer loses nothing by being told
                self._link.reset(self, ResetCode.CANCELLED, "the reader has closed", True, False)
                self._close_wire(Failure(_DONE))
                self._link.later(self)
            else:
                self._link.acknowledge(self.stream_id, len(data))
        elif self._paused or self._held or self._delivering or self.protocol is None:
            held = self._held
            if held is None:
                held = self._held = deque()
            if held and len(data) < SMALL_PIECE and len(held[-1]) < SMALL_PIECE:
                held[-1] += data
            else:
                held.append(data)
        else:
            self._deliver(data)

    def end_came(self) -> None:
        self._read_ended = True
        if not (self._held or self._paused or self._delivering or self.protocol is None):
            self._tell_end()

    def accepted_came(self, message: Opened) -> None:
        self.accepted = True
        opening, self._opening = self._opening, None
        if opening is not None:
            opening(message, None)

    def reset_came(self, reason: StreamReset) -> None:
        if not (self.ours or self.accepted) or (reason.code in _AT_ONCE and not self._read_ended):
            self._held = None
            self._read_told = True
        self._finish(Failure(reason))

    def closed_came(self) -> None:
        """Both halves have ended."""
        self._finish(Failure(_DONE))

    def linger_over(self) -> None:
        """The peer did not end its half in time. While our own data still leaves, there is more time."""
        if not self.connected or self._closed_on_wire:
            return
        if self._link.queued(self.stream_id):
            self._link.linger(self)
            return
        self._link.reset(self, ResetCode.CANCELLED, "the reader has closed", True, False)
        self._finish(Failure(_DONE))

    def catch_up(self) -> None:
        """The link's word at the end of a turn: deliver what was held, then what followed it."""
        held = self._held
        while held and not self._paused and not self.disconnecting and self.protocol is not None:
            self._deliver(held.popleft())
        if not held:
            self._held = None
        if self._reading_is_behind:
            if self._paused or self.protocol is None or self._held:
                return
            self._tell_end()
        if self._final is not None and self.connected:
            self._tell_lost(self._final)

    @property
    def _reading_is_behind(self) -> bool:
        """Something that came was not passed on, and still should be."""
        return not self.disconnecting and (bool(self._held) or (self._read_ended and not self._read_told))

    @property
    def _has_news(self) -> bool:
        return bool(self._held) or self._final is not None or (self._read_ended and not self._read_told)

    def _deliver(self, data: bytes) -> None:
        protocol = self.protocol
        assert protocol is not None
        self._delivering = True
        try:
            protocol.dataReceived(data)
        except Exception:  # noqa: BLE001 - an application's bug ends its own stream and no other
            self._crashed("dataReceived")
            return
        finally:
            self._delivering = False
        if not self._closed_on_wire and not self._link.consumed(self.stream_id, len(data)):
            self._link.acknowledge(self.stream_id, len(data))

    def _tell_end(self) -> None:
        self._read_told = True
        half_closeable = _half_closeable(self.protocol)
        if half_closeable is not None:
            try:
                half_closeable.readConnectionLost()
            except Exception:  # noqa: BLE001 - as above
                self._crashed("readConnectionLost")
            return
        self.disconnecting = True
        if self._closed_on_wire:
            return
        self._write_closing = True
        self._stop_producer()
        self._end_writing()

    def write_end_told(self) -> None:
        """The link's word at the end of the turn of ``loseWriteConnection()``."""
        half_closeable = _half_closeable(self.protocol)
        if half_closeable is not None:
            try:
                half_closeable.writeConnectionLost()
            except Exception:  # noqa: BLE001 - as above
                self._crashed("writeConnectionLost")

    def _crashed(self, where: str) -> None:
        failure = Failure()
        log.failure("{where} of {protocol!r} failed; its stream is reset", failure, where=where, protocol=self.protocol)
        if self._closed_on_wire:
            return
        error = failure.value
        self._reset(ResetCode.INTERNAL, "the application failed", True, True, cast(Exception, error))

    def _drop_held(self) -> None:
        held, self._held = self._held, None
        if held and not self._closed_on_wire:
            self._link.acknowledge(self.stream_id, sum(map(len, held)))

    def _close_wire(self, reason: Failure) -> None:
        self._closed_on_wire = True
        self._write_ended = True
        self._final = reason
        self._stop_producer()

    def _finish(self, reason: Failure) -> None:
        """Nothing more comes or leaves; what is held may still be delivered."""
        self._close_wire(reason)
        if not self._reading_is_behind:
            self._tell_lost(reason)
        elif not self._paused:
            self._link.later(self)

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:  # noqa: BLE001 - as above
                log.failure("a producer failed to stop: {producer!r}", producer=producer)

    def _tell_lost(self, reason: Failure) -> None:
        self.connected = False
        self.disconnecting = True
        self._held = None
        protocol, self.protocol = self.protocol, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening(None, reason)
        if protocol is not None:
            try:
                protocol.connectionLost(reason)
            except Exception:  # noqa: BLE001 - as above
                log.failure("connectionLost of {protocol!r} failed", protocol=protocol)

    # Facts.

    def getPeer(self) -> IAddress:  # type: ignore[override]
        """The visitor of a dedicated stream; otherwise the other side of the link, a ``WormholeAddress``."""
        return peer_of(self.open_message, self._link.session_id, self.stream_id, ours=self.ours)

    def getHost(self) -> IAddress:  # type: ignore[override]
        """What the visitor of a dedicated stream asked for, a ``HostnameAddress``; otherwise a ``WormholeAddress``."""
        return host_of(self.open_message, self._link.session_id, self.stream_id, ours=self.ours)

    def getTcpNoDelay(self) -> bool:
        """True: what is written in a turn of the reactor leaves at its end."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing: see above."""

    def getTcpKeepAlive(self) -> bool:
        """True: the link looks after its own life."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing: see above."""


def _half_closeable(protocol: IProtocol | None) -> IHalfCloseableProtocol | None:
    return cast("IHalfCloseableProtocol | None", IHalfCloseableProtocol(protocol, None))
