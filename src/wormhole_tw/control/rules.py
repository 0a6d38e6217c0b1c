"""The routes of a site, looked up by what a request asks for: host name and first segments lead to few candidates.

A site of a thousand rules does not compare a request with a thousand: those whose literal beginning is another path, or
which name another host, are never looked at.  The candidates are asked in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, product
from typing import TYPE_CHECKING, NamedTuple

from .conditions import Condition, HostIs, Share
from .model import MAINTENANCE, LocalAnswer

if TYPE_CHECKING:
    from wormhole_tw.http.asked import Asked

    from .model import Route

__all__ = ["RuleIndex", "Verdict", "explain", "find_shadows"]

_Bucket = list[tuple[int, "Route"]]


class _Table:
    """Routes by the path that they begin with."""

    __slots__ = ("below", "exact")

    def __init__(self) -> None:
        self.exact: dict[str, _Bucket] = {}
        self.below: dict[str, _Bucket] = {}

    def put(self, index: int, route: Route) -> None:
        if route.kind == "exact":
            self.exact.setdefault(route.path, []).append((index, route))
        else:
            self.below.setdefault(_key(route), []).append((index, route))

    def buckets(self, path: str, cuts: Sequence[str]) -> Iterator[_Bucket]:
        if bucket := self.exact.get(path):
            yield bucket
        below = self.below
        for cut in cuts:
            if bucket := below.get(cut):
                yield bucket


def _in_order(entry: tuple[int, Route]) -> int:
    return entry[0]


def _key(route: Route) -> str:
    """The literal beginning of its paths, up to a slash that is not in it."""
    head = route.path if route.pattern is None else route.pattern.head
    return head.removesuffix("/")


def _cuts(path: str, depth: int) -> list[str]:
    """A path cut before each of its first slashes, and whole."""
    cuts = [""]
    at = path.find("/", 1)
    while at != -1 and len(cuts) <= depth:
        cuts.append(path[:at])
        at = path.find("/", at + 1)
    if at == -1:
        cuts.append(path)
    return cuts


class RuleIndex:
    """The routes of one site.

    :ivar lasting: who asks the same again goes the same way, as long as the catalog is the same
    """

    __slots__ = ("_any_host", "_depth", "_hosts", "_parents", "lasting")

    def __init__(self, routes: Sequence[Route]) -> None:
        self.lasting = all(condition.lasting for route in routes for condition in route.conditions)
        self._any_host = _Table()
        self._hosts: dict[str, _Table] = {}
        self._parents: dict[str, _Table] = {}
        # deeper than the deepest rule nothing is looked up, however many slashes a visitor sends
        self._depth = max((_key(route).count("/") for route in routes if route.kind != "exact"), default=0)
        for index, route in enumerate(routes):
            hosts = next((condition for condition in route.conditions if isinstance(condition, HostIs)), None)
            if hosts is None:
                self._any_host.put(index, route)
                continue
            for host in hosts.names:
                self._hosts.setdefault(host, _Table()).put(index, route)
            for parent in hosts.parents:
                self._parents.setdefault(parent, _Table()).put(index, route)

    def candidates(self, host: str, path: str) -> Iterator[Route]:
        """The routes whose beginning fits, in the order of the file; whether one takes the path is still to be asked.

        :param host: normalised
        :param path: canonical, or ``*``
        """
        cuts = _cuts(path, self._depth)
        buckets = list(self._any_host.buckets(path, cuts))
        for own in (self._hosts.get(host), self._parents.get(host.partition(".")[2]) if self._parents else None):
            if own is not None:
                buckets += own.buckets(path, cuts)
        if len(buckets) == 1:
            found: Sequence[tuple[int, Route]] = buckets[0]
        else:
            # by number, for one that names a host and its wildcard is there twice
            found = sorted(dict(chain.from_iterable(buckets)).items(), key=_in_order)
        return (route for _, route in found)

    def find(self, asked: Asked) -> Route | None:
        """The first route that takes a request."""
        path = asked.path
        for route in self.candidates(asked.host, path):
            if route.takes(path) and all(condition.holds(asked) for condition in route.conditions):
                return route
        return None

    def by_path(self, path: str) -> Route | None:
        """The first route that takes a path, on a site whose routes want nothing else."""
        return next((route for route in self.candidates("", path) if route.takes(path)), None)


class Verdict(NamedTuple):
    """What one route says to a request.

    :ivar why_not: half a sentence; empty where it takes the request
    """

    route: Route
    why_not: str


def explain(routes: Sequence[Route], asked: Asked) -> Iterator[Verdict]:
    """What each route says, in order, up to the first that takes the request."""
    for route in routes:
        why_not = _why_not(route, asked)
        yield Verdict(route, why_not)
        if not why_not:
            return


def _why_not(route: Route, asked: Asked) -> str:
    if not route.takes(asked.path):
        words = {"prefix": "begins with", "exact": "is", "pattern": "matches"}
        return f"it is for a path that {words[route.kind]} {route.path}"
    for condition in route.conditions:
        # what nobody can know before the request is there is not taken for granted
        if (isinstance(condition, Share) and condition.by_chance(asked)) or not condition.holds(asked):
            return condition.why_not(asked)
    return ""


def find_shadows(routes: Sequence[Route]) -> dict[int, int]:
    """Find the routes that can never be reached: index of each → index of the earlier one that takes all it would.

    An earlier one takes all of a later one's requests when it takes all its paths, and wants nothing that the later one
    does not want too.  A maintenance page is there to stand before others, and shadows nothing.
    """
    # by what an earlier one's paths begin with, and the last thing that it wants, which is the most particular
    first: dict[tuple[str, Condition | None], list[int]] = {}
    wanted = [frozenset(route.conditions) for route in routes]
    shadows: dict[int, int] = {}
    for index, route in enumerate(routes):
        path = route.path if route.pattern is None else route.pattern.head
        for key in product(_cuts(path, len(path)), (None, *route.conditions)):
            for earlier in first.get(key, ()):
                if wanted[earlier] <= wanted[index] and _covers(routes[earlier], route):
                    shadows[index] = min(earlier, shadows.get(index, earlier))
        if index not in shadows and not _is_maintenance(route):
            begins = route.path if route.kind == "exact" else _key(route)
            first.setdefault((begins, route.conditions[-1] if route.conditions else None), []).append(index)
    return shadows


def _is_maintenance(route: Route) -> bool:
    return isinstance(route.answer, LocalAnswer) and route.answer.reason == MAINTENANCE


def _covers(earlier: Route, later: Route) -> bool:
    """Whether the one takes every path that the other takes."""
    if later.kind == "exact":
        return earlier.takes(later.path)
    if earlier.kind == "exact":
        return False
    if earlier.pattern is not None:
        return later.pattern is not None and earlier.pattern.same_paths(later.pattern)
    if later.pattern is not None:
        return earlier.path == "/" or later.pattern.head.startswith(earlier.below)
    return earlier.takes(later.path)
