"""A name server as a program: ``python -m tests.end_to_end.nameserver PORT ZONE.json``.

The file is read for each question, so that a test changes what is said by writing it:
``{"name": [["A", "192.0.2.1", 60]]}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from tests.net.nameserver import NameServer, Records


class Zone:
    """What the file says."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, name: str) -> Records | None:
        zone: dict[str, Any] = json.loads(self._file.read_text())
        return None if name not in zone else [(kind, value, ttl) for kind, value, ttl in zone[name]]


def main() -> None:
    server = NameServer(reactor)
    server.port = int(sys.argv[1])
    server.names = Zone(Path(sys.argv[2]))  # type: ignore[assignment]
    server.on_question = lambda name, kind: print(f"asked {kind} {name}", flush=True)
    server.start()
    print("serving", flush=True)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
