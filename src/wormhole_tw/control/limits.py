"""``[limits]``: every time and size that strangers and services may take, with a default and the reason for it; and
``[sites.limits]``, those of them that a site may have otherwise.

Times are seconds. Where 0 is allowed it means "no limit" (``drain``, ``waiting``, ``idle_streams``: none); it is not
allowed where it would let strangers hold a socket for ever.
"""

from __future__ import annotations

from typing import Annotated

from wormhole_tw.structs import Meta, Struct, replace

__all__ = ["Count", "CountOrOff", "Limits", "Seconds", "SecondsOrOff", "SiteLimits"]

#: No time in the table is longer than a week: more is a slip of the pen (milliseconds), and inf is no time at all.
_WEEK = 604800.0

#: No count or size is past this (1 TiB): more is a slip, too, and it keeps every figure an ordinary integer.
_HUGE = 1 << 40

Seconds = Annotated[float, Meta(gt=0, le=_WEEK)]
SecondsOrOff = Annotated[float, Meta(ge=0, le=_WEEK)]
Count = Annotated[int, Meta(ge=1, le=_HUGE)]
CountOrOff = Annotated[int, Meta(ge=0, le=_HUGE)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[limits]`` table."""

    #: Octets of a request's or an answer's head, first line and fields: browsers send 2–8 KiB, 16 with single sign-on.
    head_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 32768
    #: Fields of a head, and of trailers: browsers send 20; each one costs an object or two.
    head_fields: Annotated[int, Meta(ge=16, le=10000)] = 100
    #: Octets of a request's target: RFC 9110 §4.1 asks for 8000 at least.
    target_bytes: Annotated[int, Meta(ge=256, le=1 << 20)] = 8192
    #: Octets of a request's body; 0 is off: bodies stream, so their length costs the edge nothing, and it is the
    #: service that knows what is too long for it.
    body_bytes: CountOrOff = 0

    #: From a connection's first moment until TLS stands (or the first byte of a plain one): a slow phone needs 2.
    handshake: Seconds = 10.0
    #: From a request's first byte to the end of its head: heads come in one packet or two.
    head: Seconds = 10.0
    #: The window in which a request's body has to bring ``body_rate`` octets a second while the edge is reading it: TCP
    #: sends a packet that was lost three times over within 7. With this window and the next, slow visitors are gone in
    #: 15 s whatever they are slow at.
    body: Seconds = 8.0
    #: Octets a second, on average over that window: a fifth of what the slowest phones (GPRS) bring, and far more than
    #: it costs nothing to send on a thousand connections. 0 is off: a single octet in a window is enough.
    body_rate: CountOrOff = 240
    #: The window in which a visitor has to take ``stall_rate`` octets a second of what waits for it (``write_buffer``,
    #: and what the kernel holds).
    stall: Seconds = 8.0
    #: Octets a second, as above. 0 is off: a single octet in a window is enough.
    stall_rate: CountOrOff = 240
    #: An idle visitor's connection between two requests: as nginx; browsers give up on their side after 60 to 300.
    keep_alive: Seconds = 75.0
    #: Until an upstream connection stands, the agent's dial of its service included.
    connect: Seconds = 5.0
    #: From the end of the request to the first byte of the answer, and while the service takes nothing more of a
    #: request's body: what most proxies and their users are used to.
    first_byte: Seconds = 60.0
    #: A whole exchange; 0 is off, or downloads, uploads and event streams would break on the clock.
    whole: SecondsOrOff = 0.0
    #: An upgraded connection (WebSocket), a request whose answer has begun before its body has ended, or gRPC to a
    #: service that speaks h2c, without a byte either way; 0 is off. An hour forgives applications that send no pings,
    #: and still frees what a vanished visitor left.
    upgrade_idle: SecondsOrOff = 3600.0
    #: What running exchanges get to finish after SIGTERM: the usual grace of Kubernetes and systemd.
    drain: SecondsOrOff = 30.0

    #: Requests on one visitor's connection; 0 is off. It ends the immortal ones, so that load and memory spread anew.
    requests_per_connection: CountOrOff = 10000
    #: Visitors' connections at once: each is a descriptor and some 50 KiB with TLS, so half a gigabyte at worst.
    connections: Count = 10000
    #: Of these, from one address (of IPv6: from one /64, which is one customer's); 0 is off, for a company or a mobile
    #: network may stand behind one address, and who knows its visitors knows how many.
    connections_per_address: CountOrOff = 0
    #: Requests in flight from one address, upgraded connections too; 0 is off, as above. One HTTP/2 connection may
    #: bring a hundred.
    requests_per_address: CountOrOff = 0
    #: Requests in flight for one site, from everybody; 0 is off: what a service can do at once, its owner knows.
    requests_per_site: CountOrOff = 0
    #: Streams in flight on one agent's link: more than one Python or Node process behind it can answer at once, with
    #: room for WebSockets that only sit there.
    agent_streams: Count = 4096
    #: Requests of one backend that may wait for an agent that is expected back: about what a burst needs.
    waiting: CountOrOff = 100
    #: How long each of them may wait: an agent comes back within 5 s, and no visitor looks at a white page for longer.
    waiting_time: Seconds = 5.0
    #: Idle streams kept for the next request, for each agent session: with fewer than there are
    #: requests at once, each of the others opens a stream and a connection at the service.
    idle_streams: CountOrOff = 128
    #: How long each is kept: under the 5 s after which Node and uvicorn close an idle connection, so that a request
    #: does not run into a closing one.
    idle_stream_time: Seconds = 4.0
    #: Octets buffered towards a visitor before its exchange stops granting credit: a few round trips of a fast line.
    write_buffer: Annotated[int, Meta(ge=4096, le=1 << 26)] = 65536
    #: Failed authentications from one address in a minute before it has to wait: an agent with a wrong token tries
    #: every 5 s at most, a guesser gains nothing.
    failed_authentications: Count = 30


class SiteLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[sites.limits]`` table: the limits of requests, which are known to be for the site; None is the edge's own.

    What counts before that (heads, handshakes, connections) and what belongs to a connection, which may carry requests
    for several sites (``stall``, ``keep_alive``), is the edge's alone.
    """

    body_bytes: CountOrOff | None = None
    body: Seconds | None = None
    body_rate: CountOrOff | None = None
    connect: Seconds | None = None
    first_byte: Seconds | None = None
    whole: SecondsOrOff | None = None
    upgrade_idle: SecondsOrOff | None = None
    requests_per_site: CountOrOff | None = None

    def over(self, limits: Limits) -> Limits:
        """The limits that hold for the site.

        :param limits: the edge's
        """
        own = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return replace(limits, **own)
