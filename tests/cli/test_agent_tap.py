"""``twistd wormhole-agent`` as a real process."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.agent._edge import TOKEN, FakeEdge, until
from tests.agent._services import LocalServer
from tests.cli._programs import Program, twistd

StartAgent = Callable[..., Program]

TWISTD = "from twisted.scripts.twistd import run; run()"

SILENT_NAME_SERVER = f"""
import socket, time
known = socket.getaddrinfo
def look(host, *rest):
    if host == "edge.invalid":
        print("looks it up", flush=True)
        time.sleep(300)
    return known(host, *rest)
socket.getaddrinfo = look
{TWISTD}
"""


@pytest_twisted.async_yield_fixture
async def start(reactor: Any, tmp_path: Path, edge: FakeEdge, local: LocalServer) -> AsyncIterator[StartAgent]:
    """Starts agents, configured by the environment."""
    programs: list[Program] = []

    def start(
        *options: str,
        before: tuple[str, ...] = ("-n",),
        folder: Path = tmp_path,
        script: str = TWISTD,
        **variables: str,
    ) -> Program:
        environ = {
            "FLY_TOKEN": TOKEN,
            "FLY_REMOTE_ENDPOINT": edge.address,
            "FLY_LOCAL_ENDPOINT": local.target,
            "FLY_TLS_CERT_FILE": edge.ca_file,
            **variables,
        }
        program = twistd(reactor, *before, "wormhole-agent", *options, folder=folder, environ=environ, script=script)
        programs.append(program)
        return program

    yield start
    for program in programs:
        await program.kill()


async def test_it_serves_and_drains(start: StartAgent, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    agent = start("--ready-file", "ready")
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"begun")
    assert await visitor.bytes(5) == b"BEGUN"
    await until(reactor, (tmp_path / "ready").exists)
    await agent.says("https://app.example.test -> 127.0.0.1")
    agent.signal("TERM")
    await until(reactor, lambda: link.goaway is not None)
    visitor.transport.write(b" ended")
    visitor.transport.loseWriteConnection()
    assert await visitor.end() == b"BEGUN ENDED<11 bytes>"
    assert await agent.end() == 0
    assert "SIGTERM: finishing what runs" in agent.output
    assert not (tmp_path / "ready").exists()
    assert not (tmp_path / "twistd.pid").exists()
    assert TOKEN not in agent.output
    assert "Traceback" not in agent.output
    for line in agent.output.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warn) [a-z._]+: ", line), line


async def test_idle_it_ends_within_two_seconds(start: StartAgent, edge: FakeEdge, reactor: Any) -> None:
    agent = start()
    await edge.ready_link()
    began = reactor.seconds()
    agent.signal("TERM")
    assert await agent.end() == 0
    assert reactor.seconds() - began < 2


async def test_control_c_is_the_same(start: StartAgent, edge: FakeEdge) -> None:
    agent = start()
    await edge.ready_link()
    agent.signal("INT")
    assert await agent.end() == 0


async def test_a_second_sigterm_ends_at_once(start: StartAgent, edge: FakeEdge, reactor: Any) -> None:
    agent = start()
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    agent.signal("TERM")
    await agent.says("a second one ends at once")
    began = reactor.seconds()
    agent.signal("TERM")
    assert await agent.end() == -signal.SIGTERM
    assert reactor.seconds() - began < 1


async def test_a_name_server_that_does_not_answer_keeps_nobody_from_ending(start: StartAgent) -> None:
    agent = start(script=SILENT_NAME_SERVER, FLY_REMOTE_ENDPOINT="edge.invalid")
    await agent.says("looks it up")
    await agent.says("is there")
    agent.signal("TERM")
    assert await agent.end() == 0


async def test_the_deadline_of_a_drain(start: StartAgent, edge: FakeEdge, reactor: Any) -> None:
    agent = start("--drain", "0.2")
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    began = reactor.seconds()
    agent.signal("TERM")
    assert await agent.end() == 0
    assert reactor.seconds() - began < 3


async def test_while_no_edge_is_there(start: StartAgent, edge: FakeEdge) -> None:
    await edge.stop_listening()
    agent = start()
    await agent.says("refuses connections; is an edge running there?")
    agent.signal("TERM")
    assert await agent.end() == 0


async def test_a_read_only_folder(start: StartAgent, edge: FakeEdge, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    agent = start(folder=folder)
    await edge.ready_link()
    agent.signal("TERM")
    assert await agent.end() == 0
    assert list(folder.iterdir()) == []


async def test_two_in_one_folder(start: StartAgent, edge: FakeEdge) -> None:
    one, two = start(), start()
    await edge.ready_link(1)
    await edge.ready_link(2)
    assert one.status is None
    assert two.status is None


async def test_a_pid_file_that_was_asked_for(start: StartAgent, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    agent = start(before=("-n", "--pidfile", "agent.pid"))
    await edge.ready_link()
    assert (tmp_path / "agent.pid").read_text() == str(agent.transport.pid)
    agent.signal("TERM")
    assert await agent.end() == 0


async def test_a_daemon(start: StartAgent, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    launcher = start(before=())
    assert await launcher.end() == 0
    await edge.ready_link()
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        log = tmp_path / "twistd.log"
        await until(reactor, lambda: "connected to edge-1" in log.read_text())
        os.kill(pid, signal.SIGUSR1)
        await until(reactor, (tmp_path / "twistd.log.1").exists)
        os.kill(pid, signal.SIGTERM)
        await until(reactor, lambda: not (tmp_path / "twistd.pid").exists())
        assert "SIGTERM: finishing" in log.read_text()
    finally:
        if (tmp_path / "twistd.pid").exists():
            os.kill(pid, signal.SIGKILL)


async def test_a_wrong_token_is_one_line(start: StartAgent, edge: FakeEdge, reactor: Any) -> None:
    from wormhole_tw.wire.codes import GoawayCode

    edge.refusal = (GoawayCode.UNAUTHORIZED, "this token opens nothing here", 0.1)
    agent = start()
    await until(reactor, lambda: len(edge.links) >= 3)
    agent.signal("TERM")
    assert await agent.end() == 0
    assert agent.output.count("this token opens nothing here") == 1
    assert TOKEN not in agent.output


@pytest.mark.parametrize(
    ("options", "variables", "line"),
    [
        ((), {"FLY_TOKEN": ""}, "FLY_TOKEN: no token is given"),
        ((), {"FLY_TOKEN": "wh_sécret"}, "FLY_TOKEN: a token is 1–512 printable"),
        ((), {"FLY_REMOTE_ENDPOINT": ""}, "FLY_REMOTE_ENDPOINT: no edge is given"),
        ((), {"FLY_LOCAL_ENDPOINT": "nonsense:a:b"}, "FLY_LOCAL_ENDPOINT: 'nonsense:a:b' is no client endpoint"),
        ((), {"FLY_PROTO": "ssh"}, "FLY_PROTO: the carrier 'ssh' is not available in this version"),
        ((), {"FLY_TLS_CERT_FILE": "/nowhere/ca.pem"}, "FLY_TLS_CERT_FILE: the file /nowhere/ca.pem does not exist"),
        (("--token-file", "/nowhere/token"), {}, "--token-file: the file /nowhere/token does not exist"),
        (("--ready-file", "/nowhere/ready"), {}, "--ready-file: the folder of /nowhere/ready does not exist"),
        (("--drain", "soon"), {}, "--drain: 'soon' is no number of seconds"),
        (("--edges", "edge.example"), {}, "--edges: 'edge.example' is none of all, nearest"),
        (("--carrier", "quic"), {}, "--carrier: 'quic' is none of tls, websocket, auto"),
        (("--proxy", "ftp://me:secret@proxy.example"), {}, "--proxy: it is no proxy; give http://, https://"),
        (("--token", "wh_secret"), {}, "there is no --token, it would show in ps"),
        (("--token=wh_secret",), {}, "there is no --token, it would show in ps"),
        (("wh_secret",), {}, "wormhole-agent: the agent takes options only; a command stands"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_status_1(
    start: StartAgent, options: tuple[str, ...], variables: dict[str, str], line: str
) -> None:
    agent = start(*options, **variables)
    assert await agent.end() == 1
    assert agent.output.startswith(line)
    assert agent.output.count("\n") == 1
    assert "cret" not in agent.output


async def test_its_version(start: StartAgent) -> None:
    from wormhole_tw import __version__

    agent = start("--version")
    assert await agent.end() == 0
    assert agent.output.startswith(f"wormhole-tw {__version__} (Twisted 26.")
