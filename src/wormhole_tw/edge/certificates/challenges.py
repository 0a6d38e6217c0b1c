"""How the CA is shown that a name is ours: what every solver of challenges fulfils, and the one for HTTP-01."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import Attribute, Interface, implementer

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from wormhole_tw.edge.certificates.store import OrderRecord
    from wormhole_tw.http.events import RequestHead

__all__ = ["CHALLENGE_PATH", "HttpSolver", "IChallengeSolver", "awaited_value", "recalled", "record_name"]

CHALLENGE_PATH = b"/.well-known/acme-challenge/"
"""Where the CA asks for HTTP-01, before the token (RFC 8555 section 8.3)."""


class IChallengeSolver(Interface):
    """One way to prove control over names.

    It is called from the reactor's thread.  Calls for one ``name`` come one after another, never at the same time;
    calls for different names may overlap.  An order that a restart interrupted presents again what it had presented
    before: doing so twice is no error, nor is cleaning up what is not there.
    """

    kind: str = Attribute('"http-01" or "dns-01"')

    def present(name: str, values: Sequence[str]) -> Deferred[None]:
        """Make these values be found under a name.

        For ``dns-01``: TXT records of ``name`` (``_acme-challenge.example.com``, without a trailing dot), each value
        one record, **beside** what stands there already: a wildcard and its base name share one record name, and are
        perhaps proved by two orders at a time.  It fires when the CA may look: as far as the solver can tell, the
        name's servers all have it.

        For ``http-01``: ``name`` is the token, ``values`` one key authorization.

        :returns: fails with :class:`~wormhole_tw.errors.ChallengeFailed`, whose sentence the operator sees as the
            name's last error; it can be cancelled, and then leaves nothing running
        """

    def clean_up(name: str, values: Sequence[str]) -> Deferred[None]:
        """Take these values away, and only these.

        :returns: fails as :meth:`present`'s does; that is logged, and the certificate is had all the same
        """


def record_name(name: str) -> str:
    """The DNS name of a host name's TXT records (RFC 8555 section 8.4); a wildcard has that of its base name."""
    return f"_acme-challenge.{name.removeprefix('*.')}"


def awaited_value(awaited: Mapping[bytes, bytes], head: RequestHead) -> bytes | None:
    """What a request is to be answered with, if it is a CA's that asks for a token of ours now."""
    if head.method not in (b"GET", b"HEAD") or not head.target.startswith(CHALLENGE_PATH):
        return None
    return awaited.get(head.target[len(CHALLENGE_PATH) :].partition(b"?")[0])


def recalled(orders: Iterable[OrderRecord]) -> dict[bytes, bytes]:
    """What an earlier process had the CA look for, token → key authorization: it may come while this one begins."""
    return {
        name.encode(): values[0].encode()
        for order in orders
        for kind, name, values in order.shown
        if kind == "http-01" and values
    }


@implementer(IChallengeSolver)
class HttpSolver:
    """HTTP-01: the edge's own plain listeners answer.

    :param awaited: token → key authorization: the paths that the listeners answer now; nobody else writes into it
    """

    kind = "http-01"

    def __init__(self, awaited: MutableMapping[bytes, bytes]) -> None:
        self._awaited = awaited

    def present(self, name: str, values: Sequence[str]) -> Deferred[None]:
        """See the interface."""
        self._awaited[name.encode("ascii")] = values[0].encode("ascii")
        return succeed(None)

    def clean_up(self, name: str, values: Sequence[str]) -> Deferred[None]:
        """See the interface."""
        self._awaited.pop(name.encode("ascii"), None)
        return succeed(None)
