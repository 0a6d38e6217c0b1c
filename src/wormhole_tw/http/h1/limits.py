"""Every size that an HTTP/1 codec bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import RequestHead, ResponseHead

__all__ = ["DEFAULT_LIMITS", "UNLIMITED", "H1Limits"]

UNLIMITED = 1 << 30
"""HTTP/1 has no windows: the transport's own buffer is the limit of what can be sent."""


@dataclass(frozen=True, slots=True)
class H1Limits:
    """Sizes in octets.  All defaults are what browsers and common frameworks stay well under.

    :ivar head: a whole head, start line and blank line included; 431 past it
    :ivar fields: field lines of a head; 431 past it
    :ivar target: the request target; 414 past it
    :ivar method: the method's name; 501 past it (the longest registered one has 17)
    :ivar chunk_line: extensions of one chunk; nobody uses them but attackers
    :ivar chunk_extensions: extensions of a whole body
    :ivar trailers: a trailer section
    :ivar interim: heads of all 1xx answers before the final one: a bare 102 each second for half an hour
    :ivar held: bytes of later pipelined requests kept while one is being answered, before reading pauses
    :ivar window: body or raw bytes given out and not acknowledged, before reading pauses; one socket read
    :ivar drain: rest of a request's body that is read and thrown away after its answer, to keep the connection
    :ivar requests: heads that were judged by these limits, by their octets (:mod:`wormhole_tw.http.memo`)
    :ivar answers: the same for answers; an answer to HEAD has another key
    """

    head: int = 32 * 1024
    fields: int = 100
    target: int = 8 * 1024
    method: int = 32
    chunk_line: int = 256
    chunk_extensions: int = 4 * 1024
    trailers: int = 8 * 1024
    interim: int = 64 * 1024
    held: int = 16 * 1024
    window: int = 64 * 1024
    drain: int = 64 * 1024
    requests: dict[bytes, RequestHead] = field(default_factory=dict, init=False, repr=False, compare=False)
    answers: dict[tuple[bool, bytes], ResponseHead] = field(default_factory=dict, init=False, repr=False, compare=False)


DEFAULT_LIMITS = H1Limits()
