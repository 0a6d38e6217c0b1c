"""What must be seen of the cache, through edge, tunnel and agent: misses that collapse, a service that is down, a large
file of which a part is there, a browser that reloads."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from h2.events import PingAckReceived

from tests._support import sized
from tests.end_to_end.chromium import chromium
from tests.end_to_end.house import APP, Answer, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_browser import png
from tests.end_to_end.test_http2 import Client
from tests.end_to_end.test_observability import wait_until

MIB = 1024 * 1024
LARGE = sized(24, 1024)
"""MiB of the large file: more than memory is given."""

CONNECTIONS, STREAMS = 10, 100
"""A thousand visitors, a hundred on each connection."""

_BLOCK = random.Random(9111).randbytes(MIB)


class Large:
    """A file of :data:`LARGE` MiB, each of them different, whose parts can be had.

    :ivar asked: the Range of every request, empty for none
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, call: Call) -> None:
        wanted = call.headers.get("Range", "")
        self.asked.append(wanted)
        begin, end = 0, LARGE * MIB
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", wanted):
            if found[1]:
                begin, end = int(found[1]), min(int(found[2]) + 1, end) if found[2] else end
            else:
                begin = end - int(found[2])
        call.send_response(206 if wanted else 200)
        if wanted:
            call.send_header("Content-Range", f"bytes {begin}-{end - 1}/{LARGE * MIB}")
        call.send_header("Content-Length", str(end - begin))
        call.send_header("Cache-Control", "max-age=3600")
        call.send_header("ETag", '"large"')
        call.end_headers()
        while begin < end:
            piece = self.part(begin, min(end, (begin // MIB + 1) * MIB))
            call.wfile.write(piece)
            begin += len(piece)

    @staticmethod
    def part(begin: int, end: int) -> bytes:
        """Its octets from ``begin`` up to ``end``, within one MiB."""
        number, first = divmod(begin, MIB)
        return (number.to_bytes(8, "big") + _BLOCK[8:])[first : first + end - begin]


def cache_status(answer: Answer) -> str:
    """What the edge says of its cache, the member that it wrote itself."""
    return answer.headers.get("Cache-Status", "").rpartition(",")[2].strip()


def is_hit(answer: Answer) -> bool:
    return answer.status in (200, 206, 304) and re.search(r";\s*hit\b", cache_status(answer)) is not None


def cached(house: House, **store: str) -> None:
    """Let the site keep what it can."""
    house.config["sites"][0]["cache"] = True
    if store:
        house.config["cache"] = store
    house.write()


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as mine:
        yield mine


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[House]:
    """One edge and agent for the tests that leave them as they are; memory for a third of the large file."""
    with open_house(tmp_path_factory.mktemp("cached")) as mine:
        mine.config["access_log"] = {"path": "access.log"}
        size = f"{4 * LARGE} MiB"
        cached(mine, memory="8 MiB", disk=size, object=size)
        mine.start_edge()
        mine.agent("agent", origin.port)
        yield mine


@pytest.mark.deadline(120)
def test_a_thousand_equal_misses_at_once_fetch_once(house: House, origin: Origin) -> None:
    all_are_here = threading.Event()
    body = b"the same for everybody\n" * 1000

    def slow(call: Call) -> None:
        assert all_are_here.wait(60)
        call.answer(body, headers={"Cache-Control": "max-age=60"})

    origin.routes["/busy"] = slow
    visitors = [Client(house) for _ in range(CONNECTIONS)]
    try:
        streams = [[visitor.ask("/busy") for _ in range(STREAMS)] for visitor in visitors]
        for visitor in visitors:
            visitor.h2.ping(b"all sent")  # whose answer says that the edge has read what was before it
        for visitor in visitors:
            visitor.until(lambda event: isinstance(event, PingAckReceived))
        all_are_here.set()
        for visitor, mine in zip(visitors, streams, strict=True):
            for stream in mine:
                assert visitor.status(stream) == 200
                assert visitor.body(stream) == body
    finally:
        all_are_here.set()
        for visitor in visitors:
            visitor.socket.close()
    assert origin.calls["/busy"] == 1
    log = house.folder / "access.log"

    def told() -> list[str]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if '"/busy"' in line]
        return [line["cache"] for line in lines]

    wait_until(lambda: len(told()) == CONNECTIONS * STREAMS)
    assert {word: told().count(word) for word in set(told())} == {"miss": 1, "collapsed": CONNECTIONS * STREAMS - 1}


@pytest.mark.deadline(300)
def test_a_large_file_of_which_a_part_is_there(house: House, origin: Origin) -> None:
    large = Large()
    origin.routes["/large"] = large
    first = LARGE // 4 * MIB
    with house.visitor() as gone:
        gone.request("GET", "/large")
        answer = gone.getresponse()
        assert len(answer.read(first)) == first
    # who leaves takes the rest with him; what had come is kept

    def part(begin: int, end: int) -> Answer:
        with house.visitor() as visitor:
            return visitor.ask("GET", "/large", headers={"Range": f"bytes={begin}-{end - 1}"})

    wait_until(lambda: is_hit(part(0, 10)))
    before = len(large.asked)
    for begin in (0, 3 * MIB + 17, first - 70_000):
        got = part(begin, begin + 65536)
        assert (got.status, is_hit(got)) == (206, True), got.headers
        assert got.headers["Content-Range"] == f"bytes {begin}-{begin + 65535}/{LARGE * MIB}"
        assert got.body == Large.part(begin, begin + 65536)
    assert len(large.asked) == before
    # behind it: from the service, and right
    begin = (LARGE - 1) * MIB + 5
    got = part(begin, begin + 1000)
    assert (got.status, got.body) == (206, Large.part(begin, begin + 1000))
    # whole: what is missing is fetched, and nothing twice
    before = len(large.asked)
    with house.visitor() as visitor:
        visitor.request("GET", "/large")
        answer = visitor.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(LARGE * MIB))
        for number in range(LARGE):
            assert answer.read(MIB) == Large.part(number * MIB, (number + 1) * MIB), number
    assert all(re.fullmatch(r"bytes=\d+-\d*", asked) for asked in large.asked[before:])
    # and then every part of it is there
    wait_until(lambda: is_hit(part(begin, begin + 10)))
    before = len(large.asked)
    for begin in range(0, LARGE * MIB, LARGE // 8 * MIB):
        got = part(begin + 1, begin + 5001)
        assert (got.body, is_hit(got)) == (Large.part(begin + 1, begin + 5001), True)
    assert len(large.asked) == before
    assert house.edge.peak_memory() < 400 * MIB


RELOADED = """<!doctype html>
<meta charset="utf-8">
<title>again</title>
<link rel="stylesheet" href="/style.css">
<p id="text">some text</p>
<img id="image" src="/image.png">
"""


@pytest.mark.requires_program("chromium")
@pytest.mark.deadline(120)
def test_a_browser_reloads_a_page_from_the_edge(house: House, origin: Origin, tmp_path: Path) -> None:
    """Chromium must ask each time (``max-age=0``), the edge need not (``s-maxage``), not even where somebody reloads by
    hand, which asks to ask (``immutable``)."""
    fields = {"Cache-Control": "max-age=0, s-maxage=600, immutable"}
    parts = {
        "/page": (RELOADED.encode(), "text/html"),
        "/style.css": (b"p { color: rgb(1, 2, 3) }", "text/css"),
        "/image.png": (png(17, 4), "image/png"),
    }

    def served(call: Call) -> None:
        body, kind = parts[call.path]
        call.answer(body, headers={"Content-Type": kind, "ETag": f'"{len(body)}"', **fields})

    origin.routes.update(dict.fromkeys(parts, served))
    seen = """(() => {
        const image = document.getElementById('image');
        return [getComputedStyle(document.getElementById('text')).color, image.naturalWidth, image.naturalHeight];
    })()"""
    with house.connect() as visitor:  # which verifies it by the dev CA
        certificate = visitor.getpeercert(binary_form=True)
    assert certificate
    with chromium(tmp_path, certificate, (APP,)) as browser:
        for _ in range(3):
            browser.open(house.url("/page"))
            assert browser.evaluate(seen) == ["rgb(1, 2, 3)", 17, 4]
        browser.reload()
        assert browser.evaluate(seen) == ["rgb(1, 2, 3)", 17, 4]
    assert {path: origin.calls[path] for path in parts} == dict.fromkeys(parts, 1)

    def told() -> list[tuple[str, str, int]]:
        lines = [json.loads(line) for line in (house.folder / "access.log").read_text().splitlines()]
        return [(line["path"], line["cache"], line["status"]) for line in lines if line["path"] in parts]

    wait_until(lambda: len(told()) >= 12)
    for path in parts:
        words = [(word, status) for seen_path, word, status in told() if seen_path == path]
        assert words[0] == ("miss", 200)
        assert words[1:] == [("hit", 304)] * 3  # the browser has it, and the edge says that it is still right


@pytest.mark.deadline(120)
def test_a_service_that_is_down(tmp_path: Path) -> None:
    """``stale-if-error``: whatever is wrong behind the edge, visitors get what it has."""
    state = {"status": 200}

    def page(call: Call) -> None:
        fields = {"Cache-Control": "max-age=0, stale-if-error=600", "ETag": '"1"'}
        call.answer(b"as it was\n" if state["status"] == 200 else b"broken\n", state["status"], fields)

    with open_house(tmp_path) as house:
        cached(house)
        house.start_edge()
        with Origin({"/page": page, "/strict": page}) as origin:
            agent = house.agent("agent", origin.port)
            assert house.get("/page").body == b"as it was\n"
            state["status"] = 503
            stale = house.get("/page")
            assert (stale.status, stale.body) == (200, b"as it was\n")
            assert "fwd=stale" in cache_status(stale)
            assert origin.calls["/page"] == 2
            state["status"] = 404  # which is an answer
            assert house.get("/page").status == 404
            state["status"] = 200
            assert house.get("/page").body == b"as it was\n"
        # the service is gone: the agent is refused
        stale = house.get("/page")
        assert (stale.status, stale.body) == (200, b"as it was\n"), stale
        # and now the agent, too
        agent.stop()
        house.edge.wait_for(r"agent \S+ of backend app .*(left|gone|lost|ended)")
        stale = house.get("/page")
        assert (stale.status, stale.body) == (200, b"as it was\n"), stale
        missing = house.get("/never-seen", timeout=30)
        assert missing.status in (502, 503)
