"""Which proxy leads to a host: proxy URLs, and the variables ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` as curl
reads them.

A variable in lower case wins over the same in upper case, one for https over the one for all, and an empty one counts
as unset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote_to_bytes

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.addresses import format_host_port, is_ip_address, parse_host_port

__all__ = ["SCHEMES", "NoProxy", "Proxy", "ProxySettings", "parse_proxy"]

SCHEMES: Mapping[str, int] = {"http": 1080, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Kinds of proxies, and the port where none is given: curl's."""

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
EXCEPTIONS = ("no_proxy", "NO_PROXY")

MAX_SOCKS_CREDENTIAL = 255  # octets, RFC 1929 §2
MAX_CREDENTIAL = 1024
"""Octets of a user or a password for HTTP: a token of a cloud's proxy fits, a file pasted by mistake does not."""

_FORMS = "http://, https://, socks5:// or socks5h:// and HOST:PORT"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    :ivar scheme: ``http`` (CONNECT), ``https`` (the same, over TLS to the proxy), ``socks5`` (names are looked up
        here) or ``socks5h`` (by the proxy)
    :ivar user: octets, as is ``password``; empty where it needs none
    :ivar source: how the operator named it, for errors
    """

    scheme: str
    host: str
    port: int
    user: bytes = field(default=b"", repr=False)
    password: bytes = field(default=b"", repr=False)
    source: str = field(default="proxy", compare=False)

    def __str__(self) -> str:
        """Without user and password."""
        return f"{self.scheme}://{format_host_port(self.host, self.port)}"


def parse_proxy(text: str, source: str = "proxy") -> Proxy:
    """Read ``[scheme://][user[:password]@]host[:port][/]``; without a scheme it is ``http://``.

    User and password may hold any character as ``%XX``; what is written without is UTF-8.

    :raises ConfigError: it is none; nothing of a password is repeated
    """

    def wrong(reason: str) -> ConfigError:
        return ConfigError(source, "", reason)

    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    scheme = scheme.lower()
    if scheme not in SCHEMES:
        if scheme in ("socks", "socks4", "socks4a"):
            raise wrong(f"{scheme}:// is not spoken here; give socks5:// or socks5h://, which most such proxies know")
        raise wrong(f"it is no proxy; give {_FORMS}")
    userinfo, _, place = rest.rpartition("@")
    place = place.partition("/")[0]
    try:
        host, port = parse_host_port(place, SCHEMES[scheme])
    except ValueError:
        raise wrong(f"it names no host and port; give {_FORMS}") from None
    raw_user, colon, raw_password = userinfo.partition(":")
    user, password = _octets(raw_user), _octets(raw_password)
    most = MAX_SOCKS_CREDENTIAL if scheme.startswith("socks5") else MAX_CREDENTIAL
    if max(len(user), len(password)) > most:
        raise wrong(f"the user or the password is longer than {most} octets")
    if colon and not user:
        raise wrong("there is a password without a user")
    if b":" in user:
        raise wrong("a user's name must not have a colon")  # RFC 7617 §2
    if scheme.startswith("socks5") and user and not password:
        raise wrong("there is a user without a password, which SOCKS5 has no way to say")  # RFC 1929 §2
    return Proxy(scheme, host, port, user, password, source)


def _octets(text: str) -> bytes:
    """As text of ours is UTF-8, and a variable's octets that are no UTF-8 (PEP 383) are themselves again."""
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


class NoProxy:
    """Hosts that are reached without a proxy: the items of ``NO_PROXY``, between commas or spaces.

    ``*`` is every host; ``example.com``, ``.example.com`` and ``*.example.com`` are this name and all below it; an
    address is itself; ``10.0.0.0/8`` is a network (a host that is a name is in none: it is not looked up for this).
    Each but ``*`` and a network may end in ``:PORT``, and is then for this port alone. What is none of these names
    nobody.
    """

    __slots__ = ("_addresses", "_every", "_names", "_networks", "_text")

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._every = False
        self._names: list[tuple[str, int | None]] = []
        self._addresses: list[tuple[IPv4Address | IPv6Address, int | None]] = []
        self._networks: list[IPv4Network | IPv6Network] = []
        for item in text.replace(",", " ").split():
            self._add(item)

    def __repr__(self) -> str:
        return f"NoProxy({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoProxy) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def _add(self, item: str) -> None:
        if item == "*":
            self._every = True
            return
        if "/" in item:
            try:
                self._networks.append(ip_network(item.replace("[", "").replace("]", ""), strict=False))
            except ValueError:
                pass
            return
        try:
            host, port = parse_host_port(item.removeprefix("*").lstrip("."), 0)
        except ValueError:
            return
        if is_ip_address(host):
            self._addresses.append((ip_address(host), port or None))
        else:
            self._names.append((host, port or None))

    def covers(self, host: str, port: int) -> bool:
        """Whether ``host`` (a name in lower case or an address, as :func:`parse_host_port` gives it) is reached
        without a proxy on this port."""
        if self._every:
            return True
        if is_ip_address(host):
            address = ip_address(host.partition("%")[0])
            return any(address == one and only in (None, port) for one, only in self._addresses) or any(
                address.version == network.version and address in network for network in self._networks
            )
        return any(only in (None, port) and (host == name or host.endswith("." + name)) for name, only in self._names)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Which proxy, and where it is not used. ``ProxySettings()`` is none at all."""

    proxy: Proxy | None = None
    no_proxy: NoProxy = field(default_factory=NoProxy)

    def for_host(self, host: str, port: int) -> Proxy | None:
        """The proxy that leads to a host; None where it is reached directly."""
        if self.proxy is None or self.no_proxy.covers(host, port):
            return None
        return self.proxy

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ProxySettings:
        """What the usual variables say.

        :raises ConfigError: one of them is no proxy
        """
        for variable in VARIABLES:
            text = environ.get(variable, "").strip()
            if text:
                proxy = parse_proxy(text, variable)
                break
        else:
            return cls()
        exceptions = next((environ[name] for name in EXCEPTIONS if environ.get(name, "").strip()), "")
        return cls(proxy, NoProxy(exceptions))
