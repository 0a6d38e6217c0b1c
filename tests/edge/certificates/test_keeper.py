"""A keeper with ``mode = "acme"``: what it serves from the state folder, while its CA cannot be had."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.net.peers import chain_pem, key_pem, self_signed
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.edge.certificates.acme import AcmeCertificates
from wormhole_tw.edge.certificates.keeper import CertificateKeeper
from wormhole_tw.edge.certificates.plan import Pace
from wormhole_tw.edge.certificates.store import CertificateStore, OrderRecord, new_key_pem
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import KeyMaterial

NOWHERE = "https://127.0.0.1:1/dir"
"""Nobody listens there."""


def config(folder: Path, *hostnames: str, **tls: Any) -> EdgeConfig:
    return EdgeConfig.from_dict(
        {
            "edge": {"names": ["edge.example.com", "localhost"], "https": ["tcp:0"], "http": ["tcp:0"]},
            "tls": {"mode": "acme", "agree_tos": True, "directory": NOWHERE, **tls},
            "backends": [{"name": "app", "tokens": ["sha256:" + "1" * 64]}],
            "sites": [{"hostnames": [name], "routes": [{"path": "/", "backend": "app"}]} for name in hostnames],
        },
        source="edge.toml",
        folder=folder,
    )


def keep(
    folder: Path, identity: str, *names: str, days: float = 90, since: float = -1, ca: str = NOWHERE
) -> KeyMaterial:
    store = CertificateStore(folder / "state", ca, source="a test")
    assert store.take()
    material = self_signed(*names, days=days, since=since)
    order = OrderRecord(identity * 16, names, 0.0, key_pem(material.key).decode())
    stored = store.write_certificate(order, chain_pem(material).decode())
    store.release()
    return stored.material


def shown(keeper: CertificateKeeper, name: str | None) -> object:
    material = keeper.tls.certificates.choose(name)
    return None if material is None else material.certificate


async def test_what_is_kept_is_served_at_once(reactor: Any, tmp_path: Path, log_lines: Any) -> None:
    old = keep(tmp_path, "a", "app.example.com", since=-80)
    new = keep(tmp_path, "b", "app.example.com", since=-2)
    gone = keep(tmp_path, "c", "gone.example.com")
    keeper = CertificateKeeper(reactor, config(tmp_path, "app.example.com", "new.example.com", "app.localhost"))
    assert shown(keeper, "app.example.com") == new.certificate != old.certificate
    # Of the edge's first name there is none, so that nobody gets it; nor does anybody get one of a name that is no
    # longer configured.
    assert shown(keeper, None) is shown(keeper, "new.example.com") is shown(keeper, "edge.example.com") is None
    assert shown(keeper, "gone.example.com") is None
    local = keeper.tls.certificates.choose("app.localhost")
    assert local is not None
    assert local.source.startswith("dev CA")
    assert shown(keeper, "localhost") not in (None, local.certificate)
    assert "app.localhost is no public name" in log_lines
    days = keeper.days_left()
    assert set(days) == {"app.example.com", "app.localhost", "localhost"}
    assert days["app.example.com"] == pytest.approx(88, abs=0.1)
    assert keeper.lines()[0].startswith("certificate edge.example.com: no certificate yet: visitors are refused")
    # Configured again, it is there.
    again = config(tmp_path, "gone.example.com")
    keeper.serve(again, keeper.prepare(again))
    assert shown(keeper, "gone.example.com") == gone.certificate
    assert keeper.tls.certificates.find("app.example.com") is None
    keeper.stop()


async def test_what_the_ca_was_told_to_look_for_is_answered_at_once(
    reactor: Any, tmp_path: Path, log_lines: Any
) -> None:
    """A restart in the midst of an order, or a process that takes another's place: the CA may come before all else."""
    store = CertificateStore(tmp_path / "state", NOWHERE, source="a test")
    assert store.take()
    shown = (("http-01", "token", ("token.thumb",)), ("dns-01", "_acme-challenge.a.example.com", ("value",)))
    order = OrderRecord("a" * 16, ("edge.example.com",), 0.0, new_key_pem(), shown=shown)
    over = OrderRecord("b" * 16, ("app.example.com",), 0.0, new_key_pem(), shown=(("http-01", "old", ("old.thumb",)),))
    store.write_order(order)
    store.write_order(over)
    keeper = CertificateKeeper(reactor, config(tmp_path, "app.example.com"), pace=Pace(locked=0.05))
    assert keeper.awaited == {b"token": b"token.thumb", b"old": b"old.thumb"}
    keeper.start()
    await log_lines.wait_for("another process has")
    assert keeper.awaited == {b"token": b"token.thumb", b"old": b"old.thumb"}
    store.drop_order(over)
    store.release()
    await log_lines.wait_for("going on with the order for edge.example.com")
    assert keeper.awaited == {b"token": b"token.thumb"}
    # The CA cannot be had, and what was shown is taken back until it is tried again.
    await log_lines.wait_for("certificates have to wait")
    assert keeper.awaited == {}
    keeper.stop()


async def test_the_directory_was_changed(reactor: Any, tmp_path: Path, log_lines: Any) -> None:
    """What another CA has given serves until the new one's is whole, and is no reason to wait with that."""
    before = "https://ca.example.org/dir"
    old = keep(tmp_path, "a", "app.example.com", "gone.example.com", ca=before)
    keep(tmp_path, "b", "over.example.com", since=-100, ca=before)
    keep(tmp_path, "c", "new.example.com", since=-80, ca=before)
    new = keep(tmp_path, "d", "new.example.com", since=-81)
    made = config(tmp_path, "app.example.com", "over.example.com", "new.example.com")
    keeper = CertificateKeeper(reactor, made, pace=Pace(ca_first=0.05, ca_most=0.05))
    assert shown(keeper, "app.example.com") == old.certificate
    assert shown(keeper, "over.example.com") is None
    assert shown(keeper, "new.example.com") == new.certificate
    keeper.start()
    await log_lines.wait_for("ordering a certificate for app.example.com")
    await log_lines.wait_for("certificates have to wait")
    assert keeper.acme is not None
    states = {status.name: status for status in keeper.acme.statuses()}
    assert (states["app.example.com"].state, states["over.example.com"].state) == ("valid", "missing")
    assert "refused" in states["app.example.com"].error
    assert shown(keeper, "app.example.com") == old.certificate
    keeper.stop()


async def test_the_ca_cannot_be_had(reactor: Any, tmp_path: Path, log_lines: Any) -> None:
    pace = Pace(ca_first=0.05, ca_most=0.05, look=0.1)
    keep(tmp_path, "a", "app.example.com", days=0.9)
    made = config(tmp_path, "app.example.com")
    keeper = CertificateKeeper(reactor, made, pace=pace)
    assert keeper.acme is not None
    keeper.start()
    keeper.start()
    await log_lines.wait_for("certificates have to wait: https://127.0.0.1:1/dir cannot be reached")
    statuses = {status.name: status for status in keeper.acme.statuses()}
    assert (statuses["edge.example.com"].state, statuses["app.example.com"].state) == ("missing", "expired")
    assert statuses["edge.example.com"].ordered
    assert "refused" in statuses["app.example.com"].error
    # What is over is served all the same: it is no other name's.
    assert shown(keeper, "app.example.com") is not None
    assert any("expired" in line and "refused" in line for line in keeper.lines())
    log_lines.clear()
    await log_lines.wait_for("certificates have to wait")
    # A name that is no longer configured is no longer ordered.
    fewer = config(tmp_path)
    keeper.serve(fewer, keeper.prepare(fewer))
    log_lines.clear()
    await log_lines.wait_for("certificates have to wait")
    keeper.stop()
    keeper.stop()
    store = CertificateStore(tmp_path / "state", NOWHERE, source="a test")
    assert store.take()
    assert {name for order in store.orders() for name in order.names} <= {"edge.example.com"}
    assert store.status().ca.failures > 1
    store.release()


async def test_what_another_process_gets_is_served(reactor: Any, tmp_path: Path, log_lines: Any) -> None:
    made = config(tmp_path, "app.example.com")
    other = CertificateStore(tmp_path / "state", NOWHERE, source="a test")
    assert other.take()
    found = Deferred[None]()
    acme = AcmeCertificates(
        reactor, made, wall=time.time, changed=lambda: found.callback(None), awaited={}, pace=Pace(locked=0.05)
    )
    acme.start()
    await log_lines.wait_for("another process has")
    assert acme.load(made).choose("app.example.com") is None
    material = self_signed("app.example.com")
    order = OrderRecord("a" * 16, ("app.example.com",), 0.0, key_pem(material.key).decode())
    stored = other.write_certificate(order, chain_pem(material).decode())
    await found
    served = acme.load(made).choose("app.example.com")
    assert served is not None
    assert served.certificate == stored.material.certificate
    acme.stop()
    other.release()


async def test_a_bug_in_one_look_does_not_end_them(reactor: Any, tmp_path: Path, logged_failures: Any) -> None:
    times = iter([ZeroDivisionError("the test's")])
    looked = Deferred[None]()

    def wall() -> float:
        for error in times:
            raise error
        if not looked.called:
            looked.callback(None)
        return time.time()

    acme = AcmeCertificates(
        reactor, config(tmp_path), wall=wall, changed=lambda: None, awaited={}, pace=Pace(look=0.05)
    )
    acme.start()
    await looked
    acme.stop()
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


async def test_a_folder_that_cannot_be_written(reactor: Any, tmp_path: Path, log_lines: Any) -> None:
    keeper = CertificateKeeper(reactor, config(tmp_path), pace=Pace(look=0.1))
    (tmp_path / "state" / "acme").write_text("a file")
    keeper.start()
    await log_lines.wait_for("certificates cannot be ordered: edge.toml: $.edge.state")
    keeper.stop()


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "does not exist"), ("no PEM", "holds no PEM certificate"), ("", "holds no PEM")]
)
def test_a_file_that_the_configuration_names(reactor: Any, tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(ConfigError) as caught:
        CertificateKeeper(reactor, config(tmp_path, directory_ca_file="ca.pem"))
    assert caught.value.key == "$.tls.directory_ca_file"
    assert reason in caught.value.reason


def test_the_library_is_missing(reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "acme", None)
    with pytest.raises(ConfigError, match=r"needs the library acme: pip install 'wormhole-tw\[acme\]'"):
        CertificateKeeper(reactor, config(tmp_path))
