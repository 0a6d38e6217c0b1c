"""What a sweep asks of others: whether an entry is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from wormhole_tw.http.caching.records import Stored

__all__ = ["is_gone"]

log = Logger()


def is_gone(gone: Callable[[bytes, Stored], bool], key: bytes, stored: Stored) -> bool:
    """What ``gone`` says; where it raises, which is logged, the entry stays and the sweep goes on."""
    try:
        return gone(key, stored)
    except Exception:  # noqa: BLE001 - a bug there must not end the sweep, nor hide
        log.failure("a sweep of the cache could not judge an answer")
        return False
