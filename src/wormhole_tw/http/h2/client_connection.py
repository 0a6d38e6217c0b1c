"""The state of a connection to a service: who waits on it, what the service allows, and what it has lost."""

from __future__ import annotations

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Abandoned, Event, Failed, RequestHead
from wormhole_tw.http.h2 import limits
from wormhole_tw.http.h2.connection import LAST_STREAM, LEAVING, STAYING, Connection
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.limits import H2Limits
from wormhole_tw.http.h2.streams import Stream

__all__ = ["ClientConnection"]


class ClientConnection(Connection):
    """A connection to a service.

    :ivar settled: its SETTINGS came: it speaks HTTP/2
    :ivar connects: it takes extended CONNECT (RFC 8441)
    :ivar allowed: streams at once that it allows
    :ivar cancelled: requests that we gave up
    :ivar growth: what windows may still grow by
    :ivar leave_code: of its GOAWAY; None where none came
    :ivar leave_why: the text in it
    """

    __slots__ = ("allowed", "cancelled", "connects", "growth", "leave_code", "leave_why", "settled")

    def __init__(self, limits_: H2Limits) -> None:
        super().__init__(limits_, client=True, ignored=limits.IGNORED_OF_SERVICES)
        self.settled = False
        self.connects = False
        self.allowed = limits_.streams
        self.cancelled = 0
        self.growth = limits_.growth
        self.leave_code: int | None = None
        self.leave_why = b""

    @property
    def spent(self) -> bool:
        """No request can begin any more."""
        return (
            self.dead
            or self.peer_leaves
            or self.phase is not STAYING
            or self.cancelled >= limits.CANCELS
            or self.highest >= LAST_STREAM - 2
        )

    @property
    def open_to_requests(self) -> bool:
        """Another request can begin now."""
        return len(self.streams) < self.allowed and not self.spent

    def open(self, stream_id: int, request: RequestHead) -> Stream:
        """A request begins."""
        # RFC 9113 §5.1.1: heads leave in the order of their numbers
        self.sender.write_heads()
        stream = Stream(stream_id, self.library.open(stream_id), remote_ended=False)
        stream.headless = stream.known = True
        stream.request = request
        stream.window = self.limits.window
        self.streams[stream_id] = stream
        self.highest = stream_id
        self.updates.earn(limits.UPDATES_EARNED)
        # what a service does once for each of our requests is no flood
        self.resets.earn(1)
        self.ignored.earn(1)
        return stream

    def sent(self, stream: Stream) -> None:
        """See the base."""
        if stream.remote_ended:
            self.remove(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """See the base."""
        if stream.head is None:
            self.ignored.earn(limits.CANCELLED)
            super().reset(stream, code)
        else:
            # the service has not heard of it, and need not
            self._withdraw(stream)

    def _withdraw(self, stream: Stream) -> None:
        """Forget a request without a RST_STREAM, which RFC 9113 §5.1 forbids where its head has not left."""
        if stream.head is not None:
            self.library.unopen(stream.id)
        self.forget(stream.id)
        self.remove(stream)

    def loss(self, code: ErrorCode, why: str) -> Event:
        """See the base."""
        del code
        if not self.settled:
            return Failed(HttpError(502, "not-http2", "The service does not speak HTTP/2 with prior knowledge."))
        return Failed(HttpError(502, "bad-answer", f"The service's answer is refused: {why}."))

    @property
    def last_heard(self) -> int:
        """See the base: a service opens none."""
        return 0

    def left(self, last: int, code: int, why: bytes) -> None:
        """GOAWAY: what is higher than ``last`` was not processed (RFC 9113 §6.8)."""
        if self.leave_code is None or code:
            self.leave_code, self.leave_why = code, why[: limits.LONGEST_REASON]
        for stream in list(self.streams.values()):
            if stream.id > last:
                self._withdraw(stream)
                if stream.known:
                    self.events.append((stream.id, Abandoned(ErrorCode.REFUSED_STREAM)))

    def shut_down(self) -> None:
        """Take no new request, and say so."""
        if not self.dead and self.phase is STAYING:
            self.phase = LEAVING
            # behind it, some services hear no further request
            self.sender.write_heads()
            self.goaway(0, ErrorCode.NO_ERROR)

    def read_on(self, stream: Stream) -> None:
        """All that came of an answer was taken: let more of it come at a time, within bounds."""
        window = min(stream.window, self.limits.most_window - stream.window, self.growth)
        if window > 0:
            self.growth -= window
            stream.window += window
            self.library.increment_flow_control_window(window, stream.id)

    def remove(self, stream: Stream) -> None:
        """See the base."""
        super().remove(stream)
        self.growth += stream.window - self.limits.window
