"""Visitors of two tenants, over both versions, in any order: every answer is of the right request, or shared rightly.

Each answer of a service says what it was asked, by whom, and how often; nobody may ever get one that was for somebody
else, that is void, or that is put together of two.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests._support import FULL, sized
from tests.edge.caching.house import CachingHouse
from tests.edge.caching.reflecting import lead
from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import Stream, Visitor, judged
from tests.edge.test_router import served
from wormhole_tw.http.caching.purges import EVERY_SITE

ROUNDS = sized(600, 16_000)
"""Bursts of one run: nearly twice as many requests.  At 4 ms each the four full runs take about 5 minutes."""

KINDS = ("public", "private", "personal", "vary", "cookie", "tagged", "long", "deep", "gone")

PARTS = 40
"""Pieces of a long answer, 5000 octets each."""


class Asking:
    """One request that waits for its answer."""

    def __init__(self, visitor: Any, stream: int, expected: dict[str, str], since: int) -> None:
        self.visitor = visitor
        self.stream = stream
        self.expected = expected
        self.since = since
        self.heard = b""
        self.request = ""


class World:
    """Services that answer when chance says so, and visitors who look at what they get."""

    def __init__(self, house: CachingHouse, random: Random) -> None:
        self.house = house
        self.random = random
        self.asked: dict[Stream, bytes] = {}
        self.asking: list[Asking] = []
        self.counts = {"checked": 0, "cut": 0, "left": 0, "again": 0}
        self.said: list[Asking] = []
        self.version = 0
        """Rises with every purge and every unsafe request: nothing older may be served to who asks afterwards."""
        self.nonce = 0

    # visitors

    def burst(self) -> None:
        """Some who want the same."""
        random = self.random
        tenant, kind, number = random.choice(("app", "other")), random.choice(KINDS), random.randrange(4)
        for _ in range(random.choice((1, 1, 1, 4))):
            self.ask(tenant, kind, f"/{kind}/{number}")

    def ask(self, tenant: str, kind: str, target: str) -> None:
        random, house = self.random, self.house
        self.nonce += 1
        who = f"visitor{self.nonce}"
        shared = kind not in ("private", "personal")
        fields = [] if shared and random.random() < 0.5 else [("x-nonce", who)]
        lang = random.choice(("de", "fr"))
        if kind == "vary":
            fields.append(("accept-language", lang))
        if kind == "cookie":
            fields.append(("cookie", f"lang={lang}"))
        if kind == "personal":
            fields.append(("authorization", f"Bearer {who}"))
        if random.random() < 0.2:
            fields.append(random.choice([("x-original-url", "/evil"), ("x-forwarded-host", "evil.test")]))
        if random.random() < 0.1:
            fields.append(("cache-control", random.choice(["no-cache", "max-age=0", "no-store"])))
        expected = {"tenant": tenant, "target": target, "lang": lang if kind in ("vary", "cookie") else "", "who": who}
        expected["alone"] = "yes" if kind in ("private", "personal") else ""
        authority = f"{tenant}.test"
        facts = {"served": served("app.test", "app.test", "other.test")}
        if random.random() < 0.4:
            visitor: Any = H2Visitor(house, **facts).hello()
            pseudo = [(":method", "GET"), (":scheme", "https"), (":path", target), (":authority", authority)]
            stream = visitor.ask(pseudo, *fields)
        else:
            visitor, stream = house.visitor(**facts), 0
            lines = [f"GET {target} HTTP/1.1", f"Host: {authority}", *map(": ".join, fields), "", ""]
            visitor.says("\r\n".join(lines))
        self.asking.append(Asking(visitor, stream, expected, self.version))
        if not stream and shared:
            self.asking[-1].request = "\r\n".join(lines)

    def hear(self, asking: Asking) -> None:
        """See whether its answer is whole, and if so, whether it is its own."""
        visitor = asking.visitor
        if isinstance(visitor, H2Visitor):
            answer = visitor[asking.stream]
            cut, whole, body = answer.reset is not None, answer.ended, answer.body
        else:
            asking.heard += visitor.hears()
            cut, whole, body = visitor.disconnected, False, b""
            try:
                found = judged(asking.heard) if asking.heard else []
            except AssertionError:
                found = []
            if found:
                whole, body = True, found[0][1]
        if whole:
            self.check(asking, body.decode("latin-1"))
        elif not cut:
            return
        else:
            self.counts["cut"] += 1
        self.asking.remove(asking)
        if whole and asking.request and not visitor.disconnected:
            self.repeat(asking)
        visitor.lose()

    def repeat(self, asking: Asking) -> None:
        """The same once more on the same connection, and others between, as long as there is an answer at once."""
        for _ in range(self.random.randrange(6)):
            other = self.random.choice(self.said or [asking])
            again = self.random.choice((asking, asking, other))
            asking.visitor.says(again.request)
            heard = asking.visitor.hears()
            try:
                found = judged(heard) if heard else []
            except AssertionError:
                return
            if not found:
                return
            self.check(Asking(None, 0, again.expected, self.version), found[0][1].decode("latin-1"))
            self.counts["again"] += 1
        self.said = [*self.said[-20:], asking]

    def check(self, asking: Asking, body: str) -> None:
        self.counts["checked"] += 1
        expected = asking.expected
        if "X-Wormhole" in body or "The service" in body:
            return  # an error of the edge's own
        pieces = body.split("\n")
        said = dict(part.split("=", 1) for part in pieces[0].split(" "))
        assert said["tenant"] == expected["tenant"]
        assert said["target"] == expected["target"]
        assert said["lang"] == expected["lang"]
        assert "evil" not in body
        if expected["alone"]:
            assert said["who"] == expected["who"]
        assert int(said["version"]) >= asking.since, "an answer from before a purge"
        # one answer, and not two put together
        assert len(set(pieces[1:])) <= 1
        assert len(pieces) - 1 == int(said["parts"])

    # services

    def serve(self) -> None:
        streams = [
            (session.facts.backend, stream)
            for session in (*self.house.sessions, self.house.others)
            for stream in session.streams
            if not stream.disconnected
        ]
        self.random.shuffle(streams)
        for tenant, stream in streams:
            request = self.asked.pop(stream, b"") + stream.take_all()
            if request and self.random.random() < 0.7:
                assert request.count(b"\r\n\r\n") == 1
                self.answer(tenant, stream, request.decode("latin-1"))
            elif request:
                self.asked[stream] = request

    def answer(self, tenant: str, stream: Stream, request: str) -> None:
        random = self.random
        line, *rest = request.rstrip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
        target = line.split(" ")[1]
        assert line.startswith("GET ")
        kind = target.split("/")[1]
        if "if-none-match" in fields and random.random() < 0.5:
            etag = fields["if-none-match"]
            lines = ["HTTP/1.1 304 Not Modified", "Cache-Control: max-age=9", f"ETag: {etag}", "", ""]
            stream.deliver("\r\n".join(lines).encode())
            return
        lang = {"vary": fields.get("accept-language", ""), "cookie": fields.get("cookie", "").removeprefix("lang=")}
        parts = PARTS if kind == "long" else 1
        self.nonce += 1
        first = f"tenant={tenant} target={target} lang={lang.get(kind, '')} who={fields.get('x-nonce', '')} "
        first += f"version={self.version} parts={parts}"
        text = "\n".join([first, *[f"{self.nonce:05d}" * (1000 if kind == "long" else 1)] * parts]).encode()
        control = {"private": "private, max-age=60", "gone": "max-age=1, stale-while-revalidate=5"}.get(
            kind, "max-age=9"
        )
        lines = [
            "HTTP/1.1 200 OK",
            f"Cache-Control: {control}",
            f"Content-Length: {len(text)}",
            f'ETag: "{self.nonce}"',
        ]
        if kind == "vary":
            lines.append("Vary: Accept-Language")
        if random.random() < 0.02:
            stream.lose()
            return
        data = "\r\n".join([*lines, "", ""]).encode() + text
        stop = random.randrange(len(data)) if random.random() < 0.05 else len(data)
        for at in range(0, stop, 16384):
            if not stream.disconnected:
                stream.deliver(data[at : min(at + 16384, stop)])
        if stop < len(data) and not stream.disconnected:
            stream.lose()

    # trouble

    def trouble(self) -> None:
        house, random = self.house, self.random
        what = random.random()
        if what < 0.25:
            self.version += 1
            house.context.cache.purges.add("site", EVERY_SITE, b"", house.clock.seconds())
        elif what < 0.5:
            house.catalogs.swap(house.catalogs.current)
        elif what < 0.8 and self.asking:
            asking = random.choice(self.asking)
            self.asking.remove(asking)
            self.counts["left"] += 1
            asking.visitor.lose()
        else:
            house.pass_time(random.choice((1, 3)))


@pytest.mark.deadline(3600 if FULL else 60)
@pytest.mark.parametrize("seed", range(sized(2, 4)))
def test_nothing_ever_crosses(keep: Callable[..., CachingHouse], seed: int) -> None:
    random = Random(seed)
    house = keep(memory=random.choice((1, 64)) * 1024 * 1024, requests_per_site=0, requests_per_address=0)
    route = {"path": "/", "cache": {"cookies": ["lang"]}}
    lead(
        house,
        {"name": "app", "hostnames": ["app.test"], "routes": [{**route, "backend": "app"}]},
        {
            "name": "other",
            "hostnames": ["other.test"],
            "routes": [{**route, "backend": "other", "percent": 50}, {**route, "backend": "other"}],
        },
    )
    world = World(house, random)
    for number in range(ROUNDS):
        world.burst()
        for _ in range(random.randrange(3)):
            world.serve()
        if random.random() < 0.05:
            world.trouble()
        for asking in world.asking[:]:
            if random.random() < 0.6:
                world.hear(asking)
        if number % 100 == 99:
            house.done.clear()
    for _ in range(2000):
        if not world.asking:
            break
        world.serve()
        house.clock.advance(0.01)
        for asking in world.asking[:]:
            world.hear(asking)
    assert not world.asking
    counters = house.counters
    assert counters.hit + counters.stale > ROUNDS / 20
    assert counters.collapsed > ROUNDS / 50
    assert world.counts["checked"] > ROUNDS / 2
    assert world.counts["again"] > ROUNDS / 10


def test_two_visitors_are_really_compared() -> None:
    """The judge of the test above finds what it is there to find."""
    world = World.__new__(World)
    world.counts = {"checked": 0}
    expected = {"tenant": "app", "target": "/a", "lang": "", "who": "me", "alone": "yes"}
    good = "tenant=app target=/a lang= who=me version=3 parts=2\n1\n1"
    world.check(Asking(Visitor(None), 0, expected, 3), good)
    for bad in (
        good.replace("app", "other"),
        good.replace("who=me", "who=you"),
        good.replace("version=3", "version=2"),
        good[:-1] + "2",
        good + "\n1",
        good.replace("/a", "/b"),
    ):
        with pytest.raises(AssertionError):
            world.check(Asking(Visitor(None), 0, expected, 3), bad)
