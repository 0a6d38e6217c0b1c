"""A hook program: what it is told, what is made of its end, and that nothing of it is left."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread

from wormhole_tw.control.dns import HookConfig
from wormhole_tw.edge.certificates.dns01.hook import MAX_OUTPUT, HookWriter
from wormhole_tw.errors import ChallengeFailed

NAME = "_acme-challenge.a.example.test"
RECORD = "token.acme.test"

Hooks = Callable[..., HookWriter]


@pytest.fixture
def hook(reactor: Any, tmp_path: Path) -> Hooks:
    """Makes a program of a shell script."""

    def make(script: str, *arguments: str, timeout: float = 20, interpreter: str = "#!/bin/sh") -> HookWriter:
        path = tmp_path / "hook"
        path.write_text(f"{interpreter}\ncd {tmp_path}\n{script}\n")
        path.chmod(0o755)
        return HookWriter(reactor, HookConfig((str(path), *arguments), timeout))

    return make


async def failure(hook: HookWriter) -> str:
    with pytest.raises(ChallengeFailed) as caught:
        await hook.add(NAME, RECORD, "value")
    return str(caught.value)


async def test_what_it_is_told(hook: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_TOKEN", "for the hook")
    monkeypatch.setenv("FLY_TOKEN", "not for the hook")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    mine = hook('printf "<%s>" "$@" > arguments; env > environment; cat > input', "a b", "$(date);")
    await mine.add(NAME, RECORD, "-va'lue$x")
    assert (tmp_path / "arguments").read_text() == f"<a b><$(date);><present><{RECORD}.><-va'lue$x>"
    assert (tmp_path / "input").read_bytes() == b""
    found = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert {key: value for key, value in found.items() if key.startswith("WORMHOLE_")} == {
        "WORMHOLE_DNS_ACTION": "present",
        "WORMHOLE_DNS_NAME": NAME,
        "WORMHOLE_DNS_RECORD": RECORD,
        "WORMHOLE_DNS_VALUE": "-va'lue$x",
    }
    assert found["PROVIDER_TOKEN"] == "for the hook"
    assert not {"FLY_TOKEN", "NOTIFY_SOCKET"} & set(found)
    await mine.remove(NAME, RECORD, "value")
    assert (tmp_path / "arguments").read_text() == f"<a b><$(date);><cleanup><{RECORD}.><value>"


async def test_no_descriptor_of_ours_is_open_in_it(hook: Hooks, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        await hook("ls /proc/self/fd | wc -l > count; ls -l /proc/self/fd > list").add(NAME, RECORD, "value")
    assert "secret" not in (tmp_path / "list").read_text()
    # The three, and the folder that ls reads.
    assert int((tmp_path / "count").read_text()) == 4, (tmp_path / "list").read_text()


async def test_we_keep_no_descriptor(hook: Hooks) -> None:
    mine = hook("echo done")
    await mine.add(NAME, RECORD, "value")
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await mine.add(NAME, RECORD, "value")
    assert set(os.listdir("/proc/self/fd")) == before


async def test_beside_more_connections_than_select_can_count(hook: Hooks, log_lines: Any) -> None:
    """An edge with two thousand visitors: the pipe of a hook has a number above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    visitors = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while visitors[-1] < 1100:
            visitors.append(os.dup(visitors[0]))
        await hook('echo "the record is written"').add(NAME, RECORD, "value")
        assert "hook: the record is written" in log_lines
    finally:
        for visitor in visitors:
            os.close(visitor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_its_output_goes_to_the_log(hook: Hooks, log_lines: Any) -> None:
    await hook('echo "the record is written"; echo "odd: \033[31m" >&2').add(NAME, RECORD, "value")
    assert "hook: the record is written" in log_lines
    assert "hook: odd:  [31m" in log_lines


async def test_its_output_is_bounded(hook: Hooks, log_lines: Any) -> None:
    await hook("head -c 3000000 /dev/zero | tr '\\0' x; yes | head -n 100000").add(NAME, RECORD, "value")
    assert sum(len(line) for line in log_lines.matching("hook: ")) <= MAX_OUTPUT + 1000
    log_lines.clear()
    await hook("yes | head -n 100000").add(NAME, RECORD, "value")
    assert len(log_lines.matching("hook: y")) == 40


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo first; echo no such zone >&2; exit 3", "hook present ended with status 3: no such zone"),
        ("exit 1", "hook present ended with status 1: it said nothing"),
        ("kill -9 $$", "hook present ended by SIGKILL: it said nothing"),
        ("kill -40 $$", "hook present ended by signal 40: it said nothing"),
        ("exec 1>&- 2>&-; sleep 0.3; exit 4", "hook present ended with status 4: it said nothing"),
    ],
)
async def test_it_fails(hook: Hooks, script: str, reason: str) -> None:
    assert await failure(hook(script)) == reason


async def test_it_cannot_be_started(reactor: Any, hook: Hooks, tmp_path: Path) -> None:
    said = await failure(hook("", interpreter="#!/missing/interpreter"))
    assert said == "hook (tls.dns.hook) cannot be started: No such file or directory"
    assert "cannot be started" in await failure(HookWriter(reactor, HookConfig((str(tmp_path),))))
    assert "cannot be started" in await failure(HookWriter(reactor, HookConfig((str(tmp_path / "hook"), "a\0b"))))


async def test_it_hangs(hook: Hooks, tmp_path: Path) -> None:
    """It is killed, and so is what it started, also where both would rather not end."""
    script = "trap '' TERM INT HUP; sleep 1000 & echo $! > child; echo I hang; wait; sleep 1000"
    said = await failure(hook(script, timeout=1))
    assert said == "hook present was ended after 1 s (tls.dns.hook_timeout)"
    await gone(int((tmp_path / "child").read_text()))


async def test_it_is_given_up(hook: Hooks, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    mine = hook("echo $$ > begun; sleep 1000")
    running = mine.add(NAME, RECORD, "value")
    process = int(await deferToThread((tmp_path / "begun").read_text))
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await gone(process)


async def test_given_up_before_its_turn(hook: Hooks, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    mine = hook('echo "$3 $1" >> order; [ "$3" != first ] || cat go')
    first, second, third = (mine.add(NAME, RECORD, value) for value in ("first", "second", "third"))
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    await deferToThread((tmp_path / "go").write_text, "")
    await first
    await third
    assert (tmp_path / "order").read_text() == "first present\nthird present\n"


async def test_the_next_waits_for_the_killed_one(hook: Hooks, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    mine = hook('echo "$3" > begun; [ "$3" != first ] || sleep 1000')
    first, second = mine.add(NAME, RECORD, "first"), mine.add(NAME, RECORD, "second")
    assert await deferToThread((tmp_path / "begun").read_text) == "first\n"
    first.cancel()
    assert await deferToThread((tmp_path / "begun").read_text) == "second\n"
    await second
    with pytest.raises(CancelledError):
        await first


async def test_what_it_leaves_running_is_not_waited_for(hook: Hooks, tmp_path: Path) -> None:
    """A script may start a server of its own; that holds the output open."""
    began = time.monotonic()
    await hook("sleep 1000 & echo $! > child").add(NAME, RECORD, "value")
    assert time.monotonic() - began < 15
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)  # it is there: this would raise otherwise


async def gone(process: int) -> None:
    """The process has ended: a zombie is one that nobody has waited for yet."""
    path = Path(f"/proc/{process}/stat")

    def wait() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if path.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                    return
            except OSError:
                return
            time.sleep(0.01)
        raise AssertionError(f"{process} still runs")

    await deferToThread(wait)
