"""``./wormhole.yaml``: what it sets, what wins over it, and what is wrong with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests._support import ROOT
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.settings_file import MAX_FILE, VARIABLES, read_settings_file
from wormhole_tw.errors import ConfigError, NotAvailableError


def write(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "wormhole.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def read(folder: Path, **variables: str) -> AgentConfig:
    return AgentConfig.from_environment(variables, folder=folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder takes root to look at")
def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(
            ConfigError, match=r"^wormhole.yaml: this user may not enter the folder .*; start the agent in"
        ):
            read_settings_file(tmp_path)
    finally:
        os.seteuid(0)


def test_everything_may_stand_there(tmp_path: Path) -> None:
    write(
        tmp_path,
        "# the agent of the shop\n"
        "token: wh_of-the-file\n"
        "remote_endpoint: edge.example:8443\n"
        "localhost: 10.0.0.1\n"
        "port: 8080\n"
        "local_endpoint_use_tls: true\n"
        "log_level: debug\n"
        "drain: 2.5\n"
        "release_id: '7'\n"
        "health_check: /healthz\n"
        "proto:\n",
    )
    config = read(tmp_path)
    assert config.token == "wh_of-the-file"
    assert config.edge_addresses() == [("edge.example", 8443)]
    assert (config.local, config.local_tls) == ("10.0.0.1:8080", True)
    assert (config.log_level, config.drain) == ("debug", 2.5)
    assert config.release is not None
    assert config.release.id == "7"
    assert config.health is not None
    assert config.health.path == "/healthz"
    assert "wh_of-the-file" not in repr(config) + repr(read_settings_file(tmp_path))


def test_the_environment_wins_and_an_empty_variable_is_none(tmp_path: Path) -> None:
    write(tmp_path, "token: wh_file\nremote_endpoint: file.example\nport: 1\nlog_level: error\n")
    config = read(tmp_path, FLY_TOKEN="wh_env", FLY_REMOTE_ENDPOINT="env.example", FLY_PORT="", FLY_LOG_LEVEL="warn")
    assert (config.token, list(config.edges), config.log_level) == ("wh_env", ["env.example"], "warn")
    assert config.local == "127.0.0.1:1"


def test_an_option_wins_over_both(tmp_path: Path) -> None:
    write(tmp_path, "token: wh_file\nremote_endpoint: file.example\n")
    config = AgentConfig.from_environment({}, {"edge": "option.example"}, folder=tmp_path)
    assert list(config.edges) == ["option.example"]


def test_a_token_file_of_the_environment_wins_over_the_token_here(tmp_path: Path) -> None:
    write(tmp_path, "token: wh_file\nremote_endpoint: e\n")
    (tmp_path / "token").write_text("wh_env\n")
    assert read(tmp_path, FLY_TOKEN_FILE=str(tmp_path / "token")).token == "wh_env"


def test_edges_may_be_a_list(tmp_path: Path) -> None:
    write(tmp_path, "token: t\nremote_endpoint:\n  - one.example\n  - 'two.example:8443'\n")
    assert read(tmp_path).edge_addresses() == [("one.example", 443), ("two.example", 8443)]


@pytest.mark.parametrize("token", ["0123", "1e3", "yes", "2024-01-01", "0x1f", "1_000"])
def test_a_value_is_the_text_that_stands_there(tmp_path: Path, token: str) -> None:
    write(tmp_path, f"token: {token}\nremote_endpoint: e\n")
    assert read(tmp_path).token == token


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "token:\nport: ~\n", "---\n"])
def test_nothing_in_it_is_nothing_set(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert read(tmp_path, FLY_TOKEN="t", FLY_REMOTE_ENDPOINT="e").local == "127.0.0.1:5000"


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    assert read_settings_file(tmp_path).values == {}
    assert read_settings_file(None).values == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tokn: wh_secret\n", "wormhole.yaml: line 1: unknown key tokn; did you mean token?"),
        ("port: 1\nFLY_TOKEN: wh_secret\n", "wormhole.yaml: line 2: unknown key FLY_TOKEN; did you mean token?"),
        ("remote-endpoint: e\n", "wormhole.yaml: line 1: unknown key remote-endpoint; did you mean remote_endpoint?"),
        ("Port: 1\n", "wormhole.yaml: line 1: unknown key Port; did you mean port?"),
        ("cluster_url: x\n", "wormhole.yaml: line 1: unknown key cluster_url"),
        ("wh_se.cret!: 1\n", "wormhole.yaml: line 1: unknown key; write the names of the variables"),
        ("? [wh_secret]\n: 1\n", "wormhole.yaml: line 1: unknown key; write the names"),
        ("port: 1\nport: 2\n", "wormhole.yaml: line 2: port stands here a second time"),
        ("token: [wh_secret]\n", "wormhole.yaml: line 1: token: give one value"),
        ("token: {a: wh_secret}\n", "wormhole.yaml: line 1: token: give one value"),
        ("remote_endpoint: [[e]]\n", "wormhole.yaml: line 1: remote_endpoint: give an edge, or a list of them"),
        ("wh_secret\n", "wormhole.yaml: write KEY: VALUE lines"),
        ("- wh_secret\n", "wormhole.yaml: write KEY: VALUE lines"),
        ("token: *wh_secret\n", "wormhole.yaml: line 1: write one document"),
        ("token: wh_secret\n---\nport: 1\n", "wormhole.yaml: line 2: write one document"),
        ("token: 'wh_secret\n", "wormhole.yaml: line 2: it is no YAML: found unexpected end of stream"),
        ("\tport: 1\n", "wormhole.yaml: line 1: it is no YAML: found character"),
        ("token: \x07wh_secret\n", "wormhole.yaml: it is no YAML: it holds characters"),
        ('token: "wh_se\\0cret"\n', "wormhole.yaml: line 1: token: it holds a NUL"),
        ("port: " + "[" * 500, "wormhole.yaml: it is nested too deeply"),
        (b"token: wh_s\xe9cret\n", "wormhole.yaml: it is no UTF-8 text"),
        ("#" * (MAX_FILE + 1), f"wormhole.yaml: it is longer than {MAX_FILE} bytes"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_shown(tmp_path: Path, text: str | bytes, error: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_settings_file(tmp_path)
    assert str(caught.value).startswith(error)
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "wormhole.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"wormhole.yaml: it cannot be read: Is a directory"):
        read_settings_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("port: http", "wormhole.yaml: port: 'http' is no port"),
        ("tls_cert_file: /nowhere/ca.pem", "wormhole.yaml: tls_cert_file: the file /nowhere/ca.pem does not exist"),
        ("drain: long", "wormhole.yaml: drain: 'long' is no number"),
        ("token: wh_s\u00e9cret", "wormhole.yaml: token: a token is 1–512"),
        ("health_interval: 1", "wormhole.yaml: health_interval: there is no health check"),
    ],
)
def test_later_errors_name_the_key(tmp_path: Path, text: str, error: str) -> None:
    write(tmp_path, f"{text}\nremote_endpoint: e\n" + ("" if text.startswith("token") else "token: t\n"))
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(error)
    assert "cret" not in str(caught.value)


def test_an_error_keeps_its_kind(tmp_path: Path) -> None:
    write(tmp_path, "proto: ssh\n")
    with pytest.raises(NotAvailableError, match=r"wormhole.yaml: proto: the carrier 'ssh' is not available"):
        read(tmp_path, FLY_TOKEN="t", FLY_REMOTE_ENDPOINT="e")


def test_a_service_names_the_key_later_too(tmp_path: Path) -> None:
    write(tmp_path, "token: t\nremote_endpoint: e\nready_file: /nowhere/ready\n")
    config = read(tmp_path)
    assert config.source("ready_file") == "wormhole.yaml: ready_file"
    assert read(tmp_path, FLY_READY_FILE="/nowhere/ready").source("ready_file") == "FLY_READY_FILE"


@pytest.mark.parametrize(
    ("mode", "line"),
    [(0o640, "by its group:"), (0o644, "by its group and everybody:"), (0o604, "by everybody:"), (0o600, "")],
)
def test_a_token_that_others_may_read_is_worth_a_line(
    tmp_path: Path, mode: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "token: wh_secret\n", mode)
    read_settings_file(tmp_path)
    assert (line in caplog.text) if line else not caplog.text
    assert "secret" not in caplog.text


def test_without_the_token_anybody_may_read_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "port: 1\n", 0o644)
    read_settings_file(tmp_path)
    assert not caplog.text


def test_the_variables_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    table = page.split("## The agent: environment and options", 1)[1]
    told = set(re.findall(r"^\| `(FLY_[A-Z_]+)` \|", table, re.MULTILINE))
    named = {"FLY_RELEASE_ID", "FLY_RELEASE_DESC", "FLY_RELEASE_BRANCH"}  # told as what the *_VAR are by default
    assert told | named == VARIABLES


def test_a_proxy_of_the_file_is_called_by_its_key(tmp_path: Path) -> None:
    write(tmp_path, "token: x\nremote_endpoint: edge.example\nproxy: http://proxy.example:3128\n")
    for variables, source in (
        ({}, "wormhole.yaml: proxy"),
        ({"FLY_PROXY": "http://other.example"}, "FLY_PROXY"),
    ):
        proxy = read(tmp_path, **variables).proxies.proxy
        assert proxy is not None
        assert proxy.source == source
