"""``twistd wormhole-edge`` as a real process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.agent._edge import until
from tests.cli._programs import Program, twistd
from tests.edge.tenants import TOML
from wormhole_tw import __version__

Start = Callable[..., Program]


@pytest_twisted.async_yield_fixture
async def start(reactor: Any, tmp_path: Path) -> AsyncIterator[Start]:
    programs: list[Program] = []
    (tmp_path / "edge.toml").write_text(TOML)

    def start(*options: str, before: tuple[str, ...] = ("-n",), **environ: str) -> Program:
        program = twistd(reactor, *before, "wormhole-edge", *options, folder=tmp_path, environ=environ)
        programs.append(program)
        return program

    yield start
    for program in programs:
        await program.kill()


async def test_it_serves_reloads_and_ends_with_0(start: Start, tmp_path: Path) -> None:
    edge = start()
    await edge.says("serves https on 127.0.0.1:")
    (tmp_path / "edge.toml").write_text(TOML.replace("[edge]", "[edge]\nregion = 'north'"))
    edge.signal("HUP")
    await edge.says("only a restart changes $.edge.region")
    edge.signal("TERM")
    assert await edge.end() == 0
    # What Twisted says of its ports and factories is not ours to say.
    assert "starting on" not in edge.output
    assert not (tmp_path / "twistd.pid").exists()
    assert (tmp_path / "state" / "dev" / "ca.pem").is_file()


async def test_its_version(start: Start) -> None:
    edge = start("--version")
    assert await edge.end() == 0
    assert edge.output.startswith(f"wormhole-tw {__version__} (Twisted 26.")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--config", "no.toml"), "no.toml: cannot be read: No such file or directory"),
        (("--confg", "x"), "wormhole-edge: option --confg not recognized; see --help"),
        (("extra",), "wormhole-edge: 'extra' is one argument too many"),
        (("--state", "/proc/nowhere"), "edge.toml: $.edge.state: /proc/nowhere"),
    ],
)
async def test_what_is_wrong_is_one_line(start: Start, options: tuple[str, ...], line: str) -> None:
    edge = start(*options)
    assert await edge.end() == 1
    said = [text for text in edge.output.splitlines() if " warn " not in text]
    assert len(said) == 1
    assert line in said[0]


async def test_transports_that_there_are_not(start: Start) -> None:
    edge = start(WORMHOLE_TRANSPORTS="slow")
    assert await edge.end() == 1
    said = [text for text in edge.output.splitlines() if " warn " not in text]
    assert len(said) == 1
    assert said[0].endswith("WORMHOLE_TRANSPORTS: fast or twisted, not 'slow'")


async def test_a_daemon_reloads_a_relative_path_from_another_folder(start: Start, tmp_path: Path, reactor: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    launcher = start(before=("--rundir", "run", "--pidfile", str(run / "pid"), "--logfile", str(run / "log")))
    assert await launcher.end() == 0, launcher.output
    pid = int((run / "pid").read_text())
    try:
        await until(reactor, lambda: (run / "log").exists() and "serves https on" in (run / "log").read_text())
        (tmp_path / "edge.toml").write_text(TOML.replace("[edge]", "[egde]"))
        os.kill(pid, signal.SIGHUP)
        await until(reactor, lambda: "not reloaded" in (run / "log").read_text())
        assert "edge.toml: $.egde" in (run / "log").read_text()
        assert f"{tmp_path}/edge.toml" not in (run / "log").read_text()
        os.kill(pid, signal.SIGTERM)
        await until(reactor, lambda: not (run / "pid").exists())
    finally:
        if (run / "pid").exists():
            os.kill(pid, signal.SIGKILL)


async def test_a_daemon_that_cannot_start_says_why(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        (tmp_path / "edge.toml").write_text(TOML.replace("tcp:0:interface=127.0.0.1", endpoint))
        launcher = start(before=())
        assert await launcher.end() == 1
    assert "edge.toml: $.edge.https[0]: cannot listen" in launcher.output
    assert "in use" in (tmp_path / "twistd.log").read_text()
    assert not (tmp_path / "twistd.pid").exists()
