"""An edge in this process with a real CA, and a front that now and then says something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge.certificates.test_with_a_ca import EDGE, House, ca, house
from tests.end_to_end.ca_proxy import CaProxy
from tests.net.proxies import FakeProxy, connect_rules
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.interfaces import Snapshot

__all__ = ["ca", "house"]  # fixtures

pytestmark = [pytest.mark.requires_program("pebble", "pebble-challtestsrv"), pytest.mark.deadline(90)]


def add(house: House, *hostnames: str, **tls: Any) -> None:
    """Reload, with these sites."""
    assert house.edge is not None
    wanted = house.config(*hostnames, **tls)
    house.edge.apply(Snapshot(wanted, build_catalog(wanted)))


async def test_a_server_in_trouble_is_nothing_against_a_name(house: House, log_lines: Any) -> None:
    """Let's Encrypt says so where it is busy. It has nothing against the names, which stay together."""
    with CaProxy(house.ca, house.folder) as proxy:
        proxy.refusals["/order-plz"] = [(503, "rateLimited")]
        house.start(directory=proxy.directory)
        await log_lines.wait_for("certificates have to wait: ")
        await house.has(EDGE)
        assert "no certificate for" not in log_lines
        await house.stop()


def due_again(house: House) -> None:
    """Let nothing be known of renewals, and no certificate be so new that it is not replaced."""
    file = house.state / "status.json"
    status = json.loads(file.read_text())
    status["renewals"] = {}
    for name in status["names"].values():
        name["issued_at"] -= 90_000
    file.write_text(json.dumps(status))


async def test_a_certificate_that_the_ca_does_not_know_hides_no_others(house: House) -> None:
    with CaProxy(house.ca, house.folder) as proxy:
        house.start("app.example.com", directory=proxy.directory)
        await house.has("app.example.com")
        await house.has(EDGE)
        await house.all_is_written()
        await house.stop()
        due_again(house)
        proxy.refusals["/renewal/"] = [(404, "malformed")]
        house.start("app.example.com", directory=proxy.directory)
        await house.all_is_written()
        await house.stop()
        asked = json.loads((house.state / "status.json").read_text())["renewals"].values()
        assert sorted(one["at"] > 0 for one in asked) == [False, True]


async def test_a_renewal_that_had_to_wait_still_says_what_it_replaces(house: House, log_lines: Any) -> None:
    """By that the CA knows a renewal, which its limits do not count."""
    with CaProxy(house.ca, house.folder) as proxy:
        house.start(directory=proxy.directory)
        await house.has(EDGE)
        await house.all_is_written()
        await house.stop()
        due_again(house)
        proxy.renew = True
        proxy.refusals["/order-plz"] = [(503, "rateLimited")]
        house.start(directory=proxy.directory)
        await log_lines.wait_for("certificates have to wait: ")
        await house.has(EDGE)
        await house.stop()
        assert len(set(proxy.replaced)) == 1  # said again where a nonce was bad


async def test_the_account_is_looked_for_while_the_ca_goes_away(house: House, log_lines: Any) -> None:
    with CaProxy(house.ca, house.folder) as proxy:
        house.start(directory=proxy.directory)
        await house.has(EDGE)
        proxy.refusals = {"/order-plz": [(400, "accountDoesNotExist")], "/sign-me-up": [(503, "")]}
        add(house, "app.example.com", directory=proxy.directory)
        await log_lines.wait_for("certificates have to wait: ")
        await house.has("app.example.com")
        assert "no certificate for" not in log_lines
        await house.stop()


async def test_the_accounts_key_was_moved_away(house: House, log_lines: Any) -> None:
    """As the edge says itself where the CA has closed the account; also what a crash between two steps leaves."""
    house.start()
    await house.has(EDGE)
    await house.stop()
    key: Path = house.state / "account.key"
    key.rename(house.folder / "kept.key")
    house.start("app.example.com")
    await log_lines.wait_for("account ")
    await house.has("app.example.com")
    assert "no certificate for" not in log_lines
    await house.stop()
    assert key.read_bytes() != (house.folder / "kept.key").read_bytes()


async def test_the_ca_is_behind_a_proxy(
    reactor: Any, house: House, log_lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose answer is said, and never its password."""
    proxy = FakeProxy(reactor, lambda: connect_rules(authorization="bWU6c2VjcmV0"))
    await proxy.listen()
    try:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:wrong@127.0.0.1:{proxy.number}")
        monkeypatch.setenv("NO_PROXY", "")
        house.start()
        await log_lines.wait_for("cannot be reached: the proxy of the environment (HTTPS_PROXY) answers 407")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.number}")
        await house.has(EDGE)
        assert "secret" not in log_lines.text
        assert "wrong" not in log_lines.text
    finally:
        await house.stop()
        await proxy.close()
