"""How a link ends: draining, closing in order, and the sentence that says why it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import INegotiated
from twisted.python.failure import Failure

from wormhole_tw.errors import LinkLost, LinkRefused, NotAnEdge, TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.session import Session, SessionState, Side

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .protocol import LinkProtocol

__all__ = ["ALPN", "CLOSE_TIMEOUT", "Farewell", "why_lost"]

ALPN = b"wormhole/1"
"""The name of the protocol in ALPN (RFC 7301)."""

_DRAINING = frozenset(code for code in GoawayCode if code.drains)

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to read our GOAWAY and close; then the connection is aborted."""


class Farewell:
    """The end of one link. It owns the delayed calls of the end, and :meth:`stop` cancels them.

    :ivar error: why the link ends, where something here found out
    """

    __slots__ = (
        "_abort_call",
        "_closing",
        "_drain_call",
        "_goaway",
        "_hung_up",
        "_leaving",
        "_link",
        "_waiters",
        "error",
    )

    def __init__(self, link: LinkProtocol) -> None:
        self._link = link
        self.error: Exception | None = None
        self._goaway: tuple[GoawayCode, str, float | None] = (GoawayCode.NORMAL, "", None)
        self._leaving = False  # the link closes when its last stream has ended
        self._closing = False  # it closes when what is queued is written
        self._hung_up = False
        self._waiters: list[Deferred[None]] = []
        self._drain_call: IDelayedCall | None = None
        self._abort_call: IDelayedCall | None = None

    def drain(self, deadline: float, code: GoawayCode, message: str, retry_after: float | None) -> Deferred[None]:
        link = self._link
        if link.lost or self._closing:
            return succeed(None)
        clock = link.clock
        if self._drain_call is None:
            self._drain_call = clock.callLater(deadline, self._deadline)
        elif self._drain_call.getTime() > clock.seconds() + deadline:
            self._drain_call.reset(deadline)
        self._leave(code, message, retry_after)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def fail(self, code: GoawayCode, message: str, retry_after: float | None) -> None:
        link = self._link
        if link.lost or self._closing:
            return
        self._goaway = (code, message, retry_after)
        if self.error is None:
            self.error = LinkLost(f"closed here: {message or code.name.lower()}")
        link.session.goaway(code, message, link.clock.seconds(), retry_after=retry_after, fatal=True)
        link.touch()

    def ids_exhausted(self) -> None:
        """The ids come to their end: no deadline, the streams that are open have their own time."""
        self._leave(GoawayCode.IDS_EXHAUSTED, "the stream ids of this link are used up", None)

    def _leave(self, code: GoawayCode, message: str, retry_after: float | None) -> None:
        link = self._link
        if not self._leaving:
            self._leaving = True
            self._goaway = (code, message, retry_after)
            link.session.goaway(code, message, link.clock.seconds(), retry_after=retry_after)
            if self.error is None:
                self.error = LinkLost(f"closed here: {message or code.name.lower()}")
        link.touch()

    def _deadline(self) -> None:
        self._drain_call = None
        self.fail(*self._goaway)

    def drained(self) -> None:
        """No stream is left, and GOAWAY went one way or the other."""
        if self._leaving:
            self.close()
        elif self._drain_call is None and not self._closing:
            # the peer, who leaves, closes; if it forgets, we do
            self._drain_call = self._link.clock.callLater(CLOSE_TIMEOUT, self._forgotten)

    def _forgotten(self) -> None:
        self._drain_call = None
        self.close()

    def peer_failed(self, error: TunnelProtocolError) -> None:
        """The peer broke the protocol; its GOAWAY is queued."""
        link = self._link
        if link.side is Side.DIALLER and not link.session.heard_frame and error.code == GoawayCode.PROTOCOL_ERROR:
            self.not_an_edge()
            return
        self.error = error
        self.close()

    def not_an_edge(self) -> None:
        """What answered speaks something else: there is nobody to say GOAWAY to."""
        self.error = _not_an_edge(self._link)
        self._link.abort()

    def close(self) -> None:
        """Write what is queued, then close; abort if that takes longer than :data:`CLOSE_TIMEOUT`."""
        link = self._link
        self._fire()
        if not self._closing and not link.lost:
            self._closing = True
            self._abort_call = link.clock.callLater(CLOSE_TIMEOUT, self._give_up)
            link.touch()

    def after_flush(self) -> None:
        """The link's word after each flush."""
        if self._closing and not self._hung_up and not self._link.session.has_data:
            self._hung_up = True
            self._link.hang_up()

    def _give_up(self) -> None:
        self._abort_call = None
        self._link.abort()

    def _fire(self) -> None:
        if self._drain_call is not None:
            self._drain_call.cancel()
            self._drain_call = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def stop(self) -> None:
        """The connection is gone."""
        self._fire()
        if self._abort_call is not None:
            self._abort_call.cancel()
            self._abort_call = None


def why_lost(link: LinkProtocol, reason: Failure, session: Session, farewell: Farewell) -> Exception:
    """What ``link_lost`` is told. To be asked before the session hears of the end."""
    why = _why(link, reason, session, farewell)
    if reason.value is not why:
        why.__cause__ = reason.value
    return why


def _why(link: LinkProtocol, reason: Failure, session: Session, farewell: Farewell) -> Exception:
    goaway = session.goaway_received
    if goaway is not None:
        draining = goaway.code in _DRAINING and session.stood
        if not draining or goaway.code == GoawayCode.REPLACED:
            return LinkRefused(goaway.code, goaway.message, goaway.retry_after)
    if farewell.error is not None:
        return farewell.error
    if goaway is not None:
        return LinkLost(goaway.message or "the peer left")
    peer = link.peer_name or "the peer"
    if session.state is SessionState.AWAIT_WELCOME:
        if link.heard and not session.heard_frame:
            return _not_an_edge(link)
        if reason.check(ConnectionDone) and not isinstance(reason.value, SSL.Error):
            return LinkLost(f"{peer} closed the connection before it said WELCOME")
    return LinkLost(f"the connection to {peer} was lost: {reason.getErrorMessage()}")


def _not_an_edge(link: LinkProtocol) -> NotAnEdge:
    peer = link.peer_name or "the edge's address"
    if INegotiated.providedBy(link.transport):
        return NotAnEdge(f"TLS at {peer} ends at something that is not an edge")
    return NotAnEdge(f"what answers at {peer} is not an edge")
