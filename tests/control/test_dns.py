"""``[tls.dns]``, and the keys of dynamic updates: what is taken, and what is refused in which words."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from wormhole_tw.control.acme import AcmeConfig, check_names, read_acme
from wormhole_tw.control.dns import DnsConfig, DnsServer, DnsTable, HookConfig, UpdateConfig, read_dns
from wormhole_tw.control.model import Site
from wormhole_tw.control.schema import check_table
from wormhole_tw.control.tables import EdgeFile
from wormhole_tw.control.tsig import MAX_KEY_FILE, TsigKey
from wormhole_tw.errors import ConfigError

SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode()

#: As ``tsig-keygen wormhole.`` and ``keymgr -t wormhole`` write them.
BIND_KEY = f'key "wormhole." {{\n\talgorithm hmac-sha512;\n\tsecret "{TEXT}";\n}};\n'
KNOT_KEY = f"# hmac-sha384:wormhole:{TEXT}\nkey:\n  - id: wormhole\n    algorithm: hmac-sha384\n    secret: {TEXT}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    write(tmp_path / "key", TEXT + "\n")
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def read(folder: Path, **table: Any) -> DnsConfig:
    checked = check_table({"tls": {"dns": table}}, EdgeFile, "edge.toml").tls.dns
    assert isinstance(checked, DnsTable)
    return read_dns(checked, folder, "edge.toml")


def update(folder: Path, **table: Any) -> UpdateConfig:
    given = {"server": "192.0.2.1", "key_name": "wormhole", "key_file": "key", **table}
    writer = read(folder, rfc2136={key: value for key, value in given.items() if value is not None}).writer
    assert isinstance(writer, UpdateConfig)
    return writer


def refused(folder: Path, **table: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, **table)
    assert caught.value.source == "edge.toml"
    return caught.value.key, caught.value.reason


def update_refused(folder: Path, **table: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        update(folder, **table)
    assert TEXT not in str(caught.value)
    return caught.value.key.removeprefix("$.tls.dns.rfc2136."), caught.value.reason


def test_a_hook(folder: Path) -> None:
    config = read(folder, hook=["hook", "--zone", "example.com"])
    assert config == DnsConfig(writer=HookConfig((str(folder / "hook"), "--zone", "example.com")))
    assert config.propagation_timeout == 120
    config = read(folder, hook=[str(folder / "hook")], hook_timeout=5, propagation_timeout=0, follow_cname=False)
    assert config.writer == HookConfig((str(folder / "hook"),), 5)
    assert not config.follow_cname


def test_an_update(folder: Path) -> None:
    assert update(folder) == UpdateConfig(DnsServer("192.0.2.1"), TsigKey("wormhole", "hmac-sha256", SECRET))
    found = update(
        folder, server="ns1.example.com:5353", zone="Example.COM.", ttl=5, timeout=1.5, algorithm="hmac-sha512"
    )
    assert found == UpdateConfig(
        DnsServer("ns1.example.com", 5353), TsigKey("wormhole", "hmac-sha512", SECRET), "example.com", 5, 1.5
    )


def test_the_secret_is_not_shown(folder: Path) -> None:
    assert TEXT not in repr(update(folder))
    assert repr(SECRET) not in repr(update(folder))


def test_servers(folder: Path) -> None:
    texts = ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5353"]
    config = read(folder, hook=["hook"], resolvers=texts, propagation_servers=["NS.example.com."])
    assert [str(server) for server in config.resolvers] == [
        "192.0.2.1",
        "192.0.2.1:5353",
        "[2001:db8::1]",
        "[2001:db8::1]",
        "[2001:db8::1]:5353",
    ]
    assert config.propagation_servers == (DnsServer("ns.example.com"),)


@pytest.mark.parametrize(
    ("table", "key", "reason"),
    [
        ({}, "", 'needs [tls.dns] hook = ["/path/to/program"] or [tls.dns.rfc2136]'),
        ({"hook": ["hook"], "rfc2136": {"server": "a", "key_file": "key"}}, "", "two ways to write the records"),
        ({"hook": []}, ".hook", "empty: the path of a program"),
        ({"hook": [""]}, ".hook[0]", "no path"),
        ({"hook": ["hook", "a\0b"]}, ".hook[1]", "no program takes a NUL"),
        ({"hook": ["missing"]}, ".hook[0]", "there is no program"),
        ({"hook": ["key"]}, ".hook[0]", "is no program that may be run: chmod +x"),
        ({"hook": ["."]}, ".hook[0]", "is no program that may be run"),
        ({"hook": "hook"}, ".hook", "expected a list"),
        ({"hook": ["hook"], "hook_timeout": 0}, ".hook_timeout", "expected"),
        ({"hook": ["hook"], "propagation_timeout": 3601}, ".propagation_timeout", "expected"),
        ({"hook": ["hook"], "resolver": []}, ".resolver", "unknown key; did you mean resolvers?"),
        ({"hook": ["hook"], "resolvers": ["ns1.example.com"]}, ".resolvers[0]", "an address"),
        ({"hook": ["hook"], "resolvers": ["192.0.2.1", "a b"]}, ".resolvers[1]", "no server"),
        ({"hook": ["hook"], "propagation_servers": ["ns:0"]}, ".propagation_servers[0]", "a port is 1 to 65535"),
        ({"hook": ["hook"], "propagation_servers": ["ns:"]}, ".propagation_servers[0]", "a port is 1 to 65535"),
        ({"hook": ["hook"], "propagation_servers": ["ns:²"]}, ".propagation_servers[0]", "a port is 1 to 65535"),
        ({"hook": ["hook"], "propagation_servers": ["[::1]x"]}, ".propagation_servers[0]", "no server"),
        ({"rfc2136": {"server": "a"}}, ".rfc2136.key_file", "missing"),
    ],
)
def test_what_is_wrong_names_its_key(folder: Path, table: dict[str, Any], key: str, reason: str) -> None:
    found_key, found = refused(folder, **table)
    assert found_key == f"$.tls.dns{key}"
    assert reason in found


def test_what_is_wrong_with_an_update(folder: Path) -> None:
    assert update_refused(folder, server="") == (
        "server",
        'no server: "192.0.2.1", "[2001:db8::1]:5353" or "ns1.example.com"',
    )
    assert update_refused(folder, zone="a..b")[0] == "zone"
    assert update_refused(folder, zone="a." * 130 + "b")[0] == "zone"
    assert "no name of a key" in update_refused(folder, key_name="worm hole")[1]
    assert update_refused(folder, key_file="")[1] == "no path"
    assert update_refused(folder, algorithm="hmac-md5")[0] == "algorithm"
    assert update_refused(folder, ttl=-1)[0] == "ttl"


def test_key_files_of_the_servers_own_tools(folder: Path) -> None:
    write(folder / "bind", BIND_KEY)
    write(folder / "knot", KNOT_KEY, 0o640)
    bind, knot = TsigKey("wormhole", "hmac-sha512", SECRET), TsigKey("wormhole", "hmac-sha384", SECRET)
    assert update(folder, key_file="bind", key_name=None).key == bind
    assert update(folder, key_file="bind", key_name="Wormhole.", algorithm="hmac-sha512").key == bind
    assert update(folder, key_file="knot", key_name=None).key == knot
    write(folder / "commented", "// for the edge\n/* since\n2026 */ " + BIND_KEY.replace("\n", " "))
    assert update(folder, key_file="commented", key_name=None).key == bind


def test_file_and_configuration_say_the_same(folder: Path) -> None:
    write(folder / "bind", BIND_KEY)
    key, reason = update_refused(folder, key_file="bind", key_name="other")
    assert (key, reason) == ("key_name", "bind holds a key of another name")
    key, reason = update_refused(folder, key_file="bind", algorithm="hmac-sha256")
    assert (key, reason) == ("algorithm", "bind holds a key for another algorithm")
    key, reason = update_refused(folder, key_name=None)
    assert (key, reason) == ("key_name", "missing, and key does not say it either")
    write(folder / "old", BIND_KEY.replace("sha512", "md5"))
    key, reason = update_refused(folder, key_file="old")
    assert key == "key_file"
    assert "not one of hmac-sha256" in reason


@pytest.mark.parametrize("text", ["", "\n", "not a key", f"{TEXT} {TEXT}", "abc", BIND_KEY.replace("secret", "sekret")])
def test_a_file_that_holds_no_key(folder: Path, text: str) -> None:
    write(folder / "key", text)
    key, reason = update_refused(folder)
    assert key == "key_file"
    assert reason.startswith("key holds no key")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o750])
def test_a_file_that_is_open_to_others(folder: Path, mode: int) -> None:
    (folder / "key").chmod(mode)
    key, reason = update_refused(folder)
    assert key == "key_file"
    assert f"(mode {mode:04o}): chmod 600" in reason


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    assert update_refused(folder, key_file="missing") == (
        "key_file",
        "missing cannot be read: No such file or directory",
    )
    assert update_refused(folder, key_file=".")[1].endswith("is no file")
    os.mkfifo(folder / "pipe", 0o600)
    assert update_refused(folder, key_file="pipe")[1] == "pipe is no file"
    write(folder / "long", "A" * (MAX_KEY_FILE + 1))
    assert update_refused(folder, key_file="long")[1] == f"long is longer than {MAX_KEY_FILE} octets"


# [tls.dns] and the CA


def acme(folder: Path, **table: Any) -> AcmeConfig:
    checked = check_table({"tls": {"mode": "acme", "agree_tos": True, **table}}, EdgeFile, "edge.toml")
    return read_acme(checked.tls, "edge.toml", folder)


def test_it_is_part_of_what_is_said_of_the_ca(folder: Path) -> None:
    assert acme(folder).dns is None
    found = acme(folder, dns={"hook": ["hook"]}, challenge="dns-01")
    assert found.dns is not None
    assert found.challenge == "dns-01"
    with pytest.raises(ConfigError, match=r"\$\.tls\.challenge: who writes the DNS\? set \[tls\.dns\]"):
        acme(folder, challenge="dns-01")


def test_a_wildcard_needs_dns(folder: Path) -> None:
    sites = [Site("example", ("app.example.com", "*.preview.example.com"), ())]
    with pytest.raises(ConfigError) as caught:
        check_names(acme(folder), (), sites, "edge.toml", plain=True)
    assert caught.value.key == "$.sites[0].hostnames[1]"
    assert "the wildcard *.preview.example.com" in caught.value.reason
    assert 'set [tls.dns] hook = ["/path/to/program"] or [tls.dns.rfc2136]' in caught.value.reason
    check_names(acme(folder, dns={"hook": ["hook"]}), (), sites, "edge.toml", plain=True)
    # A name that only this machine knows is the local CA's, and needs no proof.
    check_names(acme(folder), (), [Site("local", ("*.preview.localhost",), ())], "edge.toml", plain=True)


def test_a_name_without_room_for_the_label(folder: Path) -> None:
    label = "a" * 63
    sites = [Site("long", (f"{label}.{label}.{label}.{'a' * 40}.example.com",), ())]
    check_names(acme(folder), (), sites, "edge.toml", plain=True)
    with pytest.raises(ConfigError, match="too long to be proved by DNS"):
        check_names(acme(folder, dns={"hook": ["hook"]}, challenge="dns-01"), (), sites, "edge.toml", plain=True)
