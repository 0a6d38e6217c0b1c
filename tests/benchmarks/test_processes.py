"""Whatever happens, nothing that was started stays; and what it used is seen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.model import Options
from benchmarks.processes import Failed, Set, clean_environment, family, free_port, programs
from benchmarks.usage import Meter, cpu_seconds, private_bytes
from benchmarks.world import World

from tests._support import ROOT

pytestmark = pytest.mark.deadline(60)

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(300)
"""
"""A program that starts another one in a session of its own, as sshd does."""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(300)
"""

BENCHMARK = """
import time
from benchmarks.processes import programs
with programs() as running:
    print(running.start("sleeper", ["sleep", "300"]), flush=True)
    time.sleep(300)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its exit status that nobody has taken."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def child_of(running: Set, name: str) -> int:
    wait_until(lambda: "child" in running.log(name))
    return int(running.log(name).split()[1])


def test_all_are_ended_and_the_folder_is_gone() -> None:
    with programs() as running:
        pids = [running.start("sleeper", ["sleep", "300"]), running.start("parent", python(PARENT), ready="child")]
        pids.append(child_of(running, "parent"))
        assert pids[2] in family(pids[1])
        assert all(runs(pid) for pid in pids)
    wait_until(lambda: not any(runs(pid) for pid in pids))
    assert not running.folder.exists()


def test_all_are_ended_after_an_exception() -> None:
    pids = []

    def interrupted() -> None:
        with programs() as running:
            pids.append(running.start("sleeper", ["sleep", "300"]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [runs(pid) for pid in pids] == [False]


def test_one_is_ended_and_the_others_go_on() -> None:
    with programs() as running:
        one, other = (running.start(name, ["sleep", "300"]) for name in ("one", "other"))
        running.stop(one)
        assert [running.runs(pid) for pid in (one, other)] == [False, True]


def test_who_heeds_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.processes.END_SECONDS", 0.2)
    with programs() as running:
        pid = running.start("stubborn", python(STUBBORN), ready="ready")
    assert not runs(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_the_benchmark(number: signal.Signals) -> None:
    with subprocess.Popen(python(BENCHMARK), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as benchmark:
        try:
            assert benchmark.stdout is not None
            pid = int(benchmark.stdout.readline())
            assert runs(pid)
        finally:
            benchmark.send_signal(number)
        benchmark.wait(20)
        wait_until(lambda: not runs(pid))


def test_a_program_that_ends_says_why() -> None:
    with programs() as running, pytest.raises(Failed, match=r"ended with status 3:\nno such luck"):
        running.start("luckless", ["sh", "-c", "echo no such luck; exit 3"], free_port())


def test_a_program_that_does_not_listen_is_given_up() -> None:
    with programs() as running, pytest.raises(Failed, match="sleeper was not ready in time"):
        running.start("sleeper", ["sleep", "300"], free_port(), seconds=0.1)


def test_output_comes_back_and_failures_do_not_pass() -> None:
    with programs() as running:
        assert running.run("echo", ["sh", "-c", "echo yes; echo no >&2"], 20) == "yes\n"
        assert running.run_all("echo", [["echo", "1"], ["echo", "2"]], 20) == ["1\n", "2\n"]
        with pytest.raises(Failed, match=r"status 2:\nsaid\nwhy"):
            running.run("fails", ["sh", "-c", "echo said; echo why >&2; exit 2"], 20)
        with pytest.raises(Failed, match="did not end within"):
            running.run("sleeper", ["sleep", "300"], 0.2)


def test_the_environment_configures_nothing() -> None:
    kept = clean_environment({"PATH": "/bin", "FLY_TOKEN": "t", "WORMHOLE_EDGE_NAME": "e", "WORMHOLE_TRANSPORTS": "x"})
    assert set(kept) == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "WORMHOLE_TRANSPORTS"}
    assert str(ROOT / "src") in kept["PYTHONPATH"].split(os.pathsep)


def test_what_a_process_uses_is_seen() -> None:
    busy = "held = bytearray(30_000_000)\nprint('ready', flush=True)\nwhile True: pass"
    with programs() as running:
        pid = running.start("busy", python(busy), ready="ready")
        meter = Meter({"busy": pid})
        before = cpu_seconds(pid)
        wait_until(lambda: cpu_seconds(pid) > before + 0.05)
        use = meter.stop(units=2)["busy"]
        assert use.cpu >= 0.025
        assert use.peak >= private_bytes(pid) >= 30_000_000


def test_peers_that_are_not_here_are_named() -> None:
    with programs() as running:
        world = World(running, Options(), wanted=["shell", "ghost"])
        needs = {"shell": ("sh",), "ghost": ("no-such-program", "sh"), "other": ("sh",)}
        assert world.choose("shell", "ghost", "other", needs=needs) == ["shell"]
        assert world.absent == {"ghost": "no-such-program not on PATH", "other": "left out"}
