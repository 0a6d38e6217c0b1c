"""Who the visitor is behind proxies that are trusted, and what a visitor can make of that: nothing."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.visitors import MAX_ELEMENT, MAX_HOPS, NOTHING, Told, by_forwarded, by_x_forwarded

PROXIES = {f"10.0.0.{number}" for number in range(100)} | {"2001:db8::1"}
PROXY = "10.0.0.1"


def trusts(address: str) -> bool:
    return address in PROXIES


def x_forwarded(*values: bytes, **others: bytes) -> Told:
    fields = [(b"X-Forwarded-For", value) for value in values]
    fields += [(b"x-forwarded-" + name.encode(), value) for name, value in others.items()]
    return by_x_forwarded([(b"Host", b"a.test"), *fields, (b"X-Forwarded-Prefix", b"/a")], trusts)


def forwarded(*values: bytes) -> Told:
    return by_forwarded([(b"Host", b"a.test"), *((b"Forwarded", value) for value in values)], trusts)


@pytest.mark.parametrize(
    ("values", "address", "hops"),
    [
        ([b"192.0.2.7"], "192.0.2.7", ()),
        ([b"6.6.6.6, 192.0.2.7"], "192.0.2.7", ()),
        ([b"10.0.0.9, 192.0.2.7"], "192.0.2.7", ()),
        ([b"6.6.6.6,192.0.2.7 ,\t10.0.0.2"], "192.0.2.7", ("10.0.0.2",)),
        ([b"192.0.2.7, 10.0.0.2, 10.0.0.3"], "192.0.2.7", ("10.0.0.2", "10.0.0.3")),
        ([b"192.0.2.7", b"10.0.0.2"], "192.0.2.7", ("10.0.0.2",)),
        ([b"10.0.0.2", b"192.0.2.7"], "192.0.2.7", ()),
        # nobody but proxies: the first of them asks for itself
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3", ("10.0.0.2",)),
        ([b"192.0.2.7:4711"], "192.0.2.7", ()),
        ([b"2001:db8::7"], "2001:db8::7", ()),
        ([b"[2001:db8::7]"], "2001:db8::7", ()),
        ([b"[2001:DB8:0::7]:443, 2001:db8::1"], "2001:db8::7", ("2001:db8::1",)),
        ([b"::ffff:192.0.2.7"], "192.0.2.7", ()),
        ([b"192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7", ("10.0.0.2",)),
        # what is no address ends the search, and the last one before it stands
        ([b"192.0.2.7, unknown"], "", ()),
        ([b"192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2", ()),
        ([b"192.0.2.7, _hidden, 10.0.0.2, 10.0.0.3"], "10.0.0.2", ("10.0.0.3",)),
        ([b""], "", ()),
        ([b"192.0.2.7,"], "", ()),
        ([b"192.0.2.7", b""], "", ()),
        ([b"\xff\xfe"], "", ()),
        ([b'"192.0.2.7"'], "", ()),
        ([b"192.0.2.7%eth0"], "", ()),
        ([b'fe80::1%x"><script>'], "", ()),
        ([b"[192.0.2.7]"], "", ()),
        ([b"[2001:db8::7"], "", ()),
        ([b"192.0.2.256"], "", ()),
        ([b"192.0.2.07"], "", ()),
        ([b"192.0.2.7:"], "", ()),
        ([b"a.test"], "", ()),
        ([b"192.0.2.7 10.0.0.2"], "", ()),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy(
    values: list[bytes], address: str, hops: tuple[str, ...]
) -> None:
    told = x_forwarded(*values)
    assert (told.address, told.hops) == (address, hops)


@pytest.mark.parametrize(
    ("text", "port"),
    [(b"192.0.2.7:4711", 4711), (b"[2001:db8::7]:1", 1), (b"192.0.2.7:65536", 0), (b"192.0.2.7:0", 0), (b"1.1.1.1", 0)],
)
def test_its_port(text: bytes, port: int) -> None:
    assert x_forwarded(text).port == port
    assert forwarded(b'for="%s"' % text).port == port


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"https", "https"),
        (b"HTTP", "http"),
        (b"wss", "https"),
        (b"ws", "http"),
        (b"", None),
        (b"https, http", None),
        (b"gopher", None),
        (b"https\t", None),
    ],
)
def test_the_scheme(value: bytes, scheme: str | None) -> None:
    assert x_forwarded(proto=value).scheme == scheme
    assert by_x_forwarded([(b"X-Forwarded-Proto", value)] * 2, trusts).scheme is None


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"shop.test", b"shop.test"),
        (b"shop.test:8443", b"shop.test:8443"),
        (b"[2001:db8::7]:1", b"[2001:db8::7]:1"),
        (b"", None),
        (b"a.test, b.test", None),
        (b'a.test";for=6.6.6.6', None),
        (b"a.test/path", None),
        (b"a.test:port", None),
        (b"a" * 256, None),
    ],
)
def test_the_host(value: bytes, host: bytes | None) -> None:
    assert x_forwarded(host=value).host == host


@pytest.mark.parametrize(
    ("value", "port"), [(b"8443", 8443), (b"0", 0), (b"65536", 0), (b"443,80", 0), (b"x", 0), (b"\xb2", 0)]
)
def test_the_public_port(value: bytes, port: int) -> None:
    assert x_forwarded(port=value).public_port == port


def test_a_proxy_that_says_nothing() -> None:
    assert by_x_forwarded([(b"Host", b"a.test"), (b"X-Forwarded", b"192.0.2.7")], trusts) is NOTHING
    assert by_forwarded([(b"X-Forwarded-For", b"192.0.2.7")], trusts) is NOTHING


def test_each_kind_reads_its_own_fields() -> None:
    both = [(b"X-Forwarded-For", b"192.0.2.1"), (b"Forwarded", b"for=192.0.2.2")]
    assert by_x_forwarded(both, trusts).address == "192.0.2.1"
    assert by_forwarded(both, trusts).address == "192.0.2.2"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([b"for=192.0.2.7"], Told("192.0.2.7")),
        (
            [b'FOR="[2001:DB8::7]:4711";Proto=HTTPS;host="shop.test:81";by=_x'],
            Told("2001:db8::7", 4711, (), "https", b"shop.test:81"),
        ),
        (
            [b"for=6.6.6.6;proto=https, for=192.0.2.7;proto=http;host=a.test , for=10.0.0.2;proto=https;host=b.test"],
            Told("192.0.2.7", 0, ("10.0.0.2",), "http", b"a.test"),
        ),
        ([b"for=192.0.2.7", b"for=10.0.0.2", b"for=10.0.0.3"], Told("192.0.2.7", 0, ("10.0.0.2", "10.0.0.3"))),
        ([b'for="192.0.2\\.7"'], Told("192.0.2.7")),
        ([b'for=192.0.2.7;host="a,b.test";ext="x;y, for=6.6.6.6"'], Told("192.0.2.7")),
        ([b"for=192.0.2.7;proto=gopher"], Told("192.0.2.7")),
        # nobody but proxies: the one that begins
        ([b"for=10.0.0.3, for=10.0.0.2"], Told("10.0.0.3", 0, ("10.0.0.2",))),
        # the search ends where nothing usable stands
        ([b"for=unknown"], NOTHING),
        ([b"for=192.0.2.7, for=_hidden, for=10.0.0.2;proto=https"], Told("10.0.0.2", scheme="https")),
        ([b"for=192.0.2.7, proto=https, for=10.0.0.2"], Told("10.0.0.2")),
        ([b"for=192.0.2.7;for=6.6.6.6"], NOTHING),
        ([b"for=192.0.2.7; proto=https"], NOTHING),
        ([b"for = 192.0.2.7"], NOTHING),
        ([b"for=192.0.2.7,"], NOTHING),
        ([b"for=2001:db8::7"], NOTHING),
        ([b"192.0.2.7"], NOTHING),
        ([b""], NOTHING),
        ([b"for=192.0.2.7;x=%s" % (b"y" * MAX_ELEMENT)], NOTHING),
        ([b'for="\xff"'], NOTHING),
    ],
)
def test_forwarded(values: list[bytes], told: Told) -> None:
    assert forwarded(*values) == told


ADDED = st.sampled_from(
    [
        b"for=192.0.2.7",
        b'for="192.0.2.7:4711"',
        b"for=192.0.2.7;proto=https",
        b'proto=http;for="192.0.2.7";host="a.test:8443"',
        b'host="a.test";for=192.0.2.7;by="[2001:db8::1]:1"',
    ]
)
TRICKS = st.lists(
    st.sampled_from(b'",;=\\ \tx').map(lambda octet: bytes([octet]))
    | st.sampled_from([b"for", b"6.6.6.6", b"10.0.0.2", b"for=6.6.6.6", b'for="', b"ext=", b'ext="\\', b"proto=https"]),
    max_size=20,
).map(b"".join)


@given(TRICKS, ADDED)
def test_nothing_that_a_visitor_wrote_reaches_into_what_a_proxy_added(wrote: bytes, added: bytes) -> None:
    assert forwarded(wrote + b", " + added) == forwarded(added)
    assert forwarded(wrote, added) == forwarded(added)
    assert x_forwarded(wrote + b", 192.0.2.7") == x_forwarded(b"192.0.2.7")
    assert x_forwarded(wrote, b"192.0.2.7, 10.0.0.2") == x_forwarded(b"192.0.2.7, 10.0.0.2")


@given(st.lists(TRICKS | st.binary(max_size=30), max_size=3))
def test_whatever_stands_there_an_address_is_an_address(values: list[bytes]) -> None:
    for told in (x_forwarded(*values), forwarded(*values)):
        for address in (told.address, *told.hops):
            if address:
                assert str(ip_address(address)) == address
                assert "%" not in address


@given(st.ip_addresses(), st.lists(st.sampled_from(sorted(PROXIES)), max_size=MAX_HOPS))
def test_what_proxies_write_is_read(visitor: object, hops: list[str]) -> None:
    text = str(ip_address(str(visitor)))
    mapped = getattr(visitor, "ipv4_mapped", None)
    told = x_forwarded(", ".join([text, *hops]).encode())
    again = forwarded(", ".join(f'for="[{a}]"' if ":" in a else f"for={a}" for a in [text, *hops]).encode())
    assert told == again
    if text not in PROXIES:
        assert (told.address, told.hops) == (str(mapped or text), tuple(hops))


def test_a_chain_of_proxies_without_end() -> None:
    assert MAX_HOPS == 32
    long = [f"10.0.0.{number}" for number in range(99, 0, -1)]
    told = x_forwarded(", ".join(long).encode())
    assert (told.address, len(told.hops)) == ("10.0.0.33", 32)
    assert forwarded(", ".join(f"for={a}" for a in long).encode()) == told


def test_a_malformed_field_of_the_greatest_length_costs_little() -> None:
    assert forwarded(b'a="' * 10_000 + b"," * 10_000) == NOTHING
    assert forwarded(b'",' * 16_000) == NOTHING
    assert x_forwarded(b"," * 32_000).address == ""
