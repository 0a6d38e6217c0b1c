"""``wormhole-tw edge init``: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import _support
from wormhole_tw.cli import edge_init, new_files
from wormhole_tw.cli.main import main
from wormhole_tw.cli.new_files import NewFile, write_new
from wormhole_tw.cli.units import CONFIG_FILE, PROGRAM, edge_unit
from wormhole_tw.control.tokens import digest_line, valid_token
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.dev_ca import DevCa

DEV = ["--mode", "dev", "--hostname", "edge.example.com"]
ACME = ["--hostname", "edge.example.com", "--email", "you@example.com"]
WRITTEN = ["edge.toml", "token", "wormhole-edge.service"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init(*arguments: str) -> int:
    return main(["edge", "init", *arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What it writes.


@pytest.mark.parametrize("arguments", [DEV, ACME], ids=["dev", "acme"])
def test_the_files_of_an_edge(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(*arguments) == 0
    assert capsys.readouterr().err == ""
    assert names(tmp_path) == WRITTEN
    assert main(["edge", "check", "edge.toml"]) == 0
    assert "good. 1 site with 1 host name, 1 backend, 2 listeners" in capsys.readouterr().out

    said = tomllib.loads(Path("edge.toml").read_text())
    token = Path("token").read_text()
    assert token.endswith("\n")
    assert valid_token(token.strip())
    assert said["backends"] == [{"name": "app", "tokens": [digest_line(token.strip())]}]
    assert said["edge"]["names"] == ["edge.example.com"]
    assert said["sites"][0]["hostnames"] == ["app.edge.example.com"]
    if arguments is ACME:
        assert said["tls"] == {"mode": "acme", "email": "you@example.com", "agree_tos": True}
    else:
        assert said["tls"] == {"mode": "dev"}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_token_is_its_owners_alone(umask: int) -> None:
    before = os.umask(umask)
    try:
        assert init(*DEV) == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path().iterdir()}
    assert modes == {"edge.toml": 0o644, "token": 0o600, "wormhole-edge.service": 0o644}


def test_two_edges_have_two_tokens() -> None:
    assert init(*DEV, "--directory", "one") == 0
    assert init(*DEV, "--directory", "two") == 0
    assert Path("one", "token").read_text() != Path("two", "token").read_text()


def test_sites_ports_and_another_ca(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(DevCa(tmp_path / "ca").ca_pem)
    assert (
        init(
            *("--hostname", "Edge.Test.", "--email", "you@edge.test", "--directory", "edge"),
            *("--site", "shop.test", "--site", "SHOP.test", "--site", "blog.test"),
            *("--https-port", "8443", "--http-port", "8080"),
            *("--acme-directory", "https://ca.test:14000/dir", "--acme-ca-file", str(authority)),
        )
        == 0
    )
    said = tomllib.loads(Path("edge", "edge.toml").read_text())
    assert said["edge"]["names"] == ["edge.test"]
    assert said["edge"]["https"] == ["tcp:8443"]
    assert said["edge"]["http"] == ["tcp:8080"]
    assert said["sites"][0]["hostnames"] == ["shop.test", "blog.test"]
    assert said["tls"]["directory"] == "https://ca.test:14000/dir"
    # A copy goes where edge.toml goes, so that nothing has to be readable in somebody's home.
    assert said["tls"]["directory_ca_file"] == "acme-ca.pem"
    assert Path("edge", "acme-ca.pem").read_bytes() == authority.read_bytes()


def test_a_wildcard_is_proved_by_dns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(*ACME, "--site", "*.preview.example.com") == 1
    assert "only to whoever can write its DNS (DNS-01): give --dns-hook PROGRAM" in capsys.readouterr().err
    assert names(tmp_path) == []
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    assert init(*ACME, "--site", "*.preview.example.com", "--dns-hook", "hook", "--directory", "edge") == 0
    out = capsys.readouterr().out
    assert f"proved in the DNS itself (DNS-01): {hook}" in out
    assert "https://anything.preview.example.com/" in out
    assert tomllib.loads(Path("edge", "edge.toml").read_text())["tls"]["dns"] == {"hook": [str(hook)]}
    assert main(["edge", "check", "edge/edge.toml"]) == 0
    # A temporary folder is nothing that the unit can see into; /usr is.
    assert f"first put\n   {hook} elsewhere, into /usr/local/lib say,\n   and its new path into edge.toml." in out
    assert init(*ACME, "--site", "*.preview.example.com", "--dns-hook", "/usr/bin/env", "--directory", "other") == 0
    assert "/usr/local/lib" not in capsys.readouterr().out


def test_a_wildcard_of_ones_own_ca_needs_no_dns() -> None:
    assert init(*DEV, "--site", "*.preview.example.com") == 0


# What it says.


def test_what_else_is_to_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(*ACME, "--local", "unix:/run/app.sock") == 0
    out = capsys.readouterr().out
    assert Path("token").read_text().strip() not in out
    for line in (
        f"Written into {tmp_path}:",
        "     edge.example.com",
        "     app.edge.example.com",
        "2. Firewall: let in TCP 443, for visitors and agents, and 80,",
        "   acme-v02.api.letsencrypt.org, TCP 443.",
        "     install -D -m 644 -t /etc/wormhole-tw edge.toml",
        "     install -m 644 -t /etc/systemd/system wormhole-edge.service",
        "     systemctl enable --now wormhole-edge",
        "5. Visit https://app.edge.example.com/",
    ):
        assert line in out.splitlines(), line
    (agent,) = re.findall(r"^     (\S*wormhole-tw agent .*)$", out, re.MULTILINE)
    assert agent.endswith("agent --edge edge.example.com --token-file token --local unix:/run/app.sock")


def test_ports_that_are_not_the_usual_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert init(*DEV, "--https-port", "8443", "--http-port", "8080", "--directory", "a b") == 0
    out = capsys.readouterr().out
    assert "let in TCP 8443, for visitors and agents, and 8080," in out
    assert "--edge edge.example.com:8443 --token-file 'a b/token'" in out
    assert "--ca-file 'a b/state/dev/ca.pem'" in out
    assert "https://app.edge.example.com:8443/" in out


def test_port_80_is_where_a_ca_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert init(*ACME, "--http-port", "8080") == 0
    assert "The CA looks at port 80 of these names: forward it to port 8080." in capsys.readouterr().out


# What it refuses.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--hostname", "edge.example.com"], "--email: give an address"),
        (["--hostname", "edge.example.com", "--email", "you"], "--email: one address"),
        (["--hostname", "edge.example.com", "--email", "a@b, c@d"], "--email: one address"),
        (["--hostname", "edge.example.com", "--email", "a@b\x7f"], "--email: has characters"),
        (["--hostname", "edge.example.com", "--email", "a\udc80@b"], "--email: has characters"),
        (["--hostname", "", "--email", "a@b.c"], "--hostname: '' is no host name: empty"),
        (["--hostname", "https://edge.example.com/", "--email", "a@b.c"], "--hostname: "),
        (["--hostname", "edge.example.com:443", "--email", "a@b.c"], "--hostname: "),
        (["--hostname", "*.example.com", "--email", "a@b.c"], "--hostname: "),
        (
            ["--hostname", "edge.example.test", "--email", "a@b.c"],
            "--hostname: edge.example.test is in nobody's public",
        ),
        (["--hostname", "localhost", "--email", "a@b.c"], "--hostname: localhost is in nobody's public"),
        ([*ACME, "--site", "app.internal"], "--site: app.internal is in nobody's public DNS"),
        ([*ACME, "--site", "edge.example.com"], "--site: edge.example.com is the edge's own name"),
        ([*ACME, "--site", "a..b"], "--site: 'a..b' is no host name: an empty label"),
        (["--mode", "dev", "--hostname", "192.0.2.1"], "--site: 192.0.2.1 is an address"),
        ([*DEV, "--email", "you@example.com"], "--email: it is for --mode acme"),
        ([*DEV, "--dns-hook", "x"], "--dns-hook: it is for --mode acme"),
        ([*ACME, "--dns-hook", "x"], "--dns-hook: there is no program {here}/x"),
        ([*ACME, "--acme-directory", "http://ca.test"], "--acme-directory: the https URL of an ACME directory"),
        ([*ACME, "--acme-ca-file", "x"], "--acme-ca-file: it is for a CA of your own"),
        ([*ACME, "--acme-directory", "https://ca.test", "--acme-ca-file", "x"], "--acme-ca-file: "),
        ([*ACME, "--agent-ca-file", "x"], "--agent-ca-file: "),
        ([*DEV, "--local", "nothing at all"], "--local: "),
        ([*DEV, "--https-port", "80"], "--http-port: port 80 is the https port already"),
        ([*DEV, "--https-port", "9190"], "--https-port: port 9190 is where this machine asks for the edge's health"),
        ([*DEV, "--http-port", "9190"], "--http-port: port 9190 is where"),
        ([*DEV, "--program", "wormhole-tw"], "--program: 'wormhole-tw' is no absolute path"),
        ([*DEV, "--directory", "no/such"], "{here}/no/such: cannot be written: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("wormhole-tw: " + sentence.format(here=tmp_path)), printed.err
    assert printed.err.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("there", [["edge.toml"], ["token", "wormhole-edge.service"], WRITTEN])
def test_what_is_there_stays(there: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in there:
        Path(name).write_text("mine")
    assert init(*DEV) == 1
    err = capsys.readouterr().err
    for name in there:
        assert name in err
        assert Path(name).read_text() == "mine"
    assert "nothing was written" in err
    assert names(tmp_path) == there


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    Path("token").symlink_to("elsewhere")
    assert init(*DEV) == 1
    assert names(tmp_path) == ["token"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("here").write_text("mine")
    assert init(*DEV, "--directory", "here") == 1
    assert "cannot be written: " in capsys.readouterr().err
    assert names(tmp_path) == ["here"]


# Nothing half.

FILES = [NewFile(name, name.encode(), 0o644, "") for name in ("one", "two", "three")]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = new_files._write

    def somebody_is_faster(path: Path, file: NewFile) -> None:
        whole(path, file)
        (tmp_path / "two").write_text("mine")

    monkeypatch.setattr(new_files, "_write", somebody_is_faster)
    with pytest.raises(ConfigError, match="two is there already"):
        write_new(tmp_path, FILES)
    assert names(tmp_path) == ["two"]
    assert (tmp_path / "two").read_text() == "mine"


@pytest.mark.parametrize("fits", range(3))
def test_a_full_disk_leaves_nothing(fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = new_files._write

    def until_it_is_full(path: Path, file: NewFile) -> None:
        whole(path, file)
        if file is FILES[fits]:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_files, "_write", until_it_is_full)
    with pytest.raises(ConfigError, match="No space left on device; nothing was"):
        write_new(tmp_path / "new", FILES)
    assert names(tmp_path) == []


KILLED = """
import os, signal
from pathlib import Path
from wormhole_tw.cli import edge_init, new_files

files = [new_files.NewFile(name, name.encode(), 0o644, "") for name in ("one", "two", "three")]

def killed_after(steps, folder):
    def counted(function):
        def step(*args, **more):
            nonlocal steps
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)
        return step
    for name in ("open", "fchmod", "fsync", "link", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    new_files.write_new(folder, files)

for steps in range(40):
    folder = Path(str(steps))
    folder.mkdir()
    child = os.fork()
    if not child:
        killed_after(steps, folder)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(steps, status, flush=True)
    if status == 0:
        break
"""


def test_a_kill_at_any_step_leaves_whole_files_only(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=tmp_path,
        env=_support.program_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    *killed, last = [line.split() for line in done.stdout.splitlines()]
    assert len(killed) > 10, done.stdout + done.stderr
    assert {status for _, status in killed} == {"-9"}
    assert last[1] == "0"
    assert names(tmp_path / last[0]) == ["one", "three", "two"]
    for folder in tmp_path.iterdir():
        for name in ("one", "two", "three"):
            assert not (folder / name).exists() or (folder / name).read_text() == name


# The unit.


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/wormhole-tw/bin/wormhole-tw", "/opt/wormhole-tw/bin/wormhole-tw"),
        ("/opt/100%/$x", "/opt/100%%/$$x"),
        ('/srv/my "edge"/wormhole-tw', '"/srv/my \\"edge\\"/wormhole-tw"'),
    ],
)
def test_a_path_is_one_word_of_the_unit(path: str, word: str) -> None:
    assert f"\nExecStart={word} edge --config {CONFIG_FILE} --state %S/wormhole-edge\n" in edge_unit(path)


def test_the_unit_names_what_its_user_can_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # This Python may be in somebody's home, where no service of its own user gets: then root installs another.
    assert init(*DEV) == 0
    (program,) = re.findall(r"^ExecStart=(\S+) ", Path("wormhole-edge.service").read_text(), re.MULTILINE)
    if program == PROGRAM and not os.path.exists(PROGRAM):
        assert "     python3 -m venv /opt/wormhole-tw" in capsys.readouterr().out
    else:
        assert not program.startswith(("/home/", "/root/", "/tmp/"))
        assert os.access(program, os.X_OK)
    assert init(*DEV, "--directory", "other", "--program", "/srv/bin/wormhole-tw") == 0
    assert "ExecStart=/srv/bin/wormhole-tw edge" in Path("other", "wormhole-edge.service").read_text()
    assert "python3 -m venv" not in capsys.readouterr().out


def test_the_unit_starts_this_program_where_everybody_can_reach_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edge_init, "_open_to_all", lambda path: True)  # this Python may well be in somebody's home
    assert init(*ACME) == 0
    assert "pip install" not in capsys.readouterr().out
    (program,) = re.findall(r"^ExecStart=(\S+) ", Path("wormhole-edge.service").read_text(), re.MULTILINE)
    assert program == edge_init._own_program()
    monkeypatch.setitem(sys.modules, "acme", None)
    assert init(*ACME, "--directory", "other") == 0
    assert f"     {shlex.quote(sys.executable)} -m pip install 'wormhole-tw[acme]'" in capsys.readouterr().out


def test_who_can_reach_a_program(tmp_path: Path) -> None:
    assert edge_init._open_to_all(Path("/usr/bin/env"))
    assert not edge_init._open_to_all(Path("/root"))
    assert not edge_init._open_to_all(Path("/usr/no/such/program"))
    assert not edge_init._open_to_all(tmp_path)  # what is in /tmp, a service with a /tmp of its own does not see
