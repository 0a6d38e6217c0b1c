"""What the tests of this folder share: a small valid file, and a session that is only its facts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.interfaces import IAgentSession
from wormhole_tw.control.model import SessionFacts
from wormhole_tw.control.tokens import digest_line

HOSTNAME = "machine"

SAMPLE: dict[str, Any] = {
    "edge": {"https": ["tcp:8443"], "http": ["tcp:8080"]},
    "backends": [
        {"name": "app", "tokens": [digest_line("app-token")]},
        {"name": "docs", "tokens": [digest_line("docs-token")]},
    ],
    "sites": [
        {
            "name": "example",
            "hostnames": ["app.example.test", "*.preview.example.test"],
            "routes": [{"path": "/docs", "backend": "docs"}, {"path": "/", "backend": "app"}],
        }
    ],
}


def sample(**changes: object) -> dict[str, Any]:
    """The sample with values put at dotted keys: ``sample(**{"sites.0.name": "x"})``; ``...`` takes a key away."""
    raw = copy.deepcopy(SAMPLE)
    for dotted, value in changes.items():
        *tables, last = dotted.split(".")
        target: Any = raw
        for name in tables:
            target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
        if value is ...:
            del target[last]
        elif isinstance(target, list):
            target[int(last) :] = [value]
        else:
            target[last] = value
    return raw


def make(raw: dict[str, Any] | None = None, *, hostname: str = HOSTNAME, folder: str = "/etc/edge") -> EdgeConfig:
    return EdgeConfig.from_dict(
        sample() if raw is None else raw, source="edge.toml", folder=Path(folder), hostname=hostname
    )


@implementer(IAgentSession)
class FactsOnly:
    """A session that can be asked and told nothing else."""

    def __init__(
        self,
        instance: int = 1,
        generation: int = 1,
        *,
        backend: str = "app",
        slot: int = 0,
        previous_draining: bool = False,
    ) -> None:
        self.facts = SessionFacts(
            session_id=f"{backend}-{instance}-{slot}-{generation}",
            backend=backend,
            instance=bytes([instance]) * 16,
            slot=slot,
            generation=generation,
            previous_draining=previous_draining,
        )
        self.load = 0
        self.ready = True
        self.draining = False

    def __repr__(self) -> str:
        return self.facts.session_id

    def dial(self, open_info: object) -> Any:
        raise AssertionError("nobody dials here")

    def drain(self, deadline: float) -> Deferred[None]:
        raise AssertionError("the registry decides, it does not carry out")

    def close(self, code: int, message: str) -> None:
        raise AssertionError("the registry decides, it does not carry out")

    def when_lost(self) -> Deferred[None]:
        return succeed(None)
