"""What routes take from the front of paths, told to services that make links of it: ``X-Forwarded-Prefix``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from wormhole_tw.http.edits import FieldEdits
from wormhole_tw.http.rewriting import PrefixSwap

from .model import Backend, Route, Site

__all__ = ["tell_prefixes"]

_FIELD = b"X-Forwarded-Prefix"


def tell_prefixes(sites: Sequence[Site], backends: Iterable[Backend]) -> tuple[Site, ...]:
    """Let services know what stands before their paths outside, where a route takes that away.

    It goes behind what a trusted proxy has told, whose prefix is further outside; what the route itself says of the
    field holds in its place.  A backend with an origin whose links are rewritten is not told: it would stand there
    twice.
    """
    mapped = {backend.name for backend in backends if any(origin.rewrite for origin in backend.origins)}
    return tuple(_of_site(site, mapped) for site in sites)


def _of_site(site: Site, mapped: Collection[str]) -> Site:
    routes = tuple(_told(route) if route.backend not in mapped else route for route in site.routes)
    return site if routes == site.routes else replace(site, routes=routes)


def _told(route: Route) -> Route:
    swap = route.rewrite
    # where another prefix takes its place, nothing that could be put in front makes of the one what the other was
    if not isinstance(swap, PrefixSwap) or not swap.old.endswith(swap.new) or swap.old == swap.new:
        return route
    told = FieldEdits(lines=((_FIELD, swap.old.removesuffix(swap.new).encode()),))
    return replace(route, request_edits=told if route.request_edits is None else told.then(route.request_edits))
