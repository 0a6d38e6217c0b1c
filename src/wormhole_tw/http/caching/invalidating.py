"""What an unsafe request makes void (RFC 9111 §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from wormhole_tw.http.caching.records import Target
from wormhole_tw.http.methods import is_safe

if TYPE_CHECKING:
    from wormhole_tw.http.events import RequestHead, ResponseHead

__all__ = ["invalidates"]

_NAMING = (b"location", b"content-location")

_PORTS = {"http": 80, "https": 443}

MAX_REFERENCE = 8192
"""Octets of a Location that is looked at: more than a request line can have."""


def invalidates(request: RequestHead, answer: ResponseHead, scheme: bytes) -> tuple[Target, ...]:
    """What to remove after an answer: the request's own target, and those of ``Location`` and ``Content-Location``.

    Empty after a safe method and after an error (only 2xx and 3xx count).  A ``Location`` elsewhere (another scheme,
    host or port) is never followed: one tenant could empty another's cache.

    :param request: as the visitor sent it
    :param scheme: ``http`` or ``https``, of the visitor
    """
    if is_safe(request.method) or not 200 <= answer.status < 400:
        return ()
    if request.target[:1] != b"/":
        return ()
    found = {request.target: None}
    base = f"{scheme.decode('latin-1')}://{request.authority.decode('latin-1')}{request.target.decode('latin-1')}"
    own = _origin(base)
    for name, value in answer.fields:
        if name.lower() in _NAMING and len(value) <= MAX_REFERENCE:
            target = _target(base, own, value.decode("latin-1"))
            if target is not None:
                found[target] = None
    return tuple(Target(target) for target in found)


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port or _PORTS.get(parts.scheme)


def _target(base: str, own: tuple[str, str, int | None] | None, reference: str) -> bytes | None:
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
    except ValueError:
        return None
    if own is None or _origin(url) != own:
        return None
    return (f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/").encode("latin-1")
