"""What gates need besides the request: threads, and JSON from servers on the web (keys, metadata, tokens)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.protocol import Protocol as Connection
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from wormhole_tw.errors import IssuerUnavailable
from wormhole_tw.net.threads import call_in_thread
from wormhole_tw.net.tls import client_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
    from twisted.python.failure import Failure

__all__ = ["JsonClient", "Outside"]

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_WITHIN = 5.0
"""Seconds for a connection to a server on the web."""

ANSWER_WITHIN = 10.0
"""Seconds for a whole answer: a visitor waits for it."""

MOST = 1024 * 1024
"""Octets of an answer: the keys of an issuer are some kilobytes."""


class JsonClient(Protocol):
    """A server on the web that speaks JSON."""

    async def get(self, url: str) -> dict[str, Any]:
        """What is there.

        :raises IssuerUnavailable: nothing, or no table in JSON
        """

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, Any]:
        """What it says to a form.

        :param credentials: name and password, as they stand in the ``Authorization`` field; None for none
        :raises IssuerUnavailable: it did not take it; or as above
        """


class Outside:
    """Threads and the web.

    :param reactor: whose
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run what takes its time beside the reactor."""
        return call_in_thread(IReactorFromThreads(self._reactor), call, *args, **kwargs)

    def client(self, authorities: tuple[bytes, ...]) -> JsonClient:
        """Somebody to ask https servers with.

        :param authorities: who vouches for them beside the system's CAs, DER
        """
        return _Client(self._reactor, authorities)


class _Client:
    def __init__(self, reactor: Any, authorities: tuple[bytes, ...]) -> None:
        self._reactor = reactor
        # no pool: one is asked a few times an hour, and what is kept open would have to be ended
        self._http = HTTPClient(Agent(reactor, _Policy(authorities), connectTimeout=CONNECT_WITHIN))

    async def get(self, url: str) -> dict[str, Any]:
        """See JsonClient."""
        return await self._within(self._ask("GET", url), url)

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, Any]:
        """See JsonClient."""
        return await self._within(self._ask("POST", url, data=dict(form), auth=credentials), url)

    async def _within(self, asking: Any, url: str) -> dict[str, Any]:
        try:
            return await Deferred.fromCoroutine(asking).addTimeout(ANSWER_WITHIN, self._reactor, _too_late)
        except (IssuerUnavailable, CancelledError):
            raise
        except Exception as error:
            # what went wrong on the way has a hundred types, of Twisted, OpenSSL and the resolver
            raise IssuerUnavailable(f"{url}: {str(error) or type(error).__name__}") from error

    async def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        answer = await self._http.request(
            method,
            url,
            headers=Headers({"Accept": ["application/json"]}),
            allow_redirects=False,
            unbuffered=True,
            **options,
        )
        body = _Body()
        answer.original.deliverBody(body)
        data = await body.whole
        if answer.code != 200:
            raise IssuerUnavailable(f"{url}: it answered {answer.code}{_error_of(data)}")
        try:
            said = json.loads(data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise IssuerUnavailable(f"{url}: what it says is no JSON object")
        return said


def _too_late(_result: object, seconds: float) -> Any:
    raise IssuerUnavailable(f"no whole answer within {seconds:.0f} s")


def _error_of(data: bytes) -> str:
    """The error that an answer names (RFC 6749 §5.2), which is made for logs; nothing else of it is repeated."""
    try:
        error = json.loads(data)["error"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f" ({error})" if isinstance(error, str) and error.isidentifier() else ""


class _Body(Connection):
    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole: Deferred[bytes] = Deferred(self._cancelled)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST:
            self._pieces.clear()
            self.transport.abortConnection()  # type: ignore[union-attr]
        else:
            self._pieces.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self.whole.called:
            return
        if self._size > MOST:
            self.whole.errback(IssuerUnavailable(f"an answer of more than {MOST} octets"))
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(reason)

    def _cancelled(self, _whole: object) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


@implementer(IPolicyForHTTPS)
class _Policy:
    def __init__(self, authorities: tuple[bytes, ...]) -> None:
        pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in authorities) or None
        # reading the system's CAs takes ten milliseconds
        self._creator = lru_cache(maxsize=16)(lambda host: client_creator(host, ca_pem=pem))

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return self._creator(hostname.decode("ascii"))
