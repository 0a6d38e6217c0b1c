"""The state folder of ``mode = "acme"``: what is written is there, and nothing else's damage is ours."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.net.peers import chain_pem, key_pem, self_signed
from wormhole_tw.edge.certificates.store import (
    AccountRecord,
    CaRecord,
    CertificateStore,
    NameRecord,
    OrderRecord,
    Renewal,
    StatusRecord,
)
from wormhole_tw.errors import ConfigError

DIRECTORY = "https://ca.example.org:14000/dir"


def store(folder: Path, directory: str = DIRECTORY) -> CertificateStore:
    made = CertificateStore(folder, directory, source="edge.toml: $.edge.state")
    assert made.take()
    return made


def order(identity: str, *names: str, created: float = 1.0) -> tuple[OrderRecord, str]:
    material = self_signed(*names)
    return OrderRecord(identity, names, created, key_pem(material.key).decode()), chain_pem(material).decode()


def test_everything_is_found_again(tmp_path: Path) -> None:
    first = store(tmp_path)
    assert (first.account(), first.orders(), first.certificates(), first.status()) == (None, [], [], StatusRecord())
    key = first.account_key()
    account = AccountRecord("https://ca.example.org/account/1", "a@example.com", 5.0)
    status = StatusRecord(
        CaRecord(1, "down", 2.0, 3.0),
        {"a.example.com": NameRecord(2, "no", 1.0, 4.0, 0.5)},
        {"0" * 16: Renewal(7.0, 8.0)},
    )
    late, _ = order("a" * 16, "late.example.com", created=9.0)
    late = replace(late, uri="u", account="a", shown=(("dns-01", "_acme-challenge.late.example.com", ("v", "w")),))
    early, chain = order("b" * 16, "early.example.com", "*.example.com")
    first.write_account(account)
    first.write_status(status)
    first.write_order(late)
    first.write_order(early)
    first.release()
    first.release()

    second = store(tmp_path)
    assert second.account_key().private_numbers() == key.private_numbers()
    assert second.account() == account
    assert second.status() == status
    assert second.orders() == [early, late]
    stored = second.write_certificate(early, chain)
    second.drop_order(early)
    second.drop_order(early)
    assert second.orders() == [late]
    [found] = second.certificates()
    assert found.id == stored.id == early.id
    assert found.material.names == ("early.example.com", "*.example.com")
    assert found.begins < found.ends
    second.drop_certificate(found)
    assert second.certificates() == []


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    made = store(tmp_path / "state")
    made.account_key()
    record, chain = order("a" * 16, "a.example.com")
    made.write_order(record)
    made.write_certificate(record, chain)
    made.write_status(StatusRecord())
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_newest_comes_first(tmp_path: Path) -> None:
    made = store(tmp_path)
    for identity, since in (("a", -5), ("b", -1), ("c", -3)):
        material = self_signed("a.example.com", since=since)
        record = OrderRecord(identity * 16, ("a.example.com",), 0.0, key_pem(material.key).decode())
        made.write_certificate(record, chain_pem(material).decode())
    assert [stored.id[0] for stored in made.certificates()] == ["b", "c", "a"]


def test_each_ca_has_a_folder(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path, "https://ca.example.org:14000/staging")
    one.write_account(AccountRecord("u", "", 0.0))
    assert other.account() is None
    assert one.folder.name.startswith("ca.example.org-")
    assert one.folder.parent == other.folder.parent == tmp_path / "acme"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = store(tmp_path)
    assert first.take()
    second = CertificateStore(tmp_path, DIRECTORY, source="x")
    assert not second.take()
    first.release()
    assert second.take()


def test_what_a_kill_left_half_written_goes_away(tmp_path: Path) -> None:
    """There are keys in it."""
    first = store(tmp_path)
    folder = first.folder
    drafts = [folder / ".account.key.new", folder / "orders" / ".a.json.new", folder / "certificates" / ".a.pem.new"]
    for draft in drafts:
        draft.write_text("half a key")
    (folder / "certificates" / "notes.new").write_text("somebody's")
    assert not CertificateStore(tmp_path, DIRECTORY, source="x").take()  # another process may be writing it
    assert all(draft.exists() for draft in drafts)
    first.release()
    assert store(tmp_path).folder == folder
    assert not any(draft.exists() for draft in drafts)
    assert (folder / "certificates" / "notes.new").exists()


def test_whoever_only_reads_hears_of_new_certificates(tmp_path: Path) -> None:
    reader = CertificateStore(tmp_path, DIRECTORY, source="x")
    assert reader.certificates() == []
    assert not reader.changed
    writer = store(tmp_path)
    assert not reader.changed
    stored = writer.write_certificate(*order("a" * 16, "a.example.com"))
    assert reader.changed
    assert [one.id for one in reader.certificates()] == [stored.id]
    assert not reader.changed


def test_an_account_of_a_key_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """Moved away by the operator, or put aside just before a crash."""
    made = store(tmp_path)
    made.account_key()
    made.write_account(AccountRecord("u", "", 0.0))
    (made.folder / "account.key").unlink()
    made.account_key()
    assert made.account() is None


def test_what_is_damaged_is_left_out_and_said(tmp_path: Path, log_lines: Any) -> None:
    made = store(tmp_path)
    record, chain = order("a" * 16, "a.example.com")
    made.write_order(record)
    made.write_certificate(record, chain)
    (made.folder / "certificates" / f"{'b' * 16}.pem").write_text("half a certi")
    (made.folder / "orders" / f"{'c' * 16}.json").write_text('{"id": "')
    # What a kill leaves, and what others put there, is not ours to read.
    (made.folder / "certificates" / f".{'d' * 16}.pem.new").write_text("")
    (made.folder / "certificates" / "notes.pem").write_text("")
    (made.folder / "status.json").write_text("[]")
    assert [stored.id for stored in made.certificates()] == ["a" * 16]
    assert made.orders() == [record]
    assert made.status() == StatusRecord()
    assert len(log_lines.matching("left out")) == 3


@pytest.mark.parametrize("key", ["", "no key", "ké"])
def test_an_order_whose_key_is_none_is_left_out(tmp_path: Path, log_lines: Any, key: str) -> None:
    """Nothing can become of it, and it would be tried for ever, with all others waiting."""
    made = store(tmp_path)
    made.write_order(OrderRecord("a" * 16, ("a.example.com",), 1.0, key))
    assert made.orders() == []
    assert len(log_lines.matching("left out")) == 1


def test_a_damaged_account_key_is_not_replaced(tmp_path: Path) -> None:
    made = store(tmp_path)
    (made.folder / "account.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"account.key is damaged; move it away"):
        made.account_key()


def test_an_account_is_forgotten_with_and_without_its_key(tmp_path: Path) -> None:
    made = store(tmp_path)
    key = made.account_key()
    made.write_account(AccountRecord("u", "", 0.0))
    made.forget_account(False)
    assert made.account() is None
    assert made.account_key().private_numbers() == key.private_numbers()
    made.forget_account(True)
    assert made.account_key().private_numbers() != key.private_numbers()
    assert len(list(made.folder.glob("account.key.closed-*"))) == 1


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("a file")
    broken = CertificateStore(tmp_path, DIRECTORY, source="edge.toml: $.edge.state")
    with pytest.raises(ConfigError) as caught:
        broken.take()
    assert str(caught.value).startswith("edge.toml: $.edge.state: ")
    assert "cannot be written" in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        broken.certificates()
    with pytest.raises(ConfigError, match="cannot be read"):
        broken.status()
    with pytest.raises(ConfigError, match="cannot be read"):
        broken.account_key()


def test_a_write_that_fails_leaves_what_was(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.write_account(AccountRecord("u", "", 0.0))
    os.symlink(tmp_path / "elsewhere", made.folder / ".account.json.new")
    with pytest.raises(ConfigError, match="cannot be written"):
        made.write_account(AccountRecord("v", "", 0.0))
    assert made.account() == AccountRecord("u", "", 0.0)
    assert not (tmp_path / "elsewhere").exists()
