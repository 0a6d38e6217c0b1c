"""Whether our own transports are used, or Twisted's.

Ours send a write at once, and move bytes through OpenSSL with fewer copies and calls.  What they do is the same, so
whoever hunts a bug may rule them out: ``WORMHOLE_TRANSPORTS=twisted``.  Where the platform has no place for them
(another reactor, another pyOpenSSL) Twisted's serve without being asked.
"""

from __future__ import annotations

import os

from wormhole_tw.errors import ConfigError

__all__ = ["VARIABLE", "ours"]

VARIABLE = "WORMHOLE_TRANSPORTS"
"""``fast`` (unset or empty counts as it) or ``twisted``."""


def ours() -> bool:
    """Whether connections made from now on get our transports.

    Asked for each port, each dial and each TLS factory, so that tests may change their mind.

    :raises ConfigError: the variable says something else
    """
    said = os.environ.get(VARIABLE, "").strip().lower()
    if said in ("", "fast"):
        return True
    if said == "twisted":
        return False
    raise ConfigError(VARIABLE, "", f"fast or twisted, not {said[:40]!r}")
