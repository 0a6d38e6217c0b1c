"""A shallow look at Twisted server endpoint descriptions, so that most slips are found without a reactor."""

from __future__ import annotations

import re

__all__ = ["check_endpoint", "endpoint_port"]

_KIND = re.compile(r"[a-z][a-z0-9]*", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_TCP = frozenset({"tcp", "tcp6"})
_WITH_TLS = frozenset({"ssl", "tls"})


def _parts(description: str) -> list[str]:
    """Split at colons; a backslash takes the next character's meaning away (``twisted.internet.endpoints``)."""
    parts = [""]
    chars = iter(description)
    for char in chars:
        if char == "\\":
            parts[-1] += next(chars, "")
        elif char == ":":
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _port_text(parts: list[str]) -> str | None:
    """The port of a TCP description: the first argument, or the one named so."""
    for part in parts[1:]:
        if part.startswith("port="):
            return part.removeprefix("port=")
    return parts[1] if "=" not in parts[1] else None


def check_endpoint(description: str) -> None:
    """Refuse what is surely no server endpoint description without TLS.

    :raises ValueError: with a sentence that says why; what passes may still be refused by Twisted when it is used
    """
    parts = _parts(description)
    kind = parts[0]
    if _PORT.fullmatch(kind) and len(parts) == 1:
        raise ValueError(f'an endpoint description: "tcp:{kind}"')
    if _KIND.fullmatch(kind) is None or len(parts) < 2 or not parts[1]:
        raise ValueError('an endpoint description, as "tcp:8443" or "tcp:8443:interface=127.0.0.1"')
    if kind in _WITH_TLS:
        raise ValueError(f'an endpoint without TLS, which the edge adds: "tcp:8443" in place of "{kind}:…"')
    if kind == "haproxy":
        raise ValueError('no "haproxy:" wrapper, it trusts every peer; see proxy_protocol')
    if kind in _TCP:
        port = _port_text(parts)
        if port is None or _PORT.fullmatch(port) is None or int(port) > 65535:
            raise ValueError(f'a port is 0 to 65535: "{kind}:8443"')


def endpoint_port(description: str) -> int | None:
    """Give the TCP port of a description that :func:`check_endpoint` let pass, or None where it has none."""
    parts = _parts(description)
    port = _port_text(parts) if parts[0] in _TCP else None
    return None if port is None else int(port)
