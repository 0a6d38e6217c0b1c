"""``wormhole-tw agent -- COMMAND`` and ``twistd wormhole-agent -- COMMAND`` as real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.agent._edge import TOKEN, FakeEdge, until
from tests.cli._programs import Program, twistd
from tests.end_to_end.programs import free_port

Start = Callable[..., Program]

WORMHOLE_TW = "import sys; from wormhole_tw.cli.main import main; sys.exit(main(sys.argv[1:]))"

SERVICE = textwrap.dedent(
    """
    import os, signal, socket, sys
    def heard(number, frame):
        print("heard", signal.Signals(number).name, flush=True)
        if number in (signal.SIGTERM, signal.SIGINT):
            sys.exit(int(os.environ.get("STATUS", "0")))
    for name in "TERM INT HUP USR1 USR2 QUIT WINCH".split():
        signal.signal(getattr(signal, "SIG" + name), heard)
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    print("pid", os.getpid(), "secret", os.environ.get("FLY_TOKEN"), flush=True)
    while True:
        one, _ = server.accept()
        try:
            while data := one.recv(65536):
                one.sendall(data.upper())
        except ConnectionError:
            pass
        one.close()
    """
)


@pytest_twisted.async_yield_fixture
async def start(reactor: Any, tmp_path: Path, edge: FakeEdge) -> AsyncIterator[Start]:
    """Starts agents with a command; without one, the command is SERVICE."""
    programs: list[Program] = []
    service = tmp_path / "service.py"
    service.write_text(SERVICE)

    def start(
        *command: str,
        options: tuple[str, ...] = (),
        twistd_options: tuple[str, ...] | None = None,
        script: str = WORMHOLE_TW,
        terminal: bool = False,
        **variables: str,
    ) -> Program:
        environ = {
            "FLY_TOKEN": TOKEN,
            "FLY_REMOTE_ENDPOINT": edge.address,
            "FLY_PORT": str(free_port()),
            "FLY_TLS_CERT_FILE": edge.ca_file,
            **variables,
        }
        rest = (*options, "--", *(command or (sys.executable, str(service))))
        if twistd_options is None:
            program = twistd(
                reactor, "agent", *rest, folder=tmp_path, environ=environ, script=script, terminal=terminal
            )
        else:
            program = twistd(reactor, *twistd_options, "wormhole-agent", *rest, folder=tmp_path, environ=environ)
        programs.append(program)
        return program

    yield start
    for program in programs:
        await program.kill()


async def pid_of(program: Program) -> int:
    """The service's process, by what it says of itself."""
    await program.says("secret")
    return next(int(line.split()[1]) for line in program.output.splitlines() if line.startswith("pid "))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "twistd_options",
    [pytest.param(None, id="wormhole-tw agent"), pytest.param(("-n",), id="twistd", marks=pytest.mark.full)],
)
async def test_it_serves_drains_and_ends_with_the_status(
    start: Start, edge: FakeEdge, reactor: Any, twistd_options: tuple[str, ...] | None
) -> None:
    agent = start(twistd_options=twistd_options, STATUS="9")
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"begun")
    assert await visitor.bytes(5) == b"BEGUN"
    pid = await pid_of(agent)
    assert len(watchers_of(pid)) == 1
    agent.signal("TERM")
    await until(reactor, lambda: link.goaway is not None)
    visitor.transport.write(b" ended")
    assert await visitor.bytes(11) == b"BEGUN ENDED"
    assert "heard SIGTERM" not in agent.output
    visitor.transport.loseConnection()
    assert await agent.end() == 9
    assert agent.output.index("SIGTERM: finishing what runs") < agent.output.index("heard SIGTERM")
    assert "service.py" not in agent.output  # arguments may hold secrets
    assert "secret None" in agent.output
    assert TOKEN not in agent.output
    assert "Traceback" not in agent.output
    assert not alive(pid)
    await until(reactor, lambda: not watchers_of(pid))


@pytest.mark.parametrize(("script", "status"), [("kill -9 $$", 137), pytest.param("exit 0", 0, marks=pytest.mark.full)])
async def test_its_end_is_the_agents(start: Start, script: str, status: int) -> None:
    agent = start("sh", "-c", script)
    assert await agent.end() == status
    assert "the agent ends too" in agent.output
    assert "Traceback" not in agent.output


async def test_control_c_reaches_it_after_the_drain(start: Start, edge: FakeEdge, reactor: Any) -> None:
    agent = start(terminal=True, STATUS="2")
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"begun")
    await visitor.bytes(5)
    agent.transport.write(b"\x03")
    await until(reactor, lambda: link.goaway is not None)
    visitor.transport.write(b" ended")
    assert await visitor.bytes(11) == b"BEGUN ENDED"
    assert "heard SIGINT" not in agent.output
    visitor.transport.loseConnection()
    assert await agent.end() == 2
    assert "heard SIGINT" in agent.output
    assert "heard SIGTERM" not in agent.output


async def test_signals_are_handed_on(start: Start, edge: FakeEdge) -> None:
    agent = start()
    await edge.ready_link()
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH"):
        os.kill(agent.transport.pid, getattr(signal, name))
        await agent.says(f"heard {name}")
    assert agent.status is None
    agent.signal("TERM")
    assert await agent.end() == 0


async def test_a_second_sigterm_ends_both_at_once(start: Start, edge: FakeEdge, reactor: Any) -> None:
    agent = start()
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    pid = await pid_of(agent)
    agent.signal("TERM")
    await agent.says("a second one ends at once")
    agent.signal("TERM")
    assert await agent.end() == -signal.SIGTERM
    await until(reactor, lambda: not alive(pid))


async def test_kill_9_leaves_no_orphan(start: Start, edge: FakeEdge, reactor: Any, tmp_path: Path) -> None:
    """Neither the command nor what it has started, as a server's workers, which hold its port."""
    agent = start("sh", "-c", f"echo shell $$; {sys.executable} {tmp_path}/service.py & wait")
    await edge.ready_link()
    shell = next(int(line.split()[1]) for line in agent.output.splitlines() if line.startswith("shell "))
    worker = await pid_of(agent)
    assert alive(shell)
    assert alive(worker)
    os.kill(agent.transport.pid, signal.SIGKILL)
    assert await agent.end() == -signal.SIGKILL
    await until(reactor, lambda: not alive(shell) and not alive(worker))
    await until(reactor, lambda: not watchers_of(shell))


def watchers_of(pid: int) -> list[str]:
    """The processes that would end a command's group if its agent died."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text().rstrip("\0"))
        except OSError:
            pass
    return [line for line in lines if line.endswith(f"\0wormhole-agent\0{pid}")]


@pytest.mark.full
async def test_one_that_will_not_end_is_killed(start: Start, edge: FakeEdge) -> None:
    agent = start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done", options=("--stop-timeout", "0.2"))
    await agent.says("ready")
    agent.signal("TERM")
    assert await agent.end() == 137
    assert "sh has not ended 0.2 s after SIGTERM: killed" in agent.output


@pytest.mark.full
async def test_one_that_never_listens(start: Start, edge: FakeEdge) -> None:
    agent = start("sleep", "60", FLY_START_TIMEOUT="0.3", FLY_PORT="5999")
    assert await agent.end() == 1
    assert (
        "sleep does not listen at 127.0.0.1:5999 (PORT and FLY_PORT tell it 5999) 0.3 s after its start; ending it; "
        "FLY_START_TIMEOUT gives it more time" in agent.output
    )


@pytest.mark.parametrize(
    ("command", "status", "line"),
    [
        (("no-such-program",), 127, "no-such-program was not found in PATH\n"),
        pytest.param(("./service.py",), 126, "./service.py is not executable\n", marks=pytest.mark.full),
    ],
)
async def test_what_cannot_be_run_is_one_line(start: Start, command: tuple[str, ...], status: int, line: str) -> None:
    agent = start(*command)
    assert await agent.end() == status
    assert agent.output.startswith(line)
    assert agent.output.count("\n") == 1


async def test_it_runs_as_if_we_were_not_there(start: Start) -> None:
    """Its descriptors, signals and standard input."""
    limits = "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; "
    limits += "resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard)); "
    script = "ulimit -Sn; grep SigIgn /proc/self/status; read line; echo got $line"
    agent = start("sh", "-c", script, script=limits + WORMHOLE_TW)
    await agent.says("started sh")
    agent.transport.write(b"hello\n")
    assert await agent.end() == 0
    lines = agent.output.splitlines()
    assert {"300", "got hello"} <= set(lines)
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python ignores the first two
        assert not ignored & 1 << number - 1


@pytest.mark.full
async def test_streams_that_were_closed_are_nothing_of_ours(start: Start) -> None:
    """Their numbers go to the first that the agent opens, and the command would write into that."""
    closing = "import os, sys; os.close(0); os.close(1); "
    closing += f"os.execv(sys.executable, [sys.executable, '-c', {WORMHOLE_TW!r}, *sys.argv[1:]])"
    agent = start("sh", "-c", "are=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo $are >&2", script=closing)
    assert await agent.end() == 0
    assert "/dev/null /dev/null\n" in agent.output


async def test_a_daemon(start: Start, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    """What the command says goes to the log, for its standard streams lead nowhere."""
    launcher = start(twistd_options=())
    assert await launcher.end() == 0
    link = await edge.ready_link()
    agent = int((tmp_path / "twistd.pid").read_text())
    try:

        def log() -> str:
            """All of it; while it is rotated, the newer part is missing for a moment."""
            parts = [tmp_path / "twistd.log.1", tmp_path / "twistd.log"]
            return "".join(part.read_text() for part in parts if part.exists())

        await until(reactor, lambda: " secret None\n" in log())
        os.kill(agent, signal.SIGUSR1)  # rotates the log, and is handed on
        await until(reactor, (tmp_path / "twistd.log.1").exists)
        await until(reactor, lambda: "heard SIGUSR1" in log())
        os.kill(agent, signal.SIGTERM)
        await until(reactor, lambda: not (tmp_path / "twistd.pid").exists())
        await until(reactor, lambda: not alive(agent))
        assert link.goaway is not None
        assert "heard SIGTERM" in log()
        assert "ended with status 0" in log()
    finally:
        if (tmp_path / "twistd.pid").exists():
            os.kill(agent, signal.SIGKILL)


@pytest.mark.parametrize("names", [("-n", "wormhole-agent"), ("wormhole-agent",)])
def test_what_stands_behind_the_two_hyphens_is_the_commands(names: tuple[str, ...]) -> None:
    from twisted.scripts.twistd import ServerOptions

    options = ServerOptions()
    options.parseOptions([*names, "--drain", "5", "--", "app", "--token", "x", "--edge", "--", "-n", "--help"])
    agent = options.subOptions
    assert agent.command == ["app", "--token", "x", "--edge", "--", "-n", "--help"]
    assert (agent["drain"], agent["edge"]) == ("5", [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--"], "wormhole-agent: there is no command behind --; see --help"),
        (["--edge", "e", "--"], "wormhole-agent: there is no command behind --; see --help"),
        (["app"], "wormhole-agent: the agent takes options only; a command stands behind --; see --help"),
        (["app", "--", "x"], "wormhole-agent: the agent takes options only; a command stands behind --; see --help"),
        (["--token", "x", "--", "app"], "there is no --token, it would show in ps"),
    ],
)
def test_a_command_that_is_none(arguments: list[str], line: str) -> None:
    from twisted.scripts.twistd import ServerOptions

    with pytest.raises(SystemExit) as caught:
        ServerOptions().parseOptions(["wormhole-agent", *arguments])
    assert str(caught.value).startswith(line)


def unshare() -> list[str]:
    """What to put before a command to have it be the first process of its own."""
    program = shutil.which("unshare", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is not None:
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        wrapper = [program, *as_root, "--pid", "--fork", "--mount-proc", "--kill-child"]
        if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode == 0:
            return wrapper
    pytest.skip("needs unshare, and a system that lets us")


def first_process(reactor: Any, edge: FakeEdge, folder: Path, *command: str) -> Program:
    """An agent that is the first process of its own, as in a container."""
    wrapper = unshare()
    environ = {
        "FLY_TOKEN": TOKEN,
        "FLY_REMOTE_ENDPOINT": edge.address,
        "FLY_PORT": str(free_port()),
        "FLY_TLS_CERT_FILE": edge.ca_file,
    }
    before = [*wrapper, sys.executable, "-c", WORMHOLE_TW]
    become = f"import os, sys; os.execv({wrapper[0]!r}, {before!r} + sys.argv[1:])"
    return twistd(reactor, "agent", "--", *command, folder=folder, environ=environ, script=become)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_as_the_first_process_it_buries_the_dead(reactor: Any, edge: FakeEdge, tmp_path: Path) -> None:
    """What the command's children leave behind becomes ours."""
    (tmp_path / "service.py").write_text(SERVICE)
    script = f"(sh -c 'sleep 0.05 & echo orphan $!'); {sys.executable} {tmp_path}/service.py & wait $!"
    agent = first_process(reactor, edge, tmp_path, "sh", "-c", script)
    try:
        await edge.ready_link()
        assert "orphan" in agent.output
        (first,) = children(agent.transport.pid)
        await until(reactor, lambda: [alive(pid) for pid in children(first)] == [True])
        os.kill(first, signal.SIGTERM)
        assert await agent.end() == 143  # of the shell, which tells the service nothing
        assert "heard SIGTERM" in agent.output
        assert "did not end" not in agent.output
    finally:
        await agent.kill()


async def test_a_second_sigterm_ends_the_first_process_too(reactor: Any, edge: FakeEdge, tmp_path: Path) -> None:
    """The kernel lets no signal end it that it does not handle."""
    stubborn = "trap '' TERM; echo ready; while :; do sleep 1; done"
    agent = first_process(reactor, edge, tmp_path, "sh", "-c", stubborn)
    try:
        await agent.says("ready")
        (first,) = children(agent.transport.pid)
        os.kill(first, signal.SIGTERM)
        await agent.says("a second one ends at once")
        os.kill(first, signal.SIGTERM)
        assert await agent.end() == 143
    finally:
        await agent.kill()
