"""Balancers: one file each, found by its name, here or among Twisted's plugins.

A module here has a ``make(settings, random)`` that returns an :class:`~wormhole_tw.edge.interfaces.IBalancer`; nothing
else is needed to add one, and ``tests/edge/balancers/test_contract.py`` runs over it.  Elsewhere it is a file in
``twisted/plugins`` with an :class:`~wormhole_tw.edge.interfaces.IBalancerPlugin`: docs/balancing.md has one.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from random import Random
from typing import TYPE_CHECKING, cast

from twisted.plugin import getPlugins

from wormhole_tw.control.balancing import Balance
from wormhole_tw.edge.interfaces import IBalancer, IBalancerPlugin
from wormhole_tw.errors import ConfigError, MisuseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wormhole_tw.control.model import Backend

__all__ = ["balancer", "check_balancers", "names"]


def names() -> list[str]:
    """The names of all balancers that stand here, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def balancer(settings: Balance, random: Random) -> IBalancer:
    """A new balancer.

    :param settings: ``method`` is its name: one of :func:`names`, or a plugin's
    :param random: where it takes its randomness from
    :raises MisuseError: there is none of that name
    :raises ValueError: it is a plugin's, which does not want these settings
    """
    if settings.method in names():
        return cast(IBalancer, import_module(f"{__name__}.{settings.method}").make(settings, random))
    plugins = {plugin.name: plugin for plugin in getPlugins(IBalancerPlugin)}
    if settings.method not in plugins:
        known = ", ".join(sorted({*names(), *plugins}))
        raise MisuseError(f"no balancer is called {settings.method}; there are {known}")
    return plugins[settings.method].make(settings, random)


def check_balancers(backends: Iterable[Backend], source: str) -> None:
    """Whether every balancer that is asked for is there, and takes its settings.

    :raises ConfigError: one is not
    """
    here = frozenset(names())  # which looks into the folder: once for ten thousand backends
    for settings in {backend.policy.balance for backend in backends if backend.policy.balance.method not in here}:
        try:
            balancer(settings, Random(0))
        except (MisuseError, ValueError) as error:
            key = "method" if isinstance(error, MisuseError) else "settings"
            raise ConfigError(source, f"{settings.where}.{key}", str(error)) from None
