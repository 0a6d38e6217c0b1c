"""Every exception that this package raises, in one tree.

::

    WormholeError
    ├── MisuseError                 you called it in a state, or with a value, that it forbids
    ├── ConfigError                 the operator's file, variable or option is wrong (one line, names the key)
    │   └── NotAvailableError       it is right, but this version does not have it yet
    ├── PeerError                   the other side broke the rules
    │   ├── TunnelProtocolError     … of the tunnel protocol; ``code`` goes into GOAWAY
    │   ├── HttpError               … of HTTP; ``status`` goes to the visitor where it was the visitor
    │   └── ProxyHeaderError        … of the PROXY protocol; nothing can be told to it, the connection is closed
    └── WorldError                  nobody is to blame: the network, a service or an agent is not there
        ├── LinkLost                a tunnel's connection ended
        ├── LinkRefused             the edge ended it with a reason: ``code``, ``message``, ``retry_after`` seconds
        ├── NotAnEdge               something answered that does not speak the tunnel protocol
        ├── ProxyRefused            a proxy on the way let nothing through: ``status`` where it gave one
        ├── StreamReset             a stream ended before its end: ``code``, ``delivered``
        ├── RequestReset            a service ended one request: ``code``, ``processed``
        ├── NoUpstream              no agent or origin can take a request
        ├── AddressRefused          an origin's name leads to an address that is not for the web
        ├── NextFailed              what a middleware waits for has no answer: ``status``, ``reason``
        ├── CaUnavailable           the CA that certificates come from cannot be had: ``retry_after`` seconds
        ├── CaRefused               it refuses: ``code``, ``names``, ``retry_after``
        ├── ChallengeFailed         the CA cannot be shown that a name is ours
        ├── CacheFault              what was kept of an answer cannot be read, or is damaged: it is forgotten
        ├── IssuerUnavailable       who issues tokens, or their keys, cannot be had, or makes no sense
        └── TimedOut                a named limit in seconds passed

What the peer did, what the world did and what the caller did are apart, so that ``except`` can be: a peer's
error ends its connection, the world's is answered or tried again, a misuse is a bug.
"""

from __future__ import annotations

__all__ = [
    "AddressRefused",
    "CaRefused",
    "CaUnavailable",
    "CacheFault",
    "ChallengeFailed",
    "ConfigError",
    "HttpError",
    "IssuerUnavailable",
    "LinkLost",
    "LinkRefused",
    "MisuseError",
    "NextFailed",
    "NoUpstream",
    "NotAnEdge",
    "NotAvailableError",
    "PeerError",
    "ProxyHeaderError",
    "ProxyRefused",
    "RequestReset",
    "StreamReset",
    "TimedOut",
    "TunnelProtocolError",
    "WorldError",
    "WormholeError",
]


class WormholeError(Exception):
    """The root of the tree."""


class MisuseError(WormholeError):
    """A caller in this process broke a rule of the interface it called."""


class ConfigError(WormholeError):
    """A setting is wrong.

    :ivar source: the file, variable or option it stands in, as the operator wrote it
    :ivar key: the path of the key (``$.sites[0].hostnames[1]``), or an empty string for the whole source
    :ivar reason: what is wrong and what to do, one sentence
    """

    def __init__(self, source: str, key: str, reason: str) -> None:
        super().__init__(source, key, reason)
        self.source = source
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.reason) if part)


class NotAvailableError(ConfigError):
    """The setting is understood, and this version does not have what it asks for."""


class PeerError(WormholeError):
    """The other side of a connection broke the rules of its protocol."""


class TunnelProtocolError(PeerError):
    """The tunnel peer broke the tunnel protocol; the link ends.

    :ivar code: a :class:`wormhole_tw.wire.codes.GoawayCode`, which goes out in GOAWAY
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class HttpError(PeerError):
    """A visitor's request or an origin's answer is not valid HTTP, or is past a limit.

    :ivar status: the status (400, 413, 414, 417, 431, 501, 505 …) for a visitor's fault; 502 for an origin's
    :ivar reason: a short token for ``X-Wormhole-Error`` (``bad-request``, ``head-too-large`` …)
    :ivar message: one sentence for people, which never repeats the offending bytes
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class ProxyHeaderError(PeerError):
    """A proxy sent no header of the PROXY protocol, or none that is valid; the message never repeats its octets."""


class WorldError(WormholeError):
    """Something outside both programs is not as hoped."""


class LinkLost(WorldError):
    """The connection under a tunnel ended (closed, reset, silent for too long)."""


class LinkRefused(WorldError):
    """The peer ended the link with GOAWAY before it stood, or for a reason that a retry at once cannot heal.

    :ivar code: a :class:`wormhole_tw.wire.codes.GoawayCode`
    :ivar message: the peer's sentence
    :ivar retry_after: seconds to wait before the next try, or None
    """

    def __init__(self, code: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class NotAnEdge(WorldError):
    """What answered at the edge's address does not speak the tunnel protocol."""


class ProxyRefused(WorldError):
    """A proxy between an agent and its edge was not reached, is none, or said no; never holds a password.

    :ivar status: the status of its answer (HTTP's, or the reply code of SOCKS5); None where it gave none
    :ivar credentials: it wants a user and a password, or others: asked again and again, some lock the user out
    """

    def __init__(self, message: str, status: int | None = None, *, credentials: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.credentials = credentials


class StreamReset(WorldError):
    """A stream ended by RESET, or with its link.

    :ivar code: a :class:`wormhole_tw.wire.codes.ResetCode`
    :ivar delivered: False promises that no byte of it reached the service, so that it may be sent again
    """

    def __init__(self, code: int, message: str, delivered: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.delivered = delivered


class RequestReset(WorldError):
    """A service ended one request of an HTTP/2 connection, by RST_STREAM or with its GOAWAY.

    :ivar code: the HTTP/2 error code (RFC 9113 §7)
    :ivar processed: False is the service's promise that it did nothing with it, so that it may be sent again (§8.7)
    """

    def __init__(self, code: int, message: str, processed: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.processed = processed


class NoUpstream(WorldError):
    """No agent or origin is there to take the request."""


class AddressRefused(WorldError):
    """The name of an origin leads to loopback, a private network or the like, which its backend does not allow."""


class NextFailed(WorldError):
    """What a middleware waits for has no answer: the service cannot be had, or a middleware behind it has failed.

    Where nobody catches it the visitor gets what it would have got without middleware.

    :ivar status: the status that the visitor gets (502, 503, 504, 500)
    :ivar reason: a short token for ``X-Wormhole-Error`` (``no-agent``, ``service-timeout`` …)
    :ivar message: one sentence for people
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class CaUnavailable(WorldError):
    """The CA that certificates come from cannot be reached, or does not answer as one.

    :ivar retry_after: seconds that it asks to wait, or None
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CaRefused(WorldError):
    """The CA refuses what was asked of it (RFC 8555 section 6.7).

    :ivar code: the last part of the problem's type (``rateLimited``, ``unauthorized``)
    :ivar names: those that it is about, where the CA says so
    :ivar retry_after: seconds that it asks to wait, or None
    """

    def __init__(self, code: str, message: str, names: tuple[str, ...] = (), retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.names = names
        self.retry_after = retry_after


class ChallengeFailed(WorldError):
    """What proves to a CA that a name is ours could not be put where the CA looks; one sentence for the operator."""


class CacheFault(WorldError):
    """What was kept of an answer cannot be read, or is damaged; it is forgotten, and asked for anew."""


class IssuerUnavailable(WorldError):
    """Who issues tokens, or the keys of these, cannot be had, or what it says makes no sense."""


class TimedOut(WorldError):
    """A limit in seconds passed.

    :ivar limit: the name of the setting (``limits.first_byte``)
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit
