"""``wormhole-tw``: its command line, and what it does without a reactor."""

from __future__ import annotations

from pathlib import Path

import pytest

from wormhole_tw import __version__
from wormhole_tw.cli.main import main
from wormhole_tw.control.tokens import digest_line, valid_token

TOML = """
[edge]
https = ["tcp:0"]
[[backends]]
name = "app"
tokens = ["sha256:{digest}"]
[[sites]]
hostnames = ["app.example.test"]
routes = [{{ path = "/", backend = "{backend}" }}{more}]
"""


def write(folder: Path, *, backend: str = "app", more: str = "") -> str:
    file = folder / "edge.toml"
    file.write_text(TOML.format(digest="1" * 64, backend=backend, more=more))
    return str(file)


@pytest.mark.parametrize("arguments", [[], ["expose"], ["demon"], ["token"], ["demo", "--port", "0"], ["demo", "x"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: wormhole-tw")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["expose"],
        ["demo"],
        ["token"],
        ["token", "generate"],
        ["edge", "check"],
        ["route", "explain"],
        ["route", "import"],
    ],
    ids=" ".join,
)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: wormhole-tw", *command]))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith(f"wormhole-tw {__version__} (Twisted 26.")


def test_a_new_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "generate"]) == 0
    out = capsys.readouterr().out.split()
    assert out[0::2] == ["token", "edge.toml"]
    token, line = out[1::2]
    assert token.startswith("wh_")
    assert valid_token(token)
    assert line == digest_line(token)


def test_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path)
    assert main(["edge", "check", file]) == 0
    assert capsys.readouterr().out == f"{file}: good. 1 site with 1 host name, 1 backend, 1 listener\n"
    assert list(tmp_path.iterdir()) == [Path(file)]
    Path(file).write_text(Path(file).read_text() + '[[tcp]]\nlisten = "tcp:5432"\nbackend = "app"\n')
    assert main(["edge", "check", file]) == 0
    assert capsys.readouterr().out.endswith("1 backend, 1 listener, 1 TCP service\n")


def test_a_route_out_of_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "check", write(tmp_path, more=', { path = "/a", backend = "app" }')]) == 0
    assert "warning: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["edge", "check", "{file}"], "{file}: $.sites[0].routes[0].backend: there is no backend 'ap'"),
        (["edge", "check", "/nowhere/edge.toml"], "/nowhere/edge.toml: cannot be read: No such file"),
        (["expose", "8000", "--token-file", "x"], "--token-file: it is for an edge elsewhere"),
        (["expose", "8000", "--ca-file", "x"], "--ca-file: it is for an edge elsewhere"),
        (["expose", "8000", "--edge", "edge.test", "--port", "1"], "--port: it is for the local edge"),
        (["expose", "8000", "--edge", "edge.test", "--name", "x"], "--name: it is for the local edge"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, backend="ap")
    assert main([one.format(file=file) for one in arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("wormhole-tw: " + sentence.format(file=file))
    assert printed.err.count("\n") == 1
