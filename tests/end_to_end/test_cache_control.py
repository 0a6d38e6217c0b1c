"""What an operator does with the cache of a running edge: purges, and looks at it; through restarts and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests._support import program_environment
from tests.end_to_end.house import APP, OTHER, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import free_port, wait_until
from tests.end_to_end.test_restart import Line
from wormhole_tw.admin.local_client import SOCKET, ask

WORMHOLE_TW = (sys.executable, "-m", "wormhole_tw.cli.main")

PAGES = ("/a", "/a?page=2", "/docs/one", "/docs/two?x=1", "/news")


class Shop:
    """An edge with a cache for its first site, an agent, and a service that counts how often it was asked."""

    def __init__(self, house: House, origin: Origin) -> None:
        self.house = house
        self.origin = origin
        self.asked = 0
        self.admin = free_port()
        for path in {page.partition("?")[0] for page in PAGES}:
            origin.routes[path] = self._page
        house.config["edge"]["admin"] = f"tcp:{self.admin}:interface=127.0.0.1"
        house.config["access_log"] = {"path": "access.log"}
        house.config["sites"][0]["cache"] = {"ignore_query": ["utm_*"]}
        house.config["cache"] = {"memory": "8 MiB", "disk": "64 MiB"}
        house.write()

    def start(self) -> None:
        self.house.start_edge()
        self.house.agent("agent", self.origin.port)

    def _page(self, call: Call) -> None:
        self.asked += 1
        control = {"Cache-Control": "max-age=600", "Surrogate-Key": "all news" if "/news" in call.path else "all"}
        call.answer(b"%d" % self.asked, headers=control)

    def get(self, path: str, host: str = APP) -> tuple[bytes, str]:
        """The body, and what Cache-Status says."""
        answer = self.house.get(path, host)
        assert "Surrogate-Key" not in answer.headers
        return answer.body, answer.headers.get("Cache-Status", "")

    def curl(self, path: str) -> str:
        """What a person sees of Cache-Status."""
        done = self.house.curl("--include", self.house.url(path))
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.decode().splitlines() if line.lower().startswith("cache-status: ")]
        return line.partition(": ")[2]

    def warm(self) -> dict[str, bytes]:
        """Every page, kept from now on."""
        found = {page: self.get(page)[0] for page in PAGES}
        for page, body in found.items():
            again, status = self.get(page)
            assert (again, "hit" in status) == (body, True), status
        return found

    def changed(self, before: dict[str, bytes]) -> set[str]:
        """The pages that are asked for anew at the next request."""
        return {page for page, body in before.items() if self.get(page)[0] != body}

    def cache(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*WORMHOLE_TW, "cache", *args],
            capture_output=True,
            text=True,
            cwd=self.house.folder,
            env=program_environment(),
            timeout=60,
            check=False,
        )

    def purge(self, *args: str) -> str:
        done = self.cache("purge", *args)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def samples(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            ",".join((sample.name, *map(str, sample.labels.values()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("wormhole_cache_")
        }

    def words(self) -> list[str]:
        """What the access log says of the cache so far."""
        return [json.loads(line)["cache"] for line in (self.house.folder / "access.log").read_text().splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_house(tmp_path, limits={"drain": 4}) as house, Origin() as origin:
        yield Shop(house, origin)


@pytest.mark.deadline(90)
def test_a_purge_is_seen_at_the_next_request(shop: Shop) -> None:
    shop.start()
    before = shop.warm()
    assert "hit" in shop.curl("/a?utm_source=y")
    assert shop.purge("--url", shop.house.url("/a?utm_source=x")) == f"purged: {shop.house.url('/a?utm_source=x')}"
    assert "fwd=uri-miss" in shop.curl("/a?utm_source=y")
    assert "hit" in shop.curl("/a")
    assert shop.changed(before) == {"/a"}
    before = shop.warm()
    shop.purge("--prefix", f"https://{APP}/docs/")
    assert shop.changed(before) == {"/docs/one", "/docs/two?x=1"}
    before = shop.warm()
    assert shop.purge("--tag", "news") == "purged: tag news of site app"
    assert shop.changed(before) == {"/news"}
    before = shop.warm()
    assert shop.purge("--tag", "nothing", "--tag", "all", "--site", "app").count("\n") == 1
    assert shop.changed(before) == set(PAGES)
    before = shop.warm()
    shop.purge("--site", "app")
    assert shop.changed(before) == set(PAGES)
    assert shop.get("/a", OTHER)[1] == "", "a site without a cache"

    refused = shop.cache("purge", "--url", "https://ap.example.test/")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "wormhole-tw: no site has the host name ap.example.test; did you mean app.example.test?\n"
    told = json.loads(shop.cache("status", "--json").stdout)
    assert told["purges"] == {"url": 1, "prefix": 1, "tag": 3, "site": 1}
    samples = shop.samples()
    for word in ("hit", "miss"):
        assert samples[f"wormhole_cache_requests_total,{word},app"] == told["requests"][word] > 5
    assert not any("other" in key for key in samples)
    assert samples["wormhole_cache_entries,memory"] == 5
    assert 5 < samples["wormhole_cache_bytes,memory"] < samples["wormhole_cache_limit_bytes,memory"] == 8 << 20
    assert samples["wormhole_cache_purges_total,tag"] == 3
    wait_until(lambda: shop.words().count("hit") == told["requests"]["hit"])
    assert set(shop.words()) == {"hit", "miss", ""}


@pytest.mark.deadline(90)
def test_what_the_log_calls_it(shop: Shop) -> None:
    """An answer that is confirmed, a stale one while the service is asked behind the visitor's back, one past it."""
    shop.house.config["sites"][0]["cache"] = {"bypass_cookies": ["session"]}
    shop.house.write()

    def etag(call: Call) -> None:
        if call.headers.get("If-None-Match") == '"1"':
            call.send_response(304)
            call.send_header("Cache-Control", control)
            call.end_headers()
            return
        call.answer(b"x", headers={"ETag": '"1"', "Cache-Control": control})

    def long(call: Call) -> None:
        call.begin_chunks({"Cache-Control": "max-age=60"})
        call.chunk(b"first ")
        both.wait(30)
        call.chunk(b"last")
        call.chunk(b"")

    both = threading.Event()
    shop.origin.routes |= {"/confirmed": etag, "/behind": etag, "/long": long}
    shop.start()
    control = "max-age=0"
    shop.get("/confirmed")
    assert "fwd-status=304" in shop.get("/confirmed")[1]
    control = "max-age=0, stale-while-revalidate=60"
    shop.get("/behind")
    shop.get("/behind")
    shop.house.curl("--cookie", "session=1", shop.house.url("/confirmed"))
    with shop.house.visitor() as one, shop.house.visitor() as two:
        answers = []
        for visitor in (one, two):
            visitor.request("GET", "/long")
            answers.append(visitor.getresponse())
        both.set()
        assert [answer.read() for answer in answers] == [b"first last"] * 2
    assert shop.origin.calls["/long"] == 1
    words = ["miss", "revalidated", "miss", "stale", "bypass", "collapsed", "miss"]
    wait_until(lambda: sorted(shop.words()) == sorted(words))
    assert shop.words()[:5] == words[:5]
    samples = shop.samples()
    for word in words:
        assert samples[f"wormhole_cache_requests_total,{word},app"] == words.count(word)


@pytest.mark.deadline(90)
def test_purges_hold_through_reload_restart_and_kill(shop: Shop) -> None:
    house = shop.house
    shop.start()
    line = Line(house.edge)
    try:
        before = shop.warm()
        mark = house.edge.mark()
        os.kill(line.pid, signal.SIGHUP)
        shop.purge("--tag", "news")
        house.edge.wait_for("configuration reloaded", after=mark)
        assert shop.changed(before) == {"/news"}

        assert "keeps answers of 1 site: app\nmemory   5 answers, " in shop.cache("status").stdout

        # who is still with the process that leaves gets nothing that was purged at its successor
        before = shop.warm()
        with house.visitor() as visitor:
            visitor.ask("GET", "/a")
            line.renew()
            # as the command does, which takes some of the seconds that the process still has
            ask(house.folder / "state" / SOCKET, "POST", "/cache/purge", {"kind": "url", "value": house.url("/a")})
            answer = visitor.ask("GET", "/a")
            assert answer.headers["Connection"] == "close", "the process that leaves"
            assert answer.body != before["/a"]
        line.old_ones_end(30)
        assert [path.name for path in (house.folder / "state").glob("control*")] == ["control.sock"]

        before = shop.warm()
        wait_until(lambda: shop.samples()["wormhole_cache_entries,disk"] >= len(PAGES))
        shop.purge("--prefix", house.url("/docs/"))
        os.kill(line.pid, signal.SIGKILL)
        line.old_ones_end(0)
        offline = shop.purge("--tag", "news")
        assert offline == "purged: tag news of site app (no edge runs; the next one heeds it)"
        house.start_edge()
        house.edge.wait_for("is ready", deadline=30)
        assert shop.changed(before) == {"/docs/one", "/docs/two?x=1", "/news"}
    finally:
        line.end()


@pytest.mark.deadline(90)
def test_what_a_site_and_its_routes_say_of_keys_and_times(shop: Shop) -> None:
    shop.origin.routes["/plain"] = lambda call: call.answer(call.path.encode() + str(call.headers).encode())
    shop.house.config["sites"][0] |= {
        "cache": {"override_ttl": 300, "browser_ttl": 5, "cookies": ["lang"], "headers": ["X-Device"]},
        "routes": [
            {"exact": "/plain", "backend": "app", "cache": {"strip": ["Server"], "ignore_query": ["ref"]}},
            {"path": "/", "backend": "app", "cache": False},
        ],
    }
    shop.house.write()
    shop.start()

    def ask(path: str, *fields: str) -> str:
        headers = [option for field in fields for option in ("--header", field)]
        done = shop.house.curl("--include", *headers, shop.house.url(path))
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().lower()

    first = ask("/plain?a=1&ref=x", "Cookie: other=1")
    assert "fwd=uri-miss" in first
    assert "\r\n\r\n/plain?a=1" in first, "what is ignored is not asked for either"
    assert "ref=x" not in first
    again = ask("/plain?ref=y&a=1", "Cookie: other=2")
    assert "; hit" in again
    assert "cache-control: max-age=5" in again
    assert "server:" not in again.partition("\r\n\r\n")[0]
    for fields in (["Cookie: lang=de"], ["X-Device: phone"], ["X-Device: phone", "Cookie: lang=de"]):
        assert "fwd=uri-miss" in ask("/plain?a=1", *fields)
        assert "; hit" in ask("/plain?a=1", *fields)
    assert "; hit" in ask("/plain?a=1", "X_Device: phone")
    assert "cache-status" not in ask("/a")
    assert shop.origin.calls["/plain"] == 4
