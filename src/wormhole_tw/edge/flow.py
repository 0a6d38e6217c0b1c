"""The octets of an exchange, both ways: what was given on, and what of it its codec still counts.

A side that is full leaves the other's octets unacknowledged, so that reading stops there; when it has room, they are
acknowledged in one.  After a 101 the octets are all there is, and each direction ends on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.seeker import Seeker
from wormhole_tw.edge.states import State

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from wormhole_tw.edge.interfaces import IUpstreamRequest, IVisitor
    from wormhole_tw.http.events import Body, Raw, RawEnd, ResponseHead

__all__ = ["Flow"]


class Flow(Seeker):
    """What an exchange does with octets.

    :ivar state: where the exchange is
    :ivar received: octets of the request's body
    :ivar sent: octets of the answer's body
    :ivar status: the status of the answer, or 0 while there is none
    """

    __slots__ = (
        "_connection",
        "_raw_in_ended",
        "_raw_out_ended",
        "_unread",
        "_untaken",
        "_visitor",
        "received",
        "sent",
        "state",
        "status",
    )

    _connection: IUpstreamRequest | None
    _raw_in_ended: bool
    _raw_out_ended: bool
    _unread: int
    _untaken: int
    _visitor: IVisitor
    received: int
    sent: int
    state: State
    status: int

    def _done(self) -> None:
        """The exchange is over."""
        raise NotImplementedError

    def hand_over(self, head: ResponseHead, protocol: IProtocol) -> None:
        """Answer with a 101, and give the visitor's connection, which ``hands_over``, to a protocol."""
        visitor = self._visitor
        self.status = head.status
        visitor.send(head)
        self._done()
        visitor.exchange_done()
        visitor.hand_over(protocol)

    # from the visitor

    def request_raw(self, event: Raw) -> None:
        """Octets after a 101."""
        connection = self._connection
        if connection is None or self.state is not State.SWITCHED:
            return
        size = len(event.data)
        self.received += size
        self._untaken += size
        connection.send(event)
        if connection.writable:
            self._took_body()

    def request_raw_end(self, event: RawEnd) -> None:
        """The visitor ended its direction of a switched connection."""
        if self.state is not State.SWITCHED or self._connection is None or self._raw_in_ended:
            return
        self._raw_in_ended = True
        self._connection.send(event)
        self._connection.flush()
        self._end_switched()

    def visitor_resumed(self) -> None:
        """The visitor takes more of the answer."""
        unread, self._unread = self._unread, 0
        if unread and self._connection is not None:
            self._connection.consumed(unread)

    def _took_body(self) -> None:
        untaken, self._untaken = self._untaken, 0
        if untaken:
            self._visitor.consumed(untaken)

    # from the upstream: see IAnswerHandler

    def on_body(self, event: Body | Raw) -> None:
        """See IAnswerHandler; raw octets go the same way."""
        size = len(event.data)
        self.sent += size
        self._visitor.send(event)
        if self._visitor.writable and not self._unread:
            if self._connection is not None:  # who heard that may have ended it
                self._connection.consumed(size)
        else:
            self._unread += size

    on_raw = on_body

    def on_raw_end(self, event: RawEnd) -> None:
        """See IAnswerHandler."""
        if self.state is State.SWITCHED and not self._raw_out_ended:
            self._raw_out_ended = True
            self._visitor.send(event)
            self._end_switched()

    def on_pause(self) -> None:
        """See IAnswerHandler: from now on the visitor's body is not acknowledged, so that reading stops."""

    def on_resume(self) -> None:
        """See IAnswerHandler."""
        self._took_body()

    def _end_switched(self) -> None:
        if self._raw_in_ended and self._raw_out_ended:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.finish()
            self._done()
            self._visitor.exchange_done()
