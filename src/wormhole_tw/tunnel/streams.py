"""The streams of one link: what the session tells of them, and what they ask of the link."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from wormhole_tw.errors import StreamReset
from wormhole_tw.wire import events as wire
from wormhole_tw.wire.codes import ResetCode

from .stream import LINGER, TunnelStream

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from wormhole_tw.wire.messages import Open, Opened
    from wormhole_tw.wire.session import Session

__all__ = ["OF_A_STREAM", "LinkStreams"]


class LinkStreams:
    """Between a link, its session and its streams.

    :param touch: has the link look after everything at the end of this turn
    :ivar session_id: the session's name from WELCOME, empty before
    :ivar by_id: the streams
    :ivar touched: the end of this turn is asked for already; the link's
    :ivar consumed: ``consumed(stream_id, n)``: :meth:`acknowledge` where no credit is due yet; else False
    """

    def __init__(self, session: Session, clock: IReactorTime, touch: Callable[[], None]) -> None:
        self.session_id = ""
        self._session = session
        self._send = session.streams.send
        self.consumed = session.streams.consumed
        self._clock = clock
        self._touch = touch
        self.touched = False
        self.by_id: dict[int, TunnelStream] = {}
        self._later: list[TunnelStream] = []
        self._half_told: list[TunnelStream] = []
        self._pulled: dict[TunnelStream, None] = {}
        # by deadline; they all wait as long. None where there are none: an empty one has 200 octets
        self._lingering: OrderedDict[TunnelStream, float] | None = None

    def __len__(self) -> int:
        return len(self.by_id)

    # The link's side.

    def add(self, stream_id: int, message: Open, *, ours: bool) -> TunnelStream:
        """A stream that the session has opened, or was told of."""
        stream = self.by_id[stream_id] = TunnelStream(self, stream_id, message, ours=ours)
        return stream

    def catch_up(self) -> None:
        """The end of a turn: tell streams what could not be told from inside their own calls."""
        if self._half_told:
            half_told, self._half_told = self._half_told, []
            for stream in half_told:
                stream.write_end_told()
        if self._later:
            later, self._later = self._later, []
            for stream in later:
                stream.catch_up()

    def pull(self) -> None:
        """After a flush: ask pull producers for more."""
        if self._pulled:
            streams, self._pulled = self._pulled, {}
            for stream in streams:
                if stream.pull():
                    self._pulled[stream] = None

    @property
    def lingers_until(self) -> float | None:
        """When :meth:`end_lingering` has something to do."""
        return next(iter(self._lingering.values())) if self._lingering else None

    def end_lingering(self, now: float) -> None:
        """Reset the streams whose peers have not ended their half in time."""
        while self._lingering and next(iter(self._lingering.values())) <= now:
            self._lingering.popitem(last=False)[0].linger_over()

    def clear(self) -> None:
        """The link is gone, and the session has told the end of every stream."""
        for stream in list(self.by_id.values()):
            stream.reset_came(StreamReset(ResetCode.LINK_LOST, "the tunnel was lost", delivered=True))
        self.by_id.clear()
        self._pulled.clear()
        self._lingering = None

    def _forget(self, stream_id: int) -> TunnelStream | None:
        stream = self.by_id.pop(stream_id, None)
        if stream is not None and self._lingering:
            self._lingering.pop(stream, None)
        return stream

    # Events.

    def _on_accepted(self, event: wire.StreamAccepted) -> None:
        stream = self.by_id.get(event.stream_id)
        if stream is not None:
            stream.accepted_came(event.message)

    def _on_ended(self, event: wire.StreamEnded) -> None:
        stream = self.by_id.get(event.stream_id)
        if stream is not None:
            stream.end_came()

    def _on_reset(self, event: wire.StreamWasReset) -> None:
        stream = self._forget(event.stream_id)
        if stream is not None:
            stream.reset_came(StreamReset(event.code, event.message, event.delivered))

    def _on_closed(self, event: wire.StreamClosed) -> None:
        stream = self._forget(event.stream_id)
        if stream is not None:
            stream.closed_came()

    def _on_send_ready(self, event: wire.SendReady) -> None:
        stream = self.by_id.get(event.stream_id)
        if stream is not None:
            stream.send_ready()

    # What streams ask for.

    def later(self, stream: TunnelStream) -> None:
        """Have ``stream.catch_up()`` called at the end of this turn."""
        self._later.append(stream)
        self._touch()

    def wrote_all(self, stream: TunnelStream) -> None:
        """Have ``stream.write_end_told()`` called at the end of this turn."""
        self._half_told.append(stream)
        self._touch()

    def linger(self, stream: TunnelStream) -> None:
        """Have ``stream.linger_over()`` called in ``LINGER`` seconds, unless it ends before."""
        if self._lingering is None:
            self._lingering = OrderedDict()
        self._lingering[stream] = self._clock.seconds() + LINGER
        self._lingering.move_to_end(stream)
        self._touch()

    def pulled(self, stream: TunnelStream) -> None:
        """The stream has a pull producer: ask it after the next flush."""
        self._pulled[stream] = None
        self._touch()

    def accept(self, stream: TunnelStream, message: Opened | None) -> None:
        """OPENED."""
        self._session.accept(stream.stream_id, message)
        self._touch()

    def send(self, stream_id: int, data: bytes) -> int:
        """DATA; gives how many octets of the stream wait now."""
        if not self.touched:
            self._touch()
        send = self._send
        return send(stream_id, data)

    def end(self, stream: TunnelStream) -> None:
        """END, behind the data."""
        self._session.end(stream.stream_id)
        self._touch()

    def reset(self, stream: TunnelStream, code: int, message: str, delivered: bool, cancel: bool) -> None:
        """End a stream here and now; the session goes on with what it still has to send."""
        self._session.reset(stream.stream_id, cast(ResetCode, code), message, delivered=delivered, cancel=cancel)
        self._forget(stream.stream_id)
        self._touch()

    def acknowledge(self, stream_id: int, amount: int) -> None:
        """Give the peer credit for what was consumed."""
        self._session.acknowledge(stream_id, amount, self._clock.seconds())
        self._touch()

    def queued(self, stream_id: int) -> int:
        """Octets that have not left."""
        return self._session.queued(stream_id)


OF_A_STREAM: dict[type, Callable[[LinkStreams, Any], None]] = {
    wire.StreamAccepted: LinkStreams._on_accepted,
    wire.StreamEnded: LinkStreams._on_ended,
    wire.StreamWasReset: LinkStreams._on_reset,
    wire.StreamClosed: LinkStreams._on_closed,
    wire.SendReady: LinkStreams._on_send_ready,
}
"""The events of a session that are for a stream, and who takes them; data goes to the stream itself."""
