"""Every size and rate that an HTTP/2 codec bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import InformationalHead, RequestHead, ResponseHead

__all__ = [
    "CANCELLED",
    "CANCELS",
    "CONTINUATIONS",
    "DEFAULT_LIMITS",
    "EMPTY_DATA",
    "IGNORED",
    "IGNORED_OF_SERVICES",
    "INTERIM",
    "LONGEST_REASON",
    "MAX_FRAME",
    "MOST_WINDOW",
    "PINGS",
    "PINGS_EARNED",
    "PRIORITIES",
    "REMEMBERED",
    "RESETS",
    "SERVICE_GROWTH",
    "SERVICE_WINDOW",
    "SETTINGS",
    "TABLE_SIZE",
    "UPDATES",
    "UPDATES_EARNED",
    "Budget",
    "H2Limits",
]

MAX_FRAME = 16384
"""Payload of a frame, both ways: the smallest SETTINGS_MAX_FRAME_SIZE there is.  Larger frames would only let one
stream hold the line for longer; a frame as large costs as much a byte as one of a megabyte."""

TABLE_SIZE = 4096
"""Octets of HPACK's dynamic tables, both ways: the default of RFC 7541.  A peer that allows us more gets no more."""

REMEMBERED = 512
"""Closed streams of which it is known how they ended, so that frames under way are told from a breach: five times what
may be open."""

CONTINUATIONS = 16
"""CONTINUATION frames of one header block.  Clients split at 16 KiB, so two are the most that a legal head needs."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How often a peer may do what costs us something and itself nothing.

    :ivar burst: at once
    :ivar rate: a second, for ever
    :ivar most: what it may be earned up to; 0 for no more than ``burst``
    """

    burst: int
    rate: float
    most: int = 0


RESETS = Budget(200, 30)
"""Streams that end by RST_STREAM: the peer's own (CVE-2023-44487, "rapid reset"), and those that its faults or its
crowding bring out of us (CVE-2025-8671, "MadeYouReset").  A browser that leaves a page cancels what is open, which
is 100 at the most; twice that is an accident, and 30 a second for ever is nobody's."""

PINGS = Budget(50, 5)
"""PING: each makes us write as much, beyond :data:`PINGS_EARNED`.  gRPC's most nervous keep-alive is one a second."""

PINGS_EARNED = 1
"""PING frames that each DATA frame of ours earns: gRPC measures the path (BDP) by a PING whenever data comes and none
is under way, which on a short path is a thousand a second."""

SETTINGS = Budget(20, 1)
"""SETTINGS: each makes us write, and may move the windows of all streams.  Clients send one, or two."""

EMPTY_DATA = Budget(100, 10)
"""DATA without an octet and without END_STREAM: no flow control bounds it (CVE-2019-9518)."""

PRIORITIES = Budget(500, 50)
"""PRIORITY, PRIORITY_UPDATE and frames of unknown types, all of which are read and forgotten: Firefox's old tree had
six of them, browsers send one or two a request."""

UPDATES = Budget(1000, 50)
"""WINDOW_UPDATE beyond :data:`UPDATES_EARNED`."""

UPDATES_EARNED = 4
"""WINDOW_UPDATE frames that each DATA frame of ours and each request earn: two for every DATA frame (its stream's and
the connection's) is what the most diligent client sends."""

IGNORED = Budget(1000, 100)
"""Frames on streams that were reset: what was under way is legal, and bounded by the window; a window of single octets
is not meant."""

CANCELLED = 8192
"""Frames that a stream which we reset adds to :data:`IGNORED_OF_SERVICES`: its window may be full of small messages."""

IGNORED_OF_SERVICES = Budget(1000, 100, most=100 * CANCELLED)
"""The same of a service, whose streams it is we who reset: what each of them may still have under way is earned."""

CANCELS = 100
"""Requests that we cancel on one connection to a service before it takes no further one: services count them
(CVE-2023-44487), and one visitor's must not cost the others theirs."""

SERVICE_WINDOW = 64 * 1024
"""A stream's window towards a service at first, which is what HTTP/1's codec takes ahead of its reader."""

MOST_WINDOW = 1024 * 1024
"""… and at the most: 20 MB/s at 50 ms."""

SERVICE_GROWTH = 8 * 1024 * 1024
"""What the windows of a connection to a service may grow by: eight downloads at full speed."""

LONGEST_REASON = 200
"""Octets of the text in a GOAWAY that are kept for a log."""

INTERIM = 64 * 1024
"""Octets of interim answers in front of one final answer, as on HTTP/1."""


@dataclass(frozen=True, slots=True)
class H2Limits:
    """Sizes in octets unless said otherwise.

    :ivar head: a field section, each field with the 32 octets that RFC 9113 §6.5.2 adds; 431 past it
    :ivar fields: field lines of a head or of trailers; 431 past it
    :ivar target: the request target; 414 past it
    :ivar method: the method's name; 501 past it
    :ivar streams: requests at once on a connection: what browsers open for a page at most, and as many as most services
        allow; past it we open another connection to a service
    :ivar window: a stream's body given out and not acknowledged: 256 KiB at 50 ms of distance are 5 MB/s
    :ivar most_window: what the window of a stream may grow to whose reader keeps pace (towards services)
    :ivar growth: what all the windows of a connection together may grow by
    :ivar connection_window: the same of all streams together: four full ones, so that a stalled upload leaves room
    :ivar queue: body of an answer that a stream holds for its peer's window before it is not writable any more
    :ivar queues: the same of all streams together; a stream that holds nothing may always add its first piece
    :ivar requests: heads that were judged by these limits (:mod:`wormhole_tw.http.memo`)
    :ivar answers: the same of answers
    """

    head: int = 32 * 1024
    fields: int = 100
    target: int = 8 * 1024
    method: int = 32
    streams: int = 100
    window: int = 256 * 1024
    most_window: int = 256 * 1024
    growth: int = 0
    connection_window: int = 1024 * 1024
    queue: int = 64 * 1024
    queues: int = 512 * 1024
    requests: dict[tuple[bool, tuple[tuple[bytes, bytes], ...]], RequestHead] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    answers: dict[tuple[bool, bool, tuple[tuple[bytes, bytes], ...]], ResponseHead | InformationalHead] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def towards_services(self) -> H2Limits:
        """The same for connections to services, which strangers to each other share: no stream's share is another's.

        What all streams together may hold is what they may hold one by one, so that one that is not read, or does not
        read, takes nothing away from the others.  A window begins small, for answers that nobody reads are the
        edge's to hold, and grows while its answer is taken as fast as it comes.
        """
        window, growth = SERVICE_WINDOW, SERVICE_GROWTH
        return replace(
            self,
            window=window,
            most_window=MOST_WINDOW,
            growth=growth,
            connection_window=self.streams * window + growth,
            queues=self.streams * self.queue,
        )

    @property
    def decoded(self) -> int:
        """Octets of a decoded header block (with 32 a field) past which the connection ends (an HPACK bomb).

        What is between this and ``head`` can still be answered with a 431.
        """
        return 4 * self.head

    @property
    def block(self) -> int:
        """Octets of an encoded header block: Huffman coding only ever makes a sane one shorter."""
        return self.decoded


DEFAULT_LIMITS = H2Limits()
