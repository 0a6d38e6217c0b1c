"""What a cache had to do with requests, in words and numbers."""

from __future__ import annotations

__all__ = ["WORDS", "CacheCounters"]

WORDS = ("hit", "miss", "stale", "collapsed", "revalidated", "bypass")
"""What the access log says of a request on a route with a cache.

``hit``: answered from it. ``stale``: answered from it though its time was over, because the origin is asked behind the
visitor's back, or failed. ``revalidated``: answered from it after the origin said that it is still right. ``miss``: the
origin answered. ``collapsed``: so it did, and another request had asked. ``bypass``: the cache had no part in it.
"""


class CacheCounters:
    """How often each of :data:`WORDS` was said since the start; numbers that only rise."""

    __slots__ = WORDS

    def __init__(self) -> None:
        self.hit = 0
        self.miss = 0
        self.stale = 0
        self.collapsed = 0
        self.revalidated = 0
        self.bypass = 0

    def count(self, word: str) -> None:
        """Count one."""
        setattr(self, word, getattr(self, word) + 1)
