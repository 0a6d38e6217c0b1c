"""Middleware in a real edge: edited and reloaded under load, wrong and mended, with browsers' protocols through it."""

from __future__ import annotations

import gzip
import signal
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from tests._support import SRC, sized
from tests.end_to_end.house import APP, OTHER, House
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import need_program
from tests.end_to_end.test_websocket import echo, talk, websocket_service

WORMHOLE_TW = (sys.executable, "-m", "wormhole_tw.cli.main")

VERSION = """\
from twisted.internet.task import deferLater

VERSION = "{version}"


class Middleware:
    def __init__(self, *, header):
        from twisted.internet import reactor

        self.reactor, self.header = reactor, header

    async def __call__(self, request, next):
        response = await next(request)
        await deferLater(self.reactor, 0.002)
        response.headers[self.header] = VERSION
        if request.path == "/streamed":
            response.body = self.marked(response.body)
        return response

    async def marked(self, body):
        async for piece in body:
            yield piece + VERSION.encode()
"""


def set_up(house: House) -> Path:
    """A site with a middleware of a file, ``versioned.py``."""
    house.config["sites"][0]["middleware"] = [{"file": "versioned.py", "settings": {"header": "X-Version"}}]
    house.write()
    return house.folder / "versioned.py"


def write(file: Path, text: str) -> None:
    """As editors do: another file, and then its name."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


class Load(threading.Thread):
    """One visitor who asks on and on, on one connection.

    :ivar versions: what answered
    :ivar wrong: what should not have been
    """

    def __init__(self, house: House, path: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._house, self._path, self._over = house, path, over
        self.versions: list[str] = []
        self.wrong: list[object] = []

    def run(self) -> None:
        try:
            with self._house.visitor() as visitor:
                while not self._over.is_set():
                    if self._path == "/echo":
                        answer = visitor.ask("POST", self._path, b"x" * 1000)
                    else:
                        answer = visitor.ask("GET", self._path)
                    self.versions.append(answer.headers.get("X-Version", ""))
                    if answer.status != 200 or not self.versions[-1] or len(answer.body) < 1000:
                        self.wrong.append(answer)
        except (OSError, HTTPException) as error:
            self.wrong.append(error)


@pytest.mark.deadline(sized(120, 600))
def test_edited_and_reloaded_under_load_no_request_fails(house: House, origin: Origin) -> None:
    origin.text("/", b"x" * 1000)
    origin.routes["/echo"] = lambda call: call.answer(b"".join(call.body()))
    origin.routes["/streamed"] = streamed
    file = set_up(house)
    write(file, VERSION.format(version="0"))
    edge = house.start_edge()
    house.agent("agent", origin.port)
    over = threading.Event()
    load = [Load(house, path, over) for path in ("/", "/echo", "/streamed", "/")]
    for visitor in load:
        visitor.start()
    times = sized(15, 150)
    try:
        for number in range(1, times + 1):
            before = min(len(visitor.versions) for visitor in load)
            mark = edge.mark()
            if number % 5 == 0:
                write(file, VERSION.format(version=number).replace("def __init__", "def __init__("))
                edge.send(signal.SIGHUP)
                edge.wait_for(
                    r"not reloaded, the old one stays: .*middleware\[0\].file.*versioned.py, line 7", after=mark
                )
            else:
                write(file, VERSION.format(version=number))
                edge.send(signal.SIGHUP)
                edge.wait_for("configuration reloaded", after=mark)
            until = time.monotonic() + 20
            while min(len(visitor.versions) for visitor in load) < before + 3 and time.monotonic() < until:
                assert not any(visitor.wrong for visitor in load), [visitor.wrong for visitor in load]
                time.sleep(0.005)
    finally:
        over.set()
        for visitor in load:
            visitor.join(30)
    assert [visitor.wrong for visitor in load] == [[]] * len(load)
    good = [str(number) for number in range(times + 1) if number == 0 or number % 5]
    for visitor in load:
        # in order, none twice, and nothing of those that were wrong
        seen = list(dict.fromkeys(visitor.versions))
        assert set(seen) <= set(good)
        assert seen == sorted(seen, key=int)
        assert len(seen) > len(good) // 2
    assert edge.count("Traceback") == 0


def streamed(call: Call) -> None:
    """Three pieces with a pause between them."""
    call.begin_chunks()
    for _ in range(3):
        call.chunk(b"x" * 400)
        time.sleep(0.01)
    call.chunk(b"")


ANSWERING = """\
from wormhole_tw.middleware import Response

class Middleware:
    async def __call__(self, request, next):
        return Response(200, b"{version}")

    async def stop(self):
        print(__name__, "stops {version}", flush=True)
"""


def test_a_watched_file_is_taken_over_by_itself_and_a_module_at_a_reload(house: House) -> None:
    file, module = house.folder / "answering.py", house.folder / "module.py"
    house.config["sites"][0]["middleware"] = [{"file": file.name}]
    house.config["sites"][1]["routes"][0]["middleware"] = [{"use": "module:Middleware"}]
    house.config["edge"]["watch"] = True
    house.write()
    for each in (file, module):
        write(each, ANSWERING.format(version="1"))
    edge = house.launch_edge(need_program("env"), f"PYTHONPATH={SRC}:{house.folder}")
    edge.wait_for("serves https on")
    assert (house.get("/").body, house.get("/", OTHER).body) == (b"1", b"1")
    for version, said in (
        ("2", "configuration reloaded"),
        ("wrong", "not reloaded, the old one stays"),
        ("3", "reloaded:"),
    ):
        mark = edge.mark()
        write(file, "class (" if version == "wrong" else ANSWERING.format(version=version))
        edge.wait_for(said, after=mark)
        assert house.get("/").body == (b"2" if version == "wrong" else version.encode())
    assert house.get("/", OTHER).body == b"1"
    write(module, ANSWERING.format(version="2"))
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    edge.wait_for("configuration reloaded", after=mark)
    assert (house.get("/").body, house.get("/", OTHER).body) == (b"3", b"2")
    assert edge.stop() == 0
    for version in "123":
        assert edge.count(f"answering_.* stops {version}") == 1
    assert [edge.count(f"module stops {version}") for version in "12"] == [1, 1]


def test_a_mistake_ends_the_start_and_the_check_with_one_line(house: House) -> None:
    write(set_up(house), "class Middleware\n")
    check = [*WORMHOLE_TW, "edge", "check", "edge.toml"]
    for program in (house.launch_edge(), house.programs.start("check", check, cwd=house.folder)):
        assert program.wait() != 0
        program.wait_for(r"edge.toml: \$.sites\[0\].middleware\[0\].file: .*versioned.py, line 1: expected ':'")
        assert len([line for line in program.output.splitlines() if line.strip()]) == 1


def test_what_comes_with_the_edge_works_together(house: House, origin: Origin) -> None:
    page = b"<html><head><title>x</title></head><body>" + b"hello " * 5000 + b"</body></html>"
    heard: list[dict[str, str]] = []

    def serve(call: Call) -> None:
        heard.append(dict(call.headers))
        headers = {"Content-Type": "text/html", "ETag": '"1"', "Vary": "X-Visitor-Device"}
        if "gzip" in call.headers.get("Accept-Encoding", ""):
            call.answer(gzip.compress(page), headers={**headers, "Content-Encoding": "gzip"})
        else:
            call.answer(page, headers=headers)

    origin.routes["/"] = serve
    shipped = "wormhole_tw.middleware:"
    house.config["sites"][0]["middleware"] = [
        {"use": f"{shipped}AbTest", "settings": {"name": "t", "variants": {"a": 1, "b": 1}}},
        {"use": f"{shipped}DeviceHeaders"},
        {"use": f"{shipped}InjectHtml", "settings": {"html": "<script>1</script>"}},
    ]
    house.write()
    house.start_edge()
    house.agent("agent", origin.port)
    expected = page.replace(b"</head>", b"<script>1</script></head>")
    with house.visitor() as visitor:
        plain = visitor.ask("GET", "/", headers={"User-Agent": "curl/8"})
        coded = visitor.ask("GET", "/", headers={"Accept-Encoding": "gzip, br, zstd", "Cookie": "ab-t=a"})
        head = visitor.ask("HEAD", "/")
    assert plain.body == expected
    assert gzip.decompress(coded.body) == expected
    assert coded.headers["Content-Encoding"] == "gzip"
    assert plain.headers["ETag"].startswith('W/"1~i')
    assert "Content-Length" not in head.headers
    assert head.headers["ETag"] == plain.headers["ETag"]
    assert plain.headers["Vary"] == "User-Agent, Sec-CH-UA-Mobile, Cookie"
    assert plain.headers["Set-Cookie"].startswith("ab-t=")
    assert "Set-Cookie" not in coded.headers
    assert heard[1]["X-Ab-t"] == "a"
    assert heard[1]["Accept-Encoding"] == "gzip, br, zstd"
    assert heard[0]["X-Visitor-Address"] == "127.0.0.1"
    assert heard[0]["X-Visitor-Network"] == "loopback"
    # and the same by HTTP/2
    done = house.curl("--http2", "--compressed", house.url("/"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


SEEING = """\
class Middleware:
    async def __call__(self, request, next):
        response = await next(request)
        response.headers["X-Seen"] = response.headers["Location"]
        response.headers.add("X-Path", request.path)
        return response
"""


def test_an_origin_on_the_web_speaks_the_visitors_words_behind_it(house: House, origin: Origin) -> None:
    def moved(call: Call) -> None:
        call.answer(b"", 302, {"Location": f"http://127.0.0.1:{origin.port}/base/there", "X-Got": call.path})

    origin.routes["/base/here"] = moved
    url = f"http://127.0.0.1:{origin.port}/base"
    house.config["backends"][0] = {"name": "app", "origin": url, "allow_networks": ["127.0.0.0/8"]}
    house.config["sites"][0]["middleware"] = [{"file": "seeing.py"}]
    house.write()
    write(house.folder / "seeing.py", SEEING)
    house.start_edge()
    answer = house.get("/here?q=1")
    assert answer.status == 302
    assert answer.headers["X-Got"] == "/base/here?q=1"
    assert answer.headers["X-Path"] == "/here"
    assert answer.headers["Location"] == answer.headers["X-Seen"] == f"https://{APP}:{house.port}/there"


LARGE = """\
from wormhole_tw.middleware import Response

class Middleware:
    async def __call__(self, request, next):
        if request.path == "/made":
            return Response(200, self.made())
        if request.method == "POST":
            request.body = self.doubled(request.body)
        response = await next(request)
        response.body = self.doubled(response.body)
        return response

    async def made(self):
        for _ in range(800):
            yield b"x" * 10000

    async def doubled(self, body):
        async for piece in body:
            yield piece + piece
"""


@pytest.mark.deadline(60)
def test_large_bodies_that_are_made_hold_nobody_up(house: House, origin: Origin) -> None:
    origin.text("/", b"small")
    origin.text("/large", b"x" * 2_000_000)
    origin.routes["/echo"] = lambda call: call.answer(b"%d" % sum(map(len, call.body())))
    house.config["sites"][0]["middleware"] = [{"file": "large.py"}]
    house.write()
    write(house.folder / "large.py", LARGE)
    edge = house.start_edge()
    house.agent("agent", origin.port)
    with house.visitor() as slow, house.visitor() as quick:
        slow.request("GET", "/made")
        answer = slow.getresponse()
        # nobody reads it, and others are served
        for _ in range(20):
            assert quick.ask("GET", "/").body == b"smallsmall"
        assert len(answer.read()) == 8_000_000
        assert len(slow.ask("GET", "/large").body) == 4_000_000
        assert slow.ask("POST", "/echo", b"x" * 1_000_000).body == b"20000002000000"
    assert edge.peak_memory() < 200_000_000


def test_a_websocket_passes(house: House) -> None:
    file = set_up(house)
    write(file, VERSION.format(version="1"))
    with websocket_service(echo) as port:
        house.start_edge()
        house.agent("agent", port)
        with talk(house) as visitor:
            assert visitor.response is not None
            assert visitor.response.headers["X-Version"] == "1"
            for size in (1, 1000, 500_000):
                visitor.send(b"x" * size)
                assert visitor.recv(10) == b"x" * size
