"""``wormhole-tw edge certificates``: the table, its exit status, and what it says where it cannot tell."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.net.peers import chain_pem, key_pem, self_signed, write_pair
from wormhole_tw.cli.main import main
from wormhole_tw.control.acme import LETS_ENCRYPT
from wormhole_tw.edge.certificates.store import (
    CaRecord,
    CertificateStore,
    NameRecord,
    OrderRecord,
    StatusRecord,
    new_key_pem,
)

ACME = 'mode = "acme"\nagree_tos = true\n'


def write(folder: Path, tls: str, *hostnames: str) -> str:
    file = folder / "edge.toml"
    names = ", ".join(f'"{name}"' for name in hostnames)
    file.write_text(
        f"""
[edge]
names = ["edge.example.com", "localhost"]
https = ["tcp:0"]
http = ["tcp:0"]
[tls]
{tls}
[[backends]]
name = "app"
tokens = ["sha256:{"1" * 64}"]
[[sites]]
hostnames = [{names}]
routes = [{{ path = "/", backend = "app" }}]
"""
    )
    return str(file)


def keep(folder: Path, *names: str, identity: str, days: float = 90.0) -> CertificateStore:
    store = CertificateStore(folder / "state", LETS_ENCRYPT, source="a test")
    assert store.take()
    material = self_signed(*names, days=days)
    order = OrderRecord(identity * 16, names, 0.0, key_pem(material.key).decode())
    store.write_certificate(order, chain_pem(material).decode())
    store.release()
    return store


def rows(out: str) -> dict[str, tuple[str, ...]]:
    lines = [re.split(r"  +", line) for line in out.splitlines() if not line.startswith("    ")]
    assert lines[0] == ["NAME", "STATE", "ENDS", "DAYS", "NEXT"]
    return {line[0]: tuple(line[1:]) for line in lines[1:]}


def test_every_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ACME, "old.example.com", "new.example.com", "bad.example.com", "due.example.com")
    store = keep(tmp_path, "edge.example.com", identity="a")
    keep(tmp_path, "old.example.com", identity="b", days=0.5)
    keep(tmp_path, "due.example.com", identity="c", days=1.25)
    now = time.time()
    store.write_order(OrderRecord("d" * 16, ("new.example.com",), now, new_key_pem()))
    store.write_order(OrderRecord("a" * 16, ("edge.example.com",), now, new_key_pem()))  # it has become a certificate
    bad = NameRecord(failures=3, error="no such name (dns)", error_at=now - 60, next_try=now + 600)
    store.write_status(StatusRecord(names={"bad.example.com": bad}))
    assert main(["edge", "certificates", "--config", file]) == 1
    out, error = capsys.readouterr()
    found = rows(out)
    assert found["edge.example.com"][0] == "valid"
    assert found["edge.example.com"][2] == "88"
    assert found["edge.example.com"][3].startswith("renewed from ")
    assert found["localhost"] == ("local", "-", "-", "the local CA's, made at each start")
    assert found["old.example.com"][0] == "expired"
    assert found["old.example.com"][2:] == ("-1", "due to be renewed")
    assert found["due.example.com"][0] == "valid"
    assert found["due.example.com"][3] == "due to be renewed"
    assert found["new.example.com"] == ("missing", "-", "-", "ordered")
    assert found["bad.example.com"][0] == "missing"
    assert found["bad.example.com"][3].startswith("tried again ")
    assert re.search(r"^    last error .* UTC, 3 in a row: no such name \(dns\)$", out, re.MULTILINE)
    assert error == "wormhole-tw: 3 of 6 names have no valid certificate\n"


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ACME, "app.example.com")
    keep(tmp_path, "edge.example.com", "app.example.com", identity="a")
    assert main(["edge", "certificates", "-c", file]) == 0
    assert {row[0] for row in rows(capsys.readouterr().out).values()} == {"valid", "local"}


def test_the_ca_is_what_names_wait_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ACME, "app.example.com")
    store = keep(tmp_path, "edge.example.com", identity="a")
    now = time.time()
    store.write_status(StatusRecord(ca=CaRecord(2, "it does not answer in time", now, now + 30)))
    assert main(["edge", "certificates", "-c", file]) == 1
    out = capsys.readouterr().out
    assert out.count("it does not answer in time") == 1
    assert rows(out)["app.example.com"][3].startswith("tried again")


def test_nothing_is_there_yet_and_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ACME, "app.example.com")
    assert main(["edge", "certificates", "-c", file]) == 1
    assert rows(capsys.readouterr().out)["app.example.com"] == ("missing", "-", "-", "to be ordered")
    assert not (tmp_path / "state").exists()
    keep(tmp_path / "elsewhere", "edge.example.com", "app.example.com", identity="a")
    assert main(["edge", "certificates", "-c", file, "--state", str(tmp_path / "elsewhere" / "state")]) == 0


def test_other_modes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "certificates", "-c", write(tmp_path, 'mode = "dev"', "app.example.com")]) == 0
    assert {row[0] for row in rows(capsys.readouterr().out).values()} == {"local"}
    certificate, key = write_pair(tmp_path, self_signed("app.example.com", "edge.example.com"))
    files = f'mode = "files"\ncertificates = [{{ certificate = "{certificate}", key = "{key}" }}]'
    assert main(["edge", "certificates", "-c", write(tmp_path, files, "app.example.com")]) == 1
    found = rows(capsys.readouterr().out)
    assert (found["app.example.com"][0], found["localhost"]) == ("valid", ("missing", "-", "-", "-"))


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "certificates", "-c", write(tmp_path, 'mode = "acme"', "app.example.com")]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert "$.tls.agree_tos" in error
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "acme").write_text("a file")
    assert main(["edge", "certificates", "-c", write(tmp_path, ACME, "app.example.com")]) == 1
    assert "cannot be read" in capsys.readouterr().err
