"""A command beside an agent: started, watched, and ended together."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.agent._edge import FakeEdge, until
from tests.agent.conftest import AgentMaker
from tests.end_to_end.programs import free_port
from wormhole_tw.agent.command import trouble_with
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.health_settings import HealthCheck
from wormhole_tw.agent.supervisor import Supervisor, command_environment
from wormhole_tw.errors import ConfigError, MisuseError

SupervisorMaker = Callable[..., Supervisor]

SERVE = """
import os, signal, socket, sys, time
note = open(os.environ["NOTE"], "a", buffering=1)
def heard(number, frame):
    note.write(signal.Signals(number).name + "\\n")
    if number in (signal.SIGTERM, signal.SIGINT):
        time.sleep(float(os.environ.get("LINGER", "0")))
        sys.exit(int(os.environ.get("STATUS", "0")))
for name in "TERM INT HUP USR1 USR2 QUIT WINCH".split():
    signal.signal(getattr(signal, "SIG" + name), heard)
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
note.write("listens\\n")
while True:
    one, _ = server.accept()
    try:
        while data := one.recv(65536):
            one.sendall(data.upper())
    except ConnectionError:
        pass
    one.close()
"""
"""Echoes in capitals to one visitor at a time, and notes what it hears."""


@pytest_twisted.async_yield_fixture
async def supervise(reactor: Any, make_agent: AgentMaker, tmp_path: Path) -> AsyncIterator[SupervisorMaker]:
    """Makes and starts a supervisor of a command; keyword arguments are those of AgentConfig, and ``environ``."""
    made: list[Supervisor] = []

    def make(
        *command: str,
        environ: dict[str, str] | None = None,
        start: bool = True,
        log_output: bool = False,
        **settings: Any,
    ) -> Supervisor:
        agent = make_agent(start=False, **{"local": f"127.0.0.1:{free_port()}", "stop_timeout": 10.0, **settings})
        own = {"PATH": os.environ["PATH"], "NOTE": str(tmp_path / "note"), **(environ or {})}
        supervisor = Supervisor(
            reactor, agent, command or (sys.executable, "-c", SERVE), environ=own, log_output=log_output
        )
        made.append(supervisor)
        if start:
            supervisor.startService()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.kill()
        await supervisor.stopService()


def pid_of(supervisor: Supervisor) -> int:
    assert supervisor._command is not None
    assert supervisor._command.pid is not None
    return supervisor._command.pid


def alive(pid: int) -> bool:
    """Whether there is such a process that has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def notes(folder: Path) -> list[str]:
    note = folder / "note"
    return note.read_text().split() if note.exists() else []


async def test_it_serves_once_the_command_listens(
    supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any, log_lines: Any
) -> None:
    supervisor = supervise()
    link = await edge.link()
    await until(reactor, lambda: link.ready)
    assert notes(tmp_path) == ["listens"]
    visitor = link.visit()
    visitor.transport.write(b"hello")
    assert await visitor.bytes(5) == b"HELLO"
    pid = pid_of(supervisor)
    assert os.getsid(pid) == os.getpgid(pid) == pid  # Ctrl-C at our terminal is not for it
    visitor.transport.loseConnection()
    await supervisor.stopService()
    assert notes(tmp_path) == ["listens", "SIGTERM"]
    assert supervisor.status == 0
    assert not alive(pid)
    assert "is it running?" not in log_lines  # that a service which is being started does not answer yet is no news


async def test_a_stop_drains_first(supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    supervisor = supervise(environ={"STATUS": "7"}, drain=20.0)
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"begun")
    assert await visitor.bytes(5) == b"BEGUN"
    stopped = supervisor.stopService()
    again = supervisor.stopService()
    await until(reactor, lambda: link.goaway is not None)
    visitor.transport.write(b" ended")
    assert await visitor.bytes(11) == b"BEGUN ENDED"
    assert "SIGTERM" not in notes(tmp_path)
    visitor.transport.loseConnection()
    await stopped
    await again
    assert supervisor.status == 7
    assert await supervisor.when_ended() == 7
    assert link.protocol.standing is False


async def test_the_drain_has_its_deadline_and_the_command_too(
    supervise: SupervisorMaker, edge: FakeEdge, reactor: Any, log_lines: Any
) -> None:
    supervisor = supervise(environ={"LINGER": "60"}, drain=0.1, stop_timeout=0.3)
    visitor = (await edge.ready_link()).visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    began = reactor.seconds()
    await supervisor.stopService()
    assert 0.35 <= reactor.seconds() - began < 15
    assert supervisor.status == 128 + signal.SIGKILL
    assert "has not ended 0.3 s after SIGTERM: killed" in log_lines


async def test_the_signal_that_stops_us_is_the_one_it_gets(
    supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path
) -> None:
    supervisor = supervise()
    await edge.ready_link()
    supervisor.stopping(signal.SIGINT)
    await supervisor.stopService()
    assert notes(tmp_path) == ["listens", "SIGINT"]


async def test_signals_are_handed_on(supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    supervisor = supervise()
    await edge.ready_link()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGWINCH):
        before = len(notes(tmp_path))
        supervisor.signal(number)
        await until(reactor, lambda before=before: len(notes(tmp_path)) > before)
    assert notes(tmp_path) == ["listens", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH"]


async def test_a_signal_that_comes_early_waits(supervise: SupervisorMaker, log_lines: Any) -> None:
    """It would end what is only about to become the command, and nobody would know why."""
    supervisor = supervise("sleep", "60")
    supervisor.signal(signal.SIGUSR1)
    assert supervisor._command is not None
    assert not supervisor._command.running
    assert await supervisor.when_ended() == 128 + signal.SIGUSR1
    assert "started sleep as process" in log_lines


async def test_one_that_ends_before_it_is_the_command(supervise: SupervisorMaker, log_lines: Any) -> None:
    supervisor = supervise("sleep", "60")
    os.kill(pid_of(supervisor), signal.SIGTERM)
    assert await supervisor.when_ended() == 128 + signal.SIGTERM
    assert "started sleep" not in log_lines


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
async def test_its_end_is_ours_with_its_status(
    supervise: SupervisorMaker, edge: FakeEdge, script: str, status: int
) -> None:
    supervisor = supervise("sh", "-c", script, start=False)
    ended = supervisor.when_ended()
    supervisor.startService()
    assert await ended == status
    assert supervisor.status == status
    assert not supervisor.running
    assert not supervisor.agent.running
    await supervisor.stopService()


async def test_its_end_ends_what_visitors_had(supervise: SupervisorMaker, edge: FakeEdge, reactor: Any) -> None:
    supervisor = supervise(drain=60.0)
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    os.kill(pid_of(supervisor), signal.SIGKILL)
    began = reactor.seconds()
    assert await supervisor.when_ended() == 137
    assert reactor.seconds() - began < 15  # and not the drain
    await visitor.failure()
    assert link.goaway is not None


async def test_its_end_during_the_drain_ends_that(supervise: SupervisorMaker, edge: FakeEdge, reactor: Any) -> None:
    """As with systemd's KillMode=control-group, which tells every process of a unit at once."""
    supervisor = supervise(drain=60.0)
    link = await edge.ready_link()
    visitor = link.visit()
    visitor.transport.write(b"x")
    await visitor.bytes(1)
    supervisor.stopService()
    await until(reactor, lambda: link.goaway is not None)
    began = reactor.seconds()
    os.kill(pid_of(supervisor), signal.SIGTERM)
    assert await supervisor.when_ended() == 0
    assert reactor.seconds() - began < 20


@pytest.mark.parametrize("health", [None, HealthCheck(path="/", interval=0.05, rise=1)])
async def test_one_that_never_listens(
    supervise: SupervisorMaker, edge: FakeEdge, log_lines: Any, health: HealthCheck | None
) -> None:
    supervisor = supervise("sleep", "60", start_timeout=0.3, health=health)
    assert await supervisor.when_ended() == 1
    what = "does not listen" if health is None else "does not pass its health check"
    event = await log_lines.wait_for(f"sleep {what} at 127.0.0.1:")
    text = log_lines.text
    assert "(PORT and FLY_PORT tell it " in text
    assert "0.3 s after its start; ending it; start_timeout gives it more time" in text
    assert event["log_level"].name == "error"
    link = edge.links[0] if edge.links else None
    assert link is None or link.ready is not True


async def test_any_time_to_listen(supervise: SupervisorMaker, edge: FakeEdge, reactor: Any) -> None:
    supervisor = supervise("sleep", "60", start_timeout=0)
    await edge.link()
    await until(reactor, lambda: supervisor._command is not None and supervisor._command.running)
    assert supervisor._start_timer is None


async def test_what_it_leaves_behind_is_ended(
    supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any
) -> None:
    """A shell that is told to go does not tell what it runs."""
    script = f"sleep 60 & echo $! > {tmp_path}/pid; {sys.executable} -c '{SERVE}' & echo $! >> {tmp_path}/pid; wait"
    supervisor = supervise("sh", "-c", script)
    await edge.ready_link()
    pids = [int(line) for line in (tmp_path / "pid").read_text().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    await supervisor.stopService()
    assert supervisor.status == 143
    await until(reactor, lambda: not any(alive(pid) for pid in pids))
    assert notes(tmp_path) == ["listens", "SIGTERM"]


async def test_what_it_leaves_behind_and_will_not_end_is_killed(
    supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any, log_lines: Any
) -> None:
    script = (
        f"(trap '' TERM; echo ready > {tmp_path}/ready; sleep 60; sleep 60) & until [ -s {tmp_path}/ready ]; do :; done"
    )
    supervisor = supervise("sh", "-c", script, stop_timeout=0.2)
    assert await supervisor.when_ended() == 0
    assert "what sh has left behind did not end: killed" in log_lines


async def test_a_stopped_one_is_ended(supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path) -> None:
    supervisor = supervise()
    await edge.ready_link()
    os.kill(pid_of(supervisor), signal.SIGSTOP)
    await supervisor.stopService()
    assert (supervisor.status, notes(tmp_path)[-1]) == (0, "SIGTERM")


async def test_kill_ends_all_at_once(supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/pid; wait; wait"
    supervisor = supervise("sh", "-c", script)
    await until(reactor, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    supervisor.kill()
    assert await supervisor.when_ended() == 137
    await until(reactor, lambda: not alive(pid))


async def test_its_output_in_the_log(supervise: SupervisorMaker, log_lines: Any) -> None:
    long = 10_000
    script = f"echo one; echo two >&2; printf 'a\\r\\nb\\033[0m\\n\\377'; head -c {long} /dev/zero | tr '\\0' x; exit 2"
    assert await supervise("sh", "-c", script, log_output=True).when_ended() == 2
    lines = [event["line"] for event in log_lines.events if event.get("command") == "sh" and "line" in event]
    assert {"one", "two", "a", "b\x1b[0m"} <= set(lines)
    assert lines[-2:] == ["\ufffd" + "x" * 8191, "x" * (long - 8191)]


LEAVES = """
import os, subprocess, sys
left = subprocess.Popen([*sys.argv[1:], str(os.getpid())], start_new_session=True)
with open(os.environ["NOTE"], "w") as note:
    note.write(str(left.pid))
sys.exit(3)
"""
"""Starts a program that no end of its group reaches, gives it its own number, and ends."""

SPEAKS_LATE = """
import os, sys
while os.path.exists("/proc/" + sys.argv[1]):
    pass
print("my last words", end="")
"""
"""Speaks when its starter's end has been asked for."""


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="the program that speaks late looks into /proc")
async def test_its_last_words_are_in_the_log_when_it_is_over(supervise: SupervisorMaker, log_lines: Any) -> None:
    supervisor = supervise(sys.executable, "-c", LEAVES, sys.executable, "-c", SPEAKS_LATE, log_output=True)
    assert await supervisor.when_ended() == 3
    assert [event["line"] for event in log_lines.events if "line" in event] == ["my last words"]


async def test_what_holds_its_output_open_for_ever_does_not_hold_the_end(
    supervise: SupervisorMaker, tmp_path: Path
) -> None:
    stays = ("sh", "-c", "exec sleep 60")
    supervisor = supervise(sys.executable, "-c", LEAVES, *stays, log_output=True)
    assert await supervisor.when_ended().addTimeout(30, supervisor._reactor) == 3
    (left,) = map(int, notes(tmp_path))
    assert alive(left)
    os.kill(left, signal.SIGKILL)


async def test_it_starts_again(supervise: SupervisorMaker, edge: FakeEdge, tmp_path: Path, reactor: Any) -> None:
    supervisor = supervise()
    await edge.ready_link()
    stopped = supervisor.stopService()
    with pytest.raises(MisuseError, match="still stopping"):
        supervisor.startService()
    await stopped
    supervisor.startService()
    supervisor.startService()
    await edge.ready_link(2)
    await supervisor.stopService()
    assert notes(tmp_path) == ["listens", "SIGTERM", "listens", "SIGTERM"]


async def test_a_stop_before_the_command_runs(supervise: SupervisorMaker, edge: FakeEdge) -> None:
    supervisor = supervise("sleep", "60")
    assert supervisor._command is not None
    assert not supervisor._command.running
    await supervisor.stopService()
    assert supervisor.status == 143


async def test_a_stop_before_the_start(supervise: SupervisorMaker) -> None:
    await supervise(start=False).stopService()


async def test_an_agent_that_cannot_start_starts_no_command(supervise: SupervisorMaker, tmp_path: Path) -> None:
    supervisor = supervise(start=False, ca_file="/nowhere/ca.pem")
    with pytest.raises(ConfigError):
        supervisor.privilegedStartService()
    with pytest.raises(ConfigError):
        supervisor.startService()
    assert supervisor._command is None
    assert not supervisor.running


class Later:
    """A reactor that is not running yet."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.calls: list[Callable[[], None]] = []

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


async def test_another_one_that_answers_already(
    make_agent: AgentMaker, reactor: Any, local: Any, log_lines: Any
) -> None:
    later = Later(reactor)
    supervisor = Supervisor(later, make_agent(start=False), ["sleep", "60"])
    supervisor.startService()
    await log_lines.wait_for(f"{local.target} answers before the command runs; is another one still there?")
    await supervisor.stopService()
    (launch,) = later.calls
    launch()  # too late: it was stopped
    assert supervisor._command is None
    assert supervisor.status == 0


@pytest.mark.parametrize(
    ("name", "content", "mode", "status", "sentence"),
    [
        ("missing", None, 0, 127, "missing does not exist"),
        ("plain", "text", 0o600, 126, "plain is not executable"),
        ("bad", "#!/nowhere/sh\n", 0o700, 126, "bad cannot be run: what its first line (#!) names does not exist"),
        ("text", "echo hi\n", 0o700, 126, "text is no program, and has no first line (#!) that names one"),
    ],
)
async def test_what_cannot_be_run(
    supervise: SupervisorMaker,
    tmp_path: Path,
    log_lines: Any,
    name: str,
    content: str | None,
    mode: int,
    status: int,
    sentence: str,
) -> None:
    """Seen before the start where it can be, and said by the process that is to become it otherwise."""
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    trouble = trouble_with([str(path)], {})
    if status == 127 or mode == 0o600:
        assert trouble is not None
        assert (trouble.status, trouble.sentence) == (status, f"{tmp_path}/{sentence}")
    assert await supervise(str(path)).when_ended() == status
    assert sentence in log_lines


async def test_a_name_that_path_has_not(supervise: SupervisorMaker, log_lines: Any) -> None:
    assert await supervise("no-such-program-here").when_ended() == 127
    assert "no-such-program-here was not found in PATH; the agent ends too" in log_lines


def test_trouble_is_looked_for_in_the_commands_path(tmp_path: Path) -> None:
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert trouble_with(["mine"], {"PATH": str(tmp_path)}) is None
    trouble = trouble_with(["mine"], {"PATH": "/nowhere"})
    assert trouble is not None
    assert trouble.status == 127
    line = trouble_with(["bundle exec rails s"], os.environ)
    assert line is not None
    assert line.sentence.endswith("there is no shell: for a line with blanks and pipes give sh -c 'LINE'")
    nothing = trouble_with([""], os.environ)
    assert nothing is not None
    assert nothing.status == 127


@pytest.mark.parametrize(
    ("local", "port"),
    [("127.0.0.1:8080", "8080"), ("https://app:8443", "8443"), ("9000", "9000"), ("unix:/run/app", None)],
)
def test_its_environment(local: str, port: str | None) -> None:
    config = AgentConfig(token="t", edges=["e"], local=local)
    ours = {
        "FLY_TOKEN": "wh_t",
        "FLY_TOKEN_FILE": "/f",
        "FLY_PROXY": "http://u:p@x",
        "FLY_REGION": "x",
        "PORT": "1",
        "HOME": "/home/me",
        "NOTIFY_SOCKET": "/run/systemd/notify",
    }
    theirs = command_environment(ours, config)
    rest = {"PORT": port, "FLY_PORT": port} if port is not None else {"PORT": "1"}
    assert theirs == {"FLY_REGION": "x", "HOME": "/home/me", **rest}


def test_a_command_is_a_list(make_agent: AgentMaker) -> None:
    for command in ("sleep 60", []):
        with pytest.raises(MisuseError, match="a command is a list"):
            Supervisor(None, make_agent(start=False), command)
