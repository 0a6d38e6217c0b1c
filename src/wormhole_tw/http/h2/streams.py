"""One stream of a connection, and what waits on it for the peer's window."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wormhole_tw.http.events import RequestHead

if TYPE_CHECKING:
    from h2.stream import H2Stream

    from wormhole_tw.http.events import Fields

__all__ = ["AWAITING", "ENDED", "SENDING", "TUNNEL", "Stream"]

# How far our own direction is.
AWAITING = "awaiting"
"""no final head yet"""
SENDING = "sending"
TUNNEL = "tunnel"
"""a WebSocket: octets both ways"""
ENDED = "ended"
"""the end is queued, or sent"""


class Stream:
    """State that the ``h2`` library does not keep.

    :ivar machine: the library's state of the stream, with its windows
    :ivar request: its head
    :ivar key: of a WebSocket, what its origin has to prove
    :ivar remote_ended: END_STREAM came
    :ivar deaf: nothing that still comes is of use: the request was refused, or its answer is whole
    :ivar headless: an answer is awaited, and its final head has not come (a client's stream)
    :ivar interim: octets of the interim answers that came
    :ivar left: octets of the body that Content-Length still promises, or None
    :ivar unacknowledged: octets given out, or held, that the peer has not got back
    :ivar taken: octets acknowledged since its window last grew (a client's)
    :ivar window: of what the peer may send (a client's)
    :ivar early: what came on a WebSocket before its 101
    :ivar state: of our direction
    :ivar head: a head that waits for what comes behind it, its fields
    :ivar more: encoded fields behind these
    :ivar pieces: queued body
    :ivar queued: octets in ``pieces``
    :ivar trailers: behind the body
    :ivar blocked: not in the turn, for its window is empty
    :ivar known: the shell has heard of it, and not of its end
    :ivar ripe: has lingered for a while
    """

    __slots__ = (
        "blocked",
        "bodiless",
        "deaf",
        "early",
        "early_end",
        "head",
        "headless",
        "id",
        "interim",
        "key",
        "known",
        "left",
        "machine",
        "more",
        "offset",
        "out_left",
        "pieces",
        "queued",
        "remote_ended",
        "request",
        "ripe",
        "state",
        "taken",
        "trailers",
        "tunnel",
        "unacknowledged",
        "window",
    )

    def __init__(self, stream_id: int, machine: H2Stream, *, remote_ended: bool) -> None:
        self.id = stream_id
        self.machine = machine
        self.remote_ended = remote_ended
        self.request: RequestHead | None = None
        self.key = b""
        self.tunnel = False
        self.deaf = False
        self.headless = False
        self.interim = 0
        self.left: int | None = None
        self.unacknowledged = 0
        self.taken = 0
        self.window = 0
        self.early: list[bytes] = []
        self.early_end = False
        self.state = AWAITING
        self.head: list[tuple[bytes, bytes]] | None = None
        self.more = b""
        self.bodiless = False
        self.out_left: int | None = None
        self.pieces: deque[bytes] = deque()
        self.offset = 0  # of the first piece, sent already
        self.queued = 0
        self.trailers: Fields = []
        self.blocked = False
        self.known = False
        self.ripe = False

    def take(self, most: int) -> bytes:
        """Up to ``most`` octets of the queue, which is not empty; small pieces together, large ones cut."""
        pieces = self.pieces
        first = pieces[0]
        start = self.offset
        size = len(first) - start
        if size > most:
            self.offset = start + most
            self.queued -= most
            return first[start : start + most]
        pieces.popleft()
        self.offset = 0
        if start:
            first = first[start:]
        if size < most and pieces and size + len(pieces[0]) <= most:
            run = [first]
            while pieces and size + len(pieces[0]) <= most:
                piece = pieces.popleft()
                size += len(piece)
                run.append(piece)
            first = b"".join(run)
        self.queued -= size
        return first
