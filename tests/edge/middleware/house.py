"""A data path without a network whose one site goes through middleware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.edge.house import House
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.middleware import MiddlewareSettings
from wormhole_tw.edge.middleware.entry import Entry
from wormhole_tw.edge.middleware.stacks import Prepared, Stack

TIMEOUT = 10.0


class MiddlewareHouse(House):
    """``app.test`` through these objects; ``timeout`` seconds each.

    :ivar entries: what they became
    """

    def __init__(self, *middleware: Any, timeout: float = TIMEOUT, **options: Any) -> None:
        super().__init__(**options)
        settings = [
            MiddlewareSettings(
                "tests", None, getattr(one, "__name__", type(one).__name__), {}, timeout, f"test:{number}"
            )
            for number, one in enumerate(middleware)
        ]
        old = self.catalogs.current
        sites = [
            replace(site, routes=tuple(replace(route, middleware=tuple(settings)) for route in site.routes))
            for site in old.sites
        ]
        catalog = Catalog(sites, old.backends.values(), own_names=["edge.test"])
        self.catalogs.swap(catalog)
        self.entries = tuple(
            Entry(one, own, "app", None, self.timers) for one, own in zip(middleware, settings, strict=True)
        )
        of = {id(route): Stack(self.entries) for site in sites for route in site.routes}
        self.context.middleware.take_over(Prepared(of, self.entries))

    def gated(self, settings: Any) -> None:
        """Every request is asked by a gate of these settings first."""
        old = self.catalogs.current
        sites = [
            replace(site, routes=tuple(replace(route, gates=(settings,)) for route in site.routes))
            for site in old.sites
        ]
        self.catalogs.swap(Catalog(sites, old.backends.values(), own_names=["edge.test"]))
        of = {id(route): Stack(self.entries) for site in sites for route in site.routes}
        self.context.middleware.take_over(Prepared(of, self.entries))

    def close(self) -> None:
        self.context.abort()
        assert all(entry.users == 0 for entry in self.entries)
        self.context.middleware.close()
        super().close()
