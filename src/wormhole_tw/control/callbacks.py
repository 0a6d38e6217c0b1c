"""Whether those who signed in at an issuer come back to the route that sent them."""

from __future__ import annotations

from collections.abc import Sequence

from wormhole_tw.errors import ConfigError

from .access import SignInRule
from .conditions import Condition, MethodIs, SchemeIs, ValueIs
from .model import Route

__all__ = ["check_callbacks"]

_BROUGHT = frozenset({b"code", b"state", b"iss", b"session_state", b"scope", b"error", b"error_description"})
"""What an issuer's redirect may have in its query."""


def check_callbacks(routes: Sequence[Route], source: str, key: str) -> None:
    """Look at the routes of a site.

    :param key: of the site's table, for errors
    :raises ConfigError: a callback that never comes to its rule
    """
    seen: set[SignInRule] = set()
    for index, route in enumerate(routes):
        for settings in route.gates or ():
            if isinstance(settings, SignInRule) and settings not in seen:
                seen.add(settings)
                reason = _lost(routes, settings)
                if reason:
                    raise ConfigError(source, f"{key}.routes[{index}]", reason)


def _lost(routes: Sequence[Route], rule: SignInRule) -> str:
    path = rule.callback
    for index, route in enumerate(routes):
        if not route.takes(path) or not all(_may_hold(condition) for condition in route.conditions):
            continue
        if rule in (route.gates or ()):
            return ""
        if all(isinstance(condition, MethodIs | SchemeIs) for condition in route.conditions):
            return (
                f"who signs in comes back to {path}, which routes[{index}] ({route.path}) takes: "
                "give oidc a callback that comes here, or put this route first"
            )
    return f"who signs in comes back to {path} with GET, which no route with this oidc takes: give it another callback"


def _may_hold(condition: Condition) -> bool:
    """For the request that an issuer sends a browser back with."""
    if isinstance(condition, MethodIs):
        return b"GET" in condition.methods
    if isinstance(condition, SchemeIs):
        return condition.scheme == "https"
    if isinstance(condition, ValueIs) and condition.kind == "query" and condition.present:
        return condition.name in _BROUGHT
    return True
