"""An endpoint that dials by another and then speaks TLS: :func:`wrap_client_tls`."""

# mypy: allow-untyped-calls
# (the class that TLS transports extend has no annotations)

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import TimedOut
from wormhole_tw.net.tls_halves import HalfClosingTls
from wormhole_tw.net.tls_transport import TlsFactory

__all__ = ["HANDSHAKE_TIMEOUT", "wrap_client_tls"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that the other side has for its part of a handshake that we began."""


def wrap_client_tls(
    clock: IReactorTime,
    creator: IOpenSSLClientConnectionCreator,
    endpoint: IStreamClientEndpoint,
    *,
    timeout: float = HANDSHAKE_TIMEOUT,
) -> IStreamClientEndpoint:
    """An endpoint that connects by ``endpoint`` and then speaks TLS.

    ``connect(factory)`` fires when the handshake is done and the peer verified; the protocol is built only then, so
    that ``negotiatedProtocol`` is known in its ``connectionMade``. It fails with what `explain_tls_failure` explains,
    or with `TimedOut` where the peer takes longer than ``timeout`` seconds for the handshake.
    """
    return _TlsClientEndpoint(clock, creator, endpoint, timeout)


@implementer(IHandshakeListener)
class _Gate(Protocol):
    """Stands in for the application's protocol until the handshake is done."""

    def __init__(self, factory: IProtocolFactory, address: IAddress | None, verified: Deferred[IProtocol]) -> None:
        self._factory = factory
        self._address = address
        self._verified = verified

    def handshakeCompleted(self) -> None:
        verified = self._verified
        if verified.called:  # cancelled
            return
        tls = cast(HalfClosingTls, self.transport)
        try:
            protocol = self._factory.buildProtocol(cast(IAddress, self._address))
            if protocol is None:
                raise NoProtocol()
            tls.wrappedProtocol = protocol
            protocol.makeConnection(tls)
            if IHandshakeListener.providedBy(protocol):
                cast(IHandshakeListener, protocol).handshakeCompleted()
        except Exception:  # noqa: BLE001 - whoever dials is told, whatever it is
            failure = Failure()
            tls.abortConnection()
            if not verified.called:
                verified.errback(failure)
        else:
            if not verified.called:
                verified.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._verified.called:
            self._verified.errback(reason)


class _GateFactory(Factory):
    def __init__(self, factory: IProtocolFactory, verified: Deferred[IProtocol]) -> None:
        self._factory = factory
        self._verified = verified

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Gate(self._factory, addr, self._verified)


@implementer(IStreamClientEndpoint)
class _TlsClientEndpoint:
    def __init__(
        self,
        clock: IReactorTime,
        creator: IOpenSSLClientConnectionCreator,
        endpoint: IStreamClientEndpoint,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._creator = creator
        self._endpoint = endpoint
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        expired = False

        def abort(_verified: object) -> None:
            tls.abortConnection()

        verified: Deferred[IProtocol] = Deferred(abort)
        tls = cast(
            HalfClosingTls,
            await self._endpoint.connect(TlsFactory(self._creator, True, _GateFactory(factory, verified), self._clock)),
        )

        def expire() -> None:
            nonlocal expired
            expired = True
            tls.abortConnection()

        timer = None if verified.called else self._clock.callLater(self._timeout, expire)
        try:
            return await verified
        except ConnectionAborted:
            if expired:
                raise TimedOut("handshake", f"no TLS handshake within {self._timeout:g} s") from None
            raise
        finally:
            if timer is not None and timer.active():
                timer.cancel()
