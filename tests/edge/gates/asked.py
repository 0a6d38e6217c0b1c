"""A gate for tests, found as any other: what it says is what the test put into it, in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from zope.interface import implementer

from wormhole_tw.edge.interfaces import IGate


@dataclass(frozen=True)
class Asked:
    """Settings of a gate."""

    kind: ClassVar[str] = "asked"
    name: str = "one"
    gates: list[AskedGate] = field(default_factory=list, compare=False, hash=False)


@implementer(IGate)
class AskedGate:
    """A gate that says what it is told to: an exception is raised, anything else returned; then it lets all on."""

    def __init__(self) -> None:
        self.says: list[Any] = []
        self.heard: list[Any] = []
        self.closed = False

    def check(self, exchange: Any) -> Any:
        self.heard.append(exchange)
        says = self.says.pop(0) if self.says else None
        if isinstance(says, Exception):
            raise says
        return says

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def make(settings: Asked, context: object) -> AskedGate:
    gate = AskedGate()
    settings.gates.append(gate)
    return gate
