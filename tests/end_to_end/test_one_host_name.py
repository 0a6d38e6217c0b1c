"""One host name over pages, a bucket and two applications: docs/one-host-name.md, with curl and a browser.

Everything that an edge can do with a request meets here; each of it alone has a test of its own elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests._support import sized
from tests.end_to_end.chromium import chromium
from tests.end_to_end.one_name import (
    BARE,
    BUCKET,
    DOCUMENT,
    PAGES,
    PASSWORD,
    REPLICAS,
    WWW,
    Street,
    document,
    open_street,
)
from tests.end_to_end.test_observability import wait_until
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.rules import find_shadows

pytestmark = [pytest.mark.requires_program("nginx", "curl"), pytest.mark.deadline(120)]

if not os.environ.get("CI"):
    pytest.importorskip("flask", reason="flask is not installed")

VERSIONS = ("--http1.1", "--http2")

SCRIPT = '<script src="/assets/note.js" defer></script></head>'


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with open_street(tmp_path_factory.mktemp("street")) as street:
        yield street


def test_the_document_is_good_as_it_stands(street: Street) -> None:
    """Its users are beside it; what it names on the web is what the others find here."""
    config = EdgeConfig.from_dict(document(), source="edge.toml", folder=street.folder, hostname="machine")
    origins = [origin.url for backend in config.backends for origin in backend.origins]
    assert origins == [f"https://{PAGES}/site", f"https://{BUCKET}"]
    assert find_shadows(config.sites[0].routes) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_all_four_by_one_name(street: Street, version: str) -> None:
    front = street.ask("/", version, "--compressed")
    assert "The front page" in front.body
    assert SCRIPT in front.body
    assert front.fields["content-encoding"] == "gzip"
    assert front.fields["x-content-type-options"] == "nosniff"
    note = street.ask("/assets/note.js", version)
    assert "by the middleware" in note.body
    assert (note.fields["access-control-allow-origin"], "server" in note.fields) == ("*", False)
    orders = street.ask("/api/orders", version)
    assert orders.json["version"] == "2"
    assert orders.fields["cache-control"] == "no-store"
    shop = street.ask("/shop/", version)
    assert "the current shop" in shop.body
    assert SCRIPT in shop.body
    for answer in (front, note, orders, shop):
        assert answer.status == 200
        assert answer.fields["referrer-policy"] == "strict-origin-when-cross-origin"
        assert not [line for line in answer.lines if "example.github.io" in line[1] or "amazonaws" in line[1]]


@pytest.mark.parametrize("version", VERSIONS)
def test_redirects_and_cookies_stay_at_the_visitors_name(street: Street, version: str) -> None:
    assert street.ask("/a?b=1", version, scheme="http").fields["location"] == f"https://{WWW}/a?b=1"
    moved = street.ask("/about?x", version, host=BARE)
    assert (moved.status, moved.fields["location"]) == (301, f"https://{WWW}/about?x")
    moved = street.ask("/journal/2019/tea%2Fcake", version)
    assert (moved.status, moved.fields["location"]) == (301, "/articles/tea%2Fcake/")
    moved = street.ask("/about", version)
    assert moved.fields["location"] == f"https://{WWW}/about/"
    assert moved.fields["set-cookie"] == f"seen=1; Domain={WWW}; Path=/; Secure"
    assert street.ask("/assets/photos", version).fields["location"] == f"https://{WWW}/assets/photos/"
    assert street.ask("/assets/photos/", version).body == "photos"
    made = street.ask("/api/orders", version, "--data", "tea")
    assert (made.status, made.fields["location"]) == (303, "/api/orders/7")
    # all the way, as a browser goes it
    jar = street.folder / f"jar{version}"
    where = ("--location", "--cookie-jar", str(jar), "--cookie", str(jar), "--output", os.devnull, "--write-out")
    gone = street.to_edge(version, *where, "%{http_code} %{url_effective}", f"http://{BARE}/about")
    assert subprocess.run(gone, capture_output=True, timeout=60, check=True).stdout == b"200 https://%s/about/" % (
        WWW.encode()
    )
    followed = street.to_edge(version, *where[:5], "--data", "tea", f"https://{WWW}/api/orders")
    order = json.loads(subprocess.run(followed, capture_output=True, timeout=60, check=True).stdout)
    assert order == {"number": 7, "last": "tea", "url": f"https://{WWW}/api/orders/7"}


@pytest.mark.parametrize("version", VERSIONS)
def test_one_route_wants_a_password(street: Street, version: str) -> None:
    for user in ((), ("--user", "anna:wrong"), ("--header", "X-User: anna")):
        refused = street.ask("/api/admin/", version, *user)
        assert (refused.status, refused.fields["x-wormhole-error"]) == (401, "not-signed-in")
        assert refused.fields["www-authenticate"].startswith("Basic")
    seen = street.ask("/api/admin/", version, "--user", f"anna:{PASSWORD}", "--header", "X_User: eve").json
    # to Flask this is the same page, and to the edge another path; nobody can say that it is somebody
    for forged in ((), ("--header", "X-User: anna"), ("--header", "X_User: anna")):
        assert street.ask("/api//admin/", version, "--path-as-is", *forged).status == 403
    assert seen == {"user": "anna", "authorization": None, "url": f"https://{WWW}/api/admin/"}


def test_a_changed_page_is_asked_for_anew_and_no_other(street: Street) -> None:
    """Validators, ranges and HEAD through the middleware and an origin."""
    front = street.ask("/")
    again = street.ask("/", "--header", f"If-None-Match: {front.fields['etag']}")
    assert (again.status, again.body) == (304, "")
    head = street.ask("/", "--head")
    assert (head.status, head.fields["etag"]) == (200, front.fields["etag"])
    part = street.ask("/assets/note.js", "--range", "0-7")
    assert (part.status, part.body) == (206, "document")


def test_a_short_address(street: Street) -> None:
    for version in VERSIONS:
        assert street.ask("/r/12%263?lang=en", version).body == "current /shop/receipts?number=12%263&lang=en"
    assert street.ask("/r/1/2").status == 404


def sides(street: Street, count: int) -> dict[str, str]:
    """So many new visitors of the shop: the cookie of each, and the shop it saw."""
    url = f"https://{WWW}/shop/"
    done = subprocess.run(
        street.to_edge("--http1.1", "--include", *[url] * count), capture_output=True, timeout=90, check=True
    )
    found = {}
    for answer in done.stdout.decode().split("HTTP/1.1 200 OK\r\n")[1:]:
        [cookie] = re.findall(r"^set-cookie: shop_side=(\w+);", answer, re.MULTILINE | re.IGNORECASE)
        [found[cookie]] = re.findall(r"the (\w+) shop", answer)
    assert len(found) == count
    return found


def test_a_fifth_of_the_visitors_see_the_next_shop(street: Street) -> None:
    assert "set-cookie" not in street.ask("/shop/").fields
    canary = street.back("next", FLY_RELEASE_BRANCH="canary")
    found: dict[str, str] = {}
    while set(found.values()) != {"current", "next"}:
        found.update(sides(street, 30))
        assert len(found) < 300, Counter(found.values())
    some = {shop: next(cookie for cookie in found if found[cookie] == shop) for shop in ("current", "next")}
    for shop, cookie in some.items():
        for version in VERSIONS:
            seen = street.ask("/shop/", version, "--cookie", f"shop_side={cookie}")
            assert f"the {shop} shop" in seen.body
            assert SCRIPT in seen.body
            assert "set-cookie" not in seen.fields
            # a rule that names no branch leads to none of its agents
            receipt = street.ask("/r/1", version, "--cookie", f"shop_side={cookie}")
            assert receipt.body == "current /shop/receipts?number=1"
    mark = street.edge.mark()
    canary.stop()
    street.edge.wait_for("agent .* of backend shop (left|was lost)", after=mark)
    for cookie in some.values():
        assert "the current shop" in street.ask("/shop/", "--cookie", f"shop_side={cookie}").body


class Loop(threading.Thread):
    """curl, asking for the orders again and again.

    :ivar seen: each answer's status, and curl's own exit status
    :ivar rounds: how often it has come to its end
    """

    def __init__(self, street: Street, *args: str) -> None:
        super().__init__(daemon=True)
        url = f"https://{WWW}/api/orders?number=[1-20]"
        self._command = street.to_edge(*args, "--output", os.devnull, "--write-out", "%{http_code} %{exitcode}\\n", url)
        self._over = threading.Event()
        self.seen: Counter[str] = Counter()
        self.rounds = 0

    def run(self) -> None:
        while not self._over.is_set():
            done = subprocess.run(self._command, capture_output=True, timeout=90, check=False)
            self.seen.update(done.stdout.decode().splitlines())
            self.rounds += 1

    def end(self) -> None:
        self._over.set()
        self.join(90)


@contextmanager
def asking(street: Street) -> Iterator[list[Loop]]:
    """curls of both versions; not one request of theirs may fail."""
    loops = [Loop(street, "--http1.1"), Loop(street, "--http2", "--parallel", "--parallel-max", "6")]
    for loop in loops:
        loop.start()
    try:
        yield loops
    finally:
        for loop in loops:
            loop.end()
    assert [set(loop.seen) for loop in loops] == [{"200 0"}] * 2


def go_on(loops: list[Loop]) -> None:
    """Wait until each has asked with a whole curl that began after now."""
    before = [loop.rounds for loop in loops]
    until = time.monotonic() + 80
    while any(loop.rounds < rounds + 2 for loop, rounds in zip(loops, before, strict=True)):
        assert time.monotonic() < until, before
        time.sleep(0.02)


def until_served_by(street: Street, name: str) -> None:
    """Ask until a replica answers; every answer has to be good."""
    until = time.monotonic() + 60
    while street.ask("/api/orders").json["agent"] != name:
        assert time.monotonic() < until, f"{name} gets no request"


@pytest.mark.deadline(sized(120, 600))
def test_a_killed_agent_costs_no_request(street: Street) -> None:
    with asking(street) as loops:
        for name, other in [REPLICAS, REPLICAS[::-1]] * sized(1, 10):
            go_on(loops)
            mark = street.edge.mark()
            street.edge.send(signal.SIGHUP)
            street.edge.wait_for("configuration reloaded", after=mark)
            mark = street.edge.mark()
            street.programs.named(name).stop(signal.SIGKILL)
            street.edge.wait_for("agent .* of backend api was lost", after=mark)
            assert {street.ask("/api/orders").json["agent"] for _ in range(2)} == {other}
            street.back(name)
            until_served_by(street, name)


def test_one_that_fails_is_left_out_and_comes_back(street: Street) -> None:
    ill = street.folder / "two.ill"
    ill.touch()
    mark = street.edge.mark()
    answers: Counter[tuple[int, str]] = Counter()
    while answers[503, "two"] < 3:
        answer = street.ask("/api/orders")
        answers[answer.status, json.loads(answer.body)["agent"]] += 1
        assert set(answers) <= {(503, "two"), (200, "one")}
        assert answers.total() < 30
    street.edge.wait_for("backend api: agent .* gets no requests for 3 s: 3 failures in a row", after=mark)
    ill.unlink()
    until_served_by(street, "two")
    street.edge.wait_for("backend api: agent .* takes requests again", after=mark)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_without_a_shop_the_pages_say_so(street: Street, how: int) -> None:
    mark = street.edge.mark()
    street.programs.named("current").stop(how)
    street.edge.wait_for("of backend shop", after=mark)
    for version in VERSIONS:
        closed = street.ask("/shop/", version)
        assert (closed.status, "The shop is closed" in closed.body, SCRIPT in closed.body) == (200, True, True)
    street.back("current")
    assert "the current shop" in street.ask("/shop/").body


def test_the_rule_is_named_as_in_the_document(street: Street) -> None:
    """By ``route explain``, and by the log."""
    [shown] = re.findall(r"^\$ wormhole-tw route (explain .*)\n((?:.*\n)*?)```", DOCUMENT.read_text(), re.MULTILINE)
    command, said = shown[0].split(), shown[1]
    explain = street.programs.python("explain", "-m", "wormhole_tw.cli.main", "route", *command, cwd=street.folder)
    assert explain.wait() == 0
    assert explain.output == said.rstrip()
    asked = {
        "/about/": ("pages", "pages"),
        "/assets/style.css": ("assets", "bucket"),
        "/api/orders/7": ("api", "api"),
        "/api/admin/": ("admin", "api"),
        "/shop/receipts": ("shop", "shop"),
        "/r/log": ("receipt", "shop"),
        "/journal/2019/log": ("moved", ""),
    }
    for path in asked:
        street.ask(path)

    def named() -> dict[str, tuple[str, str]]:
        lines = [json.loads(line) for line in (street.folder / "access.log").read_text().splitlines()]
        return {line["path"]: (line["route"], line["backend"]) for line in lines if line["path"] in asked}

    wait_until(lambda: len(named()) == len(asked))  # it is written in batches
    assert named() == asked


@pytest.mark.requires_program("chromium")
def test_a_browser_sees_one_host_name(street: Street, tmp_path: Path) -> None:
    with street.connect(WWW) as visitor:  # which verifies it by the dev CA
        certificate = visitor.getpeercert(binary_form=True)
    assert certificate
    names = ", ".join(f"MAP {name}:443 127.0.0.1:{street.port}" for name in (WWW, BARE))
    with chromium(tmp_path, certificate, (), f"--host-resolver-rules={names}, MAP * ~NOTFOUND") as browser:
        browser.open(f"https://{WWW}/")
        seen = browser.evaluate("done")
        assert seen.pop("agent") in REPLICAS
        # fetch goes with cookies, and followed the application's redirect
        assert seen == {
            "order": {"number": 7, "last": "tea", "url": f"https://{WWW}/api/orders/7"},
            "url": f"https://{WWW}/api/orders/7",
            "image": [40, 30],
            "said": "the current shop heard: how much?",
            "noted": "by the middleware",
            "color": "rgb(1, 2, 3)",
        }
        parts = browser.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
        assert {part.split("/")[2] for part in parts} == {WWW}
        # by its own link, and by the other name, over redirects of the edge and of the pages
        for url in (f"https://{WWW}/about", f"https://{BARE}/about"):
            browser.open(url)
            assert browser.evaluate(
                "[location.href, document.title, document.body.dataset.noted, document.cookie]"
            ) == [
                f"https://{WWW}/about/",
                "about",
                "by the middleware",
                "seen=1",
            ]
        browser.open(f"https://{WWW}/shop/")
        assert browser.evaluate("document.title + document.body.dataset.noted") == "currentby the middleware"
