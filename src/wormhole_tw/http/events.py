"""The one vocabulary of HTTP message events, for every version of HTTP and both sides of a proxy.

A codec turns bytes into these and these into bytes; an exchange knows nothing else.  A message is
``RequestHead`` or any number of ``InformationalHead`` and one ``ResponseHead``, then ``Body`` chunks, then ``End``.
After a 101 (or a 2xx to CONNECT with ``:protocol``) the stream is raw: ``Raw`` chunks, then ``RawEnd``.
``Failed`` is the last event of a stream whose peer broke the rules: codecs report that, they do not raise it, so that
what came before it in the same bytes is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from wormhole_tw.errors import HttpError

__all__ = [
    "Abandoned",
    "Body",
    "Closed",
    "End",
    "Event",
    "Failed",
    "Fields",
    "Framing",
    "InformationalHead",
    "Raw",
    "RawEnd",
    "RequestHead",
    "ResponseHead",
    "Writable",
]

Fields = list[tuple[bytes, bytes]]
"""Field lines in order, name as received, value without surrounding white space (RFC 9110 §5.5)."""


class Framing(Enum):
    """How the length of a body is known (RFC 9112 §6.3; HTTP/2 has only NONE, LENGTH and STREAM)."""

    NONE = "none"
    """there is no body"""
    LENGTH = "length"
    """Content-Length says how many octets"""
    CHUNKED = "chunked"
    """a chunked coding ends it (HTTP/2: END_STREAM does); trailers may follow"""
    CLOSE = "close"
    """the end of the connection ends it (answers of HTTP/1 only)"""


@dataclass(slots=True)
class RequestHead:
    """The head of a request, already judged: RFC 9110 §7, RFC 9112 §3.

    :ivar method: case-sensitive token
    :ivar target: origin-form, path and query as the visitor sent them (an absolute-form is reduced to it), or ``*``
    :ivar authority: the host and optional port the visitor asked for, from the target or ``Host``, as sent
    :ivar version: (1, 0), (1, 1) or (2, 0)
    :ivar fields: every field line but those that frame the message on the wire (HTTP/2 pseudo-headers); includes
        ``Host`` of HTTP/1
    :ivar length: octets of the body where framing is LENGTH, else None
    :ivar expect_continue: the visitor waits for a 100 (RFC 9110 §10.1.1)
    :ivar upgrade: the value of ``Upgrade`` where ``Connection`` names it too, else None
    :ivar keep_alive: whether the connection can carry another request after this one (HTTP/1)
    :ivar common: the same octets came before: the head is shared, and nobody changes it or its fields in place
    :ivar octets: what it was read from, where that is remembered (HTTP/1); empty elsewhere
    :ivar written: a shared one as HTTP/1 writes it, once that was done: :mod:`wormhole_tw.http.h1.writer`'s
    """

    method: bytes
    target: bytes
    authority: bytes
    version: tuple[int, int]
    fields: Fields
    framing: Framing = Framing.NONE
    length: int | None = None
    expect_continue: bool = False
    upgrade: bytes | None = None
    keep_alive: bool = True
    common: bool = field(default=False, repr=False, compare=False)
    octets: bytes = field(default=b"", init=False, repr=False, compare=False)
    written: bytes = field(default=b"", init=False, repr=False, compare=False)


@dataclass(slots=True)
class InformationalHead:
    """An interim answer, 1xx but not 101 (RFC 9110 §15.2)."""

    status: int
    fields: Fields


@dataclass(slots=True)
class ResponseHead:
    """The head of a final answer, or of a 101.

    :ivar status: 101 or 200 to 999
    :ivar reason: reason phrase, may be empty
    :ivar framing: as found (client codec), or as wanted (server codec, which may turn LENGTH-less bodies into what
        the visitor's version can carry)
    :ivar keep_alive: whether the origin's connection can be used again (client codec); False asks a server codec to
        close after this answer
    :ivar common: its fields are shared, and nobody changes them in place
    :ivar written: a shared one as HTTP/1 writes it to a request, and that request, once that was done:
        :mod:`wormhole_tw.http.h1.writer`'s
    """

    status: int
    reason: bytes
    fields: Fields
    version: tuple[int, int] = (1, 1)
    framing: Framing = Framing.NONE
    length: int | None = None
    keep_alive: bool = True
    common: bool = field(default=False, repr=False, compare=False)
    written: tuple[RequestHead, bytes] | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(slots=True)
class Body:
    """A piece of a body, framing removed. ``data`` is never empty."""

    data: bytes


@dataclass(slots=True)
class End:
    """The end of a message, with its trailer fields (RFC 9110 §6.5), which are mostly none."""

    trailers: Fields = field(default_factory=list)


@dataclass(slots=True)
class Raw:
    """Octets after the connection switched protocols."""

    data: bytes


@dataclass(slots=True)
class RawEnd:
    """The peer ended its direction of a switched connection."""


@dataclass(slots=True)
class Failed:
    """The peer's message is not valid HTTP, is past a limit, or ended before its end; nothing follows on its stream.

    On a server codec it may be the first event of a stream (the head itself was refused): the stream can still be
    answered, with ``error.status``, if no answer has begun.
    """

    error: HttpError


@dataclass(slots=True)
class Abandoned:
    """The peer gave the stream up, or took the whole connection with it: nothing can be said on it any more (HTTP/2).

    :ivar code: the HTTP/2 error code
    """

    code: int


@dataclass(slots=True)
class Writable:
    """A stream that was not writable has room for more of its body (HTTP/2)."""


@dataclass(slots=True)
class Closed:
    """The stream has ended both ways, and what was queued on it has left (HTTP/2).  Nothing follows on it."""


Event = (
    RequestHead | InformationalHead | ResponseHead | Body | End | Raw | RawEnd | Failed | Abandoned | Writable | Closed
)
