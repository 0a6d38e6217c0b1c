"""What the codecs of both sides share: the part of their shape that does not ask who is who."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.events import Closed
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.streams import ENDED

if TYPE_CHECKING:
    from wormhole_tw.http.h2.connection import Connection
    from wormhole_tw.http.h2.receiving import Receiver
    from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["EVERYTHING", "H2Codec"]

EVERYTHING = 1 << 40
"""More room than there is."""


class H2Codec:
    """One side of a connection; see :class:`wormhole_tw.http.interfaces.ManyStreams`."""

    __slots__ = ("_connection", "_receiver", "_sender", "_streams", "output_ended", "should_abort")

    def __init__(self, connection: Connection, receiver: Receiver) -> None:
        self._connection = connection
        self._receiver = receiver
        self._sender = connection.sender
        self._streams = connection.streams
        self.output_ended = False
        self.should_abort = False

    @property
    def wants_data(self) -> bool:
        """Flow control bounds what comes."""
        return not self._connection.dead

    @property
    def has_held(self) -> bool:
        """Never: the streams do not wait for one another."""
        return False

    @property
    def idle(self) -> bool:
        """No stream is open."""
        return not self._streams

    @property
    def fault(self) -> str | None:
        """What the peer did that ended the connection, for a log."""
        return self._connection.fault

    def take_events(self) -> list[StreamEvent]:
        """Events since the last time."""
        events = self._connection.events
        if events:
            taken = events[:]
            events.clear()
            return taken
        return []

    def receive_data(self, data: bytes, now: float) -> list[StreamEvent]:
        """Take bytes; events of any number of streams come of them."""
        if not self._connection.dead:
            self._receiver.receive(data, now)
        return self.take_events()

    def acknowledge(self, stream: int, n: int) -> None:
        """``n`` octets were consumed: the peer may send as many again, in time."""
        known = self._streams.get(stream)
        if known is not None:
            n = min(n, known.unacknowledged)
            known.unacknowledged -= n
            self._connection.library.acknowledge_received_data(n, stream)

    def reset(self, stream: int, code: int = ErrorCode.INTERNAL_ERROR) -> None:
        """Give a stream up: RST_STREAM, and what is queued on it is dropped."""
        known = self._streams.get(stream)
        if known is not None and known.known:
            self._connection.reset(known, code)
            self._connection.events.append((stream, Closed()))

    def sendable(self, stream: int) -> int:
        """What the windows of stream and connection leave, beyond what is queued."""
        known = self._streams.get(stream)
        if known is None or known.state is ENDED:
            return 0
        window = min(self._connection.library.outbound_flow_control_window, known.machine.outbound_flow_control_window)
        return max(0, window - known.queued)

    def writable(self, stream: int) -> bool:
        """True, too, where the stream is over: what is sent on it is dropped."""
        known = self._streams.get(stream)
        return known is None or self._sender.writable(known)

    def queued(self, stream: int) -> int:
        """Octets that wait."""
        known = self._streams.get(stream)
        return 0 if known is None else known.queued

    def window(self, stream: int) -> int:
        """What the stream's own window leaves."""
        known = self._streams.get(stream)
        return 0 if known is None else known.machine.outbound_flow_control_window

    def unread(self, stream: int) -> int:
        """Octets of the peer's that were given out and not acknowledged."""
        known = self._streams.get(stream)
        return 0 if known is None else known.unacknowledged

    @property
    def sent(self) -> int:
        """Octets of bodies that have left since the connection began."""
        return self._sender.sent

    @property
    def lingers(self) -> bool:
        """Streams are left whose peer has not ended them: call :meth:`let_go` from time to time."""
        return bool(self._connection.lingering)

    def let_go(self) -> None:
        """Reset those that lingered at the last call, too."""
        self._connection.let_go()

    @property
    def has_output(self) -> bool:
        """Whether :meth:`data_to_send` has something to do, with enough room."""
        return self._sender.has_output

    def data_to_send(self, room: int = EVERYTHING) -> list[bytes]:
        """What can leave, with about ``room`` octets of bodies."""
        return self._sender.take(room)
