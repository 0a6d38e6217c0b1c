"""Failed authentications by address."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from wormhole_tw.edge import guard as guard_module
from wormhole_tw.edge.guard import WINDOW, FailedAuthentications


def test_an_address_over_its_limit_waits_and_no_other_does() -> None:
    clock = Clock()
    guard = FailedAuthentications(2, clock.seconds)
    assert guard.wait("192.0.2.1") == 0
    guard.failed("192.0.2.1")
    assert guard.wait("192.0.2.1") == 0
    clock.advance(20)
    guard.failed("192.0.2.1")
    assert guard.wait("192.0.2.1") == WINDOW - 20
    assert guard.wait("192.0.2.2") == 0
    clock.advance(WINDOW - 20)
    assert guard.wait("192.0.2.1") == 0
    assert len(guard) == 0


def test_a_window_begins_anew() -> None:
    clock = Clock()
    guard = FailedAuthentications(2, clock.seconds)
    guard.failed("192.0.2.1")
    clock.advance(WINDOW)
    guard.failed("192.0.2.1")
    assert guard.wait("192.0.2.1") == 0


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("local", "local", True),
        ("what:ever", "what:ever", True),
    ],
)
def test_whom_an_ipv6_address_stands_for(one: str, another: str, same: bool) -> None:
    guard = FailedAuthentications(1, Clock().seconds)
    guard.failed(one)
    assert (guard.wait(another) > 0) is same


def test_it_remembers_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "MAX_ADDRESSES", 3)
    guard = FailedAuthentications(1, Clock().seconds)
    for number in (1, 2, 3, 1, 4):
        guard.failed(f"192.0.2.{number}")
    assert len(guard) == 3
    assert guard.wait("192.0.2.2") == 0
    assert guard.wait("192.0.2.1") > 0
