"""An origin on the web, as the configuration says it: frozen values, equal where they say the same."""

from __future__ import annotations

from dataclasses import dataclass, field

from .special_addresses import Network

__all__ = ["Origin", "Target"]

_PORTS = {"http": 80, "https": 443}

#: Seconds. Most hosts keep theirs for a minute or more, and a new one costs every visitor two or three trips there; one
#: that the origin ends earlier is seen to end.
KEEP_ALIVE = 55.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where connections to an origin go, and what they have to be like: with another target, they are others.

    :ivar scheme: ``http`` or ``https``
    :ivar host: a name, normalised, or an address without brackets
    :ivar server_name: what TLS asks for and its certificate has to be for; empty for ``http``
    :ivar authorities: PEM certificates that are trusted beside the system's; empty for none
    :ivar allowed: networks of special addresses that may be dialled all the same
    """

    scheme: str
    host: str
    port: int
    server_name: str = ""
    authorities: bytes = field(default=b"", repr=False)
    allowed: tuple[Network, ...] = ()

    @property
    def secure(self) -> bool:
        """By TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As it stands in a URL and in Host: the port only where it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Origin:
    """One origin of a backend.

    :ivar base: what stands before each path there: empty, or ``/blog``
    :ivar host: what ``Host`` says; None for what the visitor asked for
    :ivar index: what is asked for where a path ends in a slash; empty for the path as it is
    :ivar rewrite: what its answers say of its own URLs is turned into the visitors'
    :ivar keep_alive: seconds for which an idle connection is kept
    :ivar weight: its share of requests beside others of its backend
    :ivar region: where it is; empty where nobody says
    """

    target: Target
    base: str = ""
    host: str | None = None
    index: str = ""
    rewrite: bool = True
    keep_alive: float = KEEP_ALIVE
    weight: float = 1.0
    region: str = ""

    @property
    def url(self) -> str:
        """Its URL, as logs name it."""
        return f"{self.target}{self.base}"
