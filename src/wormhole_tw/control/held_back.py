"""What a site's services are told of visitors on one route, visitors must not say themselves on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from wormhole_tw.http.identity import alike

from .access import BasicRule, SignInRule, TokenRule
from .model import GateSettings, Route

__all__ = ["HeldBack", "hold_back"]


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What of a request does not go on, on a route that does not ask who somebody is.

    :ivar names: fields that other routes of the site tell it in, as :func:`~wormhole_tw.http.identity.alike` gives them
    :ivar cookies: nor do the cookies of sign-ins, with which its service could sign in elsewhere on the site
    """

    kind: ClassVar[str] = "held_back"
    names: frozenset[bytes]
    cookies: bool


def hold_back(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes of a site; those which let through what others of them do not get a gate for it."""
    told = [(_told(route.gates or ()), _signs_in(route.gates or ())) for route in routes]
    names = frozenset[bytes]().union(*(names for names, _ in told))
    cookies = any(signs_in for _, signs_in in told)
    found = []
    for route, (own, signs_in) in zip(routes, told, strict=True):
        missing = HeldBack(names - own, cookies and not signs_in)
        if route.answer is None and (missing.names or missing.cookies):
            route = replace(route, gates=(missing, *(route.gates or ())))
        found.append(route)
    return tuple(found)


def _told(gates: Sequence[GateSettings]) -> frozenset[bytes]:
    names: set[bytes] = set()
    for settings in gates:
        if isinstance(settings, BasicRule):
            if settings.user_header:
                names.add(alike(settings.user_header))
        elif isinstance(settings, TokenRule | SignInRule):
            names |= settings.claims.names
    return frozenset(names)


def _signs_in(gates: Sequence[GateSettings]) -> bool:
    return any(isinstance(settings, SignInRule) for settings in gates)
