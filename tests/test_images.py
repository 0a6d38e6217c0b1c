"""The Containerfiles, done step by step in folders, and what is in them used as its users do.

Nobody needs a container engine for that: see :mod:`tests._image`.  Everything that listens here does so in a network of
its own, where the usual ports are free.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests import _support
from tests._image import STEP_SECONDS, Builder, Image, Root, need_root, pack_dependencies, parse
from tests.end_to_end.pebble import Pebble
from tests.end_to_end.programs import Program, Programs, programs
from tests.test_packaging import NOT_COPIED

DEPLOY = _support.ROOT / "deploy"
USER = 65532
"""Who runs in the images."""

FRESH = 65531
"""Somebody who has just got the program."""

pytestmark = [
    pytest.mark.deadline(600),
    pytest.mark.requires_program("unshare", "nsenter", "setpriv", "ip", "curl"),
]


class Network:
    """A network that has nothing but ``lo``, for the programs of one test."""

    def __init__(self, started: Programs) -> None:
        # As container engines set it, and as the unit's right does: low ports are anybody's.
        script = (
            "ip link set lo up && echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start && echo up && exec sleep 3600"
        )
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        argv = [_support.require_program("unshare"), "--net", "sh", "-c", script]
        holder = started.start("network", argv, env={"PATH": path})
        holder.wait_for("^up$")
        self.path = f"/proc/{holder.pid}/ns/net"

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        nsenter = [_support.require_program("nsenter"), f"--net={self.path}"]
        argv = [*nsenter, _support.require_program("curl"), "--silent", "--show-error", "--no-netrc", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are its user's alone."""
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="wormhole-images-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def builder(workshop: Path) -> Builder:
    """With the wheel of this checkout in ``dist``, as ``make wheel`` puts it there."""
    source, context, wheels, stages = (workshop / name for name in ("source", "context", "wheels", "stages"))
    shutil.copytree(_support.ROOT, source, symlinks=True, ignore=NOT_COPIED)
    for folder in (context / "dist", wheels, stages):
        folder.mkdir(parents=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", str(context / "dist"), str(source)], check=True, timeout=STEP_SECONDS)
    shutil.rmtree(source)
    pack_dependencies(next((context / "dist").iterdir()), wheels, ["acme"])
    return Builder(stages, context, wheels)


@pytest.fixture(scope="module")
def edge_image(builder: Builder) -> Image:
    return builder.build((DEPLOY / "edge" / "Containerfile").read_text())


@pytest.fixture(scope="module")
def agent_image(builder: Builder) -> Image:
    return builder.build((DEPLOY / "agent" / "Containerfile").read_text())


@pytest.fixture
def started() -> Iterator[Programs]:
    with programs() as mine:
        yield mine


@pytest.fixture
def network(started: Programs) -> Network:
    return Network(started)


def start(
    started: Programs,
    name: str,
    root: Root,
    argv: Sequence[str],
    *,
    user: int,
    network: Network,
    env: Mapping[str, str],
    cwd: str = "/",
) -> Program:
    command = root.command(argv, user=user, cwd=cwd, network=network.path)
    return started.start(name, command, env={"PYTHONPATH": "", **env})


def start_image(
    started: Programs,
    name: str,
    image: Image,
    network: Network,
    *arguments: str,
    env: Mapping[str, str] | None = None,
) -> Program:
    """Start a container, as an engine does: arguments take the place of CMD."""
    assert image.user is not None
    return start(
        started,
        name,
        image.root,
        [*image.entrypoint, *(arguments or image.arguments)],
        user=image.user,
        network=network,
        env={**image.environ, **(env or {})},
        cwd=image.workdir,
    )


def start_service(started: Programs, root: Root, network: Network, port: int) -> Program:
    """Python's own web server, with a page."""
    folder = root.path("/srv/site")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text("<p>Hello from a private network</p>\n")
    service = start(
        started,
        "service",
        root,
        [
            "/opt/wormhole-tw/bin/python",
            "-m",
            "http.server",
            str(port),
            "--bind",
            "127.0.0.1",
            "--directory",
            "/srv/site",
        ],
        user=FRESH,
        network=network,
        env={"PYTHONUNBUFFERED": "1"},
    )
    service.wait_for("Serving HTTP on")
    return service


EDGE = """
[edge]
name = "edge-1"
names = ["localhost"]
https = ["tcp:443"]
http = ["tcp:80"]
[[backends]]
name = "app"
tokens = ["{digest}"]
[[sites]]
hostnames = ["app.example.test"]
routes = [{{ path = "/", backend = "app" }}]
"""


def test_containers_serve_a_page_from_a_root_that_nobody_writes(
    edge_image: Image, agent_image: Image, started: Programs, network: Network, tmp_path: Path
) -> None:
    from wormhole_tw.control.tokens import digest_line, generate

    token = generate()
    (tmp_path / "edge.toml").write_text(EDGE.format(digest=digest_line(token)))
    edge_image.root.mount(str(tmp_path / "edge.toml"), "/etc/wormhole-tw/edge.toml")
    before = snapshot(edge_image), snapshot(agent_image)

    edge = start_image(started, "edge", edge_image, network)
    edge.wait_for("serves https on 0.0.0.0:443")
    authority = edge_image.root.path("/var/lib/wormhole-edge/dev/ca.pem")
    ready = tmp_path / "ready"
    ready.mkdir()
    os.chown(ready, USER, USER)
    agent_image.root.mount(str(ready), "/run/wormhole", writable=True)
    agent_image.root.mount(str(authority), "/run/ca.pem")
    start_service(started, edge_image.root, network, 8080)
    agent = start_image(
        started,
        "agent",
        agent_image,
        network,
        *("--edge", "localhost", "--ready-file", "/run/wormhole/ready", "--ca-file", "/run/ca.pem"),
        env={"FLY_TOKEN": token, "FLY_LOCAL_ENDPOINT": "127.0.0.1:8080"},
    )
    edge.wait_for("agent .* of backend app is ready")
    assert (ready / "ready").exists()

    page = network.curl(
        *("--cacert", str(authority), "--resolve", "app.example.test:443:127.0.0.1", "https://app.example.test/")
    )
    assert page.stdout == "<p>Hello from a private network</p>\n", page.stderr
    assert agent.stop(signal.SIGTERM) == 0
    assert not (ready / "ready").exists()
    assert edge.stop(signal.SIGTERM) == 0
    for program in (edge, agent):
        assert "Traceback" not in program.output
        assert "plugin" not in program.output  # the cache was built with the image, and is good
        assert "stopped" in program.output or "SIGTERM" in program.output  # logs are on standard output
    assert (snapshot(edge_image), snapshot(agent_image)) == before


def snapshot(image: Image) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the image; volumes and what is mounted are no part of it."""
    found = {}
    for path in image.root.folder.rglob("*"):
        inside = f"/{path.relative_to(image.root.folder)}"
        if not any(inside.startswith(volume) for volume in (*image.volumes, "/srv", "/run")) and not path.is_symlink():
            status = path.stat()
            found[inside] = (status.st_size, status.st_mtime_ns)
    return found


@pytest.mark.parametrize("name", ["edge", "agent"])
def test_an_image(name: str, request: pytest.FixtureRequest) -> None:
    image: Image = request.getfixturevalue(f"{name}_image")
    assert image.user == USER
    assert image.entrypoint == ["/opt/wormhole-tw/bin/wormhole-tw", name]
    assert list(image.root.folder.rglob("dropin.cache")), "the plugin cache is not built"
    assert not list(image.root.folder.rglob("twistd.pid"))
    # Nothing in it belongs to its user or can be written by it, but its volumes.
    for path in image.root.folder.rglob("*"):
        status = path.lstat()
        if path.is_symlink():
            continue
        inside = f"/{path.relative_to(image.root.folder)}"
        if inside in image.volumes:
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (USER, 0o700)
        elif not any(inside.startswith(volume) for volume in image.volumes):
            assert status.st_uid == 0, inside
            assert not status.st_mode & 0o022, inside
    held = image.root.run(["touch", "/opt/here", "/here", "/tmp/here", "/run/here"], user=image.user)
    assert held.returncode != 0
    assert held.stderr.count("Permission denied") == 4


def test_the_image_of_the_edge(edge_image: Image, agent_image: Image) -> None:
    assert edge_image.ports == [443, 80]
    assert edge_image.volumes == ["/var/lib/wormhole-edge"]
    assert edge_image.arguments == ["--config", "/etc/wormhole-tw/edge.toml", "--state", "/var/lib/wormhole-edge"]
    assert (agent_image.ports, agent_image.volumes, agent_image.arguments) == ([], [], [])


@pytest.mark.parametrize("name", ["edge", "agent"])
def test_no_shell_is_between_a_container_and_its_program(name: str) -> None:
    for step in parse((DEPLOY / name / "Containerfile").read_text()):
        if step.word in ("ENTRYPOINT", "CMD"):
            assert step.words
        assert "&&" not in step.rest
        assert "http" not in step.rest  # what it installs are the wheel and what that needs


def test_a_step_that_is_not_known_is_an_error(builder: Builder) -> None:
    with pytest.raises(AssertionError, match="line 2: HEALTHCHECK is not known here"):
        builder.build("FROM python:3.12-slim\nHEALTHCHECK NONE\n")
    with pytest.raises(AssertionError, match="line 2: exit 3"):
        builder.build("FROM python:3.12-slim\nRUN exit 3\n")


# A fresh user.

HOME = "/home/fresh"
BIN = "/opt/wormhole-tw/bin"
VISITED = ("edge.example.com", "app.edge.example.com")


class Newcomer:
    """Somebody without rights, with an empty folder, who has just installed the program."""

    def __init__(self, root: Root, started: Programs, network: Network) -> None:
        self.root = root
        self.folder = root.path(HOME)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.folder.parent.chmod(0o755)
        os.chown(self.folder, FRESH, FRESH)
        # DNS, as the newcomer was told to set it.
        root.path("/etc/hosts").write_text(f"127.0.0.1 localhost {' '.join(VISITED)}\n")
        self._started = started
        self._network = network
        self._environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": HOME, "PYTHONUNBUFFERED": "1"}

    def does(self, command: str) -> str:
        """Type a command, and give what it said."""
        done = self.root.run(shlex.split(command), user=FRESH, cwd=HOME, env=self._environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert done.stderr == ""
        return done.stdout

    def starts(self, name: str, command: str) -> Program:
        """Type a command in another terminal."""
        return start(
            self._started,
            name,
            self.root,
            shlex.split(command),
            user=FRESH,
            network=self._network,
            env=self._environment,
            cwd=HOME,
        )


def printed(said: str, beginning: str) -> str:
    """The one command among what was printed that begins so."""
    (command,) = re.findall(rf"^     ({re.escape(beginning)}.*)$", said, re.MULTILINE)
    return str(command)


def visit(network: Network, authority: Path) -> str:
    hosts = [word for name in VISITED for port in (80, 443) for word in ("--resolve", f"{name}:{port}:127.0.0.1")]
    # By http, as people type it: the edge sends them on to https.
    page = network.curl("--cacert", str(authority), "--location", *hosts, "http://app.edge.example.com/")
    assert page.returncode == 0, page.stderr
    return page.stdout


@pytest.mark.requires_program("systemd-analyze")
def test_a_newcomers_edge(edge_image: Image, started: Programs, network: Network) -> None:
    newcomer = Newcomer(edge_image.root, started, network)
    said = newcomer.does("wormhole-tw edge init --mode dev --hostname edge.example.com")
    assert sorted(path.name for path in newcomer.folder.iterdir()) == ["edge.toml", "token", "wormhole-edge.service"]
    assert "good." in newcomer.does("wormhole-tw edge check edge.toml")
    assert "ExecStart=/opt/wormhole-tw/bin/wormhole-tw edge " in (newcomer.folder / "wormhole-edge.service").read_text()
    verify = ["systemd-analyze", "verify", "--recursive-errors=no", f"{HOME}/wormhole-edge.service"]
    done = edge_image.root.run(verify, env={"PATH": "/usr/bin"})
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

    edge = newcomer.starts("edge", printed(said, "wormhole-tw edge --config"))
    edge.wait_for("serves https on 0.0.0.0:443")
    start_service(started, edge_image.root, network, 8000)
    agent = newcomer.starts("agent", printed(said, "wormhole-tw agent"))
    agent.wait_for("https://app.edge.example.com -> 127.0.0.1:8000")
    edge.wait_for("agent .* of backend app is ready")
    assert visit(network, newcomer.folder / "state" / "dev" / "ca.pem") == "<p>Hello from a private network</p>\n"
    assert (agent.stop(signal.SIGTERM), edge.stop(signal.SIGTERM)) == (0, 0)
    token = (newcomer.folder / "token").read_text().strip()
    for program in (edge, agent):
        assert "Traceback" not in program.output
        assert token not in program.output


class InNetwork:
    """Starts programs of this system in a network of its own."""

    def __init__(self, started: Programs, network: Network) -> None:
        self._started = started
        self._nsenter = [_support.require_program("nsenter"), f"--net={network.path}"]

    def start(self, name: str, argv: Sequence[str], **more: Any) -> Program:
        return self._started.start(name, [*self._nsenter, *argv], **more)


@pytest.mark.requires_program("pebble", "pebble-challtestsrv")
def test_a_newcomers_edge_with_certificates_of_a_ca(
    edge_image: Image, started: Programs, network: Network, tmp_path: Path
) -> None:
    pebble = Pebble(tmp_path, cast(Programs, InNetwork(started, network)), 80)
    pebble.start()
    newcomer = Newcomer(edge_image.root, started, network)
    shutil.copyfile(pebble.ca_file, newcomer.folder / "pebble.pem")
    roots = network.curl("--cacert", str(pebble.ca_file), f"https://127.0.0.1:{pebble.management}/roots/0")
    (newcomer.folder / "root.pem").write_text(roots.stdout)

    said = newcomer.does(
        "wormhole-tw edge init --hostname edge.example.com --email you@example.com"
        f" --acme-directory {pebble.directory} --acme-ca-file pebble.pem --agent-ca-file root.pem"
    )
    assert "good." in newcomer.does("wormhole-tw edge check edge.toml")
    edge = newcomer.starts("edge", printed(said, "wormhole-tw edge --config"))
    start_service(started, edge_image.root, network, 8000)
    agent = newcomer.starts("agent", printed(said, "wormhole-tw agent"))
    for name in VISITED:
        edge.wait_for(rf"info .*: a certificate for .*(?<![\w.]){re.escape(name)}\b", deadline=90)
    edge.wait_for("agent .* of backend app is ready", deadline=60)
    names = newcomer.does("wormhole-tw edge certificates --config edge.toml")
    assert visit(network, newcomer.folder / "root.pem") == "<p>Hello from a private network</p>\n", names
    assert (agent.stop(signal.SIGTERM), edge.stop(signal.SIGTERM)) == (0, 0)
    for program in (edge, agent):
        assert "Traceback" not in program.output
