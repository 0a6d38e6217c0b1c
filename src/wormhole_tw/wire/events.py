"""What a session tells its shell.

Order is the order of the bytes.  Every stream that appeared in a ``StreamOpened``, or came from ``Session.open``,
ends with exactly one ``StreamClosed``.  The last event of a link is exactly one of ``LinkFailed``, ``LinkDead`` and
``LinkClosed``, after the ends of its streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from wormhole_tw.errors import TunnelProtocolError
from wormhole_tw.wire.messages import Goaway, Hello, Open, Opened, Welcome

__all__ = [
    "DataReceived",
    "Drained",
    "Event",
    "GoawayReceived",
    "HelloReceived",
    "IdsLow",
    "LinkClosed",
    "LinkDead",
    "LinkFailed",
    "SendReady",
    "StatusChanged",
    "StreamAccepted",
    "StreamClosed",
    "StreamEnded",
    "StreamOpened",
    "StreamWasReset",
    "Welcomed",
]


@dataclass(slots=True)
class HelloReceived:
    """Accepting side: judge it, then ``welcome()`` or ``goaway()``."""

    hello: Hello


@dataclass(slots=True)
class Welcomed:
    """Dialling side: the link stands."""

    welcome: Welcome


@dataclass(slots=True)
class StatusChanged:
    """The peer said whether it takes streams. Until the first of these it does not."""

    ready: bool
    reason: str


@dataclass(slots=True)
class StreamOpened:
    """The peer opened a stream. Answer with ``accept()`` or ``reset()``."""

    stream_id: int
    message: Open


@dataclass(slots=True)
class StreamAccepted:
    """OPENED came for a stream of ours."""

    stream_id: int
    message: Opened


@dataclass(slots=True)
class DataReceived:
    """Octets of a stream, never empty, an own copy. ``acknowledge()`` them when they are consumed."""

    stream_id: int
    data: bytes


@dataclass(slots=True)
class StreamEnded:
    """The peer sends nothing more on this stream."""

    stream_id: int


@dataclass(slots=True)
class StreamWasReset:
    """The stream ended before its end: by the peer's RESET, by a limit kept here, by GOAWAY or with the link.

    :ivar code: a :class:`wormhole_tw.wire.codes.ResetCode`, or an unknown number from a newer peer
    :ivar delivered: False promises that no octet that we sent on it reached the service
    """

    stream_id: int
    code: int
    message: str
    delivered: bool


@dataclass(slots=True)
class StreamClosed:
    """Nothing more comes for this id, and nothing more goes out."""

    stream_id: int


@dataclass(slots=True)
class SendReady:
    """What was queued on this stream fell to the low-water mark: resume its producer."""

    stream_id: int


@dataclass(slots=True)
class GoawayReceived:
    """The peer leaves; open nothing more. Streams it did not process were reset before this event."""

    goaway: Goaway


@dataclass(slots=True)
class IdsLow:
    """Our stream ids come to their end: send GOAWAY(ids_exhausted). Told once."""


@dataclass(slots=True)
class Drained:
    """GOAWAY went either way and no stream is left. Told once."""


@dataclass(slots=True)
class LinkFailed:
    """The peer broke the protocol, passed a limit or was late. Write what is queued (a GOAWAY), then close."""

    error: TunnelProtocolError


@dataclass(slots=True)
class LinkDead:
    """The peer was silent for too long. Abort the connection; there is nothing to write."""


@dataclass(slots=True)
class LinkClosed:
    """The connection ended, or a GOAWAY that ends it is queued: write it, then close."""


Event = (
    HelloReceived
    | Welcomed
    | StatusChanged
    | StreamOpened
    | StreamAccepted
    | DataReceived
    | StreamEnded
    | StreamWasReset
    | StreamClosed
    | SendReady
    | GoawayReceived
    | IdsLow
    | Drained
    | LinkFailed
    | LinkDead
    | LinkClosed
)
