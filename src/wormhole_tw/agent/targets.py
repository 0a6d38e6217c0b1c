"""TARGET: how people name the private service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from wormhole_tw.net.addresses import format_host_port, parse_host_port

__all__ = ["Target", "parse_target"]

DEFAULT_HOST = "127.0.0.1"
_MAX_UNIX_PATH = 107  # octets: sun_path of Linux has 108 with its NUL


@dataclass(frozen=True, slots=True)
class Target:
    """A private service, not yet looked up.

    :ivar kind: ``tcp`` (``host``, ``port``), ``unix`` (``path``) or ``description`` (a Twisted endpoint in ``path``)
    :ivar tls: True or False where the text says so; None where it leaves that open
    """

    kind: Literal["tcp", "unix", "description"]
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool | None = None

    def __str__(self) -> str:
        if self.kind == "tcp":
            return f"{'https://' if self.tls else ''}{format_host_port(self.host, self.port)}"
        return f"unix:{self.path}" if self.kind == "unix" else self.path


def parse_target(text: str) -> Target:
    """Read a TARGET: ``8000``, ``host:port``, ``http://host[:80]``, ``https://host[:443]`` (TLS), ``unix:/path``, or a
    Twisted client endpoint description (``tcp:host=…:port=…``), which is only checked when the service is built.

    :raises ValueError: it is none of them; one sentence that says what to write
    """
    text = text.strip()
    if not text:
        raise ValueError("it is empty; give a port, HOST:PORT, a URL, unix:/PATH or a Twisted client endpoint")
    if "://" in text:
        return _from_url(text)
    bare_port = text.removeprefix(":")
    if bare_port.isascii() and bare_port.isdigit():
        host, port = parse_host_port(f"{DEFAULT_HOST}:{bare_port}")
        return Target("tcp", host, port)
    if text.startswith("unix:/") and ":" not in text.removeprefix("unix:"):
        path = text.removeprefix("unix:")
        if len(path.encode("utf-8", "surrogateescape")) > _MAX_UNIX_PATH:
            raise ValueError(f"{path} is longer than the {_MAX_UNIX_PATH} bytes that a Unix socket's path may have")
        return Target("unix", path=path)
    if _looks_like_description(text):
        return Target("description", path=text)
    host, port = parse_host_port(text)
    return Target("tcp", host, port)


def _from_url(text: str) -> Target:
    url = urlsplit(text)
    if url.scheme not in ("http", "https"):
        raise ValueError(f"{url.scheme}:// is not known here; give http://HOST:PORT, https://HOST:PORT or HOST:PORT")
    if "@" in url.netloc:
        raise ValueError("a URL with a user name or password is of no use here, the agent reads no HTTP")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"give {url.scheme}://HOST:PORT without a path: the agent passes every path on as it is")
    host, port = parse_host_port(url.netloc, 443 if url.scheme == "https" else 80)
    return Target("tcp", host, port, tls=url.scheme == "https")


def _looks_like_description(text: str) -> bool:
    """``name:…`` that is no ``host:port`` and no IPv6 address: more colons, or an argument with ``=``."""
    name, colon, rest = text.partition(":")
    if not colon or not name.replace("_", "").replace("-", "").isalnum() or not name[0].isalpha():
        return False
    if rest.isascii() and rest.isdigit():
        return False
    try:
        parse_host_port(text, 1)
    except ValueError:
        return True
    return False
