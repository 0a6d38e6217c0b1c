"""The private service: how to reach it, and what to say where that fails."""

from __future__ import annotations

import errno
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
    UnknownHostError,
)
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.interfaces import IStreamFactory
from wormhole_tw.agent.targets import Target, parse_target
from wormhole_tw.errors import ConfigError, TimedOut
from wormhole_tw.net.addresses import format_host_port, is_ip_address
from wormhole_tw.net.immediate import immediate_reactor
from wormhole_tw.net.tls import client_creator, explain_tls_failure, wrap_client_tls
from wormhole_tw.net.tls_failure import is_tls_failure
from wormhole_tw.wire.codes import ResetCode

__all__ = ["LocalService"]

_log = Logger()

_CA_SETTING = "--local-ca-file"

NEXT_ADDRESS = 0.01
"""Seconds after which the next address of a name is tried beside the one before (RFC 8305 section 8 allows no less).
Twisted waits this long after an address that has refused, too, and 0.3 s unless told: ``localhost`` is ``::1`` first on
many systems, and many services listen on ``127.0.0.1`` only."""


class LocalService:
    """The private service of an agent.

    :ivar description: what it is called in logs, as the operator wrote it
    :ivar reached: a connection to it has stood once
    :ivar starting: it is known not to run yet, so a failure is no news until it was reached

    :raises ConfigError: an endpoint description or a CA file is wrong
    """

    def __init__(self, reactor: Any, config: AgentConfig) -> None:
        self._reactor = reactor
        self._timeout = config.local_timeout
        self._host = "localhost"  # what a certificate has to be for, where the target names no host
        self._port = 0
        self._trouble = ""
        self.reached = False
        self.starting = False
        self._tls = config.local_tls
        if isinstance(config.local, str):
            target = parse_target(config.local)
            self._tls = self._tls or target.tls is True
            self.description = str(target) if target.tls or not self._tls else f"{target} (TLS)"
            endpoint = self._endpoint(target, config)
        else:
            self.description = "the endpoint of this application"
            endpoint = config.local
        if self._tls:
            self._plain = endpoint
            creator = client_creator(
                self._host,
                ca_file=config.local_ca_file,
                verify=not config.local_insecure,
                source=config.source("local_ca_file"),
            )
            endpoint = wrap_client_tls(reactor, creator, endpoint, timeout=self._timeout)
            self._creator = creator
        self._dialled = endpoint

    def _endpoint(self, target: Target, config: AgentConfig) -> IStreamClientEndpoint:
        if target.kind == "unix":
            return UNIXClientEndpoint(immediate_reactor(self._reactor), target.path, timeout=self._timeout)
        if target.kind == "description":
            try:
                described: IStreamClientEndpoint = clientFromString(self._reactor, target.path)
            except Exception as error:  # noqa: BLE001 - endpoint plugins raise what they like for a bad description
                reason = f"{target.path!r} is no client endpoint, nor a port, HOST:PORT, a URL or unix:/PATH: {error}"
                raise ConfigError(config.source("local"), "", reason) from None
            return described
        self._host, self._port = target.host, target.port
        reactor = immediate_reactor(self._reactor)
        if not is_ip_address(target.host):
            return HostnameEndpoint(reactor, target.host, target.port, timeout=self._timeout, attemptDelay=NEXT_ADDRESS)
        kind = TCP6ClientEndpoint if ":" in target.host else TCP4ClientEndpoint
        return kind(reactor, target.host, target.port, timeout=cast(int, self._timeout))

    @property
    def authority(self) -> str:
        """What a ``Host`` field for it says: its address, or ``localhost`` where it was named without one."""
        usual = 443 if self._tls else 80
        return format_host_port(self._host, self._port).removesuffix(f":{usual}") if self._port else self._host

    def connect(self, factory: IProtocolFactory, header: bytes = b"") -> Deferred[IProtocol]:
        """Dial it. Fires when its connection stands, TLS included; fails with what :meth:`explain` explains, with
        :class:`~wormhole_tw.errors.TimedOut` after ``local_timeout`` seconds. May be cancelled.

        :param header: octets that go out first, before TLS too
        """
        endpoint = self._with_header(header) if header else self._dialled
        dialling: Deferred[IProtocol] = endpoint.connect(factory)
        dialling.addTimeout(self._timeout, self._reactor, onTimeoutCancel=self._timed_out)
        return dialling.addCallbacks(self._stands, self._failed)

    def _with_header(self, header: bytes) -> IStreamClientEndpoint:
        if not self._tls:
            return _HeaderFirst(self._dialled, header)
        plain = _HeaderFirst(self._plain, header)
        return wrap_client_tls(self._reactor, self._creator, plain, timeout=self._timeout)

    def _timed_out(self, result: object, timeout: float) -> object:
        if isinstance(result, Failure):  # otherwise it stood at the last moment
            return Failure(TimedOut("local_timeout", f"no connection within {timeout:g} s"))
        return result

    def _stands(self, protocol: IProtocol) -> IProtocol:
        self.reached = True
        self.starting = False
        if self._trouble:
            self._trouble = ""
            _log.info("{service} is there again", service=self.description)
        return protocol

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(CancelledError, ConnectingCancelledError) is None:
            sentence = self.explain(failure)[1]
            if sentence != self._trouble and not self.starting:  # once, and not for every request
                self._trouble = sentence
                _log.warn("{service}: {sentence}", service=self.description, sentence=sentence)
        return failure

    def explain(self, failure: Failure) -> tuple[ResetCode, str]:
        """Why a dial failed, as the code and the sentence for the operator."""
        error = failure.value
        if self._tls and (is_tls_failure(failure) or isinstance(error, ConnectionClosed)):
            sentence = explain_tls_failure(failure, self._host, self._port, ca_option=_CA_SETTING)
            return ResetCode.TLS_FAILED, sentence
        if isinstance(error, TimedOut | TimeoutError | TCPTimedOutError):
            return ResetCode.TIMED_OUT, f"the private service does not answer within {self._timeout:g} s"
        if isinstance(error, ConnectionRefusedError):
            return ResetCode.REFUSED, "the private service refuses connections; is it running?"
        if isinstance(error, DNSLookupError | UnknownHostError):
            return ResetCode.UNREACHABLE, "the private service's host name is not known"
        if isinstance(error, NoRouteError):
            return ResetCode.UNREACHABLE, "there is no route to the private service"
        if isinstance(error, ConnectError):
            if error.osError == errno.ENOENT:
                return ResetCode.REFUSED, "the private service's socket does not exist; is it running?"
            if error.osError == errno.EACCES:
                return ResetCode.REFUSED, "this user may not connect to the private service's socket"
            return ResetCode.UNREACHABLE, f"the private service cannot be reached: {error}"
        if isinstance(error, OSError):
            return ResetCode.UNREACHABLE, f"the private service cannot be reached: {error.strerror or error}"
        return ResetCode.UNREACHABLE, f"the private service cannot be reached: {type(error).__name__}"


@implementer(IStreamClientEndpoint)
class _HeaderFirst:
    """Writes octets as soon as an endpoint's connection stands."""

    def __init__(self, endpoint: IStreamClientEndpoint, header: bytes) -> None:
        self._endpoint = endpoint
        self._header = header

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._endpoint.connect(_HeaderFactory(protocolFactory, self._header))


@implementer(IStreamFactory)
class _HeaderFactory(Factory):
    noisy = False

    def __init__(self, factory: IProtocolFactory, header: bytes) -> None:
        self._factory: Any = factory
        self._header = header

    @property
    def peer(self) -> IAddress:
        return self._factory.peer  # type: ignore[no-any-return]

    @property
    def host(self) -> IAddress:
        return self._factory.host  # type: ignore[no-any-return]

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol: Any = self._factory.buildProtocol(addr)
        connect, header = protocol.makeConnection, self._header

        def header_first(transport: Any) -> None:
            transport.write(header)
            connect(transport)

        # nothing stays between the two: a protocol round the other would have to provide all that it provides
        protocol.makeConnection = header_first
        return protocol


#: What a visitor's edge is told of a failed dial: the code's meaning, and nothing of the private network's names.
PUBLIC_SENTENCES = {
    ResetCode.REFUSED: "the service refused the connection",
    ResetCode.TIMED_OUT: "the service did not answer in time",
    ResetCode.UNREACHABLE: "the service cannot be reached",
    ResetCode.TLS_FAILED: "TLS with the service failed",
}
