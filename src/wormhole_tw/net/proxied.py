"""Dialling through a proxy: an endpoint like any other."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
    UnknownHostError,
)
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import ProxyRefused, TimedOut
from wormhole_tw.net.addresses import is_ip_address
from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.opening import Opening, Openings
from wormhole_tw.net.proxy_dialogues import ConnectDialogue, Dialogue, Socks5Dialogue
from wormhole_tw.net.proxy_settings import Proxy
from wormhole_tw.net.tls_dialling import wrap_client_tls
from wormhole_tw.net.tls_failure import explain_tls_failure, is_tls_failure

__all__ = ["ProxiedEndpoint"]

MAX_ADDRESSES = 4
"""Addresses of one name that are tried, one after the other, where names are looked up here (``socks5://``)."""


@implementer(IStreamClientEndpoint)
class ProxiedEndpoint:
    """Connects to ``host:port`` through a proxy. The proxy's own name is looked up at each ``connect()``.

    It fails with :class:`~wormhole_tw.errors.ProxyRefused`, whose text is one sentence for the operator, or with
    ``DNSLookupError`` where a name is looked up here and not known. Cancelling drops the connection.

    :param creator: for a proxy with ``https://``: ``net.tls.client_creator(proxy.host, …)``
    :param timeout: seconds for the connection to the proxy, as many for TLS with it, and as many for its answer
    """

    def __init__(
        self,
        reactor: Any,
        proxy: Proxy,
        host: str,
        port: int,
        *,
        creator: IOpenSSLClientConnectionCreator | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._host = host
        self._port = port
        self._timeout = timeout
        below: IStreamClientEndpoint = HostnameEndpoint(
            immediate_reactor(reactor), proxy.host, proxy.port, timeout=timeout
        )
        if proxy.scheme == "https":
            assert creator is not None, "a proxy with https:// needs what makes TLS connections to it"
            below = wrap_client_tls(reactor, creator, below, timeout=timeout)
        self._below = below

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        if self._proxy.scheme != "socks5" or is_ip_address(self._host):
            return await self._through(factory, self._host)
        last: ProxyRefused | None = None
        for address in await _addresses(self._reactor, self._host):
            try:
                return await self._through(factory, address)
            except ProxyRefused as error:
                if error.status is None:  # nothing that another address heals
                    raise
                last = error
        if last is None:
            raise DNSLookupError(f"no address of {self._host}")
        raise last

    async def _through(self, factory: IProtocolFactory, host: str) -> IProtocol:
        proxy = self._proxy
        kind: Any = Socks5Dialogue if proxy.scheme.startswith("socks5") else ConnectDialogue
        dialogue: Dialogue = kind(proxy, host, self._port)
        greetings = Openings(factory, lambda address: _Greeting(factory, address, dialogue))
        try:
            greeting = cast(_Greeting, await self._below.connect(greetings))
        except Exception as error:
            sentence = _no_proxy(Failure(), proxy, self._timeout)
            if sentence is None:
                raise
            raise ProxyRefused(sentence) from error
        return await greeting.outcome(self._reactor, self._timeout)


def _no_proxy(failure: Failure, proxy: Proxy, timeout: float) -> str | None:
    """Why the proxy itself cannot be reached, in one sentence; None where it is something else."""
    error = failure.value
    if isinstance(error, DNSLookupError | UnknownHostError):
        return f"the host name of the proxy {proxy} is not known (DNS)"
    if isinstance(error, ConnectionRefusedError):
        return f"the proxy {proxy} refuses connections; is it running there?"
    if isinstance(error, TimeoutError | TCPTimedOutError):
        return f"the proxy {proxy} does not answer within {timeout:g} s"
    if isinstance(error, ConnectError):
        return f"the proxy {proxy} cannot be reached: {error}"
    if isinstance(error, TimedOut) or is_tls_failure(failure):
        return f"no TLS with the proxy {proxy}: {explain_tls_failure(failure, proxy.host, proxy.port)}"
    return None


class _Greeting(Opening):
    """Speaks to the proxy."""

    def __init__(self, factory: IProtocolFactory, address: IAddress | None, dialogue: Dialogue) -> None:
        super().__init__(factory, address)
        self._dialogue = dialogue

    def begin(self) -> bytes:
        return self._dialogue.begin()

    def hear(self, data: bytes) -> bytes | None:
        say, stands = self._dialogue.feed(data)
        if say:
            self.transport.write(say)
        return self._dialogue.rest if stands else None

    def closed(self) -> ProxyRefused:
        return self._dialogue.closed()

    def late(self, seconds: float) -> ProxyRefused:
        return self._dialogue.late(seconds)


@implementer(IResolutionReceiver)
class _Found:
    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Twisted's own cannot be cancelled: what comes too late is not heard."""

    def addressResolved(self, address: IAddress) -> None:
        self.addresses.append(cast(Any, address).host)

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(self.addresses[:MAX_ADDRESSES])


async def _addresses(reactor: Any, host: str) -> list[str]:
    """The addresses of a name, as the system's resolver orders them."""
    found = _Found()
    reactor.nameResolver.resolveHostName(found, host)
    return await found.done
