"""``host:port`` as people write it, and back."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING

import idna

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

__all__ = ["format_host_port", "is_ip_address", "parse_host_port", "shown_address"]

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME = 253  # octets of a name in text, RFC 1035 section 2.3.4


def is_ip_address(host: str) -> bool:
    """True for an IPv4 or IPv6 address in text, without brackets; an IPv6 zone (``fe80::1%eth0``) is allowed."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]``, ``[v6]:port`` or a bare IPv6 address → (host, port).

    The host comes back in lower case, a name of other than ASCII letters in its ASCII form (IDNA 2008), an IPv6 address
    without brackets, no trailing dot. Ports are 1 to 65535.

    :raises ValueError: one sentence for people; also where no port is given and there is no default
    """
    text = text.strip()
    if "://" in text:
        raise ValueError(f"{text!r} is a URL, give HOST or HOST:PORT")
    host: str
    port: str | None
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [IPv6 address] or [IPv6 address]:PORT")
        port = rest[1:] if rest else None
        if ":" not in host or not is_ip_address(host):
            raise ValueError(f"{host!r} is not an IPv6 address")
    elif text.count(":") > 1:
        host, port = text, None
        if not is_ip_address(host):
            raise ValueError(f"{text!r} is neither an IPv6 address nor HOST:PORT (write [IPv6 address]:PORT)")
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
    return _host(host, text), _port(port, default_port, text)


def _host(host: str, text: str) -> str:
    host = host.strip().lower().removesuffix(".")
    if not host:
        raise ValueError(f"{text!r} has no host name")
    if is_ip_address(host):
        return host
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"{host!r} is not a host name: {error}") from None
    labels = host.split(".")
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise ValueError(f"{host!r} is not a host name")
    return host


def _port(port: str | None, default_port: int | None, text: str) -> int:
    if port is None:
        if default_port is None:
            raise ValueError(f"{text!r} has no port, give HOST:PORT")
        return default_port
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return int(port)


def format_host_port(host: str, port: int, default_port: int | None = None) -> str:
    """``host:port``, an IPv6 address in brackets; without the port where it is ``default_port``."""
    if ":" in host:
        host = f"[{host}]"
    return host if port == default_port else f"{host}:{port}"


def shown_address(address: IAddress) -> str:
    """A socket's address for people: ``127.0.0.1:8443``, ``[::1]:8443``, or the path of a Unix socket."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if isinstance(host, str) and isinstance(port, int):
        return format_host_port(host, port)
    name = getattr(address, "name", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(address)
