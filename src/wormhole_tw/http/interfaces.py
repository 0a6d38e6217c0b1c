"""The one shape of every HTTP codec: bytes and time in, events out; events in, bytes out.

A listener and an upstream client drive any of them with the same rhythm: feed, handle the events, fetch
``data_to_send``, look at ``wants_data``, ``should_close`` and ``should_abort``.
"""

from __future__ import annotations

from typing import Protocol

from wormhole_tw.http.events import Event, RequestHead, ResponseHead

__all__ = [
    "ClientCodec",
    "Codec",
    "ManyStreams",
    "ManyStreamsClientCodec",
    "ManyStreamsCodec",
    "OneStreamCodec",
    "ServerCodec",
    "StreamEvent",
]

StreamEvent = tuple[int, Event]
"""An event and the stream it belongs to.  HTTP/1 counts its requests 1, 2, 3 …"""


class Codec(Protocol):
    """What both sides share.  No method raises for a peer's fault: that is a ``Failed`` event."""

    def receive_data(self, data: bytes, now: float) -> list[StreamEvent]:
        """Take bytes of the peer; ``b""`` goes on with bytes that were held back (see :attr:`has_held`).

        :param now: the clock, in seconds
        """

    def receive_eof(self, now: float) -> list[StreamEvent]:
        """The peer ended its direction."""

    def send(self, stream: int, event: Event) -> None:
        """Queue an event's bytes.

        :raises MisuseError: when the stream's state does not allow the event, or a field would break the framing
        """

    def acknowledge(self, stream: int, n: int) -> None:
        """``n`` octets of ``Body`` or ``Raw`` were consumed; unknown or ended streams are ignored."""

    def reset(self, stream: int, code: int = 0) -> None:
        """Give the stream up in both directions; ``code`` is an HTTP/2 error code (HTTP/1 has none)."""

    def sendable(self, stream: int) -> int:
        """How many octets of body the peer's windows allow now; 0 for a stream that is not open."""

    def data_to_send(self) -> list[bytes]:
        """Take what is queued, in order; buffers of any size, not joined."""

    def shut_down(self) -> None:
        """End gracefully: streams that are open finish, no new one begins."""

    @property
    def wants_data(self) -> bool:
        """False while enough is held or unacknowledged: the shell pauses reading."""

    @property
    def has_held(self) -> bool:
        """Bytes were held back and can be read now: call ``receive_data(b"", now)``."""

    @property
    def should_close(self) -> bool:
        """The connection has done its work: close it once ``data_to_send`` is written."""

    @property
    def should_abort(self) -> bool:
        """What the peer has of a message is cut: drop the connection without a clean end."""

    @property
    def output_ended(self) -> bool:
        """A switched connection's own direction has ended: half-close once ``data_to_send`` is written."""


class ServerCodec(Codec, Protocol):
    """Towards visitors: ``RequestHead`` comes out of it, ``ResponseHead`` goes into it."""

    @property
    def idle(self) -> bool:
        """No request is begun, read or unanswered."""


class OneStreamCodec(ServerCodec, Protocol):
    """A server codec whose requests come one after the other: HTTP/1."""

    def send_whole(self, stream: int, head: ResponseHead, body: bytes) -> bytes:
        """:meth:`send` of a head, a body (may be empty) and an end without trailers.

        :returns: the octets, for who writes them at once, where nothing else waits, in or out, and the codec is
            :attr:`idle`; empty where it was queued
        """

    def receive_whole(self, data: bytes) -> tuple[int, RequestHead] | None:
        """A shorter way than :meth:`receive_data` for a request without a body that is all of ``data``.

        :returns: its stream and head, no ``End`` follows; None where it is not so, or not known to be: nothing was done
        """

    @property
    def waits_for_answer(self) -> bool:
        """The one request is whole, nothing of another has come, and nothing waits to be sent."""


class ManyStreams(Codec, Protocol):
    """What both sides share where messages run beside each other: HTTP/2."""

    def take_events(self) -> list[StreamEvent]:
        """Events that came of sending, and not of receiving: ``Writable``, ``Closed`` … To be asked for after
        ``send``, ``reset``, ``acknowledge`` and ``data_to_send``."""

    def data_to_send(self, room: int = ...) -> list[bytes]:
        """As above, with at most about ``room`` octets of bodies, the streams in turn."""

    @property
    def has_output(self) -> bool:
        """Whether :meth:`data_to_send` would have something to do, given room enough."""

    def writable(self, stream: int) -> bool:
        """Whether more of a body may be given to ``send``; once it said no, a ``Writable`` event says yes."""

    def queued(self, stream: int) -> int:
        """Octets of a body that wait for the peer's window or for ``data_to_send``."""

    def window(self, stream: int) -> int:
        """Octets that the stream's own window leaves, whatever the connection's does."""

    def unread(self, stream: int) -> int:
        """Octets of the peer's that were given out and not acknowledged."""

    @property
    def idle(self) -> bool:
        """No stream is open."""

    @property
    def lingers(self) -> bool:
        """Streams are left whose peer has not ended them: call :meth:`let_go` from time to time."""

    def let_go(self) -> None:
        """End those that lingered at the last call, too."""

    @property
    def sent(self) -> int:
        """Octets of bodies that have left since the connection began."""

    @property
    def fault(self) -> str | None:
        """What the peer did that ended the connection, for a log."""


class ManyStreamsCodec(ManyStreams, ServerCodec, Protocol):
    """A server codec whose requests run beside each other: HTTP/2.

    Each stream ends with ``Abandoned`` (the peer's doing; so is the end of the connection) or with ``Closed``.
    """

    def opens(self, stream: int, head: ResponseHead) -> bool:
        """Whether a head opens the WebSocket that its stream asks for; any other success becomes a bare 502."""

    def send_whole(self, stream: int, head: ResponseHead, body: bytes) -> None:
        """:meth:`send` of a head, a body (may be empty) and an end without trailers."""

    @property
    def held_back(self) -> bool:
        """No stream may be able to send a body: what was not acknowledged fills the connection's window."""

    @property
    def head_since(self) -> float | None:
        """Since when a head has begun that is not whole."""

    @property
    def untold(self) -> dict[str, int]:
        """How often something was refused since the connection began without an event, by reason: requests that were
        malformed, streams past those that may be open at once, and what broke or flooded the connection."""

    def announce_end(self) -> None:
        """End gracefully, idle or not: what the peer asks for until it has heard of it is taken, too."""


class ClientCodec(Codec, Protocol):
    """Towards origins: ``RequestHead`` goes into it, ``ResponseHead`` comes out of it.

    :ivar request_id: goes with the next head as ``X-Request-Id``, which no head has itself: requests that differ in
        nothing else share one.  Empty for none.
    """

    request_id: bytes

    def new_stream(self) -> int:
        """The id for the next request, to pass to ``send`` with its head.

        :raises MisuseError: when no request can begin (see :attr:`reusable`)
        """

    def receive_whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """A shorter way than :meth:`receive_data` for a whole answer that is all of ``data``.

        :returns: its head and body; None where it is not so, or not known to be: nothing was done
        """

    @property
    def reusable(self) -> bool:
        """Another request can begin now."""


class OneStreamClientCodec(ClientCodec, Protocol):
    """A client codec whose requests come one after the other: HTTP/1.

    :ivar stream: the id of the last request
    """

    stream: int

    def whole_request(self, head: RequestHead) -> bytes:
        """:meth:`new_stream`, and :meth:`send` of a head without a body and of its end.

        :returns: the octets, for who writes them at once: nothing is queued
        """


class ManyStreamsClientCodec(ManyStreams, ClientCodec, Protocol):
    """A client codec whose requests run beside each other: HTTP/2."""

    def send_whole(self, head: RequestHead) -> int:
        """:meth:`new_stream`, and :meth:`send` of a head without a body and of its end; gives the stream."""

    def finish(self, stream: int) -> None:
        """End a switched stream behind what is queued on it; no event of it follows."""

    @property
    def spent(self) -> bool:
        """No request can begin any more; ``reusable`` may be False for a while only, where it is full."""

    @property
    def settled(self) -> bool:
        """The origin has said what it takes."""

    @property
    def connects(self) -> bool:
        """It takes ``upgrade`` of a WebSocket; known once it is :attr:`settled`."""

    @property
    def left(self) -> tuple[int, bytes] | None:
        """Code and text of the origin's word that it takes no further request, or None."""
