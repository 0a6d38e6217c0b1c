"""One request on a connection that others share: to its exchange, a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.edge.interfaces import IUpstreamRequest
from wormhole_tw.errors import MisuseError, TimedOut
from wormhole_tw.http.events import Body, End, Event, InformationalHead, Raw, RawEnd, RequestHead, ResponseHead
from wormhole_tw.http.h2.faults import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from wormhole_tw.edge.interfaces import IAnswerHandler
    from wormhole_tw.edge.upstreams.h2 import SharedConnection
    from wormhole_tw.net.timers import Timer

__all__ = ["UpstreamStream"]

log = Logger()


@implementer(IUpstreamRequest)
class UpstreamStream:
    """See the module.

    :ivar number: its stream's; 0 before it has one
    :ivar handler: who hears of the answer; None when it is over
    :ivar reused: requests were sent on the connection before this one
    """

    __slots__ = (
        "_answered",
        "_begun",
        "_connection",
        "_full",
        "_timer",
        "_whole",
        "handler",
        "number",
        "reused",
    )

    def __init__(self, connection: SharedConnection) -> None:
        self.number = 0
        self.handler: IAnswerHandler | None = None
        self.reused = connection.requests > 0
        self._connection = connection
        self._whole = False
        self._begun = False
        self._answered = False
        self._full = False
        self._timer: Timer | None = None

    # IUpstreamRequest

    @property
    def writable(self) -> bool:
        """See the interface."""
        if self._full:
            return False
        connection = self._connection
        if self.handler is None or (connection.writable and connection.codec.writable(self.number)):
            return True
        self._full = True
        if not self._whole:
            # the service takes nothing more of the body: it is its turn
            self.expect_answer()
        return False

    def request(
        self, head: RequestHead, handler: IAnswerHandler, *, whole: bool = False, request_id: bytes = b""
    ) -> None:
        """See the interface."""
        if self.handler is not None or self.number:
            raise MisuseError("a stream takes one request")
        self.handler = handler
        self._whole = whole
        self._connection.begin(self, head, request_id, whole=whole)
        if whole:
            self.expect_answer()
            self._connection.flush()

    def send(self, event: Event) -> None:
        """See the interface."""
        if self.handler is None:
            return
        if type(event) is End:
            self._whole = True
        elif not self._full and not self._answered:
            # also where it was not asked for: RFC 9110 §10.1.1 lets a visitor tire of waiting for its 100
            self._visitors_turn()
        self._connection.codec.send(self.number, event)

    def flush(self) -> None:
        """See the interface."""
        self._connection.flush()

    def expect_answer(self) -> None:
        """See the interface."""
        handler = self.handler
        if self._answered or handler is None:
            return
        if self._timer is None:
            self._timer = self._connection.timers.start(handler.limits.first_byte, self._timed_out)
        else:
            self._timer.restart(handler.limits.first_byte)

    def consumed(self, n: int) -> None:
        """See the interface."""
        connection = self._connection
        connection.codec.acknowledge(self.number, n)
        # the window that this opened has to be told
        connection.flush()

    def cancel(self) -> None:
        """See the interface."""
        if self.handler is None:
            return
        self.forget()
        connection = self._connection
        connection.drop(self)
        connection.codec.reset(self.number, ErrorCode.CANCEL)
        connection.flush()

    def finish(self) -> None:
        """See the interface."""
        if self.handler is None:
            return
        self.forget()
        connection = self._connection
        connection.drop(self)
        connection.codec.finish(self.number)
        connection.flush()

    # what the connection calls

    def take(self, event: Event) -> None:
        """Something of the answer."""
        handler = self.handler
        if handler is None:
            return
        self._begun = True
        kind = type(event)
        if kind is Body:
            self.guarded(handler, handler.on_body, event)
        elif kind is ResponseHead:
            self._answered = True
            self._visitors_turn()
            self.guarded(handler, handler.on_head, event)
        elif kind is End:
            self.forget()
            self.guarded(handler, handler.on_end, event)
        elif kind is Raw:
            self.guarded(handler, handler.on_raw, event)
        elif kind is RawEnd:
            self.guarded(handler, handler.on_raw_end, event)
        elif type(event) is InformationalHead:
            if event.status == 100 and not self._whole and not self._full:
                self._visitors_turn()
            elif self._timer is not None and self._timer.active:
                # it is alive and at work (RFC 9110 §15.2.1, 102): its time begins anew
                self.expect_answer()
            self.guarded(handler, handler.on_informational, event)

    def resume(self) -> None:
        """There may be room for more of the body."""
        handler = self.handler
        if handler is None or not self._full:
            return
        connection = self._connection
        if connection.writable and connection.codec.writable(self.number):
            self._full = False
            if not self._whole:
                self._visitors_turn()
            self.guarded(handler, handler.on_resume)

    def fail(self, error: BaseException) -> None:
        """The answer will not come to its end."""
        handler = self.handler
        if handler is not None:
            self.forget()
            self.guarded(handler, handler.on_failure, error, self._begun)

    def forget(self) -> None:
        """No callback comes any more."""
        self.handler = None
        if self._timer is not None:
            self._timer.cancel()

    def guarded(self, handler: IAnswerHandler, step: Callable[..., None], *arguments: object) -> None:
        """One exchange's bug is no other's."""
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001 - one exchange fails, the others on this connection go on
            log.failure("an exchange failed on what its upstream did")
            self.cancel()
            handler.crashed()

    # within

    def _visitors_turn(self) -> None:
        """More of the request is to come, and ``limits.body`` says how soon; or the answer has begun."""
        if self._timer is not None:
            self._timer.cancel()

    def _timed_out(self) -> None:
        handler, connection = self.handler, self._connection
        assert handler is not None
        seconds = handler.limits.first_byte
        connection.drop(self)
        connection.codec.reset(self.number, ErrorCode.CANCEL)
        self.fail(TimedOut("limits.first_byte", "the service did not answer in time"))
        connection.suspect(seconds / 2)
        connection.flush()
