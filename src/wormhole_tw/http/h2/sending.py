"""What leaves: heads at once, bodies by the peer's windows, the streams in turn, a frame each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hpack import HeaderTuple

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.events import Writable
from wormhole_tw.http.h2.fields import plain_fields
from wormhole_tw.http.h2.frames import DATA, END_STREAM, frame_header
from wormhole_tw.http.h2.limits import MAX_FRAME, H2Limits
from wormhole_tw.http.h2.streams import ENDED, SENDING, TUNNEL, Stream

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields, InformationalHead
    from wormhole_tw.http.h2.library import Library
    from wormhole_tw.http.interfaces import StreamEvent

__all__ = ["SMALL", "Owner", "Sender"]

SMALL = 256
"""A DATA frame that is shorter for the peer's window alone earns it no WINDOW_UPDATE: who opens windows by single
octets makes us write a frame for each."""


class Owner(Protocol):
    """Who owns a sender."""

    def tell(self, event: StreamEvent) -> None:
        """An event for the shell."""

    def sent(self, stream: Stream) -> None:
        """Its END_STREAM is out."""

    def earned(self) -> None:
        """A DATA frame that deserves a WINDOW_UPDATE is out."""


class Sender:
    """The outgoing half of a connection.

    :param owner: hears what comes of sending
    :ivar sent: octets of bodies that have left
    """

    __slots__ = ("_answers", "_full", "_heads", "_library", "_limits", "_out", "_owner", "_ready", "_waiting", "sent")

    def __init__(self, library: Library, limits: H2Limits, owner: Owner) -> None:
        self._library = library
        self._limits = limits
        self._owner = owner
        self.sent = 0
        self._out: list[bytes] = []
        self._answers: dict[int, Stream] = {}  # whole ones, of which nothing has left
        self._heads: dict[int, Stream] = {}  # whose head waits for what comes behind it
        self._ready: dict[int, Stream] = {}  # in turn
        self._waiting: dict[int, Stream] = {}  # for a window
        self._full: dict[int, Stream] = {}  # were asked, and not writable

    # what the codec queues

    def control(self, frame: bytes) -> None:
        """A whole frame that is no stream's body."""
        self._collect()
        self._out.append(frame)

    def answer(self, stream: Stream, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer to a whole request: head, body, which is not empty, and end."""
        stream.head = fields
        stream.state = ENDED
        stream.pieces.append(body)
        stream.queued = len(body)
        self._heads[stream.id] = self._ready[stream.id] = stream
        self._answers[stream.id] = stream

    def interim(self, stream: Stream, head: InformationalHead) -> None:
        """A 1xx."""
        fields: list[tuple[bytes, bytes]] = [HeaderTuple(b":status", b"%d" % head.status), *plain_fields(head.fields)]
        self._collect()
        self._out += self._library.head(stream.machine, fields, end=False, interim=True)

    def head(self, stream: Stream, fields: list[tuple[bytes, bytes]], length: int | None, more: bytes = b"") -> None:
        """The head of a message.

        :param length: octets of its body, or None where only its end tells
        :param more: encoded fields, behind the others
        """
        stream.out_left = length
        stream.head = fields
        stream.more = more
        stream.state = SENDING
        self._heads[stream.id] = stream

    def whole(self, stream: Stream, fields: list[tuple[bytes, bytes]]) -> None:
        """A head that is the whole message."""
        self._collect()
        self._out += self._library.head(stream.machine, fields, end=True, more=stream.more)

    def switch(self, stream: Stream, fields: list[tuple[bytes, bytes]]) -> None:
        """The stream carries octets from now on."""
        stream.head = fields
        stream.state = TUNNEL
        self._heads[stream.id] = stream

    def body(self, stream: Stream, data: bytes) -> None:
        """A piece.

        :raises MisuseError: it is more than the length that was announced
        """
        if stream.bodiless:
            return
        left = stream.out_left
        if left is not None:
            if len(data) > left:
                raise MisuseError("the message's body is longer than its length")
            stream.out_left = left - len(data)
        stream.pieces.append(data)
        stream.queued += len(data)
        if not stream.blocked:
            self._ready[stream.id] = stream

    def end(self, stream: Stream, trailers: Fields) -> None:
        """Nothing comes after what is queued.

        :raises MisuseError: the body is shorter than its length
        """
        if stream.out_left:
            raise MisuseError("the message's body is shorter than its length")
        stream.state = ENDED
        stream.trailers = plain_fields(trailers) if not stream.bodiless else []
        head = stream.head
        if head is not None and not stream.pieces and not stream.trailers:
            stream.head = None
            del self._heads[stream.id]
            self.whole(stream, head)
            self._owner.sent(stream)
        elif not stream.blocked:
            self._ready[stream.id] = stream

    def drop(self, stream: Stream) -> None:
        """Forget what is queued of a stream that is over."""
        stream.pieces.clear()
        stream.queued = 0
        stream.head = None
        for waiting in (self._heads, self._ready, self._waiting, self._full, self._answers):
            waiting.pop(stream.id, None)

    # windows

    def writable(self, stream: Stream) -> bool:
        """Whether more may be queued on it."""
        if self._has_room(stream, 1):
            return True
        self._full[stream.id] = stream
        return False

    @property
    def _queued(self) -> int:
        held = sum([stream.queued for stream in self._waiting.values()])
        return held + sum([stream.queued for stream in self._ready.values()])

    def _has_room(self, stream: Stream, share: int) -> bool:
        if not stream.queued:
            return True
        limits = self._limits
        return stream.queued < limits.queue // share and self._queued < limits.queues // share

    def window_opened(self, stream: Stream) -> None:
        """The peer takes more of one stream."""
        if self._waiting.pop(stream.id, None) is not None:
            stream.blocked = False
            self._ready[stream.id] = stream

    def windows_opened(self) -> None:
        """The peer takes more of all streams."""
        for stream in list(self._waiting.values()):
            self.window_opened(stream)

    # what leaves

    def write_heads(self) -> None:
        """Let no head wait any longer."""
        if self._heads:
            self._collect()
            for stream in self._heads.values():
                assert stream.head is not None
                self._out += self._library.head(stream.machine, stream.head, end=False, more=stream.more)
                stream.head = None
            self._heads.clear()

    @property
    def has_output(self) -> bool:
        """Whether :meth:`take` has something to do, with enough room."""
        return bool(self._out or self._ready or self._heads or self._full or self._library.has_output)

    def take(self, room: int) -> list[bytes]:
        """What can leave now."""
        if not self.has_output:
            return []
        if self._answers:
            room = self._give_answers(room)
        self.write_heads()
        self._collect()
        if self._ready:
            self._fill(room)
            self._collect()
        if self._full:
            for stream in list(self._full.values()):
                if self._has_room(stream, 2):
                    del self._full[stream.id]
                    self._owner.tell((stream.id, Writable()))
        out, self._out = self._out, []
        return out

    def _collect(self) -> None:
        if self._library.has_output:
            self._out.append(self._library.data_to_send())

    def _give_answers(self, room: int) -> int:
        """Write the answers that are whole, where nobody else waits for a turn; give what is left of ``room``.

        The same octets as in several steps, at half the cost; what does not fit goes their way.
        """
        library, answers, out = self._library, self._answers, self._out
        if len(answers) == len(self._ready):
            self._collect()
            for stream in list(answers.values()):
                size = stream.queued
                if room <= 0 or size > min(
                    MAX_FRAME, library.outbound_flow_control_window, stream.machine.outbound_flow_control_window
                ):
                    break
                assert stream.head is not None
                out.append(library.whole(stream.machine, stream.head, stream.pieces[0]))
                room -= size
                self.sent += size
                self._owner.earned()
                self._owner.sent(stream)
        answers.clear()
        return room

    def _fill(self, room: int) -> None:
        library, ready, out = self._library, self._ready, self._out
        while ready:
            stream = next(iter(ready.values()))
            if not stream.pieces:
                # nothing but its end
                del ready[stream.id]
                self._finish(stream)
                continue
            machine = stream.machine
            window = min(library.outbound_flow_control_window, machine.outbound_flow_control_window)
            if window <= 0:
                del ready[stream.id]
                stream.blocked = True
                self._waiting[stream.id] = stream
                continue
            if room <= 0:
                break
            data = stream.take(min(window, MAX_FRAME))
            size = len(data)
            room -= size
            self.sent += size
            if size >= SMALL or not stream.pieces:
                self._owner.earned()
            del ready[stream.id]
            # Written here, and not by the library, which would copy it three times.
            library.outbound_flow_control_window -= size
            machine.outbound_flow_control_window -= size
            if stream.state is ENDED and not stream.pieces and not stream.trailers:
                out += (frame_header(size, DATA, END_STREAM, stream.id), data)
                library.ended(machine)
                self._owner.sent(stream)
                continue
            out += (frame_header(size, DATA, 0, stream.id), data)
            if stream.pieces or stream.state is ENDED:
                ready[stream.id] = stream

    def _finish(self, stream: Stream) -> None:
        if stream.trailers:
            self._out += self._library.head(stream.machine, stream.trailers, end=True)
        else:
            self._out.append(frame_header(0, DATA, END_STREAM, stream.id))
            self._library.ended(stream.machine)
        self._owner.sent(stream)
