"""``wormhole-tw expose`` and ``demo`` as real processes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests._support import require_program
from tests.agent._edge import TOKEN, FakeEdge, until
from tests.agent._services import LocalServer
from tests.cli._programs import Program, twistd
from wormhole_tw.wire.codes import GoawayCode

Start = Callable[..., Program]


@pytest_twisted.async_yield_fixture
async def start(reactor: Any, tmp_path: Path) -> AsyncIterator[Start]:
    """Runs ``wormhole-tw`` with these arguments."""
    programs: list[Program] = []

    def start(*arguments: str, **environ: str) -> Program:
        script = f"import sys; from wormhole_tw.cli.main import main; sys.exit(main({list(arguments)!r}))"
        environ = {"XDG_STATE_HOME": str(tmp_path / "home"), **environ}
        program = twistd(reactor, folder=tmp_path, environ=environ, script=script)
        programs.append(program)
        return program

    yield start
    for program in programs:
        await program.kill()


async def test_the_demo(start: Start, tmp_path: Path) -> None:
    demo = start("demo", "--once")
    assert await demo.end() == 0
    lines = demo.output.splitlines()
    assert lines[0].startswith("https://demo.localhost")
    assert " -> 127.0.0.1:" in lines[0]
    for part in ("connected to this-machine", "over verified https", "try it:    curl --cacert", "trust it:  import"):
        assert sum(part in line for line in lines) == 1, demo.output
    assert "Traceback" not in demo.output
    assert (tmp_path / "home" / "wormhole-tw" / "dev" / "ca.pem").is_file()


@pytest.mark.parametrize("name", ["INT", "TERM"])
async def test_the_demo_stays_until_it_is_ended(start: Start, reactor: Any, name: str) -> None:
    demo = start("demo", "--name", "Mine")
    await demo.says("Ctrl-C ends it")
    # *.localhost needs no DNS: curl knows it, and so do browsers.
    curl = next(line.split()[2:] for line in demo.output.splitlines() if line.startswith("try it:"))
    assert curl[0] == "curl"
    assert curl[-1].startswith("https://mine.localhost")
    out, err, status = await getProcessOutputAndValue(
        require_program("curl"), ["--silent", "--show-error", "--noproxy", "*", *curl[1:]], reactor=reactor
    )
    assert (status, err) == (0, b"")
    assert b"Hello from a private service" in out
    demo.signal(name)
    assert await demo.end() == 0
    assert f"SIG{name}: finishing what runs" in demo.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["demo", "--once", "--state", "/proc/nowhere"], "--state: /proc/nowhere cannot be written"),
        (["demo", "--once", "--name", "a_b"], "--name: 'a_b' is no label"),
        (["expose", "nonsense:a:b"], "TARGET: 'nonsense:a:b' is no client endpoint"),
        (["expose", "8000", "--edge", "edge.test"], "FLY_TOKEN: no token is given"),
        (
            ["expose", "8000", "--edge", "e.test", "--token-file", "/nowhere/t"],
            "--token-file: the file /nowhere/t does",
        ),
    ],
)
async def test_what_cannot_start_is_one_line(start: Start, arguments: list[str], sentence: str) -> None:
    program = start(*arguments)
    assert await program.end() == 1
    assert program.output.startswith(f"wormhole-tw: {sentence}")
    assert program.output.count("\n") == 1


async def test_a_port_in_use(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program = start("expose", "8000", "--port", str(taken.getsockname()[1]))
        assert await program.end() == 1
    assert program.output.startswith("wormhole-tw: --port: cannot listen on")
    assert "in use" in program.output
    assert program.output.count("\n") == 1


async def test_expose_says_what_happens(start: Start, edge: FakeEdge, local: LocalServer, reactor: Any) -> None:
    program = start("expose", local.target, "--edge", edge.address, "--ca-file", edge.ca_file, FLY_TOKEN=TOKEN)
    await program.says(f"https://app.example.test -> {local.target}\nconnected to edge-1 (test)\n")
    edge.refusal = (GoawayCode.UNAUTHORIZED, "this token opens nothing here", 0.1)
    edge.links[0].protocol.abort()
    await program.says("lost edge-1 (test): ")
    await program.says(f"{edge.address} refuses: ")
    assert "this token opens nothing here" in program.output
    edge.refusal = None
    await until(reactor, lambda: program.output.count("connected to edge-1") == 2)
    assert program.output.count("https://app.example.test") == 1
    assert TOKEN not in program.output
    program.signal("INT")
    assert await program.end() == 0


async def test_expose_alone_says_the_address_first(start: Start, reactor: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = str(nobody.getsockname()[1])
        program = start("expose", target)
        await program.says("connected to this-machine")
        await program.says(f"127.0.0.1:{target}: the private service refuses connections; is it running?")
    assert program.output.startswith("https://app.localhost")
    assert program.output.splitlines()[0].endswith(f" -> 127.0.0.1:{target}")
    program.signal("TERM")
    assert await program.end() == 0
    assert "Traceback" not in program.output
