"""Which addresses stand in a set of networks."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.net.networks import Networks, canonical_address, counted_address

SET = Networks(map(ip_network, ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]))


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:a01:203", True),
        ("::ffff:11.1.2.3", False),
        ("2001:db8:1::", True),
        ("2001:db9::", False),
        ("::1", True),
        ("::1%lo", False),
        ("2001:db8::1%10.1.2.3", False),
        ("", False),
        ("/run/edge.sock", False),
        ("10.1.2.3 ", False),
        ("010.1.2.3", False),
        ("10.1.2", False),
        ("unknown", False),
    ],
)
def test_members(address: str, inside: bool) -> None:
    for _ in range(2):
        assert (address in SET) is inside
    assert address not in Networks()


def test_an_empty_set() -> None:
    assert SET
    assert not Networks()


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_network_holds_what_the_standard_library_says(address: object, length: int) -> None:
    one = ip_address(str(address))
    network = ip_network((one, min(length, one.max_prefixlen)), strict=False)
    mapped = getattr(one, "ipv4_mapped", None)
    assert (str(one) in Networks([network])) is (mapped is None)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:7", "::ffff:7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
    ],
)
def test_one_spelling(text: str, form: str) -> None:
    assert canonical_address(text) == form


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_what_is_counted_of_an_address(address: str, counted: str) -> None:
    assert counted_address(address) == counted
