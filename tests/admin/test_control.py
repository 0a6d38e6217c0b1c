"""The control socket: what is asked there of an edge, and how processes take it over from one another."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests._harness import LogLines
from tests.edge.tenants import TOML, Premises, until
from wormhole_tw.admin.control import MAX_BODY, ControlService
from wormhole_tw.admin.local_client import EdgeRefused, ask, sockets
from wormhole_tw.net.local_sockets import connect_local, listen_local
from wormhole_tw.net.threads import call_in_thread

CACHED = TOML.replace("[[sites]]", '[cache]\nmemory = "1 MiB"\n[[sites]]').replace(
    'hostnames = ["app', 'cache = true\nhostnames = ["app'
)


class Controlled(Premises):
    """An edge with a cache, and its control socket."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        super().__init__(reactor, folder, CACHED)
        self.control = ControlService(reactor, self.edge)

    def start(self) -> None:
        self.edge.startService()
        self.control.startService()

    async def ask(self, method: str, target: str, body: object = None, *, path: Path | None = None) -> Any:
        return await call_in_thread(self.reactor, ask, path or self.control.path, method, target, body)

    async def purge(self, kind: str, value: str = "", *, path: Path | None = None, **more: Any) -> Any:
        return await self.ask("POST", "/cache/purge", {"kind": kind, "value": value, **more}, path=path)

    def covers(self, target: bytes, *tags: bytes) -> bool:
        """Whether what was kept before now is void."""
        kept = self.edge.context.kept
        assert kept is not None
        return kept.purges.covers("app", b"app.example.test", target, tags, self.born)

    def forget(self) -> None:
        """From now on it is asked of what is kept from now on."""
        kept = self.edge.context.kept
        assert kept is not None
        self.born = kept.purges.clock

    async def close(self) -> None:
        await super().close()
        await self.control.stopService()


@pytest_twisted.async_yield_fixture
async def premises(reactor: Any, tmp_path: Path) -> AsyncIterator[Controlled]:
    premises = Controlled(reactor, tmp_path)
    premises.start()
    premises.forget()
    yield premises
    await premises.close()


async def test_it_is_for_its_user_alone(premises: Controlled) -> None:
    assert stat.S_IMODE(premises.control.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(premises.control.path.parent.stat().st_mode) == 0o700


async def test_how_the_cache_stands(premises: Controlled) -> None:
    await premises.purge("tag", "x")
    said = await premises.ask("GET", "/cache")
    (memory,) = said.pop("stores")
    assert (memory["place"], memory["entries"], memory["limit"]) == ("memory", 0, 1 << 20)
    assert said.pop("requests") == dict.fromkeys(("hit", "miss", "stale", "collapsed", "revalidated", "bypass"), 0)
    assert said == {"edge": "edge-1", "sites": ["app"], "purges": {"tag": 1}}


async def test_a_purge_of_each_kind(premises: Controlled) -> None:
    assert not premises.covers(b"/a", b"news")
    url = await premises.purge("url", "https://app.example.test/a")
    assert url == {"purged": "https://app.example.test/a", "cached": True}
    assert (premises.covers(b"/a"), premises.covers(b"/a/b")) == (True, False)
    await premises.purge("prefix", "/a", site="app")
    assert (premises.covers(b"/a/b"), premises.covers(b"/b")) == (True, False)
    assert not premises.covers(b"/b", b"news")
    await premises.purge("tag", "news")
    assert premises.covers(b"/b", b"news")
    premises.forget()
    await premises.purge("site", site="app")
    assert premises.covers(b"/b")
    premises.forget()
    await premises.purge("site", everywhere=True)
    assert premises.covers(b"/b")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "url", "value": "https://nobody.test/"}, "no site has the host name nobody.test"),
        ({"kind": "all"}, "there are url, prefix, tag, site"),
        ({"kind": "url", "values": []}, "values"),
        ({"kind": 1}, "no purge"),
        ([], "no purge"),
        ({"kind": "url", "value": "x" * MAX_BODY}, "too long"),
    ],
)
async def test_what_is_refused(premises: Controlled, body: object, words: str) -> None:
    with pytest.raises(EdgeRefused) as caught:
        await premises.ask("POST", "/cache/purge", body)
    assert words in str(caught.value)
    assert not premises.covers(b"/")


@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("GET", "/cache/purge"), ("DELETE", "/cache")])
async def test_what_there_is_not(premises: Controlled, method: str, target: str) -> None:
    with pytest.raises(EdgeRefused, match="it runs another version than this one"):
        await premises.ask(method, target)


async def test_what_is_no_json(premises: Controlled, reactor: Any) -> None:
    def send() -> tuple[int, Any]:
        connection = HTTPConnection("edge", timeout=10)
        connection.sock = connect_local(premises.control.path, 10)
        connection.request("POST", "/cache/purge", b"{kind")
        answer = connection.getresponse()
        said = answer.status, json.loads(answer.read())
        connection.close()
        return said

    status, said = await call_in_thread(reactor, send)
    assert status == 400
    assert said["error"].startswith("no purge: ")


async def test_something_else_at_its_path(reactor: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with listen_local(path) as listening:
        listening.setblocking(True)

        def answer() -> None:
            other, _ = listening.accept()
            with other:
                other.recv(4096)
                other.sendall(b"SSH-2.0-other\r\n")

        answering = call_in_thread(reactor, answer)
        with pytest.raises(EdgeRefused, match="answers what no edge does"):
            await call_in_thread(reactor, ask, path, "GET", "/cache")
        await answering


async def test_a_purge_that_cannot_be_written_down(premises: Controlled, log_lines: LogLines) -> None:
    journal = premises.edge.config.state / "cache" / "purges"
    journal.unlink()
    journal.mkdir()
    with pytest.raises(EdgeRefused, match="it holds until the edge ends"):
        await premises.purge("url", "https://app.example.test/a")
    assert premises.covers(b"/a")
    assert "could not be recorded" in log_lines


async def test_an_edge_that_has_stopped(premises: Controlled) -> None:
    await premises.edge.stopService()
    with pytest.raises(EdgeRefused, match="the edge is not running"):
        await premises.ask("GET", "/cache")
    with pytest.raises(EdgeRefused, match="the edge is not running"):
        await premises.purge("tag", "x")
    assert await premises.ask("POST", "/cache/follow") == {}


async def test_a_folder_that_is_gone(reactor: Any, tmp_path: Path, log_lines: LogLines) -> None:
    premises = Controlled(reactor, tmp_path)
    premises.edge.startService()
    state = premises.edge.config.state
    state.rename(tmp_path / "elsewhere")
    premises.control.startService()
    assert "nobody can purge the cache of this edge" in log_lines
    await premises.close()


async def test_the_next_process_takes_it_over(premises: Controlled, reactor: Any, tmp_path: Path) -> None:
    """Both have one state folder, as a process has with the one that it replaces."""
    first = premises
    await first.purge("tag", "before")
    second = Controlled(reactor, tmp_path)
    second.start()
    assert second.control.path == first.control.path
    (aside,) = [path for path in sockets(second.edge.config.state) if path != second.control.path]
    second.forget()

    await second.purge("url", "https://app.example.test/new")
    assert first.covers(b"/new"), "it is told before the answer"
    assert second.covers(b"/new")

    # who asked the first one just before it had lost the path
    await first.purge("url", "https://app.example.test/old", path=aside)
    assert second.covers(b"/old")

    await first.close()
    assert not aside.exists()
    assert second.control.path.exists()
    assert await second.purge("tag", "after") == {"purged": "tag after of site app", "cached": True}
    await second.close()
    assert not second.control.path.exists()
    first.start()  # for the fixture, which ends it


async def test_a_file_system_without_links(
    premises: Controlled, reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    def link(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    second = Controlled(reactor, tmp_path)
    second.start()
    assert "hears of purges a second later" in log_lines
    await second.purge("tag", "x")
    assert second.edge.context.kept is not None
    await until(reactor, lambda: premises.covers(b"/", b"x"))
    await second.close()


async def test_one_that_was_killed_is_not_waited_for(premises: Controlled) -> None:
    folder = premises.edge.config.state
    dead = folder / "control-12345678.sock"
    listen_local(dead).close()
    assert "silent" not in await premises.purge("tag", "x")
    assert not dead.exists()


async def test_one_that_does_not_listen_is_named(
    premises: Controlled, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wormhole_tw.admin.control.PASS_ON_SECONDS", 0.05)
    with listen_local(premises.edge.config.state / "control-12345678.sock"):
        said = await premises.purge("tag", "x")
    assert said["silent"] == ["timed out"]
    assert premises.covers(b"/", b"x")


async def test_who_leaves_before_the_answer(
    premises: Controlled, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wormhole_tw.admin.control.PASS_ON_SECONDS", 0.2)
    with listen_local(premises.edge.config.state / "control-12345678.sock") as silent:
        with pytest.raises(TimeoutError):
            await call_in_thread(
                reactor,
                lambda: ask(premises.control.path, "POST", "/cache/purge", {"kind": "site"}, timeout=0.05),
            )
        await until(reactor, lambda: premises.covers(b"/"))
        assert silent.fileno() > 0
        # the socket goes on for others
        assert (await premises.ask("GET", "/cache"))["edge"] == "edge-1"
        assert "silent" in await premises.purge("tag", "y")


async def test_it_ends_with_its_connections(premises: Controlled, reactor: Any) -> None:
    connection = await call_in_thread(reactor, connect_local, premises.control.path, 10)
    with connection:
        await premises.ask("GET", "/cache")
        await premises.control.stopService()
        assert await call_in_thread(reactor, connection.recv, 1) == b""
    assert not premises.control.path.exists()
    await premises.control.stopService()
