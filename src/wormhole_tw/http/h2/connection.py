"""What both directions of a connection share: the table of streams, and how they end."""

from __future__ import annotations

from abc import ABC, abstractmethod

from wormhole_tw.http.events import Abandoned, Closed, Event
from wormhole_tw.http.h2 import limits
from wormhole_tw.http.h2.faults import ErrorCode
from wormhole_tw.http.h2.floods import Bucket
from wormhole_tw.http.h2.frames import GOAWAY, RST_STREAM, frame_header
from wormhole_tw.http.h2.library import Library
from wormhole_tw.http.h2.limits import H2Limits
from wormhole_tw.http.h2.sending import Sender
from wormhole_tw.http.h2.streams import Stream
from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["ANNOUNCED", "DRAIN_PING", "LAST_STREAM", "LEAVING", "STAYING", "Connection", "ServerConnection"]

LAST_STREAM = 0x7FFFFFFF

DRAIN_PING = b"draining"
"""Comes back when the peer has read the first GOAWAY (RFC 9113 §6.8): the second can then name the last stream."""

STAYING, ANNOUNCED, LEAVING = range(3)
"""How far a graceful end is: not begun; GOAWAY for no stream; GOAWAY with the last stream."""


class Connection(ABC):
    """The state of a connection, on either side.

    :ivar events: what the shell has not fetched yet
    :ivar given_up: streams that we reset: what still comes on them was under way
    :ivar lingering: streams whose own direction is out, and whose other one is of no use and not whole
    :ivar highest: the highest stream that was opened
    :ivar now: the clock of the last read
    :ivar peer_leaves: GOAWAY came
    :ivar fault: what the peer did that ended the connection
    :ivar flooded: that was more of something than its budget
    """

    __slots__ = (
        "dead",
        "events",
        "fault",
        "flooded",
        "given_up",
        "highest",
        "ignored",
        "library",
        "limits",
        "lingering",
        "now",
        "peer_leaves",
        "phase",
        "pings",
        "resets",
        "sender",
        "streams",
        "updates",
    )

    def __init__(self, limits_: H2Limits, *, client: bool = False, ignored: limits.Budget = limits.IGNORED) -> None:
        self.limits = limits_
        self.library = Library(limits_, client=client)
        self.events: list[StreamEvent] = []
        self.sender = Sender(self.library, limits_, self)
        self.streams: dict[int, Stream] = {}
        self.given_up: dict[int, None] = {}
        self.lingering: dict[int, Stream] = {}
        self.highest = 0
        self.now = 0.0
        self.phase = STAYING
        self.peer_leaves = False
        self.dead = False
        self.fault: str | None = None
        self.flooded = False
        self.resets = Bucket("resets", limits.RESETS)
        self.updates = Bucket("WINDOW_UPDATE frames", limits.UPDATES)
        self.pings = Bucket("PING frames", limits.PINGS)
        self.ignored = Bucket("frames on streams that were reset", ignored)

    # what differs between the sides

    @abstractmethod
    def sent(self, stream: Stream) -> None:
        """END_STREAM is out."""

    @abstractmethod
    def loss(self, code: ErrorCode, why: str) -> Event:
        """The last event of a stream that the peer has lost."""

    @property
    @abstractmethod
    def last_heard(self) -> int:
        """The highest stream of the peer's that was heard of, for GOAWAY."""

    @abstractmethod
    def shut_down(self) -> None:
        """Say that the connection ends."""

    @abstractmethod
    def left(self, last: int, code: int, why: bytes) -> None:
        """GOAWAY came, with the highest of our streams that the peer has processed, an error code and a text."""

    # for the sender

    def tell(self, event: StreamEvent) -> None:
        """An event for the shell."""
        self.events.append(event)

    def earned(self) -> None:
        """The peer may say once more that it takes more, and measure the path."""
        self.updates.earn(limits.UPDATES_EARNED)
        self.pings.earn(limits.PINGS_EARNED)

    # how streams end

    def let_go(self) -> None:
        """Reset what has lingered since the last time."""
        for stream in list(self.lingering.values()):
            if stream.ripe:
                self.reset(stream, ErrorCode.NO_ERROR)
            else:
                stream.ripe = True

    def remove(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self.sender.drop(stream)
        self.lingering.pop(stream.id, None)
        stream.early = []
        n, stream.unacknowledged = stream.unacknowledged, 0
        if n:
            self.library.acknowledge_received_data(n, stream.id)

    def reset(self, stream: Stream, code: int) -> None:
        if not stream.machine.closed:
            self.library.reset_stream(stream.id, code)
        self.forget(stream.id)
        self.remove(stream)

    def forget(self, stream: int) -> None:
        given_up = self.given_up
        given_up[stream] = None
        if len(given_up) > limits.REMEMBERED:
            del given_up[next(iter(given_up))]

    def give_up(self, stream: Stream, code: ErrorCode, why: str) -> None:
        """The peer's fault, on one stream.

        :raises ConnectionFault: it has made too many
        """
        self.resets.take(self.now)
        self.reset(stream, code)
        if stream.known:
            self.events.append((stream.id, self.loss(code, why)))

    def goaway(self, last: int, code: ErrorCode) -> None:
        self.sender.control(
            frame_header(8, GOAWAY, 0, 0) + last.to_bytes(4, "big") + code.to_bytes(4, "big"),
        )

    def end_streams(self, event: Event) -> None:
        """All of them are over.

        :param event: the last one of each
        """
        for stream in list(self.streams.values()):
            self.sender.drop(stream)
            if stream.known:
                self.events.append((stream.id, event))
        self.streams.clear()
        self.lingering.clear()
        self.dead = True

    def die(self, code: ErrorCode | None, message: str) -> None:
        """The peer's fault, on the whole connection.

        :param code: for GOAWAY; None where it is written
        """
        self.fault = message
        self.flooded = code is ErrorCode.ENHANCE_YOUR_CALM
        self.end_streams(self.loss(ErrorCode.CANCEL, message))
        if code is not None:
            self.goaway(self.last_heard, code)


class ServerConnection(Connection):
    """A visitor's.

    :ivar malformed: requests that were reset and never told
    :ivar refused: streams past those that may be open at once
    """

    __slots__ = ("malformed", "refused")

    def __init__(self, limits_: H2Limits) -> None:
        super().__init__(limits_)
        self.malformed = 0
        self.refused = 0

    def give_up(self, stream: Stream, code: ErrorCode, why: str) -> None:
        """See the base."""
        if not stream.known and stream.id not in self.lingering:
            self.malformed += 1
        super().give_up(stream, code, why)

    def sent(self, stream: Stream) -> None:
        """See the base."""
        if stream.remote_ended:
            self.remove(stream)
        elif stream.tunnel and not stream.deaf:
            return
        else:
            # RFC 9113 §8.1: the rest of the request is of no use.  RST_STREAM says so, but not yet: clients that are
            # still writing (curl 7) take it for a failure before they have read the answer that came with it.
            stream.known = False
            self.lingering[stream.id] = stream
        self.events.append((stream.id, Closed()))

    def loss(self, code: ErrorCode, why: str) -> Event:
        """See the base."""
        return Abandoned(code)

    @property
    def last_heard(self) -> int:
        """See the base."""
        return self.highest

    def left(self, last: int, code: int, why: bytes) -> None:
        """See the base: we open no streams."""

    def refuse(self, stream: int, code: ErrorCode) -> None:
        """A stream that never was one."""
        self.refused += 1
        self.resets.take(self.now)
        self.forget(stream)
        self.sender.control(frame_header(4, RST_STREAM, 0, stream) + code.to_bytes(4, "big"))

    def announce(self) -> None:
        """Say that the connection ends when the peer has read this; what it asks for until then is taken."""
        if self.phase is STAYING and not self.dead:
            self.phase = ANNOUNCED
            self.goaway(LAST_STREAM, ErrorCode.NO_ERROR)
            self.library.ping(DRAIN_PING)

    def shut_down(self) -> None:
        """Say that the connection ends; said again, or where no stream is open, take no new one."""
        if self.dead or self.phase is LEAVING:
            return
        if self.phase is STAYING and self.streams:
            self.announce()
        else:
            self.phase = LEAVING
            self.goaway(self.highest, ErrorCode.NO_ERROR)
