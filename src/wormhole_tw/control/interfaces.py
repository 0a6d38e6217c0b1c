"""What the floors above fulfil, and what they may rely on: sessions of agents, stores of configuration, feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorThreads, IStreamClientEndpoint

    from wormhole_tw.wire.messages import Open

    from .catalog import Catalog
    from .config import EdgeConfig
    from .files import Look
    from .model import SessionFacts
    from .registry import Registry

__all__ = ["IAgentSession", "IFeed", "IStore", "Snapshot"]


class IAgentSession(Interface):
    """An agent that is here, and all that registry, balancer and dispatch know of it.

    The framed tunnel is one implementation; an old agent over SSH and another edge are others.
    Whoever implements it tells the registry (:meth:`Registry.changed`) when ``ready`` or ``draining`` turn.
    """

    facts: SessionFacts = Attribute("what is known of it; replaced whole when something changes, the place never does")
    load: int = Attribute("streams in flight")
    ready: bool = Attribute("its service was reached and takes requests")
    draining: bool = Attribute("GOAWAY was sent or received: it gets no new stream")

    def dial(open_info: Open) -> IStreamClientEndpoint:
        """Give an endpoint; its ``connect()`` opens one stream as ``open_info`` says (kind, service, visitor).

        ``connect()`` fires at OPEN for kind ``http``, at OPENED for the others, and fails with
        :class:`~wormhole_tw.errors.StreamReset`.
        """

    def drain(deadline: float) -> Deferred[None]:
        """Take no new stream, let those that are open end, and close.

        Fires when no stream is left, or after ``deadline`` seconds, when what is left was ended. It never fails.
        """

    def close(code: int, message: str) -> None:
        """End it now with a :class:`~wormhole_tw.wire.codes.GoawayCode` and a sentence; open streams are reset."""

    def when_lost() -> Deferred[None]:
        """A Deferred of the caller's own that fires when the session is over, at once if it is already."""


class Snapshot(NamedTuple):
    """What a store holds, read at one moment and checked whole."""

    config: EdgeConfig
    catalog: Catalog


class IStore(Interface):
    """Where the configuration comes from. The data plane never waits for it: it reads the catalog in memory."""

    def load() -> Snapshot:
        """Read and check everything. It blocks: for start-up, before the reactor serves anybody.

        :raises wormhole_tw.errors.ConfigError: it cannot be read, or something in it is wrong
        """

    def read(reactor: IReactorThreads) -> Deferred[Snapshot]:
        """:meth:`load` for a running process: the same, without holding up the reactor; fails with the same errors."""

    def look() -> Look:
        """Look whether the files that it is made of are what they were when it was last read. It blocks.

        Nothing has changed, and there is no folder, where it is not made of files.
        """


class IFeed(Interface):
    """How edges that share one set of agents know of each other's sessions.

    It publishes what the registry holds, and applies to it what others publish. The registry is always read locally.
    """

    def start(registry: Registry) -> None:
        """Begin; the registry is asked for what is there and subscribed to."""

    def stop() -> Deferred[None]:
        """Take back what was published and end; fires when nothing of it is left scheduled. Safe to call twice."""
