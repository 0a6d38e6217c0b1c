"""What the parts of the edge know of one another.

Only what may have several implementations stands here: where requests go (:class:`IUpstream`), who chooses
(:class:`IBalancer`), who waits for a choice (:class:`IWaiter`), what is asked before
(:class:`IGate`), the two ends of an exchange
(:class:`IVisitor` above it, :class:`IUpstreamRequest` below it, which sees it as an :class:`IAnswerHandler`), and where
answers are kept (:class:`ICacheStore`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from random import Random

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint

    from wormhole_tw.control.balancing import Balance
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.control.model import LocalAnswer, Selection
    from wormhole_tw.edge.caching.usage import Usage
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.members import Member
    from wormhole_tw.edge.seeker import Seeker
    from wormhole_tw.http.caching.records import Stored
    from wormhole_tw.http.events import Body, End, Event, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
    from wormhole_tw.http.translation import Translation

__all__ = [
    "IAnswerHandler",
    "IBalancer",
    "IBalancerPlugin",
    "ICacheStore",
    "IDrainable",
    "IGate",
    "IKeeping",
    "IKept",
    "IUpstream",
    "IUpstreamRequest",
    "IUpstreams",
    "IVisitor",
    "IWaiter",
]


class IUpstream(Interface):
    """Something that takes requests: an agent's session, an origin on the web, another edge."""

    key: Hashable = Attribute("what tells it from every other upstream for as long as it lives")
    backend: str = Attribute("the name of the backend it serves")
    branch: str = Attribute("the release branch that runs there, as it says; empty where it says nothing")
    protocol: str = Attribute('what it speaks to requests that begin now, ``"http/1.1"`` or ``"h2c"``')
    per_visitor: bool = Attribute("each visitor connection gets streams of its own, which carry that visitor's facts")
    load: int = Attribute("requests in flight there, ours and others'")
    usable: bool = Attribute("whether a stream dialled now could be taken, and an idle one is worth keeping")
    idle: int = Attribute(
        "its open streams less the requests on them: those that lie idle, and below zero where they carry several; "
        "written by the pool's connections alone"
    )
    connections: int = Attribute("connections (streams of a tunnel) to it that stand; written by the pool alone")
    keep_alive: float = Attribute("seconds for which an idle connection is kept; 0 for ``limits.idle_stream_time``")
    weight: float = Attribute("its share of requests beside the others of its backend, 1 where nobody says otherwise")
    region: str = Attribute("where it is; empty where nobody says")
    translation: Translation | None = Attribute(
        "what is changed in requests and answers on the way, for an origin on the web; None for nothing"
    )
    shown: str = Attribute("what logs call it")
    watched: bool = Attribute("the edge itself has to look whether it is well, for nobody there says so")
    identity: bytes = Attribute(
        "what tells it from the others of its backend, the same after it comes back and at every edge; never shown"
    )
    standing: Member | None = Attribute(
        "what is remembered of its answers, None where nothing has to be; None at first, then dispatch's to write"
    )

    def endpoint(facts: ConnectionFacts | None, host: str) -> IStreamClientEndpoint:
        """How to reach it.

        :param facts: the visitor connection that the stream is dedicated to, or None for a shared one
        :param host: the host name that visitor asked for (dedicated streams only)
        """

    def passage(facts: ConnectionFacts, host: str) -> IStreamClientEndpoint:
        """How to reach its service with a visitor's connection as it is, whatever that speaks; a dedicated stream.

        :param host: the host name that its TLS asks for, or an empty string
        """


class IUpstreams(Interface):
    """The upstreams of every backend: its agents' sessions, and its origins on the web."""

    def for_backend(name: str) -> Sequence[IUpstream]:
        """Those that take a new request now; the same tuple until something changes, so that identity tells.

        It changes where the registry or the catalog does, and nowhere else.
        """


class IBalancer(Interface):
    """Chooses among upstreams that can all take the request."""

    always: bool = Attribute("it is asked also where there is one candidate alone")

    def pick(candidates: Sequence[IUpstream], seeker: Seeker | None, now: float) -> IUpstream:
        """One of the candidates, which are never none.  Called once a request, and cheap.

        :param candidates: each has its ``standing``; the same object until something changes, so that what follows
            from it can be kept
        :param seeker: the request (``head``, ``facts``), or the connection that is passed through (``head`` is None);
            None where nobody asks for himself
        :param now: the wheel's clock, seconds
        """


class IBalancerPlugin(Interface):
    """A balancer of somebody else's, found among Twisted's plugins (``twisted/plugins``)."""

    name: str = Attribute("what ``method`` calls it: small letters, digits and underscores")

    def make(settings: Balance, random: Random) -> IBalancer:
        """A new one, for one backend; it is kept until its settings change.

        :param settings: ``[backends.balance]``; its table ``settings`` is the plugin's own, strings by name
        :param random: where it takes its randomness from
        :raises ValueError: these settings will not do; one sentence
        """


class IWaiter(Interface):
    """A request that waits for an upstream to appear.  Exactly one of the two is called, once."""

    selection: Selection | None = Attribute("which upstreams it can go to; None for any of its backend")
    seeker: Seeker = Attribute("the request")
    avoid: Collection[Hashable] = Attribute("keys of upstreams that failed it already")

    def upstream_ready(upstream: IUpstream) -> None:
        """Here is one."""

    def upstream_missing() -> None:
        """None came in time."""


class IGate(Interface):
    """What a route asks before a request goes on.

    Made when a catalog is taken over, by :mod:`wormhole_tw.edge.gates`; it stays the same object, with its state, over
    reloads in which its route's name and its settings stay the same.  One that tells the service something has the
    names of those fields in ``hides`` (as :func:`~wormhole_tw.http.identity.alike` gives them): no trailer has them.
    """

    def check(exchange: Exchange) -> LocalAnswer | Deferred[LocalAnswer | None] | None:
        """Judge a request: None lets it on, an answer ends it.

        A Deferred makes it wait: nothing of its body is read on meanwhile.  It is this request's own, with an end in
        bounded time; it is cancelled when the visitor leaves.  Failing with
        :class:`~wormhole_tw.errors.HttpError` refuses the request; any other failure is a 500, and logged.

        :raises HttpError: the request is refused
        """

    def close() -> None:
        """No catalog has it any more: let go of timers and connections.  It may still be asked for older requests."""


class IDrainable(Interface):
    """A visitor's connection, as the service that stops the edge sees it."""

    def linger() -> None:
        """Take no request but those that may be on their way already; :meth:`drain` follows."""

    def drain() -> None:
        """Take no new request; close when the running ones are done, at once where there is none."""

    def abort() -> None:
        """End now, whatever runs."""


class IVisitor(Interface):
    """The visitor's side of an exchange: one connection, or one stream of a connection."""

    facts: ConnectionFacts = Attribute("what is known of the connection")
    writable: bool = Attribute("the transport has room for more of the answer")
    hands_over: bool = Attribute("it is a whole connection, which :meth:`hand_over` can give away")

    def hears(head: ResponseHead) -> bool:
        """Whether a success can be told as the answer to a request with ``upgrade``: who asks for a WebSocket over
        HTTP/2 would take any for one that opens it."""

    def send(event: Event) -> None:
        """Queue a piece of the answer.  Nothing leaves before :meth:`flush`."""

    def answer(head: ResponseHead, body: bytes) -> bool:
        """Give a whole answer: :meth:`send` of head, body and end, and :meth:`exchange_done`.

        :returns: whether :meth:`flush` has something left to do
        """

    def flush() -> None:
        """Hand to the transport what is queued, and go on with the next request where this one is done."""

    def consumed(n: int) -> None:
        """The exchange has done with ``n`` octets of the body (or raw octets); until it says so, reading stops soon."""

    def exchange_done() -> None:
        """The answer is whole, nothing more comes of this exchange."""

    def hand_over(protocol: IProtocol) -> None:
        """After a 101: the connection is this protocol's from here on, and no visitor's any more."""

    def truncate(code: int | None = None) -> None:
        """The answer cannot be completed, and its head is out: end so that the visitor sees that it is not whole.

        :param code: the HTTP/2 error code that the service gave, for visitors who can be told
        """


class IUpstreamRequest(Interface):
    """One request's way to an upstream, whatever it speaks: what an exchange knows of it.

    From :meth:`request` until ``on_end``, ``on_answer``, ``on_failure``, :meth:`cancel` or :meth:`finish`.
    """

    reused: bool = Attribute("requests were sent on its connection before this one")
    writable: bool = Attribute("it takes more of the request's body; once it said no, ``on_resume`` says yes")

    def request(head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b"") -> None:
        """Begin; nothing leaves before :meth:`flush`, unless it is whole.

        :param whole: it has no body: there is nothing to :meth:`send`
        :param request_id: what the service gets as ``X-Request-Id``
        :raises MisuseError: it has begun
        """

    def send(event: Event) -> None:
        """Queue a piece of the request's body, its end, or raw octets."""

    def flush() -> None:
        """Write what is queued."""

    def expect_answer() -> None:
        """It is the service's turn, and it has ``limits.first_byte``: the request is out, or waits for its 100, or the
        service takes nothing more of it."""

    def consumed(n: int) -> None:
        """The handler has done with ``n`` octets of body or raw octets; until it says so, reading stops soon."""

    def cancel() -> None:
        """Give the request up; no callback comes any more."""

    def finish() -> None:
        """End a switched request behind what is queued; no callback comes any more."""


class IAnswerHandler(Interface):
    """Who gets what an upstream connection receives: one exchange at a time."""

    limits: Limits = Attribute("what holds for the request: ``first_byte``")

    def on_informational(head: InformationalHead) -> None:
        """A 1xx other than 101."""

    def on_head(head: ResponseHead) -> None:
        """The final head, or a 101."""

    def on_body(event: Body) -> None:
        """A piece of the answer's body."""

    def on_end(event: End) -> None:
        """The answer is whole; the connection is no longer this handler's."""

    def on_answer(head: ResponseHead, body: bytes) -> None:
        """A whole answer that came in one read: head, body and end, and then :meth:`on_turn_end`."""

    def on_raw(event: Raw) -> None:
        """Octets after a 101."""

    def on_raw_end(event: RawEnd) -> None:
        """The upstream ended its direction of a switched connection."""

    def on_failure(error: Exception, begun: bool) -> None:
        """The connection ended before the answer did.

        :param error: :class:`~wormhole_tw.errors.StreamReset`, :class:`~wormhole_tw.errors.HttpError` for an answer
            that is not valid HTTP, or whatever Exception the transport gave
        :param begun: whether any octet of an answer came
        """

    def on_pause() -> None:
        """The stream towards the upstream is full: send no more of the body for now."""

    def on_resume() -> None:
        """It has room again."""

    def on_turn_end() -> None:
        """All of what one read brought has been handed over: a good moment to flush."""

    def crashed() -> None:
        """A callback above raised; the exchange must end, and nothing else may suffer."""


class ICacheStore(Interface):
    """Keeps answers: what they say (:class:`~wormhole_tw.http.caching.records.Stored`) and their bodies.

    It knows nothing of freshness, visitors or purges: what it hands out may be stale, or purged meanwhile, and whoever
    asked judges that.  It may forget anything at any time, and never hands out half of something or what is damaged.
    Everything is called in the reactor's thread and does no work there that waits for a disk.

    One key has several variants: one for each ``vary`` of its answers, and beside these several spans of one body that
    is not there as a whole.  What is committed takes the place of what has the same ``vary``; a span, of what lies in
    it or is of another representation (another ``ETag`` or length).
    """

    name: str = Attribute("what logs and metrics call it")
    largest: int = Attribute("octets of the largest body that it takes")

    def find(key: bytes) -> tuple[IKept, ...] | Deferred[tuple[IKept, ...]]:
        """The variants under a key, the newest first; ``()`` for nothing.

        At once wherever it can be, from memory always.  A Deferred never fails, fires in bounded time (a disk that does
        not answer has nothing), and may be cancelled.
        """

    def begin(key: bytes, stored: Stored, expected: int | None, after: IKept | None = None) -> IKeeping | None:
        """Keep an answer whose body comes now, piece by piece.

        :param expected: octets of its body, None where nobody knows
        :param after: a span that ends where this body begins, of the same representation: both become one, which begins
            where that one does.  Its octets are not written again, and count as written (``keeping.size``)
        :return: None where it is not taken: too large, no room, the disk is busy or broken
        """

    def refresh(kept: IKept, stored: Stored) -> None:
        """What an answer says anew (RFC 9111 section 4.3.4); its body stays.  Nothing where it is gone meanwhile."""

    def remove(kept: IKept) -> None:
        """Forget one; who reads it may go on doing so."""

    def sweep(gone: Callable[[bytes, Stored], bool]) -> Deferred[int]:
        """Go through all that is kept, some at a time, and forget that of which ``gone(key, stored)`` is true.

        ``gone`` is called in the reactor's thread.  The Deferred gives how many there were when it has gone through all
        that was there when it was called.  It fails with :class:`~wormhole_tw.errors.CacheFault` where it could not,
        and something that is gone may be left.  Cancelling it stops.
        """

    def usage() -> tuple[Usage, ...]:
        """What it holds, one for each place; cheap."""

    def close() -> Deferred[None]:
        """Let go of files and threads, when what was committed is written; nothing else is called afterwards."""


class IKept(Interface):
    """One answer that is kept, as :meth:`ICacheStore.find` gave it.

    Good for as long as somebody holds it, also when it was forgotten meanwhile; but where hundreds of large ones are
    read at once from a disk, the read of one that was forgotten may fail.
    """

    key: bytes = Attribute("what it was kept under")
    stored: Stored = Attribute("what it says, without the body")
    size: int = Attribute("octets of body that are there, from ``stored.first`` of the representation on")
    body: bytes | None = Attribute("all of them, where they are in memory; None where they have to be read")
    prepared: object = Attribute(
        "whatever its reader has made of ``stored`` to answer faster; None at first, after each change of ``stored``, "
        "and where ``find`` gave it without a Deferred as soon as it would not, or others beside it: who sees his own "
        "here need not ask again, for a second or so (to be asked for is what keeps an answer in a store)"
    )

    def read(start: int, size: int) -> Deferred[bytes]:
        """Octets of the body.

        :param start: counted from the first that is there (not from that of the representation)
        :param size: how many; fewer come at the end alone.  Pieces of 64 to 256 KiB are best
        :return: fails with :class:`~wormhole_tw.errors.CacheFault` where they are damaged or cannot be had: it is
            forgotten then
        """


class IKeeping(Interface):
    """An answer on its way into a store.

    It ends with :meth:`commit`, :meth:`commit_part` or :meth:`abandon`, or by itself: then ``lost`` is true, writing
    does nothing, and nothing is kept.  Nobody finds it before it is committed.
    """

    size: int = Attribute("octets of body so far")
    behind: int = Attribute("octets of it that wait for the disk: past 1 MiB stop reading the answer (``caught_up``)")
    crowded: bool = Attribute("what comes in has taken all room: write no more; what was written can be read")
    lost: bool = Attribute("it is given up: it grew too large, there was no room, or the disk is too slow or broken")

    def write(data: bytes) -> None:
        """The next piece of the body."""

    def caught_up() -> Deferred[None]:
        """Fires when nothing of what was handed over waits for the disk any more, or it is lost.  It never fails."""

    def read(start: int, size: int) -> Deferred[bytes]:
        """Octets that were handed over before, also after a commit: for others who wait for the same answer.

        :return: at most ``size`` octets from ``start`` on; fails with :class:`~wormhole_tw.errors.CacheFault` where it
            is lost
        """

    def commit() -> IKept | None:
        """The body is all there: it is found from now on.  None where it is lost.

        Where ``stored`` has no length it gets this one.
        """

    def commit_part() -> IKept | None:
        """No more comes (the service left midway): keep what came, as a span.

        Only for a representation whose length is known, and that has a strong validator, by which the rest can be asked
        for.  None where nothing came or it is lost; where the whole is kept already it is not found afterwards.
        """

    def abandon() -> None:
        """Forget it."""
