"""What an agent tells the endpoint that an application gives it as its private service."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory
from zope.interface import Attribute

__all__ = ["IStreamFactory"]


class IStreamFactory(IProtocolFactory):
    """The factory that ``AgentConfig.local`` is asked to connect for one stream of the tunnel.

    An endpoint of the application's own may read the stream's two addresses from it, so that the service in this
    process learns who its visitor is. The dials that only look whether the service is there come with a factory that
    does not provide this.
    """

    peer = Attribute(
        """Who is at the far end: the visitor, an ``IPv4Address`` or ``IPv6Address``, where the stream is dedicated to
        one (``AgentConfig.visitor_per_stream``); otherwise the edge, a
        :class:`~wormhole_tw.tunnel.addresses.WormholeAddress`."""
    )

    host = Attribute(
        """What the visitor asked for, a ``HostnameAddress``, where the stream is dedicated to one; otherwise a
        ``WormholeAddress``."""
    )
