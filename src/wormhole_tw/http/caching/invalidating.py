"""What an unsafe request makes void (RFC 9111 §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.caching.records import Target
    from wormhole_tw.http.events import RequestHead, ResponseHead

__all__ = ["invalidates"]


def invalidates(request: RequestHead, answer: ResponseHead, scheme: bytes) -> tuple[Target, ...]:
    """What to remove after an answer: the request's own target, and those of ``Location`` and ``Content-Location``.

    Empty after a safe method and after an error (only 2xx and 3xx count).  A ``Location`` elsewhere (another scheme,
    host or port) is never followed: one tenant could empty another's cache.

    :param request: as the visitor sent it
    :param scheme: ``http`` or ``https``, of the visitor
    """
    raise NotImplementedError
