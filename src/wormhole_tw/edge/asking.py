"""The request of an exchange: its body on the way from the visitor to whoever answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.answering import Answering
from wormhole_tw.edge.interfaces import IUpstream, IUpstreamRequest
from wormhole_tw.edge.states import State
from wormhole_tw.errors import HttpError
from wormhole_tw.http.edits import edit_trailers
from wormhole_tw.http.events import Body, End
from wormhole_tw.http.forwarding import trailers_onwards

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits
    from wormhole_tw.edge.gating import GateWalk
    from wormhole_tw.edge.mirror import Copy
    from wormhole_tw.http.edits import FieldEdits
    from wormhole_tw.http.events import ResponseHead

__all__ = ["REPLAY_LIMIT", "WHOLE_WITH_HEAD", "Asking", "too_large"]

WHOLE_WITH_HEAD = End()
"""The end of a request that was whole with its head: told from others by its identity, for it has left already."""

REPLAY_LIMIT = 64 * 1024
"""Octets of a request's body kept so that it can be sent again: forms and API calls fit, uploads do not."""


class Asking(Answering):
    """What an exchange does with its request.

    :ivar copy: what else gets its body; None for nobody
    :ivar limits: those of its site, once it is known, and the edge's before
    :ivar upstream: the last one it was sent to
    """

    __slots__ = ("_held_size", "_request_edits", "_walk", "copy", "limits", "upstream")

    _held_size: int
    _request_edits: FieldEdits | None
    _walk: GateWalk | None
    copy: Copy | None
    limits: Limits
    upstream: IUpstream | None

    def request_body(self, event: Body) -> None:
        """A piece of the request's body."""
        if self.state is State.DONE:
            return
        size = len(event.data)
        self.received += size
        self._untaken += size
        limit = self.limits.body_bytes
        if limit and self.received > limit:
            self.request_failed(too_large())
            return
        if self.copy is not None:
            self.copy.add(event)
        connection = self._connection
        held = self._held
        if held is not None:
            self._held_size += size
            if connection is not None and self._held_size > REPLAY_LIMIT:
                self._held = None
            else:
                held.append(event.data)
        if connection is not None:
            connection.send(event)
            if connection.writable:
                self._took_body()

    def copy_to(self, copy: Copy) -> None:
        """Let it have the request's body: what is here of it, for a gate may have waited, and what comes."""
        self.copy = copy
        for data in self._held or ():
            copy.add(Body(data))
        if self._trailers is not None and self._trailers is not WHOLE_WITH_HEAD:
            copy.add(self._trailers)

    def request_end(self, event: End) -> None:
        """The request is whole."""
        if self._trailers is not None or self.state is State.DONE:
            return  # it was whole with its head
        if event.trailers:
            trailers = edit_trailers(trailers_onwards(event.trailers), self._request_edits)
            event = End(trailers if self._walk is None else self._walk.without_hidden(trailers))
        self._trailers = event
        if self.copy is not None:
            self.copy.add(self._trailers)
        connection = self._connection
        if connection is not None:
            connection.send(self._trailers)
            connection.expect_answer()

    def request_failed(self, error: HttpError) -> None:
        """The request is refused, or what is left of it is not valid or did not come."""
        self.give_up(error.reason, status=error.status, message=error.message, close=True)

    def flush_request(self) -> None:
        """All of what one read brought has been handed over: let it leave."""
        # what was whole with its head has left with it
        if self._connection is not None and (self._trailers is not WHOLE_WITH_HEAD or self.state is State.SWITCHED):
            self._connection.flush()

    def hand_to(self, connection: IUpstreamRequest) -> None:
        """Middleware has the request, which may send it on, again or not at all: nothing of it is kept here."""
        self._translation = None
        held, self._held = self._held, None
        self.move(State.SENDING)
        self._connection = connection
        for data in held or ():
            connection.send(Body(data))
        if self._trailers is not None:
            connection.send(self._trailers)
        if connection.writable:
            self._took_body()

    def answer_kept(self, head: ResponseHead, body: bytes) -> None:
        """A cache has the whole answer."""
        self._translation = None
        self.move(State.SENDING)
        self.on_answer(head, body)


def too_large() -> HttpError:
    return HttpError(413, "body-too-large", "The body of the request is too large.")
