"""What a link tells whoever owns it, and what a stream's opener may wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from wormhole_tw.wire.messages import Goaway, Hello, Open, Welcome

    from .protocol import LinkProtocol
    from .stream import TunnelStream

__all__ = ["ILinkOwner"]


class ILinkOwner(Interface):
    """The owner of a link: an edge's session of an agent, or an agent's connection to an edge.

    All of these are called from the link's own rhythm, never from inside a method that the owner called, except that
    ``link_lost`` may follow at once from the transport's ``connectionLost``. What one of them raises is logged and ends
    the link with GOAWAY(internal).
    """

    def hello_received(link: LinkProtocol, hello: Hello) -> None:
        """Accepting side: the peer said who it is. Answer now or later with ``link.welcome()`` or ``link.fail()``.

        The time for that is the session's ``hello_timeout``.
        """

    def welcomed(link: LinkProtocol, welcome: Welcome) -> None:
        """Dialling side: the link stands. ``link.welcome_message`` keeps it."""

    def status_changed(link: LinkProtocol, ready: bool, reason: str) -> None:
        """The peer said whether it takes streams; until it does, it does not."""

    def stream_opened(link: LinkProtocol, stream: TunnelStream, message: Open) -> None:
        """The peer opened a stream. ``stream.attach(protocol)``, and ``stream.accept()`` when the service is reached.

        What comes before a protocol is attached is held (at most a window). A stream that is neither attached nor reset
        when this returns is the owner's to attach later, but without a protocol nobody hears when it ends: attach at
        once and pause, rather.
        """

    def goaway_received(link: LinkProtocol, goaway: Goaway) -> None:
        """The peer leaves: open nothing more here. What it did not process has been reset, undelivered.

        Also called with our own GOAWAY when this side's stream ids come to their end (``IDS_EXHAUSTED``): it is time
        for another link, and this one closes by itself after its last stream.
        """

    def drained(link: LinkProtocol) -> None:
        """GOAWAY went one way or the other and no stream is left. Told at most once."""

    def link_lost(link: LinkProtocol, reason: Exception) -> None:
        """The connection is gone and every stream of it has ended. The last call, made exactly once.

        :param reason: :class:`~wormhole_tw.errors.LinkRefused` where the peer's GOAWAY said why,
            :class:`~wormhole_tw.errors.NotAnEdge`, :class:`~wormhole_tw.errors.TunnelProtocolError` where the peer
            broke the protocol, :class:`~wormhole_tw.errors.LinkLost` otherwise; its ``__cause__`` is what the
            transport said
        """
