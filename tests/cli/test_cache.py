"""``wormhole-tw cache``: purges and the state of the cache, with an edge, without one, and where it is out of reach."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.edge.tenants import TOML, Premises
from wormhole_tw.admin.control import ControlService
from wormhole_tw.cli import cache
from wormhole_tw.cli.main import main
from wormhole_tw.http.caching.purges import read_journal
from wormhole_tw.net.local_sockets import listen_local
from wormhole_tw.net.threads import call_in_thread

Told = tuple[int, str, str]
Command = Callable[..., Told]

CACHED = TOML.replace('hostnames = ["app', 'cache = true\nhostnames = ["app')
DISK = CACHED.replace("[[backends]]", '[cache]\nmemory = "1 MiB"\ndisk = "16 MiB"\n[[backends]]', 1)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, run in the folder of an ``edge.toml``; gives status, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge.toml").write_text(CACHED)

    def run(*args: str) -> Told:
        try:
            status = main(["cache", *args])
        except SystemExit as error:
            status = int(str(error.code))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def records(tmp_path: Path) -> list[tuple[str, str, bytes]]:
    """What was written down for the next edge."""
    purges, _ = read_journal((tmp_path / "state" / "cache" / "purges").read_bytes())
    return [(purge.kind, purge.site, purge.value) for purge in purges]


# with an edge


async def test_a_running_edge_is_asked(command: Command, reactor: Any, tmp_path: Path) -> None:
    premises = Premises(reactor, tmp_path, CACHED)
    control = ControlService(reactor, premises.edge)
    premises.edge.startService()
    control.startService()

    async def run(*args: str) -> Told:
        return await call_in_thread(reactor, command, *args)

    assert await run("purge", "--url", "https://app.example.test/a", "--url", "/b", "--site", "app") == (
        0,
        "purged: https://app.example.test/a\npurged: any host of site app, /b\n",
        "",
    )
    assert await run("purge", "--prefix", "app.example.test/a") == (
        0,
        "purged: app.example.test/a and all that begins so\n",
        "",
    )
    assert await run("purge", "--all-sites", "--tag", "x") == (0, "purged: tag x of all sites\n", "")
    assert (await run("purge", "--site", "app"))[1] == "purged: site app\n"
    assert await run("purge", "--tag", "a b") == (
        1,
        "",
        "wormhole-tw: 'a b' is no tag: one word, without spaces and commas\n",
    )
    status, out, err = await run("status")
    assert (status, err) == (0, "")
    assert out == (
        "edge edge-1 keeps answers of 1 site: app\n"
        "memory   0 answers, 0 octets of 256.0 MiB (0 %), 0 made room for others\n"
        "requests none since the edge started\n"
        "purges   2 url, 1 prefix, 1 tag, 1 site since the edge started\n"
    )
    assert json.loads((await run("status", "--json"))[1])["sites"] == ["app"]

    # from elsewhere, by its state folder alone
    (tmp_path / "edge.toml").unlink()
    assert (await run("purge", "--state", "state", "--site", "app"))[0] == 0
    # its name was taken by a process that is gone
    control.path.rename(tmp_path / "state" / "control-00000001.sock")
    listen_local(control.path).close()
    assert (await run("purge", "--state", "state", "--site", "app"))[0] == 0
    await premises.close()
    await control.stopService()
    assert (await run("purge", "--state", "state", "--site", "app"))[0] == 1


async def test_an_edge_without_a_cache_says_so(command: Command, reactor: Any, tmp_path: Path) -> None:
    premises = Premises(reactor, tmp_path, TOML)
    control = ControlService(reactor, premises.edge)
    premises.edge.startService()
    control.startService()
    said = await call_in_thread(reactor, command, "purge", "--site", "app")
    assert said == (0, "purged: site app\n", "wormhole-tw: it has no cache: nothing of it is kept now\n")
    said = await call_in_thread(reactor, command, "status")
    assert said[1].startswith("edge edge-1 keeps no answers: no site has a cache\n")
    await premises.close()
    await control.stopService()


def test_what_the_edge_says_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is leaving and was not reached; a store with faults."""
    said: list[Any] = [
        {"purged": "site app", "cached": True, "silent": ["timed out"]},
        {
            "edge": "e",
            "sites": ["a", "b"],
            "stores": [{"place": "disk", "entries": 1, "octets": 1 << 20, "limit": 0, "evicted": 7, "faults": 2}],
            "requests": {"hit": 3, "miss": 0},
            "purges": {},
        },
    ]
    monkeypatch.setattr(cache, "ask", lambda *args: said.pop(0))
    assert command("purge", "--site", "app", "--state", "state") == (
        1,
        "purged: site app\n",
        "wormhole-tw: a process that is leaving was not reached: timed out\n",
    )
    assert command("status", "--state", "state")[1] == (
        "edge e keeps answers of 2 sites: a, b\n"
        "disk     1 answer, 1.0 MiB of 0 octets (0 %), 7 made room for others, 2 faults\n"
        "requests 3 hit since the edge started\n"
        "purges   none since the edge started\n"
    )


# without one


def test_no_edge_has_ever_run(command: Command, tmp_path: Path) -> None:
    status, out, err = command("purge", "--site", "app")
    assert (status, out) == (1, "")
    assert err == (f"wormhole-tw: there is no state folder {tmp_path}/state: where is the edge? (--config, --state)\n")
    assert command("status")[0] == 1


def test_memory_went_with_its_edge(command: Command, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert command("purge", "--site", "app") == (
        1,
        "",
        f"wormhole-tw: no edge runs with the state folder {tmp_path}/state; nothing is kept without one\n",
    )


def test_a_disk_is_purged_for_the_next_edge(command: Command, tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text(DISK)
    (tmp_path / "state").mkdir()
    said = "purged: site app (no edge runs; the next one heeds it)\n"
    assert command("purge", "--site", "app") == (0, said, ""), "nothing is written: no journal voids all anyway"
    assert command("purge", "--site", "nobody")[2] == "wormhole-tw: there is no site nobody; there are app\n"
    journal = tmp_path / "state" / "cache" / "purges"
    journal.parent.mkdir()
    journal.write_bytes(b"wormhole-tw purges 1\n")
    assert command("purge", "--url", "app.example.test/a", "--url", "app.example.test/b")[0] == 0
    assert records(tmp_path)[-2:] == [("url", "app", b"app.example.test/a"), ("url", "app", b"app.example.test/b")]
    journal.unlink()
    journal.mkdir()
    status, out, err = command("purge", "--tag", "x")
    assert (status, out) == (1, "")
    assert "the purge cannot be written down for the next one: Is a directory" in err


def test_root_writes_as_the_owner_of_the_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edge.toml").write_text(DISK)
    (tmp_path / "state").mkdir()
    became: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "setegid", lambda number: became.append(("group", number)))
    monkeypatch.setattr(os, "seteuid", lambda number: became.append(("user", number)))
    command("purge", "--tag", "x")
    found = (tmp_path / "state").stat()
    assert became == [("group", found.st_gid), ("user", found.st_uid)]


def test_one_that_started_meanwhile_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edge.toml").write_text(DISK)
    (tmp_path / "state").mkdir()
    asked: list[str] = []

    def ask(path: Path, method: str, target: str, body: object = None) -> Any:
        asked.append(target)
        if target == "/cache/purge":
            raise ConnectionRefusedError(111, "Connection refused")
        return {}

    monkeypatch.setattr(cache, "ask", ask)
    assert command("purge", "--site", "app")[0] == 0
    assert asked == ["/cache/purge", "/cache/follow"]


# where there is no way to it


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "is not for you to ask: run this as the user who runs the edge"),
        (TimeoutError(), "does not answer"),
        (OSError(24, "Too many open files"), "control.sock: Too many open files"),
    ],
)
def test_an_edge_that_cannot_be_asked(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def ask(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(cache, "ask", ask)
    status, out, err = command("purge", "--site", "app")
    assert (status, out) == (1, "")
    assert words in err


def test_a_folder_that_is_not_ours_to_read(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "listdir", listdir)
    assert command("status")[2] == (
        f"wormhole-tw: {tmp_path}/state is not for you to read: run this as the user who runs the edge\n"
    )


def test_no_configuration(command: Command, tmp_path: Path) -> None:
    (tmp_path / "edge.toml").unlink()
    assert "edge.toml: cannot be read" in command("status")[2]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "what is to be purged? One of --url, --prefix, --tag, --site and --all-sites"),
        (("--url", "a", "--tag", "b"), "not allowed with argument"),
        (("--site", "a", "--all-sites"), "either --site or --all-sites"),
        (("news",), "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line(command: Command, args: tuple[str, ...], words: str) -> None:
    status, out, err = command("purge", *args)
    assert (status, out) == (2, "")
    assert words in err


def test_the_help_names_every_kind(command: Command) -> None:
    status, out, _ = command("purge", "--help")
    assert status == 0
    assert all(option in out for option in ("--url", "--prefix", "--tag", "--site", "--all-sites"))


def test_a_socket_that_nobody_serves_is_no_edge(command: Command, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    listen_local(tmp_path / "state" / "control.sock").close()
    assert "no edge runs" in command("status")[2]
