"""The messages of the tunnel protocol and their msgpack form: docs/protocol.md, "Messages".

A message is a msgpack map from field names to values.  Unknown fields are ignored, a field that is left out has its
default, and a sender may leave out what equals it.  What is out of range is the peer's error when decoded and
a :class:`~wormhole_tw.errors.MisuseError` when encoded, so that our own mistake never ends a link over there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

from wormhole_tw.errors import MisuseError, TunnelProtocolError
from wormhole_tw.structs import Meta, MsgspecError, Struct, field, msgpack
from wormhole_tw.wire.codes import GoawayCode

__all__ = [
    "INITIAL_CREDIT",
    "MAX_MESSAGE",
    "MAX_SENTENCE",
    "MAX_WINDOW",
    "Goaway",
    "Hello",
    "Limits",
    "Message",
    "Open",
    "Opened",
    "Release",
    "Reset",
    "Service",
    "Status",
    "Timers",
    "TlsFacts",
    "Visitor",
    "Welcome",
    "clip",
    "decode",
    "encode",
]

MAX_MESSAGE = 16 * 1024
"""Octets of a message's payload. A HELLO with a full release is under 8 KiB; more only helps who wants memory."""

MAX_SENTENCE = 512
"""Characters of a sentence for people (GOAWAY, RESET, STATUS): one log line, and a short RESET for a short OPEN."""

MAX_LIST = 64
"""Entries of a list in a message; services and URLs of one agent are a handful."""

MAX_WINDOW = 2**31 - 1
"""The most credit that a stream may have at one time."""

INITIAL_CREDIT = 64 * 1024
"""The credit that a stream starts with where a side says nothing: four turns of the scheduler."""

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(max_length=255)]
_Long = Annotated[str, Meta(max_length=1024)]
_Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE)]
_Code = Annotated[int, Meta(ge=0, le=65535)]
_Credit = Annotated[int, Meta(ge=1024, le=MAX_WINDOW)]
_Seconds = Annotated[float, Meta(gt=0, le=86400)]
_Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Names = Annotated[list[_Name], Meta(max_length=MAX_LIST)]


class Service(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One private service of an agent: a name, and the kinds of stream it takes."""

    name: _Name = "default"
    kinds: _Names = field(default_factory=lambda: ["http", "tcp"])


class Release(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the agent's service was built from. Every field may be empty; use :func:`clip` on foreign text."""

    id: _Long = ""
    branch: _Long = ""
    description: _Long = ""
    vcs_type: _Text = ""
    vcs_revision: _Long = ""
    vcs_revision_message: _Long = ""
    vcs_revision_time: _Text = ""
    vcs_revision_author_name: _Text = ""
    vcs_revision_author_email: _Text = ""


class Hello(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The dialling side's first message: who it is and what it offers.

    :ivar instance: 128 random bits of one service object, never shown to anybody
    :ivar initial_credit: octets that the other side may send on a new stream before a WINDOW
    """

    role: Literal["agent", "edge"]
    versions: Annotated[list[_Count], Meta(min_length=1, max_length=16)]
    token: Annotated[str, Meta(min_length=1, max_length=512, pattern=r"\A[\x20-\x7e]+\Z")]
    instance: Annotated[bytes, Meta(min_length=16, max_length=16)]
    slot: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    generation: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    previous: Literal["draining", "gone"] = "gone"
    host: _Text = ""
    software: _Text = ""
    release: Release | None = None
    services: Annotated[list[Service], Meta(max_length=MAX_LIST)] = field(default_factory=list)
    initial_credit: _Credit = INITIAL_CREDIT
    options: _Names = field(default_factory=list)
    hostname: Annotated[str, Meta(min_length=1, max_length=255)] | None = None

    def __repr__(self) -> str:
        # a token never reaches a log or a traceback, not even by accident
        return f"Hello(role={self.role!r}, slot={self.slot}, generation={self.generation}, software={self.software!r})"


class Limits(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What holds on this link: streams that either side may have open at once, octets of DATA and of a message."""

    max_streams: _Count = 8192
    max_data: Annotated[int, Meta(ge=1024, le=65536)] = 65536
    max_message: Annotated[int, Meta(ge=16384, le=2**24 - 1)] = 16384


class Timers(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Seconds: PING after this silence, dead after that, and how long a drain may take."""

    ping_after: _Seconds = 5.0
    dead_after: _Seconds = 12.0
    drain: _Seconds = 30.0


class Welcome(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The accepting side's answer to HELLO: the link stands."""

    session: Annotated[str, Meta(min_length=1, max_length=64)]
    edge: _Text = ""
    region: _Text = ""
    version: _Count = 1
    urls: Annotated[list[_Long], Meta(max_length=MAX_LIST)] = field(default_factory=list)
    limits: Limits = Limits()
    timers: Timers = Timers()
    initial_credit: _Credit = INITIAL_CREDIT
    granted: _Names = field(default_factory=list)


class Status(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Whether the sender takes new streams, and a sentence why (not)."""

    ready: bool
    reason: _Sentence = ""


class TlsFacts(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is known of the TLS between visitor and edge.

    :ivar client_fingerprint: SHA-256 of the certificate that the visitor showed and the edge verified, in hex; None for
        none
    :ivar client_subject: its subject as RFC 4514 writes it, perhaps cut
    """

    version: _Text = ""
    cipher: _Text = ""
    sni: _Text | None = None
    alpn: _Text | None = None
    client_fingerprint: _Text | None = None
    client_subject: _Text | None = None


class Visitor(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The visitor of a dedicated stream: its address and port, the host name it asked for, where it came to."""

    address: Annotated[str, Meta(max_length=64)]
    port: Annotated[int, Meta(ge=0, le=65535)]
    server_name: _Text = ""
    local_address: Annotated[str, Meta(max_length=64)] = ""
    local_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    tls: TlsFacts | None = None


class Open(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The first frame of a stream.

    :ivar kind: ``http`` or ``tcp``; others may come, and are answered by RESET(unsupported_kind)
    :ivar proxy_protocol: the connection to the service begins with a header of this version, of the visitor's facts
    :ivar backend: for links between edges: whose agent is asked for
    :ivar hops: how many edges the stream has crossed already
    """

    kind: _Name
    service: _Name = "default"
    dedicated: bool = False
    visitor: Visitor | None = None
    proxy_protocol: Literal["v1", "v2"] | None = None
    backend: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    hops: Annotated[int, Meta(ge=0, le=255)] = 0


class Opened(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The far side's connection to the service stands; ``address`` may say to what."""

    address: _Text = ""


class Reset(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The stream ends now. ``delivered`` False promises that no octet of it reached the service."""

    code: _Code
    message: _Sentence = ""
    delivered: bool = True


class Goaway(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The sender leaves.

    :ivar last_stream_id: streams that the receiver of this opened with higher ids were not processed
    :ivar retry_after: seconds to wait before the next try, where the sender knows better than the receiver
    """

    code: _Code
    message: _Sentence = ""
    last_stream_id: _Id = 0
    retry_after: Annotated[float, Meta(ge=0, le=86400)] | None = None


Message = Hello | Welcome | Status | Open | Opened | Reset | Goaway

_M = TypeVar("_M", Hello, Welcome, Status, Open, Opened, Reset, Goaway)

_ENCODER = msgpack.Encoder()
_DECODERS: dict[type, msgpack.Decoder[Message]] = {
    cls: msgpack.Decoder(cls) for cls in (Hello, Welcome, Status, Open, Opened, Reset, Goaway)
}
_WHERE = re.compile(r"at `(?:key in )?(\$[\w.\[\]]*)`|field `(\w+)`")


def decode(cls: type[_M], payload: bytes) -> _M:
    """Read one message.

    :raises TunnelProtocolError: it is no msgpack map of this schema. The error names the field and never its value,
        which could be a token.
    """
    try:
        return _DECODERS[cls].decode(payload)  # type: ignore[return-value]
    except (MsgspecError, ValueError, RecursionError) as error:
        raise TunnelProtocolError(GoawayCode.PROTOCOL_ERROR, _explain(cls, error)) from None


def encode(message: Message) -> bytes:
    """Write one message.

    :raises MisuseError: a field is out of range, or the whole is longer than :data:`MAX_MESSAGE`
    """
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_MESSAGE:
        raise MisuseError(f"{type(message).__name__} is {len(payload)} bytes long; the limit is {MAX_MESSAGE}")
    try:
        _DECODERS[type(message)].decode(payload)
    except MsgspecError as error:
        raise MisuseError(_explain(type(message), error)) from None
    return payload


def clip(text: str, limit: int = 1024) -> str:
    """Foreign text (a commit message), cut so that it fits a field of at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _explain(cls: type, error: Exception) -> str:
    found = _WHERE.search(str(error))
    where = (found[1] or found[2]) if found else "$"
    return f"{cls.__name__.upper()} is not valid at {where}"
