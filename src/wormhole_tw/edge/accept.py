"""Accept: the first bytes of a connection say what it is.

On a listener with ``proxy_protocol`` a trusted peer begins with a header of that protocol, which says whose the
connection is; from then on its addresses take the place of the socket's.

One table of rows for each kind of port; the first row whose judge says yes takes the connection, bytes intact.  A judge
that needs more bytes makes the connection wait, for ``limits.handshake`` at the most and :data:`FIRST_BYTES` octets; a
handshake may have :data:`HANDSHAKE_BYTES`.
After TLS, ALPN decides where it was agreed on, and the bytes within decide otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.edge.answers import plain_http_on_tls_port
from wormhole_tw.edge.arrivals import connection_facts, named_by
from wormhole_tw.edge.complaints import HeaderComplaints, host_of
from wormhole_tw.edge.first_bytes import (
    FIRST_BYTES,
    HANDSHAKE_BYTES,
    PASSING_PORT,
    PLAIN_PORT,
    TLS_PORT,
    WITHIN_TLS,
    Rows,
)
from wormhole_tw.edge.h2_listener import H2VisitorConnection
from wormhole_tw.edge.interfaces import IDrainable
from wormhole_tw.edge.listener import VisitorConnection
from wormhole_tw.edge.passthrough import passed_site, passthrough
from wormhole_tw.edge.room import Room
from wormhole_tw.edge.trust import NOBODY
from wormhole_tw.errors import ProxyHeaderError
from wormhole_tw.net.proxy_protocol import ProxyHeader, ProxyReader
from wormhole_tw.net.tls import ServerTls
from wormhole_tw.net.tls_failure import explain_refused_visitor
from wormhole_tw.net.tls_transport import TlsAcceptor
from wormhole_tw.net.transport import tune

if TYPE_CHECKING:
    from wormhole_tw.control.model import Site
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts
    from wormhole_tw.edge.trust import Trust
    from wormhole_tw.net.timers import Timer
    from wormhole_tw.net.tls_transport import TlsAcceptor, TlsTransport

__all__ = ["ALPN", "ALPN_H2", "ALPN_HTTP", "ALPN_LINK", "FIRST_BYTES", "AcceptFactory"]

log = Logger()

ALPN_LINK = b"wormhole/1"
ALPN_HTTP = (b"http/1.1", b"http/1.0")
"""The second is registered too, and old clients offer it alone: refused, they could not even be told anything."""
ALPN_H2 = b"h2"
ALPN = (ALPN_LINK, ALPN_H2, *ALPN_HTTP)
"""What one TLS port speaks, best first; an agent offers only the first, a visitor never does."""


@implementer(IProtocol, IDrainable)
class _Accept:
    """A connection of which nothing is known yet.  It stands aside as soon as something is.

    :ivar address: who it is: the peer, or whom its header names
    :ivar header: what the PROXY protocol says of it, or None
    """

    __slots__ = (
        "_counted",
        "_data",
        "_fed",
        "_next",
        "_owner",
        "_reader",
        "_rows",
        "_timer",
        "_transport",
        "address",
        "factory",
        "header",
    )

    def __init__(self, owner: AcceptFactory, address: IAddress, reader: ProxyReader | None, counted: str) -> None:
        self.factory = None
        self.address = address
        self.header: ProxyHeader | None = None
        self._reader = reader
        self._counted = counted  # what it is counted for among the context's addresses, once it is there
        self._owner = owner
        self._rows = owner.rows
        self._data = b""
        self._fed = 0
        self._next: Any = None
        self._transport: Any = None
        self._timer: Timer | None = None

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport
        context = self._owner.context
        if not getattr(transport, "tuned", False):
            tune(transport)
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = context.limits.write_buffer
        context.counters.connections += 1
        context.connections.add(self)
        if self._counted:
            context.addresses.enter(self._counted)
        self._timer = context.timers.start(context.limits.handshake, self._timed_out)

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "accept"

    def dataReceived(self, data: bytes) -> None:
        if self._next is not None:
            # a TLS handshake under way (or a transport that keeps us): what it takes is bounded, too
            if self._timer is not None and self._fed > HANDSHAKE_BYTES:
                self.abort()
                return
            self._fed += len(data)
            self._next.dataReceived(data)
            return
        if self._reader is not None and not (data := self._behind_header(self._reader, data)):
            return
        self._data += data
        data = self._data
        for judge, action in self._rows:
            verdict = judge(data)
            if verdict:
                getattr(self, action)()
                return
            if verdict is None:
                return
        self.abort()

    def connectionLost(self, reason: Failure) -> None:
        if self._reader is not None and self._reader.begun and self._timer is not None:
            self._owner.complaints.invalid(self.address, "it was cut short")
        self._let_go()
        if self._next is not None:
            self._next.connectionLost(reason)
        elif self._data[:1] == b"\x16":
            self._owner.context.counters.handshakes_failed += 1  # a ClientHello without its end

    # IDrainable

    def linger(self) -> None:
        """It may go on, and ask once."""

    def drain(self) -> None:
        """Nothing was asked yet: nothing is lost."""
        self.abort()

    def abort(self) -> None:
        self._let_go()
        self._transport.abortConnection()

    # within

    def _timed_out(self) -> None:
        if self._reader is not None:
            self._owner.complaints.invalid(self.address, "it did not come within limits.handshake")
        self.abort()

    def _behind_header(self, reader: ProxyReader, data: bytes) -> bytes:
        """What came behind the header; nothing while it is not whole, or where it is none."""
        try:
            header = reader.feed(data)
        except ProxyHeaderError as error:
            self._owner.complaints.invalid(self.address, str(error))
            self.abort()
            return b""
        if header is None:
            return b""
        self._reader = None
        self.header = header
        if named := named_by(header):
            self.address = named
            if not self._count():
                return b""
        return reader.rest

    def _count(self) -> bool:
        """Count it for whose it is; False where that one has too many, and it is over."""
        context, room = self._owner.context, self._owner.room
        counted = room.counted(host_of(self.address))
        if not counted:
            return True
        if refusal := room.address_refusal(counted):
            context.counters.refused[refusal] += 1
            self.abort()
            return False
        context.addresses.enter(counted)
        self._counted = counted
        return True

    def _refuse_header(self) -> None:
        self._owner.complaints.refused(self.address, second=self.header is not None)
        self.abort()

    def _let_go(self) -> None:
        self._owner.context.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._counted = self._counted, ""
        if counted:
            self._owner.context.addresses.leave(counted)

    def visitor(self, tls: TlsTransport | None) -> VisitorConnection | H2VisitorConnection | None:
        """It is a visitor: the protocol for it, or None where there is no room for one more."""
        if self._no_room():
            return None
        protocol = self._owner.visitor(self, tls or self._transport, tls)
        protocol.counted, self._counted = self._counted, ""
        self._let_go()
        return protocol

    def _no_room(self) -> bool:
        """There is none for one more visitor, and it is over."""
        owner = self._owner
        refusal = owner.room.visitor_refusal(self._counted)
        if refusal:
            owner.context.counters.refused[refusal] += 1
            self.abort()
        return bool(refusal)

    def settled(self) -> None:
        """It is known what the connection is, or it is over."""
        if self._timer is not None:
            self._let_go()

    def _hand_on(self, protocol: IProtocol) -> None:
        data, self._data = self._data, b""
        self._fed = len(data)
        self._next = protocol
        # from here on the transport speaks to the protocol itself
        self._transport.protocol = protocol
        protocol.makeConnection(self._transport)
        protocol.dataReceived(data)

    def _to_tls(self) -> None:
        acceptor = self._owner.acceptor
        assert acceptor is not None
        within = _WithinTls(self._owner, self)
        data, self._data = self._data, b""
        tls: Any = acceptor.wrap(within, data)
        self._fed = len(data)
        self._next = tls
        tls.makeConnection(self._transport)
        tls.dataReceived(data)

    def _by_name(self) -> None:
        """Whose TLS it is, its ClientHello says."""
        found = passed_site(self._owner.context, self._data)
        if found is None:
            self._to_tls()
        else:
            self._to_service(*found)

    def _to_service(self, site: Site, name: str) -> None:
        if self._no_room():
            return
        owner = self._owner
        passage = passthrough(owner.context, site, name, owner.facts(self, self._transport, None), self._counted)
        if passage is None:
            self.abort()
            return
        self._counted = ""
        self._let_go()
        data, self._data = self._data, b""
        passage.begin(self._transport, data)

    def _to_https_hint(self) -> None:
        context = self._owner.context
        context.counters.early["plain-http-on-https-port"] += 1
        self._transport.write(plain_http_on_tls_port(context.date.at(context.wall())))
        # the rest of the request is read and dropped until the visitor closes, or the handshake's time is over
        self._next = _Deaf()
        self._transport.loseWriteConnection()

    def _to_link(self) -> None:
        if self._owner.tunnels is False:
            self.abort()
            return
        self._let_go()
        self._hand_on(self._owner.make_link(self.address))

    def _to_visitor(self) -> None:
        protocol = self.visitor(None)
        if protocol is not None:
            self._hand_on(protocol)


class _Deaf:
    """Hears nothing."""

    def dataReceived(self, data: bytes) -> None:
        """Nothing."""

    def connectionLost(self, reason: Failure) -> None:
        """Nothing."""


@implementer(IProtocol, IHandshakeListener)
class _WithinTls:
    """The inside of a TLS connection, until ALPN or the first bytes say what it is."""

    __slots__ = ("_accept", "_data", "_owner", "_shaken", "_transport", "factory")

    def __init__(self, owner: AcceptFactory, accept: _Accept) -> None:
        self.factory = None
        self._owner = owner
        self._accept: _Accept = accept
        self._data = b""
        self._shaken = False
        self._transport: TlsTransport | None = None

    def makeConnection(self, transport: ITransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connectionMade(self) -> None:
        """All is done in :meth:`makeConnection`."""

    def logPrefix(self) -> str:
        return "accept"

    def handshakeCompleted(self) -> None:
        transport = self._transport
        assert transport is not None
        self._shaken = True
        self._owner.context.counters.handshakes += 1
        chosen = transport.negotiatedProtocol
        if chosen == ALPN_LINK:
            self._to_link()
        elif chosen == ALPN_H2 or chosen in ALPN_HTTP:
            self._to_visitor()
        # without ALPN its first bytes decide, and the handshake's time goes on

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        for judge, action in WITHIN_TLS:
            verdict = judge(self._data)
            if verdict:
                getattr(self, action)()
                return
            if verdict is None:
                return
        self._accept.abort()

    def connectionLost(self, reason: Failure) -> None:
        self._accept.settled()
        if self._shaken:
            return  # it said nothing and left: a probe, or a browser's spare connection
        self._owner.context.counters.handshakes_failed += 1
        # a scanner, a client that does not trust our CA: everyday, and nobody's error here
        log.debug(
            "a TLS handshake of {address} did not come to its end: {reason}",
            address=host_of(self._accept.address),
            reason=explain_refused_visitor(reason),
        )

    def _to_link(self) -> None:
        if self._owner.tunnels is False:
            self._accept.abort()
            return
        self._hand_on(self._owner.make_link(self._accept.address))

    def _to_visitor(self) -> None:
        protocol = self._accept.visitor(self._transport)
        if protocol is not None:
            self._hand_on(protocol)

    def _hand_on(self, protocol: IProtocol) -> None:
        transport = self._transport
        assert transport is not None
        self._accept.settled()
        # both layers stand aside: socket → TLS → protocol
        transport.transport.protocol = transport
        transport.wrappedProtocol = protocol
        data, self._data = self._data, b""
        protocol.makeConnection(transport)
        if data:
            protocol.dataReceived(data)


@implementer(IProtocolFactory)
class AcceptFactory(Factory):
    """The factory of a listening port.

    :param make_link: a protocol for an agent's tunnel, given its address
    :param clock: the reactor
    :param tls: the certificates to end TLS with, or None on a plain port
    :param on_plain: what becomes of HTTP on a plain port
    :param trust: which peers are proxies of ours
    :param proxy_protocol: these begin with a header of the PROXY protocol; whoever else sends one is refused
    :param tunnels: whether agents come in here; see :class:`~wormhole_tw.control.config.Listener`
    """

    noisy = False

    def __init__(
        self,
        context: EdgeContext,
        *,
        make_link: Callable[[IAddress], IProtocol],
        clock: IReactorTime,
        tls: ServerTls | None = None,
        on_plain: Literal["redirect", "serve"] = "redirect",
        trust: Trust = NOBODY,
        proxy_protocol: bool = False,
        tunnels: bool | None = None,
    ) -> None:
        self.context = context
        self.make_link = make_link
        self.acceptor = None if tls is None else TlsAcceptor(clock, tls)
        self.believe(trust)
        self._proxy_protocol = proxy_protocol
        self.complaints = HeaderComplaints(context.counters, context.timers.seconds, expected=proxy_protocol)
        self._redirect = on_plain == "redirect"
        self.tunnels = tunnels

    def believe(self, trust: Trust) -> None:
        """From the next connection on these are the proxies; those that stand keep what they began with."""
        self.trust = trust
        self.room = Room(self.context, trust)

    def buildProtocol(self, addr: IAddress | None) -> _Accept | None:  # type: ignore[override]
        context = self.context
        counted = ""
        if addr is None or context.draining:
            refusal = "stopping"
        else:
            counted = self.room.counted(host_of(addr))
            refusal = self.room.refusal(counted)
        if refusal or addr is None:
            context.counters.refused[refusal] += 1
            return None
        proxied = self._proxy_protocol and self.trust.believes(host_of(addr))
        return _Accept(self, addr, ProxyReader() if proxied else None, counted)

    def visitor(
        self, accept: _Accept, transport: Any, tls: TlsTransport | None
    ) -> VisitorConnection | H2VisitorConnection:
        """The protocol for a visitor on this port."""
        facts = self.facts(accept, transport, tls)
        header = accept.header
        alpn = facts.served.alpn if facts.served is not None else header.alpn if header is not None else None
        if alpn == ALPN_H2:
            return H2VisitorConnection(self.context, facts)
        return VisitorConnection(self.context, facts)

    def facts(self, accept: _Accept, transport: Any, tls: TlsTransport | None) -> ConnectionFacts:
        """What is known of a visitor on this port.

        :param tls: where TLS is ended here
        """
        served = ServerTls.served(tls) if tls is not None else None
        return connection_facts(
            transport,
            accept.address,
            accept.header,
            self.trust,
            public_port=self.context.public_port,
            served=served,
            redirect=served is None and self._redirect,
            tunnels=self.tunnels,
        )

    @property
    def rows(self) -> Rows:
        """What a connection that begins now may be."""
        if self.acceptor is None:
            return PLAIN_PORT
        return PASSING_PORT if self.context.catalogs.current.passes else TLS_PORT
