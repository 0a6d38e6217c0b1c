"""Stores of answers: one file each, found by its name.

A module here with a ``make(settings)`` that returns an :class:`~wormhole_tw.edge.interfaces.ICacheStore` is a store;
nothing else is needed to add one, and ``tests/edge/caching/stores/test_contract.py`` runs over it.  ``memory`` is fast
and ends with the process, ``disk`` survives it, ``layered`` has the one in front of the other.  What they share stands
in :mod:`wormhole_tw.edge.caching`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, cast

from wormhole_tw.edge.interfaces import ICacheStore
from wormhole_tw.errors import MisuseError

__all__ = ["StoreSettings", "make_store", "names"]

LATE = 2.0
"""Seconds that a visitor waits for a disk; his request goes on without it then."""


@dataclass(frozen=True)
class StoreSettings:
    """What a store is made of; each takes what concerns it.

    :ivar reactor: whose thread asks it, and whose clock says when a disk is late
    :ivar memory: octets that may lie in memory, with all that is kept about them; 0 for none
    :ivar disk: octets that may lie on disk, likewise
    :ivar path: the folder on disk, made where it is missing; None where there is none
    :ivar late: seconds in which a disk answers, or has nothing
    :ivar largest: octets of the largest body that is taken; None for what fits well
    """

    reactor: Any = None
    memory: int = 256 * 1024 * 1024
    disk: int = 10 * 1024 * 1024 * 1024
    path: Path | None = None
    largest: int | None = None
    late: float = LATE

    @property
    def wanted(self) -> str:
        """The name of the store that these ask for: ``layered`` where there are memory and a disk."""
        if self.path is None:
            return "memory"
        return "layered" if self.memory else "disk"


def names() -> list[str]:
    """The names of all stores that stand here, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def make_store(settings: StoreSettings, name: str | None = None) -> ICacheStore:
    """A new store.

    :param name: one of :func:`names`; the one that the settings ask for where it is None
    :raises MisuseError: there is none of that name, or it needs a path and has none
    """
    name = settings.wanted if name is None else name
    if name not in names():
        raise MisuseError(f"no store of answers is called {name}; there are {', '.join(names())}")
    return cast(ICacheStore, import_module(f"{__name__}.{name}").make(settings))
