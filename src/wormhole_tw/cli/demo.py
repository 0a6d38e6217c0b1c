"""The two ends of ``wormhole-tw demo``: the sample service, and the visitor that fetches its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from wormhole_tw.cli.sample import PAGE_MARK, sample_site
from wormhole_tw.net.tls import client_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint

__all__ = ["Outcome", "fetch_page", "serve_sample"]

FETCH_SECONDS = 10.0
"""How long the page may take, which takes some milliseconds."""


class Outcome(NamedTuple):
    """Whether the right page came, and a sentence about it."""

    good: bool
    sentence: str


def serve_sample(reactor: Any) -> IListeningPort:
    """Listen on a free port of loopback with the sample service."""
    return cast("IListeningPort", reactor.listenTCP(0, sample_site(reactor), interface="127.0.0.1"))


@implementer(IAgentEndpointFactory)
class _Here:
    """Connects to loopback whatever the name is, so that ``*.localhost`` needs no DNS; TLS verifies the name."""

    def __init__(self, reactor: Any, ca_file: Path) -> None:
        self._reactor = reactor
        self._ca_file = ca_file

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        creator = client_creator(uri.host.decode("ascii"), ca_file=self._ca_file, alpn=[b"http/1.1"])
        return wrapClientTLS(creator, TCP4ClientEndpoint(self._reactor, "127.0.0.1", uri.port))


async def fetch_page(reactor: Any, hostname: str, port: int, ca_file: Path) -> Outcome:
    """Fetch the sample page over https, verified against ``ca_file`` alone and for ``hostname``."""
    url = f"https://{hostname}:{port}/"
    client = HTTPClient(Agent.usingEndpointFactory(reactor, _Here(reactor, ca_file)))
    started = reactor.seconds()
    try:
        response = await client.get(url, timeout=FETCH_SECONDS, reactor=reactor)
        text = await treq.text_content(response)
    except CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong is the demo's outcome
        return Outcome(False, f"fetching {url} failed: {type(error).__name__}: {error}")
    took = (reactor.seconds() - started) * 1000
    if response.code != 200 or PAGE_MARK not in text:
        return Outcome(False, f"fetching {url} gave status {response.code}, and not the sample page")
    return Outcome(True, f"fetched {url} over verified https in {took:.0f} ms: “{PAGE_MARK}”")
