"""The access log: what a line says, what it never says, and what becomes of lines that cannot be written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from tests.edge.house import START, House
from wormhole_tw.control.config import AccessLogConfig
from wormhole_tw.edge import access_log as module
from wormhole_tw.edge.access_log import BATCH, EVERY, MAX_WAITING, AccessLog
from wormhole_tw.errors import ConfigError


class Books:
    """A house whose requests are written down; the thread is this one, or waits until it is told."""

    def __init__(self, path: Path | str, format: str = "json", *, slow: bool = False) -> None:
        self.house = House()
        self.path = Path(path)
        self.calls: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.slow = slow
        config = AccessLogConfig(str(path), format)  # type: ignore[arg-type]
        self.log = AccessLog(config, self.house.timers, self.house.clock.seconds, self._in_thread, source="edge.toml")
        self.log.open()
        self.house.context.on_exchange_done = lambda exchange: self.log.record(exchange, self.house.timers.now)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if not self.slow:
            return maybeDeferred(function, *args)
        waiting: Deferred[Any] = Deferred()
        self.calls.append((waiting, function, args))
        return waiting

    def write_now(self) -> None:
        """The slow thread does what it was given."""
        for waiting, function, args in self.calls[:]:
            self.calls.remove((waiting, function, args))
            maybeDeferred(function, *args).chainDeferred(waiting)

    def ask(
        self, request: str, answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", **facts: Any
    ) -> None:
        visitor = self.house.visitor(**facts)
        visitor.says(request)
        if answer is not None:
            self.house.stream.read()
            self.house.stream.deliver(answer)
        visitor.lose()

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def close(self) -> None:
        self.house.context.abort()
        closed: list[None] = []
        self.log.close().addCallback(closed.append)
        self.slow = False
        self.write_now()
        assert closed == [None]
        self.house.close()


GET = "GET /a%20b?token=secret HTTP/1.1\r\nHost: app.test\r\n"


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "access.log")
    yield books
    books.close()


def test_a_line_of_json(books: Books) -> None:
    visitor = books.house.visitor()
    visitor.says(f"{GET}User-Agent: curl/8\r\nReferer: https://u:p@x.test/y?z#f\r\n\r\n")
    books.house.stream.read()
    books.house.clock.advance(0.25)
    books.house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    books.house.clock.advance(0.25)
    books.house.stream.deliver(b"i")
    assert books.path.read_text() == ""
    books.house.pass_time(EVERY)
    (line,) = books.lines()
    found = json.loads(line)
    assert re.fullmatch("[0-9a-z]{16}-1", found.pop("request_id"))
    assert found == {
        "time": "2027-01-15T08:00:10.500Z",
        "client": "192.0.2.7",
        "method": "GET",
        "scheme": "http",
        "client_certificate": None,
        "host": "app.test",
        "path": "/a%20b",
        "http": "1.1",
        "tls": None,
        "site": "app",
        "route": "/",
        "backend": "app",
        "session": "app-1",
        "attempts": 1,
        "status": 200,
        "reason": "",
        "cache": "",
        "received": 0,
        "sent": 2,
        "first_byte": 0.25,
        "duration": 0.5,
        "user_agent": "curl/8",
        "referer": "https://x.test/y",
    }
    assert books.house.clock.rightNow == START + 10 + 1.0
    visitor.lose()


def test_a_combined_line(tmp_path: Path) -> None:
    books = Books(tmp_path / "access.log", "combined")
    books.ask(f'{GET}User-Agent: a "b" \\ \xe9\r\n\r\n')
    books.ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", None)
    books.ask(f"{GET}\r\n", b"")
    books.close()
    lines = books.lines()
    assert lines[0] == (
        '192.0.2.7 - - [15/Jan/2027:08:00:10 +0000] "GET /a%20b HTTP/1.1" 200 2 "-" "a \\"b\\" \\\\ \\xc3\\xa9"'
    )
    assert re.fullmatch(r'192\.0\.2\.7 - - \[.*\] "-" 400 \d+ "-" "-"', lines[1])
    assert '" 499 - "' in lines[2]


@pytest.mark.parametrize("format", ["json", "combined"])
def test_what_it_never_says(tmp_path: Path, format: str) -> None:
    books = Books(tmp_path / "access.log", format)
    books.ask(
        "POST /login?password=hidden-1 HTTP/1.1\r\nHost: app.test\r\nCookie: session=hidden-2\r\n"
        "Authorization: Bearer hidden-3\r\nProxy-Authorization: Basic hidden-4\r\nX-Api-Key: hidden-5\r\n"
        "Referer: https://hidden-6@app.test/?t=hidden-7#hidden-8\r\nContent-Length: 8\r\n\r\nhidden-9",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hidden-10\r\nContent-Length: 9\r\n\r\nhidden-11",
    )
    books.close()
    assert len(books.lines()) == 1
    assert "/login" in books.lines()[0]
    assert "hidden" not in books.path.read_text()


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("//u:hidden@x.test/y", "//x.test/y"),
        ("u:hidden@x.test/y", "x.test/y"),
        ("HTTPS:\\\\u:hidden@x.test/y", "HTTPS:\\\\x.test/y"),
        ("https://u:hid@den@x.test/@y", "https://x.test/@y"),
        ("/photos/@somebody", "/photos/@somebody"),
    ],
)
def test_a_referer_of_any_form_has_no_user(books: Books, sent: str, written: str) -> None:
    books.ask(f"{GET}Referer: {sent}\r\n\r\n")
    books.close()
    assert json.loads(books.lines()[0])["referer"] == written


def test_nobody_writes_lines_of_their_own(books: Books) -> None:
    books.ask("GET / HTTP/1.1\r\nHost: app.test\r\nUser-Agent: a\tb\x85\u2028\r\n\r\n")
    books.ask(f"GET /{'x' * 5000} HTTP/1.1\r\nHost: app.test\r\n\r\n")
    books.log.reopen()
    lines = books.path.read_bytes().split(b"\n")
    assert len(lines) == 3
    assert len(json.loads(lines[1])["path"]) == 2048


@pytest.mark.parametrize("format", ["json", "combined"])
def test_nobody_tells_a_terminal_what_to_do(tmp_path: Path, format: str) -> None:
    books = Books(tmp_path / "access.log", format)
    # U+0085 ends a line for some, U+009B begins what a terminal obeys
    books.ask(f"{GET}User-Agent: caf\xe9 \x85\x9b2J\r\nReferer: https://x.test/\x9d\r\n\r\n")
    books.close()
    text = books.path.read_text()
    assert all(letter.isprintable() for letter in text.rstrip("\n"))
    if format == "json":
        assert json.loads(text)["user_agent"].encode("latin-1").decode() == "caf\xe9 \x85\x9b2J"


def test_a_refusal_and_who_left(books: Books) -> None:
    books.ask("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n", None)
    books.ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", None)
    books.ask(f"{GET}\r\n", b"")
    books.log.reopen()
    refused, malformed, left = (json.loads(line) for line in books.lines())
    assert (refused["status"], refused["reason"], refused["host"], refused["site"]) == (
        404,
        "unknown-host",
        "nobody.test",
        "",
    )
    assert (malformed["status"], malformed["method"], malformed["duration"]) == (400, "", 0)
    assert (left["status"], left["reason"], left["session"], left["first_byte"]) == (499, "visitor-gone", "app-1", None)


def test_lines_go_in_batches(tmp_path: Path) -> None:
    books = Books(tmp_path / "access.log", slow=True)
    for _ in range(BATCH - 1):
        books.ask(f"{GET}\r\n")
    assert not books.calls
    books.ask(f"{GET}\r\n")
    assert len(books.calls) == 1
    for _ in range(BATCH + 10):
        books.ask(f"{GET}\r\n")
    assert len(books.calls) == 1, "one at a time"
    books.write_now()
    assert len(books.lines()) == BATCH
    assert len(books.calls) == 1
    books.write_now()
    assert len(books.lines()) == 2 * BATCH
    books.house.pass_time(2 * EVERY)
    books.write_now()
    assert len(books.lines()) == books.log.written == 2 * BATCH + 10
    assert books.log.dropped == 0
    books.close()


def test_a_disk_that_holds_up_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAITING > BATCH
    monkeypatch.setattr(module, "MAX_WAITING", BATCH + 5)
    books = Books(tmp_path / "access.log", slow=True)
    for _ in range(2 * BATCH + 25):
        books.ask(f"{GET}\r\n")
    assert books.log.dropped == 20
    books.slow = False
    books.write_now()
    books.close()
    assert len(books.lines()) == books.log.written == 2 * BATCH + 5


def test_it_is_opened_anew(books: Books, tmp_path: Path) -> None:
    books.ask(f"{GET}\r\n")
    books.log.reopen()
    moved = books.path.rename(tmp_path / "access.log.1")
    books.ask(f"{GET}\r\n")
    books.house.pass_time(EVERY)
    assert not books.path.exists()
    assert len(moved.read_text().splitlines()) == 2
    books.log.reopen()
    assert books.path.read_text() == ""
    books.ask(f"{GET}\r\n")
    books.house.pass_time(EVERY)
    assert len(books.lines()) == 1
    assert books.path.stat().st_mode & 0o777 == 0o640 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_disk_that_is_full_and_back(books: Books, tmp_path: Path, log_lines: Any) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    books.log._path = str(folder / "access.log")
    books.log.reopen()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, books.log._descriptor or 0)
    os.close(full)
    (folder / "access.log").unlink()
    for _ in range(2):
        books.ask(f"{GET}\r\n")
        folder.chmod(0o500)
        if os.geteuid() == 0:
            (folder / "access.log").unlink(missing_ok=True)
            (folder / "access.log").symlink_to("/dev/full")
        books.house.pass_time(EVERY)
    assert books.log.dropped == 2
    assert len(log_lines.matching("cannot be written")) == 1
    folder.chmod(0o700)
    (folder / "access.log").unlink(missing_ok=True)
    books.ask(f"{GET}\r\n")
    books.house.pass_time(EVERY)
    assert "is written again" in log_lines
    assert len((folder / "access.log").read_text().splitlines()) == 1


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Books(tmp_path / "nowhere" / "access.log")
    assert (caught.value.source, caught.value.key) == ("edge.toml", "$.access_log.path")
    assert "No such file" in caught.value.reason


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    books = Books("-")
    books.ask(f"{GET}\r\n")
    books.log.reopen()
    books.ask(f"{GET}\r\n")
    books.close()
    assert len(capfd.readouterr().out.splitlines()) == 2
