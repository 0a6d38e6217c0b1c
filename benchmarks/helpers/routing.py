"""What finding the route of a request costs, without a network. Settings: ``sites``, ``rules``, ``requests``.

Every request is for another path, as nobody has found its route before; what a memo saves is not counted. Prints a JSON
object: microseconds of CPU a request on an edge of one site (``one``), of ``sites`` of them (``many``) and on a site of
``rules`` rules (``ruled``), and seconds of CPU to take in the configuration of ``sites`` (``load``).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.helpers import say, settings
from wormhole_tw.control.catalog import Catalog, build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.router import route_request
from wormhole_tw.http.events import RequestHead

TIMES = 5
"""The quickest of so many: what disturbs only ever adds."""

Routes = Sequence[Mapping[str, Any]]


def configuration(sites: int, routes: Routes) -> dict[str, Any]:
    """Sites with the same routes and a backend each; ``{}`` in a backend's name is for the number."""
    return {
        "edge": {"https": ["tcp:0"], "names": ["edge.test"]},
        "backends": [{"name": f"b{number}", "tokens": [f"sha256:{number:064x}"]} for number in range(sites)],
        "sites": [
            {
                "hostnames": [f"s{number}.example.test"],
                "routes": [{**route, "backend": f"b{number}"} for route in routes],
            }
            for number in range(sites)
        ],
    }


def taken_in(sites: int, routes: Routes) -> tuple[Catalog, float]:
    """A catalog, and the seconds of CPU that it took."""
    raw = configuration(sites, routes)
    begin = time.process_time()
    catalog = build_catalog(EdgeConfig.from_dict(raw, hostname="machine"))
    return catalog, time.process_time() - begin


def cost(catalog: Catalog, requests: int, path: str) -> float:
    """Microseconds of CPU a request.

    :param path: with ``{}`` for a number
    """
    context = cast(Any, SimpleNamespace(chance=random.random, offers=lambda backend, branch: False))
    facts = ConnectionFacts(address="192.0.2.7")
    names, chance = catalog.hostnames(), random.Random(1)
    heads = [
        RequestHead(
            b"GET",
            path.format(number % 1000).encode() + b"?n=%d" % number,
            chance.choice(names).encode(),
            (1, 1),
            [(b"Host", b"x"), (b"User-Agent", b"benchmark"), (b"Accept", b"*/*")],
        )
        for number in range(requests)
    ]
    best = float("inf")
    for _ in range(TIMES):
        begin = time.process_time()
        for head in heads:
            route_request(context, catalog, facts, head)
        best = min(best, time.process_time() - begin)
    return best / requests * 1e6


def main() -> None:
    asked = settings()
    sites, rules, requests = int(asked["sites"]), int(asked["rules"]), int(asked["requests"])
    plain: Routes = [{"path": "/api"}, {"path": "/"}]
    one = cost(taken_in(1, plain)[0], requests, "/api/{}")
    catalog, load = taken_in(sites, plain)
    many = cost(catalog, requests, "/api/{}")
    ruled: Routes = [*({"pattern": f"/part/{number}/:id"} for number in range(rules)), {"path": "/"}]
    of_rules = cost(taken_in(1, ruled)[0], requests, "/part/{}/7")
    say(json.dumps({"one": one, "many": many, "ruled": of_rules, "load": load}))


if __name__ == "__main__":
    main()
