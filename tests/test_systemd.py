"""The units under a real systemd, which boots in a folder: all of their sandbox, credentials, readiness, reload, stop.

It needs root and namespaces, and takes a while: with the full sizes alone (``make test-full``).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import _support
from tests._image import Image, Root
from tests.test_images import builder, edge_image, workshop

__all__ = ["builder", "edge_image", "workshop"]  # fixtures

pytestmark = [pytest.mark.full, pytest.mark.deadline(600), pytest.mark.requires_program("systemctl", "ip", "curl")]

CAP_NET_BIND_SERVICE = 10
BOOT = Path(__file__).with_name("_boot.sh")
TARGETS = ("sysinit", "basic", "network-online", "shutdown", "umount", "final", "exit", "multi-user", "test")
NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--cgroup", "--net")


IN_A_HOME = sys.base_prefix.startswith(("/root/", "/home/"))


class Machine:
    """A machine whose first process is systemd.

    :param process: what holds its namespaces
    """

    def __init__(self, root: Root, process: subprocess.Popen[bytes]) -> None:
        self.root = root
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        while not (found := Path(children).read_text().split()):
            assert process.poll() is None, "it did not boot"
        self._init = found[0]

    def does(self, *command: str, status: int = 0) -> str:
        """Run a command in it."""
        enter = [_support.require_program("nsenter"), f"--target={self._init}", *NAMESPACES, "--root", "--wd"]
        done = subprocess.run(
            [*enter, "env", "PATH=/usr/sbin:/usr/bin", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def start(self, name: str, *, of: str = "/etc/wormhole-tw") -> None:
        """``systemctl start``, with a log that can be read."""
        units = self.root.path("/etc/systemd/test")
        shutil.copy(self.root.path(f"{of}/{name}.service"), units)
        (units / f"{name}.service.d").mkdir(exist_ok=True)
        log = f"append:/var/log/{name}.log"
        # A Python in somebody's home is the one thing that may be seen of homes.
        homes = "" if not IN_A_HOME else f"ProtectHome=tmpfs\nBindReadOnlyPaths={sys.base_prefix}\n"
        (units / f"{name}.service.d" / "here.conf").write_text(
            f"[Service]\nStandardOutput={log}\nStandardError={log}\n{homes}"
        )
        self.does("systemctl", "daemon-reload")
        self.does("systemctl", "start", name)

    def shows(self, name: str, what: str) -> str:
        return self.does("systemctl", "show", "--property", what, "--value", name).strip()

    def status(self, name: str) -> dict[str, str]:
        """``/proc/…/status`` of a service."""
        lines = self.does("cat", f"/proc/{self.shows(name, 'MainPID')}/status").splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def journal(self, name: str = "*") -> str:
        return "\n".join(log.read_text() for log in self.root.path("/var/log").glob(f"{name}.log"))


@pytest.fixture
def machine(edge_image: Image) -> Iterator[Machine]:
    root = edge_image.root
    units = root.path("/etc/systemd/test")
    for folder in (units, root.path("/var/log"), root.path("/var/lib"), root.path("/etc/credstore")):
        folder.mkdir(parents=True, exist_ok=True)
    for name in TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    root.path("/etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    mounts = [word for mount in root.mounts for word in mount]
    unshare = [_support.require_program("unshare"), *NAMESPACES, "--fork", "--kill-child"]
    process = subprocess.Popen([*unshare, "sh", str(BOOT), str(root.folder), *mounts], stdin=subprocess.DEVNULL)
    try:
        machine = Machine(root, process)
        machine.does("sh", "-c", "until systemctl is-system-running; do :; done")
        yield machine
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


CURL = ("curl", "--silent", "--show-error", "--cacert", "/etc/edge-ca.pem", "--resolve", "app.localhost:443:127.0.0.1")
PATIENT = ("--retry", "60", "--retry-delay", "1", "--retry-all-errors", "--fail")
SITE = "https://app.localhost/"


def test_both_units_do_their_work_in_their_sandbox(machine: Machine) -> None:
    root = machine.root
    init = ["edge", "init", "--mode", "dev", "--hostname", "localhost", "--directory", "/etc/wormhole-tw"]
    machine.does("/opt/wormhole-tw/bin/wormhole-tw", *init)
    root.path("/etc/credstore/wormhole-edge.account-key").write_text("secret")
    root.path("/etc/credstore/wormhole-edge.account-key").chmod(0o600)
    root.path("/root").mkdir(exist_ok=True)
    root.path("/root/private").write_text("secret")

    # Started is when its ports are open: the very next command gets an answer.
    machine.start("wormhole-edge")
    shutil.copyfile(root.path("/var/lib/private/wormhole-edge/dev/ca.pem"), root.path("/etc/edge-ca.pem"))
    assert "no-agent" in machine.does(*CURL, SITE)
    edge = machine.status("wormhole-edge")
    assert edge["Uid"].split()[0] != "0"
    assert {int(edge[name], 16) for name in ("CapEff", "CapBnd", "CapAmb")} == {1 << CAP_NET_BIND_SERVICE}
    assert (edge["NoNewPrivs"], edge["Seccomp"]) == ("1", "2")
    pid = machine.shows("wormhole-edge", "MainPID")
    assert machine.does("ls", f"/proc/{pid}/root/root") == ""
    secret = "/run/credentials/wormhole-edge.service/wormhole-edge.account-key"
    assert machine.does("stat", "--format=%u %a", secret).split() == [edge["Uid"].split()[0], "400"]
    assert machine.does("stat", "--format=%u %a", "/var/lib/private/wormhole-edge").split() == [
        edge["Uid"].split()[0],
        "700",
    ]

    # The agent, and a service.
    token = root.path("/etc/credstore/wormhole-agent.token")
    shutil.copyfile(root.path("/etc/wormhole-tw/token"), token)
    token.chmod(0o600)
    shutil.copy(_support.ROOT / "deploy" / "systemd" / "wormhole-agent.service", root.path("/etc/wormhole-tw"))
    settings = root.path("/etc/systemd/test/wormhole-agent.service.d/settings.conf")
    settings.parent.mkdir()
    settings.write_text("[Service]\nEnvironment=FLY_REMOTE_ENDPOINT=localhost FLY_TLS_CERT_FILE=/etc/edge-ca.pem\n")
    root.path("/srv").mkdir(exist_ok=True)
    root.path("/srv/index.html").write_text("<p>Hello from a sandbox</p>")
    serve = "/opt/wormhole-tw/bin/python -m http.server 8000 --bind 127.0.0.1 --directory /srv"
    machine.does("sh", "-c", f"setsid {serve} >/dev/null 2>&1 &")
    machine.start("wormhole-agent")
    assert machine.does(*CURL, *PATIENT, SITE) == "<p>Hello from a sandbox</p>"
    agent = machine.status("wormhole-agent")
    assert agent["Uid"].split()[0] != "0"
    assert {int(agent[name], 16) for name in ("CapEff", "CapBnd", "CapAmb")} == {0}
    assert token.read_text().strip() not in machine.journal()

    # A file with a mistake, and then a good one.
    file = root.path("/etc/wormhole-tw/edge.toml")
    good = file.read_text()
    for text, line in (
        (good.replace('backend = "app"', 'backend = "ap"'), "the configuration was not reloaded"),
        (good, "configuration reloaded"),
    ):
        file.write_text(text)
        machine.does("systemctl", "reload", "wormhole-edge")
        machine.does("sh", "-c", f"until grep -q '{line}' /var/log/wormhole-edge.log; do :; done")
    assert machine.does(*CURL, *PATIENT, SITE) == "<p>Hello from a sandbox</p>"

    # A crash, and the end.
    machine.does("kill", "-9", machine.shows("wormhole-edge", "MainPID"))
    assert machine.does(*CURL, *PATIENT, SITE) == "<p>Hello from a sandbox</p>"
    machine.does("systemctl", "stop", "wormhole-agent", "wormhole-edge")
    for name in ("wormhole-edge", "wormhole-agent"):
        assert (machine.shows(name, "Result"), machine.shows(name, "ExecMainStatus")) == ("success", "0")
        assert "Traceback" not in machine.journal(name)
