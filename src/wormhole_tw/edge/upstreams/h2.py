"""A connection to a service that speaks HTTP/2: many requests on one stream of the tunnel.

Its rhythm: feed, hand each event to its stream, write what the codec has while the transport takes it.  A stream's
failure is its own; what the connection loses, each of its streams is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.complaints import host_of
from wormhole_tw.edge.upstreams.dialling import Dialling
from wormhole_tw.edge.upstreams.h2_faults import complaint, refused_upgrade, reset_error
from wormhole_tw.edge.upstreams.h2_stream import UpstreamStream
from wormhole_tw.edge.writing import joined
from wormhole_tw.errors import StreamReset
from wormhole_tw.http.events import Abandoned, End, Event, Failed, RequestHead, Writable
from wormhole_tw.wire.codes import ResetCode

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint

    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.interfaces import IAnswerHandler, IUpstream
    from wormhole_tw.edge.upstreams.pool import Pool
    from wormhole_tw.http.interfaces import ManyStreamsClientCodec, StreamEvent
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["LINGER", "ROOM", "SharedConnection"]

log = Logger()

ROOM = 64 * 1024
"""Octets of bodies handed to the transport at a time, before it is looked whether it takes more: what is queued there
cannot give way any more to another stream, or to a PING."""

LINGER = 5.0
"""Seconds, once or twice, that a service gets to end its side of a WebSocket whose visitor has left."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class SharedConnection:
    """One connection; see the module.  The pool makes it, and takes requests to it for as long as it :attr:`has_room`.

    :ivar upstream: where it leads
    :ivar visitor: the visitor connection it is dedicated to, or None
    :ivar codec: for its streams
    :ivar writable: the transport has room
    :ivar requests: how many were begun on it
    :ivar heard: when something came last, on the wheel's clock
    :ivar over: it takes nothing more
    :ivar failure: why it did not come to stand, or None
    """

    __slots__ = (
        "_complained",
        "_dialling",
        "_feeding",
        "_leaving",
        "_linger",
        "_pool",
        "_resting",
        "_spare",
        "_streams",
        "_timer",
        "_transport",
        "_waiting",
        "codec",
        "factory",
        "failure",
        "heard",
        "limits",
        "over",
        "requests",
        "timers",
        "upstream",
        "visitor",
        "writable",
    )

    transport: ITransport | None

    def __init__(
        self,
        upstream: IUpstream,
        pool: Pool,
        codec: ManyStreamsClientCodec,
        timers: TimerWheel,
        limits: Limits,
        visitor: ConnectionFacts | None,
    ) -> None:
        self.upstream = upstream
        self.visitor = visitor
        self.codec = codec
        self.timers = timers
        self.limits = limits
        self.factory = None
        self.writable = True
        self.requests = 0
        self.heard = 0.0
        self.over = False
        self.failure: BaseException | None = None
        self._pool = pool
        self._transport: Any = None
        self._dialling: Deferred[Any] | None = None
        self._streams: dict[int, UpstreamStream] = {}
        # what has to know first what the service takes
        self._waiting: dict[UpstreamStream, tuple[RequestHead, bytes]] = {}
        self._complained = False
        self._feeding = False
        self._leaving = False
        self._resting = False
        self._spare = 0  # what was added to ``upstream.idle``
        # until it stands, and while nobody uses it: one timer, for both never run together
        self._timer: Timer | None = None
        self._linger: Timer | None = None

    # what the pool calls

    @property
    def has_room(self) -> bool:
        """It takes another request now."""
        return not self.over and not self._leaving and self.codec.reusable

    @property
    def busy(self) -> bool:
        """Somebody uses it."""
        return bool(self._streams or self._waiting)

    def dial(self, endpoint: IStreamClientEndpoint) -> None:
        """Connect; requests may begin before it stands, and fail with it where it does not."""
        dialling = self._dialling = endpoint.connect(Dialling(self))
        dialling.addCallbacks(self._dialled, self._dial_failed)
        if self._dialling is not None:
            # the tunnel gives its streams at once; others may take their time
            self._timer = self.timers.start(self.limits.connect, self._timed_out)

    def open(self) -> UpstreamStream:
        """For a request that begins at once."""
        return UpstreamStream(self)

    def close(self) -> None:
        """Take no new request; end when the running ones are done, at once where there is none."""
        if not self._leaving:
            self._leaving = True
            self._pool.unshare(self)
            self.codec.shut_down()
            self.flush()

    retire = close

    @property
    def address(self) -> str:
        """The address it was dialled at."""
        return host_of(self._transport.getPeer()) if self._transport is not None else ""

    def abort(self) -> None:
        """End it whatever it does; its requests are told nothing."""
        self.over = True
        self._pool.unshare(self)
        for stream in [*self._streams.values(), *self._waiting]:
            stream.forget()
        self._forget_streams()
        self._cancel_timers()
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self._transport.abortConnection()

    # what its streams call

    def begin(self, stream: UpstreamStream, head: RequestHead, request_id: bytes, *, whole: bool) -> None:
        """A request begins; nothing leaves before :meth:`flush`."""
        self.requests += 1
        self._resting = False
        if head.upgrade is None:
            self._send(stream, head, request_id, whole=whole)
        elif self.codec.settled:
            self._switch(stream, head, request_id)
        else:
            self._waiting[stream] = (head, request_id)
            self._tally()

    def drop(self, stream: UpstreamStream) -> None:
        """Its request is over, or was given up."""
        self._streams.pop(stream.number, None)
        self._waiting.pop(stream, None)
        self._tally()

    def flush(self) -> None:
        """Write what the codec has, and hand over what comes of that."""
        if not self._feeding and not self.over:
            self._receive(())

    def suspect(self, seconds: float) -> None:
        """A request has got no answer in its time.  Where nothing came for so long, the next one goes elsewhere."""
        if self.timers.now - self.heard > seconds:
            self.close()

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        self._pool.made(self)
        self._tally()
        if self.over:
            self._transport.abortConnection()
            return
        self._transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "upstream"

    def dataReceived(self, data: bytes) -> None:
        if not self.over:
            now = self.heard = self.timers.now
            self._receive(self.codec.receive_data(data, now))

    def readConnectionLost(self) -> None:
        if not self.over:
            self._lose(StreamReset(ResetCode.SERVICE_FAILED, "the service closed before its answer's end", True))

    def writeConnectionLost(self) -> None:
        """Our own direction is closed: nothing to do."""

    def connectionLost(self, reason: Failure) -> None:
        if self._transport is not None:
            self._transport = None
            self._tally()
            self._pool.lost(self)
        error = reason.value
        if not isinstance(error, StreamReset):
            error = StreamReset(ResetCode.SERVICE_FAILED, "the connection was closed", True)
        self._lose(error)

    # IPushProducer: the stream towards the upstream is full, has room, is gone

    def pauseProducing(self) -> None:
        self.writable = False

    def resumeProducing(self) -> None:
        if self.writable:
            return
        self.writable = True
        # first what is queued here, in turn; then, if there is still room, what waits behind it
        self.flush()
        for stream in list(self._streams.values()):
            if not self.writable:
                break
            stream.resume()
        self.flush()

    def stopProducing(self) -> None:
        """connectionLost follows and says why."""

    # within: requests

    def _tally(self) -> None:
        """Tell what this connection's requests are to the upstream's load."""
        spare = (self._transport is not None) - len(self._streams) - len(self._waiting)
        self.upstream.idle += spare - self._spare
        self._spare = spare

    def _send(self, stream: UpstreamStream, head: RequestHead, request_id: bytes, *, whole: bool) -> None:
        codec = self.codec
        codec.request_id = request_id
        if whole:
            number = codec.send_whole(head)
        else:
            number = codec.new_stream()
            codec.send(number, head)
        self._streams[number] = stream
        stream.number = number
        self._tally()

    def _switch(self, stream: UpstreamStream, head: RequestHead, request_id: bytes) -> None:
        error = refused_upgrade(head, self.codec)
        if error is None:
            self._send(stream, head, request_id, whole=True)
        else:
            stream.fail(error)

    def _settle(self) -> None:
        """The service has said what it takes, or that it is no such service."""
        waiting, self._waiting = self._waiting, {}
        self._tally()
        for stream, (head, request_id) in waiting.items():
            # unless it was given up while the one before it was told
            if stream.handler is not None:
                self._switch(stream, head, request_id)

    # within: the rhythm

    def _receive(self, events: list[StreamEvent] | tuple[()]) -> None:
        codec = self.codec
        touched: dict[int, tuple[UpstreamStream, IAnswerHandler]] = {}
        self._feeding = True
        try:
            if codec.spent and not self._leaving:
                # before anybody whose request was not processed looks where to send it now
                self._leave()
            while True:
                for number, event in events:
                    self._hand_over(number, event, touched)
                if self._waiting and (codec.settled or codec.fault is not None):
                    self._settle()
                for stream, handler in touched.values():
                    stream.guarded(handler, handler.on_turn_end)
                touched.clear()
                wrote = self._write()
                events = codec.take_events()
                if not events and not (wrote and self.writable and codec.has_output):
                    break
        finally:
            self._feeding = False
        self._after()

    def _hand_over(self, number: int, event: Event, touched: dict[int, tuple[UpstreamStream, IAnswerHandler]]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        handler = stream.handler
        if handler is not None:
            touched[number] = (stream, handler)
        kind = type(event)
        if kind is Writable:
            stream.resume()
        elif kind is End:
            self.drop(stream)
            stream.take(event)
        elif type(event) is Failed:
            self.drop(stream)
            stream.fail(event.error)
        elif type(event) is Abandoned:
            self.drop(stream)
            stream.fail(reset_error(event.code))
        else:
            stream.take(event)

    def _write(self) -> bool:
        transport = self._transport
        if transport is None:
            return False
        pieces = self.codec.data_to_send(ROOM if self.writable else 0)
        for piece in joined(pieces):
            transport.write(piece)
        return bool(pieces)

    def _after(self) -> None:
        if self.over:
            return
        codec = self.codec
        if (codec.fault is not None or codec.left is not None) and not self._complained:
            self._complain()
        if codec.spent and not self._leaving:
            self._leave()
        if codec.lingers:
            if self._linger is None:
                self._linger = self.timers.start(LINGER, self._lingered)
            elif not self._linger.active:
                self._linger.restart()
        if self.busy or not codec.idle:
            return
        if codec.should_close or self._leaving or (self.requests and not self._pool.wants(self)):
            self._end()
        elif self._transport is not None and not self._resting:
            # wait for the next request, for a while
            self._resting = True
            seconds = self.upstream.keep_alive or self.limits.idle_stream_time
            if self._timer is None:
                self._timer = self.timers.start(seconds, self._timed_out)
            else:
                self._timer.restart(seconds)

    def _leave(self) -> None:
        """It takes no request any more."""
        self._leaving = True
        self._pool.unshare(self)
        if self.codec.left is not None:
            self._pool.retire(self)

    def _complain(self) -> None:
        """Tell the operator, once a connection and once in a while."""
        sentence = complaint(self.codec)
        if sentence is not None:
            self._complained = True
            self._pool.complain(self, sentence)

    # within: the end

    def _dialled(self, result: object) -> None:
        self._dialling = None
        if self._timer is not None:
            self._timer.cancel()
        self.flush()

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        error: BaseException = failure.value or ConnectionError()
        if isinstance(error, CancelledError):
            message = "the connection to the service did not stand in time"
            error = StreamReset(ResetCode.TIMED_OUT, message, delivered=False)
        self.failure = error
        self._lose(error)

    def _lose(self, error: BaseException) -> None:
        """Nothing more comes of it."""
        if self.over:
            return
        self.over = True
        self._pool.unshare(self)
        if self.heard:
            # one on which nothing came says nothing of the others: the service may take only so many connections
            self._pool.retire(self)
        self._cancel_timers()
        if self._transport is not None:
            if not self.codec.settled and isinstance(error, StreamReset) and error.code == ResetCode.SERVICE_FAILED:
                self._pool.complain(self, "its service closed a connection without a word of HTTP/2")
            self._close_transport()
        streams = [*self._streams.values(), *self._waiting]
        self._forget_streams()
        for stream in streams:
            stream.fail(error)

    def _forget_streams(self) -> None:
        self._streams.clear()
        self._waiting.clear()
        self._tally()

    def _end(self) -> None:
        self.over = True
        self._pool.unshare(self)
        self._cancel_timers()
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self.codec.shut_down()
            self._write()
            self._close_transport()

    def _close_transport(self) -> None:
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def _cancel_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._linger is not None:
            self._linger.cancel()

    # timeouts

    def _timed_out(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        elif self._resting:
            self._end()

    def _lingered(self) -> None:
        self.codec.let_go()
        self.flush()
