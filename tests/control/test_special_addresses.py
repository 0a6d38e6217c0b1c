"""Which addresses an origin on the web never has, one of every range, and how they are allowed all the same."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control.special_addresses import METADATA, special_kind, special_name

EVERYBODY = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.0.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.1", "reserved"),
        ("192.0.0.192", "metadata"),
        ("192.0.2.1", "reserved"),
        ("192.88.99.1", "reserved"),
        ("192.168.0.1", "private"),
        ("198.18.0.1", "reserved"),
        ("198.19.255.255", "reserved"),
        ("198.51.100.1", "reserved"),
        ("203.0.113.1", "reserved"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "reserved"),  # IPv4-compatible, which nobody uses
        ("64:ff9b:1::a00:1", "reserved"),  # a NAT64 of somebody's own
        ("100::1", "reserved"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:2::1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("3fff::1", "reserved"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback (127.0.0.1, mapped)"),
        ("::ffff:169.254.169.254", "metadata (169.254.169.254, mapped)"),
        ("::ffff:0:10.0.0.1", "private (10.0.0.1, mapped)"),
        ("64:ff9b::7f00:1", "loopback (127.0.0.1, NAT64)"),
        ("64:ff9b::a9fe:a9fe", "metadata (169.254.169.254, NAT64)"),
        ("2002:7f00:1::", "loopback (127.0.0.1, 6to4)"),
        ("2002:c0a8:101::1", "private (192.168.1.1, 6to4)"),
        ("2001:0:a00:1::", "private (10.0.0.1, Teredo)"),  # the server's
        ("2001:0:808:808::80ff:fffe", "loopback (127.0.0.1, Teredo)"),  # the client's
    ],
)
def test_one_of_every_range(address: str, kind: str) -> None:
    assert special_kind(address) == kind


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.255.255.255",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700::1",
        "2a00:1450::1",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::1",
        "2001:0:808:808::f7f7:f7f7",
    ],
)
def test_those_of_the_web(address: str) -> None:
    assert special_kind(address) is None


def test_a_network_that_is_allowed() -> None:
    private = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
    assert special_kind("10.1.2.3", private) is None
    assert special_kind("10.2.0.1", private) == "private"
    assert special_kind("fd00:1::5", private) is None
    assert special_kind("fd00:2::5", private) == "private"
    # by either spelling, where one carries the other
    assert special_kind("::ffff:10.1.2.3", private) is None
    assert special_kind("64:ff9b::a01:203", private) is None
    assert special_kind("64:ff9b::a02:203", private) == "private (10.2.2.3, NAT64)"
    assert special_kind("64:ff9b::a02:203", (ip_network("64:ff9b::/96"),)) is None


@pytest.mark.parametrize("address", sorted(METADATA, key=str), ids=str)
def test_metadata_is_allowed_by_its_very_address_alone(address: IPv4Address | IPv6Address) -> None:
    assert special_kind(str(address), EVERYBODY) == "metadata"
    assert special_kind(str(address), (ip_network(f"{address}/{address.max_prefixlen - 1}", strict=False),)) is not None
    assert special_kind(str(address), (ip_network(str(address)),)) is None


@given(st.ip_addresses(v=4))
def test_whatever_pythons_own_list_calls_private_is_special(address: IPv4Address) -> None:
    if not address.is_global and address not in ip_network("192.0.0.0/24"):
        assert special_kind(str(address)) is not None
    if special_kind(str(address)) is None:
        assert special_kind(f"::ffff:{address}") is None
    else:
        assert special_kind(f"::ffff:{address}") is not None


@given(st.ip_addresses(v=6))
def test_the_same_for_ipv6(address: IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_multicast or address.is_link_local:
        assert special_kind(str(address)) is not None or address.teredo is not None or address.sixtofour is not None
    if (
        address.sixtofour is not None
    ):  # as the IPv4 address that it leads to, whatever Python's list says of all of them
        assert (special_kind(str(address)) is None) == (special_kind(str(address.sixtofour)) is None)


def test_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        special_kind("example.com")


def test_names_of_this_machine() -> None:
    assert special_name("localhost")
    assert special_name("app.localhost")
    assert not special_name("localhost.example.com")
    assert ip_address("127.0.0.1") not in METADATA
