"""Balancers: one file each, found by its name.

A module here has a ``make(random)`` that returns an :class:`~wormhole_tw.edge.interfaces.IBalancer`; nothing else is
needed to add one, and ``tests/edge/balancers/test_contract.py`` runs over it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from random import Random
from typing import cast

from wormhole_tw.edge.interfaces import IBalancer
from wormhole_tw.errors import MisuseError

__all__ = ["DEFAULT", "balancer", "names"]

DEFAULT = "p2c"


def names() -> list[str]:
    """The names of all balancers, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def balancer(name: str, random: Random) -> IBalancer:
    """A new balancer.

    :param name: one of :func:`names`
    :param random: where it takes its randomness from
    :raises MisuseError: there is none of that name
    """
    if name not in names():
        raise MisuseError(f"no balancer is called {name!r}; there are {', '.join(names())}")
    return cast(IBalancer, import_module(f"{__name__}.{name}").make(random))
