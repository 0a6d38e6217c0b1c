"""What a route may want of a request besides its path: small frozen values, each with one question.

They are asked in the order of what they cost; the first that says no is the reason why a route does not take a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from wormhole_tw.http.asked import Asked
    from wormhole_tw.http.regexes import Regex

__all__ = [
    "AddressIs",
    "BranchIsThere",
    "Condition",
    "HostIs",
    "MethodIs",
    "SchemeIs",
    "Share",
    "ValueIs",
    "share_of",
]

_SHOWN = 60
"""Octets of what a request has that an explanation repeats."""


class Condition(Protocol):
    """One thing that a route wants.

    :cvar lasting: the verdict is the same for the same request of the same visitor, however often it comes
    """

    lasting: ClassVar[bool]

    def holds(self, asked: Asked) -> bool:
        """Whether the request has it."""

    def why_not(self, asked: Asked) -> str:
        """Half a sentence for people, where it does not hold."""

    def __hash__(self) -> int: ...


def _listed(values: list[bytes]) -> str:
    if not values:
        return "there is none"
    text = ", ".join(repr(value.decode("latin-1"))[:_SHOWN] for value in values[:3])
    return f"it is {text}{' …' if len(values) > 3 else ''}"


def _any_of(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


@dataclass(frozen=True, slots=True)
class HostIs:
    """The host name is one of these.

    :ivar names: normalised
    :ivar parents: of wildcards: what stands behind their one label
    """

    lasting: ClassVar[bool] = True
    names: frozenset[str]
    parents: frozenset[str] = frozenset()

    @property
    def shown(self) -> list[str]:
        """The names and wildcards, sorted."""
        return sorted([*self.names, *(f"*.{parent}" for parent in self.parents)])

    def holds(self, asked: Asked) -> bool:
        return asked.host in self.names or asked.host.partition(".")[2] in self.parents

    def why_not(self, asked: Asked) -> str:
        return f"it is for the host {_any_of(self.shown)}, not {asked.host}"


@dataclass(frozen=True, slots=True)
class MethodIs:
    """The method is one of these."""

    lasting: ClassVar[bool] = True
    methods: frozenset[bytes]

    def holds(self, asked: Asked) -> bool:
        return asked.method in self.methods

    def why_not(self, asked: Asked) -> str:
        wanted = _any_of(sorted(method.decode() for method in self.methods))
        return f"it is for the method {wanted}, not {asked.method.decode('latin-1')[:_SHOWN]}"


@dataclass(frozen=True, slots=True)
class SchemeIs:
    """The visitor came by http, or by https."""

    lasting: ClassVar[bool] = True
    scheme: str

    def holds(self, asked: Asked) -> bool:
        return asked.scheme == self.scheme

    def why_not(self, asked: Asked) -> str:
        return f"it is for {self.scheme}, not {asked.scheme}"


@dataclass(frozen=True, slots=True)
class ValueIs:
    """A header field, a member of the query or a cookie has a value; of several, any of them.

    :ivar kind: ``header``, ``query`` or ``cookie``
    :ivar name: lower-case where it is a header's
    :ivar value: it is this
    :ivar regex: the whole of it is described by this
    :ivar present: with neither: it is there, or it is not
    """

    lasting: ClassVar[bool] = True
    kind: str
    name: bytes
    value: bytes | None = None
    regex: Regex | None = None
    present: bool = True

    def _values(self, asked: Asked) -> list[bytes]:
        if self.kind == "header":
            return asked.field(self.name)
        return asked.member(self.name) if self.kind == "query" else asked.cookie(self.name)

    def holds(self, asked: Asked) -> bool:
        values = self._values(asked)
        if self.value is not None:
            return self.value in values
        if self.regex is not None:
            matches = self.regex.matches
            return any(map(matches, values))
        return bool(values) is self.present

    def why_not(self, asked: Asked) -> str:
        if self.value is not None:
            wanted = f"to be {self.value.decode('latin-1')!r}"
        elif self.regex is not None:
            wanted = f"to match {self.regex.pattern}"
        else:
            wanted = "to be there" if self.present else "not to be there"
        return f"it wants the {self.kind} {self.name.decode('latin-1')} {wanted}; {_listed(self._values(asked))}"


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """An address; an IPv4 one that a socket for both families maps into IPv6 stands by itself."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


@dataclass(frozen=True, slots=True)
class AddressIs:
    """The visitor's address is in one of these networks; who has none (a Unix socket) is in none."""

    lasting: ClassVar[bool] = True
    networks: tuple[IPv4Network | IPv6Network, ...]

    def holds(self, asked: Asked) -> bool:
        address = _parsed(asked.address)
        # of another family, an address is in no network
        return address is not None and any(address in network for network in self.networks)

    def why_not(self, asked: Asked) -> str:
        wanted = _any_of(list(map(str, self.networks)))
        return f"it is for visitors from {wanted}, not {asked.address or 'one without an address'}"


@dataclass(frozen=True, slots=True)
class BranchIsThere:
    """An agent of a release branch is there for the route's backend, and ready."""

    lasting: ClassVar[bool] = False
    backend: str
    branch: str

    def holds(self, asked: Asked) -> bool:
        return asked.offers(self.backend, self.branch)

    def why_not(self, asked: Asked) -> str:
        return f"no ready agent of branch {self.branch} is there for backend {self.backend}"


def share_of(ticket: bytes) -> float:
    """Where a visitor stands among all, from 0 to 100 (without 100): the same on every edge and after every restart.

    :param ticket: what tells the visitor from others
    """
    return int.from_bytes(blake2b(ticket, digest_size=8).digest(), "big") / (1 << 64) * 100.0


@dataclass(frozen=True, slots=True)
class Share:
    """A share of all visitors.

    All rules that go by the same thing count from the same end: who is among the first 10 % is among the first 20 %.

    :ivar percent: more than 0, less than 100
    :ivar by: ``cookie``, ``header`` or ``address``: visitors in whom it is the same stay together; empty for each
        request by itself
    :ivar name: of the cookie or header, the latter lower-case
    """

    lasting: ClassVar[bool] = False
    percent: float
    by: str = ""
    name: bytes = b""

    def _place(self, asked: Asked) -> float:
        if self.by == "cookie":
            return share_of(asked.ticket(self.name))
        if self.by == "header":
            values = asked.field(self.name)
            # who does not send it is not among those that are chosen
            return share_of(b",".join(values)) if any(values) else 100.0
        if self.by == "address":
            return share_of(asked.address.encode())
        return asked.luck() * 100.0

    def by_chance(self, asked: Asked) -> bool:
        """Whether this request says nothing that decides it."""
        return not self.by or (self.by == "cookie" and not any(asked.cookie(self.name)))

    def holds(self, asked: Asked) -> bool:
        return self._place(asked) < self.percent

    def why_not(self, asked: Asked) -> str:
        if self.by == "cookie" and self.by_chance(asked):
            who = f"who has no cookie {self.name.decode()} gets one by chance"
        elif self.by == "header" and not any(asked.field(self.name)):
            who = f"who sends no header {self.name.decode()} is not chosen"
        elif self.by:
            who = f"this visitor stands at {self._place(asked):.2f} %"
        else:
            who = "each request by chance"
        return f"it is for {self.percent:g} % of all; {who}"
