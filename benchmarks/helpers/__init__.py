"""Our own programs that take part in a measurement, each run as ``python -m benchmarks.helpers.NAME '{settings}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["raise_descriptor_limit", "say", "settings"]


def settings() -> dict[str, Any]:
    """What the command line says, a JSON object."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.helpers.NAME '{\"setting\": value}'")
    read = json.loads(sys.argv[1])
    if not isinstance(read, dict):
        raise SystemExit("the settings are no JSON object")
    return read


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


def raise_descriptor_limit() -> None:
    """As many sockets as this process may have."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
