"""Gates: what routes ask before a request goes on. One file for each kind, found by its name.

A module here has a ``make(settings, context)`` that returns an :class:`~wormhole_tw.edge.interfaces.IGate` for settings
(:class:`~wormhole_tw.control.model.GateSettings`) whose ``kind`` is the module's name; to add one takes nothing else.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.model import GateSettings, Route
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.interfaces import IGate

__all__ = ["Gates"]


_OF_SITE = ("", 0)
"""In place of a route's name and number, for a gate that all routes of a site share."""


class Gates:
    """The gates of the current catalog's routes, made when it is taken over.

    One whose site, route (by its name, else its path) and settings are in the next catalog too stays, with its state.
    """

    __slots__ = ("_context", "_made", "_of", "_unsubscribe")

    def __init__(self, context: EdgeContext) -> None:
        self._context = context
        self._made: dict[tuple[str, str, int, GateSettings], IGate] = {}
        self._of: dict[int, tuple[IGate, ...]] = {}  # by the identity of the current catalog's routes
        self._take_over(context.catalogs.current)
        self._unsubscribe = context.catalogs.subscribe(self._take_over)

    def of(self, route: Route) -> tuple[IGate, ...]:
        """The gates of a route of the current catalog, in order."""
        return self._of[id(route)]

    def close(self) -> None:
        """Let go of all of them; calling it twice does no harm."""
        self._unsubscribe()
        made, self._made = self._made, {}
        for gate in made.values():
            gate.close()

    def _take_over(self, catalog: Catalog) -> None:
        old, self._made, self._of = self._made, {}, {}
        for site in catalog.sites:
            # routes of one name are told apart by their order
            seen: Counter[str] = Counter()
            for route in site.routes:
                if route.gates is None:
                    continue
                seen[route.label] += 1
                own = (route.label, seen[route.label])
                shared = set(site.gates)
                made = []
                for settings in route.gates:
                    # the site's come first: a route that says the same has another one beside it
                    whose = _OF_SITE if settings in shared else own
                    shared.discard(settings)
                    made.append(self._one(old, (site.name, *whose, settings)))
                self._of[id(route)] = tuple(made)
        for key, gate in old.items():
            if key not in self._made:
                gate.close()

    def _one(
        self, old: dict[tuple[str, str, int, GateSettings], IGate], key: tuple[str, str, int, GateSettings]
    ) -> IGate:
        gate = self._made.get(key) or old.get(key)
        if gate is None:
            settings = key[3]
            gate = cast("IGate", import_module(f"{__name__}.{settings.kind}").make(settings, self._context))
        self._made[key] = gate
        return gate
