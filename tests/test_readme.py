"""The README does what it says: its commands run here, verbatim and in their order, in a checkout of its own.

Every ``sh`` block runs, in one shell as a reader would paste them.  Only the development targets of make are looked up
instead of run (``make test`` is what runs this).  A ``text`` block after an ``sh`` block is what the commands print.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import _support
from tests.end_to_end.house import APP, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import need_program
from tests.test_packaging import NOT_COPIED, Home

README = _support.ROOT / "README.md"

pytestmark = [pytest.mark.deadline(150), pytest.mark.requires_program("bash", "make", "curl", "awk")]

FOREGROUND = {"make demo": "Ctrl-C ends it", "wormhole-tw expose 9797": "connected to"}
"""Commands that stay until Ctrl-C, and what they say once they do their work."""

LOOKED_UP = re.compile(r"make (check|test|docs)\b")
"""Commands that are not run but looked up: the tests are run by them."""

PORTS = (8443, 9190, 9797)
"""What the README's programs listen on."""

WAIT = 60.0
"""Seconds for a block, which takes some seconds at most."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and line in the file."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def blocks(*languages: str) -> list[Block]:
    """The README's blocks of these languages, in their order."""
    text = README.read_text()
    found = [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    return [block for block in found if block.language in languages]


class Shell:
    """One bash, told block by block; its programs write where it does."""

    def __init__(self, folder: Path, environment: dict[str, str], scratch: Path) -> None:
        self.output = ""
        self._scratch = scratch
        self._news = threading.Condition()
        self._ended = False
        # A session of its own: Ctrl-C goes to the shell and to what it runs in the foreground, as in a terminal.
        self.process = subprocess.Popen(
            [*own_network(), "bash", "--noprofile", "--norc", "-s"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        self._reader = threading.Thread(target=self._read, name="shell output", daemon=True)
        self._reader.start()
        self._type("trap 'echo \"@@ failed with $?: $BASH_COMMAND\"' ERR")

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := self.process.stdout.read(65536):
            with self._news:
                self.output += data.decode("utf-8", "replace")
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def wait_for(self, text: str, start: int) -> None:
        """Wait until ``text`` was said, after ``start`` characters."""
        until = time.monotonic() + WAIT
        with self._news:
            while text not in self.output[start:]:
                left = until - time.monotonic()
                assert left > 0, f"waited {WAIT:.0f} s for {text!r} in:\n{self.output}"
                assert not self._ended, f"the shell ended; waited for {text!r} in:\n{self.output}"
                self._news.wait(left)

    def run(self, block: Block, until: str | None = None) -> str:
        """Run a block; gives what it said.  One that stays is ended by Ctrl-C once it has said ``until``."""
        script = self._scratch / f"line{block.line}.sh"
        script.write_text(block.text)
        start = len(self.output)
        end = f"@@ end of line {block.line}"
        self._type(f". {script}; echo '{end}'")
        if until is not None:
            self.wait_for(until, start)
            os.killpg(self.process.pid, signal.SIGINT)
        self.wait_for(end, start)
        said = self.output[start : self.output.index(end, start)]
        assert "@@ failed" not in said, f"README.md line {block.line}:\n{block.text}\n{said}"
        return said

    def end(self) -> None:
        """End the shell and everything it started."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait(10)
            self._reader.join(10)
            self.process.stdout.close()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with a ``.venv`` as ``make venv`` builds it, but from what is installed here."""
    folder = tmp_path_factory.mktemp("readme") / "wormhole-tw"
    shutil.copytree(_support.ROOT, folder, symlinks=True, ignore=NOT_COPIED)
    home = Home(folder / ".venv")
    home.install("--editable", folder)
    (folder / ".venv" / ".installed").touch()  # what the Makefile looks at
    return folder


def reader_environment(home: Path) -> dict[str, str]:
    """The environment of somebody who has just got the checkout."""
    environment = _support.program_environment(HOME=str(home), PIP_NO_INDEX="1", PYTHONUNBUFFERED="1")
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "XDG_STATE_HOME", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


@functools.cache
def own_network() -> tuple[str, ...]:
    """What to put before a command to give it a network of its own, where every port of the README is free.

    Empty where this system does not let us; the README's ports have to be free there.
    """
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    unshare, ip = shutil.which("unshare", path=places), shutil.which("ip", path=places)
    if unshare is not None and ip is not None:
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        wrapper = (unshare, *as_root, "--net", "sh", "-c", f'{ip} link set lo up && exec "$@"', "sh")
        if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode == 0:
            return wrapper
    wait_for_ports()
    return ()


def wait_for_ports() -> None:
    """Fail, naming the port, where one of the README's stays taken."""
    until = time.monotonic() + 30
    for port in PORTS:
        while True:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    break
                except OSError as error:
                    if time.monotonic() > until:
                        pytest.fail(f"the README's port {port} is taken on this machine: {error}", pytrace=False)
            time.sleep(0.5)


def test_the_commands_from_the_first_to_the_last(checkout: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    scratch = tmp_path / "blocks"
    home.mkdir()
    scratch.mkdir()
    environment = reader_environment(home)
    ran: list[str] = []
    said = ""
    shell = Shell(checkout, environment, scratch)
    try:
        for block in blocks("sh", "text"):
            if block.language == "text":
                for line in block.commands if ran else ():  # before the first command stands a picture
                    assert line in said, f"README.md line {block.line}: {line!r} is not in:\n{said}"
                continue
            ran += block.commands
            if all(LOOKED_UP.match(command) for command in block.commands):
                for command in block.commands:
                    plan = subprocess.run(
                        ["bash", "-c", command.replace("make ", "make --dry-run ", 1)],
                        cwd=checkout,
                        env=environment,
                        capture_output=True,
                        text=True,
                        check=False,
                        timeout=WAIT,
                    )
                    assert plan.returncode == 0, plan.stderr
                    assert plan.stdout.strip(), command
                continue
            until = FOREGROUND.get(block.text.strip())
            if block.text.strip().startswith("make ") and until is not None:
                # make ends by Ctrl-C itself, and a shell without a terminal with it: this one has a shell of its own.
                said = foreground_of_its_own(checkout, environment, scratch, block, until)
            else:
                said = shell.run(block, until)
    finally:
        shell.end()
    assert {*FOREGROUND, "make test", "make venv"} <= set(ran)

    # Edge and agent ran in this folder, one beside the other.
    folder = home / "wormhole-quickstart"
    token = (folder / "token.txt").read_text().split()[1]
    logs = {name: (folder / f"{name}.log").read_text() for name in ("edge", "agent", "service")}
    for name in ("edge", "agent"):
        assert "Traceback" not in logs[name], logs[name]
        assert token not in logs[name]
        assert "SIGTERM: finishing what runs" in logs[name]
    assert "https://app.localhost:8443 -> 127.0.0.1:9797" in logs["agent"]
    assert "GET /hello.txt" in logs["service"]
    assert not list(folder.rglob("*.pid"))
    assert (folder / "token.txt").stat().st_mode & 0o077 == 0


def foreground_of_its_own(checkout: Path, environment: dict[str, str], scratch: Path, block: Block, until: str) -> str:
    """Run a block that stays, in a shell that ends with it."""
    shell = Shell(checkout, environment, scratch)
    try:
        (scratch / "alone.sh").write_text(block.text)
        shell._type(f". {scratch / 'alone.sh'}")
        shell.wait_for(until, 0)
        os.killpg(shell.process.pid, signal.SIGINT)
        shell.process.wait(WAIT)
    finally:
        shell.end()
    assert "Traceback" not in shell.output, shell.output
    return shell.output


def test_the_demo_ends_with_0_when_it_was_asked_for_once(checkout: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [checkout / ".venv" / "bin" / "wormhole-tw", "demo", "--once"],
        cwd=tmp_path,
        env=reader_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "over verified https" in done.stdout
    assert done.stderr == ""


# The sidecar.


def documents() -> list[dict[str, Any]]:
    """The YAML documents of the README."""
    try:
        import yaml
    except ImportError:
        _support.missing("PyYAML")
    (block,) = blocks("yaml")
    return list(yaml.safe_load_all(block.text))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody writes, who has :func:`unprivileged` in front."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def unprivileged() -> list[str]:
    """What to put before a command to hold it to the modes of files; root is not, without this."""
    if os.geteuid() != 0:
        return []
    less = "-dac_override,-dac_read_search"
    return [need_program("setpriv"), "--bounding-set", less, "--inh-caps", less]


def test_the_sidecar_is_the_one_that_stands_ready() -> None:
    import yaml

    _, here = documents()
    file = _support.ROOT / "deploy" / "kubernetes" / "sidecar" / "deployment.yaml"
    (there,) = yaml.safe_load_all(file.read_text())
    for shown, whole in zip(
        here["spec"]["template"]["spec"]["containers"], there["spec"]["template"]["spec"]["containers"], strict=True
    ):
        said = {key: value for key, value in shown.items() if key != "securityContext"}
        assert said == {key: whole[key] for key in said}
        assert whole["securityContext"]["allowPrivilegeEscalation"] is False
    assert here["metadata"] == there["metadata"]
    assert here["spec"]["selector"] == there["spec"]["selector"]


def test_the_sidecar_runs_in_a_read_only_folder(read_only: Path, tmp_path: Path) -> None:
    secret, deployment = documents()
    pod = deployment["spec"]["template"]["spec"]
    _service, container = pod["containers"]
    reference = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert (secret["metadata"]["name"], [*secret["stringData"]]) == (reference["name"], [reference["key"]])
    (mount,) = container["volumeMounts"]
    assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]

    held = [*unprivileged(), "touch", "here"]
    assert subprocess.run(held, cwd=read_only, capture_output=True, check=False).returncode != 0, "it can be written"

    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "house").mkdir()

    def mounted(words: list[str]) -> list[str]:
        return [word.replace(mount["mountPath"], str(volume)).replace("edge.example.com", address) for word in words]

    image = (_support.ROOT / "deploy" / "agent" / "Containerfile").read_text()
    assert 'ENTRYPOINT ["/opt/wormhole-tw/bin/wormhole-tw", "agent"]' in image
    entry_point = [sys.executable, "-m", "wormhole_tw.cli.main", "agent"]
    with Origin() as origin, open_house(tmp_path / "house") as house:
        address = f"localhost:{house.port}"
        house.start_edge()
        values = {
            "FLY_TOKEN": house.tokens["app"],
            "FLY_LOCAL_ENDPOINT": f"127.0.0.1:{origin.port}",
        }
        environment = {variable["name"]: values.pop(variable["name"]) for variable in container["env"]}
        assert values == {}
        environment["FLY_TLS_CERT_FILE"] = str(house.ca_file)  # the README's edge has a public certificate
        probe = mounted(container["readinessProbe"]["exec"]["command"])
        assert subprocess.run(probe, capture_output=True, check=False).returncode != 0
        agent = house.programs.start(
            "agent",
            [*unprivileged(), *entry_point, *mounted(container["args"])],
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=read_only,
        )
        house.wait_ready(agent)
        assert subprocess.run(probe, capture_output=True, check=False).returncode == 0
        assert house.get("/", APP).reason == ""
        assert agent.stop(signal.SIGTERM) == 0
        assert "Traceback" not in agent.output
        assert subprocess.run(probe, capture_output=True, check=False).returncode != 0
    assert list(read_only.iterdir()) == []


# The rest of the page.


def test_its_ports_are_known_here() -> None:
    text = "".join(block.text for block in blocks("sh"))
    named = re.findall(r"(?:tcp:|localhost:|127\.0\.0\.1:|server |expose )(\d{4,5})", text)
    assert sorted({int(port) for port in named}) == list(PORTS)


def test_the_python_in_it_is_python() -> None:
    for block in blocks("python"):
        tree = compile(block.text, str(README), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert imports
        for node in imports:
            exec(compile(ast.Module([node], []), str(README), "exec"), {})


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README.read_text())
    local = [link for link in links if not link.startswith("https://")]
    assert local
    assert [link for link in local if not (_support.ROOT / link).exists()] == []


def test_it_claims_nothing_published() -> None:
    text = README.read_text()
    assert not re.search(r"pip install (-U |--upgrade )?wormhole", text)
    assert not re.search(r"\b(pypi|docker\.io|ghcr|quay|docker hub)\b", text, re.IGNORECASE)
