"""Headers of the PROXY protocol: both versions, cut anywhere, forged, and what HAProxy itself writes."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import ProxyHeaderError
from wormhole_tw.net.proxy_protocol import (
    MAX_HEADER,
    SIGNATURE,
    ProxyHeader,
    ProxyReader,
    begins_like_header,
    crc32c,
    encode_header,
)

BEHIND = b"\x16\x03\x01 what comes behind"


def read(data: bytes, piece: int = 1 << 20) -> tuple[ProxyHeader | None, bytes]:
    """The header and what stands behind it."""
    reader = ProxyReader()
    assert not reader.begun
    for start in range(0, len(data), piece):
        header = reader.feed(data[start : start + piece])
        assert reader.begun
        if header is not None:
            return header, reader.rest + data[start + piece :]
    return None, b""


def refusal(data: bytes) -> str:
    """Why it is refused, which is the same however it is cut."""
    said = set()
    for piece in (1, 7, 1 << 20):
        with pytest.raises(ProxyHeaderError) as caught:
            read(data, piece)
        said.add(str(caught.value))
    [one] = said
    return one


def v2(family: int, block: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def value(kind: int, data: bytes) -> bytes:
    return struct.pack("!BH", kind, len(data)) + data


def ssl(client: bytes, values: bytes) -> bytes:
    return value(0x20, client + b"\0\0\0\1" + values)


IPV4 = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 40000, 443)
IPV6 = IPv6Address("2001:db8::7").packed + IPv6Address("::1").packed + struct.pack("!HH", 1, 65535)
HOME = ("192.0.2.7", 40000), ("10.0.0.1", 443)


@pytest.mark.parametrize("piece", [1, 2, 5, 12, 16, 1000])
@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", ProxyHeader(*HOME)),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ProxyHeader(*[("255.255.255.255", 65535)] * 2)),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 0 0\r\n", ProxyHeader(("192.0.2.7", 0), ("10.0.0.1", 0))),
        (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", ProxyHeader(("2001:db8::7", 1), ("::1", 2))),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:a00:1 40000 443\r\n", ProxyHeader(*HOME)),
        (b"PROXY UNKNOWN\r\n", ProxyHeader()),
        (b"PROXY UNKNOWN 6.6.6.6 whatever stands here\r\n", ProxyHeader()),
        (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", ProxyHeader()),
        (v2(0x11, IPV4), ProxyHeader(*HOME)),
        (v2(0x21, IPV6), ProxyHeader(("2001:db8::7", 1), ("::1", 65535))),
        (v2(0x31, bytes(216)), ProxyHeader()),
        (v2(0x00, b""), ProxyHeader()),
        (v2(0x00, b"\xff" * 99), ProxyHeader()),
        (v2(0x11, IPV4, command=0x20), ProxyHeader()),
        (v2(0xEE, b"\x03" * 5, command=0x20), ProxyHeader()),
        # values: used where they are clear, ignored where not
        (v2(0x11, IPV4 + value(1, b"h2") + value(2, b"A.test")), ProxyHeader(*HOME, alpn=b"h2", authority="a.test")),
        (v2(0x11, IPV4 + value(1, b"http/1.1")), ProxyHeader(*HOME, alpn=b"http/1.1")),
        (v2(0x11, IPV4 + value(1, b"\r\n") + value(2, b"a b\r\nX: y")), ProxyHeader(*HOME)),
        (v2(0x11, IPV4 + value(2, b"\xff") + value(4, b"none") + value(0xEA, b"x" * 300)), ProxyHeader(*HOME)),
        (v2(0x11, IPV4 + value(4, b"") * 50 + value(5, b"id")), ProxyHeader(*HOME)),
        (
            v2(0x11, IPV4 + ssl(b"\x05", value(0x21, b"TLSv1.3") + value(0x23, b"AES-1") + value(0x22, b"n"))),
            ProxyHeader(*HOME, secure=True, tls_version="TLSv1.3", cipher="AES-1"),
        ),
        (v2(0x11, IPV4 + ssl(b"\x01", value(0x21, b"\n") + value(0x23, b""))), ProxyHeader(*HOME, secure=True)),
        (v2(0x11, IPV4 + ssl(b"\x00", value(0x21, b"TLSv1.3"))), ProxyHeader(*HOME)),
        (v2(0x11, IPV4 + value(0x20, b"\x01")), ProxyHeader(*HOME)),
        (v2(0x31, bytes(216) + value(2, b"a.test")), ProxyHeader(authority="a.test")),
    ],
)  # fmt: skip
def test_headers(data: bytes, header: ProxyHeader, piece: int) -> None:
    assert read(data, piece) == (header, b"")
    assert read(data + BEHIND, piece) == (header, BEHIND)
    assert begins_like_header(data)
    for end in range(len(data)):
        assert read(data[:end]) == (None, b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x16\x03\x01", "there is none, TLS begins at once"),
        (b"GET / HTTP/1.1\r\n", "there is none, something else begins"),
        (b"PROXYTCP4", "there is none"),
        (b"PRI * HTTP/2.0", "there is none"),
        (b"\r\nGET", "there is none"),
        (b"\r\n\r\n\0\r\nQUIT\r", "there is none"),
        (b"proxy tcp4", "there is none"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\n", "CR LF"),
        (b"PROXY \n", "CR LF"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443" + b" " * 80 + b"\r\n", "longer than 107"),
        (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "longer than 107"),
        (b"PROXY \r\n", "form"),
        (b"PROXY UDP4 192.0.2.7 10.0.0.1 40000 443\r\n", "form"),
        (b"PROXY UNKNOWNS\r\n", "form"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n", "form"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443 \r\n", "form"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1  40000 443\r\n", "form"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 040 443\r\n", "form"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 65536\r\n", "above 65535"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 -1\r\n", "form"),
        (b"PROXY TCP4 192.0.2.7\r10.0.0.1 1 1\r\n", "form"),
        (b"PROXY TCP4 192.0.2.256 10.0.0.1 1 1\r\n", "none of TCP4"),
        (b"PROXY TCP4 192.0.2.07 10.0.0.1 1 1\r\n", "none of TCP4"),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n", "none of TCP4"),
        (b"PROXY TCP6 192.0.2.7 10.0.0.1 1 1\r\n", "none of TCP6"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "form"),
        (v2(0x11, IPV4, command=0x11), "version is 1"),
        (v2(0x11, IPV4, command=0x22), "command 2"),
        (v2(0x12, IPV4), "0x12"),
        (v2(0x41, IPV4), "0x41"),
        (v2(0x11, IPV4[:-1]), "too short"),
        (v2(0x21, IPV4), "too short"),
        (v2(0x31, bytes(215)), "too short"),
        (v2(0x11, IPV4 + b"\x02"), "cut short"),
        (v2(0x11, IPV4 + b"\x02\x00\x05abcd"), "cut short"),
        (v2(0x11, IPV4 + value(2, b"a.test") * 2), "0x02 stands in it twice"),
        (v2(0x11, IPV4 + value(0x20, b"\x01\0\0\0\0" + b"\x21\x00")), "cut short"),
        (v2(0x11, IPV4 + value(3, b"abc")), "not four octets"),
        (v2(0x11, IPV4 + value(3, b"\0\0\0\0")), "checksum is wrong"),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535), "longer than 16384"),
        (SIGNATURE + struct.pack("!BBH", 0x20, 0x00, MAX_HEADER - 15), "longer than 16384"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    assert why in refusal(data)


def test_the_longest() -> None:
    block = IPV4 + value(0xE0, bytes(MAX_HEADER - 16 - 12 - 3))
    assert read(v2(0x11, block) + BEHIND) == (ProxyHeader(*HOME), BEHIND)


def test_the_checksum() -> None:
    # RFC 9260 appendix A and iSCSI's test vectors (RFC 3720 B.4)
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    for before, behind in ((b"", b""), (value(2, b"a.test"), value(4, b"none"))):
        block = IPV4 + before + value(3, bytes(4)) + behind
        whole = v2(0x11, block)
        good = whole.replace(value(3, bytes(4)), value(3, struct.pack("!I", crc32c(whole))))
        assert read(good, 3)[0] == ProxyHeader(*HOME, authority="a.test" if before else "")
        # all but the octet that makes it a checksum at all
        for at in sorted({*range(16, len(good))} - {good.index(b"\x03\x00\x04")}):
            bad = bytearray(good)
            bad[at] ^= 1
            with pytest.raises(ProxyHeaderError):
                read(bytes(bad))


@pytest.mark.parametrize(
    ("data", "like"),
    [
        (b"", None),
        (b"P", None),
        (b"PROXY ", None),
        (b"PROXY TCP", True),
        (b"PROXY U", None),
        (b"PROXY /", False),
        (b"POST", False),
        (b"\r\n", None),
        (b"\r\nG", False),
        (SIGNATURE[:-1], None),
        (SIGNATURE + b"!", True),
        (b"\x16", False),
    ],
)
def test_what_begins_like_one(data: bytes, like: bool | None) -> None:
    assert begins_like_header(data) is like


ADDRESSES = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


@given(st.sampled_from(["v1", "v2"]), ADDRESSES, st.none() | ADDRESSES, st.integers(1, 40), st.binary(max_size=40))
def test_what_is_written_is_read(version, source, destination, piece, behind) -> None:  # type: ignore[no-untyped-def]
    header = encode_header(version, source, destination, authority="App.test", tls=("TLSv1.3", ""))
    found, rest = read(header + behind, piece)
    assert rest == behind
    assert found is not None
    assert found.source is not None
    assert found.destination is not None
    mapped = getattr(ip_address(source[0]), "ipv4_mapped", None)
    assert found.source == (str(mapped or ip_address(source[0])), source[1])
    if destination is None:
        assert ip_address(found.destination[0]).is_unspecified
        assert found.destination[1] == 0
    elif (":" in destination[0]) == (":" in source[0]):
        mapped = getattr(ip_address(destination[0]), "ipv4_mapped", None)
        assert found.destination == (str(mapped or ip_address(destination[0])), destination[1])
    else:
        assert ip_address(found.destination[0]).is_unspecified
        assert found.destination[1] == destination[1]
    assert found.secure is (version == "v2")
    assert found.authority == ("app.test" if version == "v2" else "")


def test_what_is_written() -> None:
    assert encode_header("v1", ("192.0.2.7", 40000), ("10.0.0.1", 443), authority="a.test") == (
        b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n"
    )
    assert encode_header("v1", ("2001:db8::7", 1), ("10.0.0.1", 443)) == b"PROXY TCP6 2001:db8::7 :: 1 443\r\n"
    assert encode_header("v1", ("fe80::1%eth0", 1), ("fe80::2%eth0", 2)) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    assert encode_header("v1", None) == b"PROXY UNKNOWN\r\n"
    assert encode_header("v2", None) == v2(0x00, b"")
    assert encode_header("v2", ("192.0.2.7", 40000), ("10.0.0.1", 443)) == v2(0x11, IPV4)
    assert encode_header("v2", ("192.0.2.7", 40000), ("10.0.0.1", 443), authority="é", tls=("", "AES")) == v2(
        0x11, IPV4 + value(0x20, b"\x01\0\0\0\1" + value(0x23, b"AES"))
    )
    # with a certificate that was verified
    assert encode_header("v2", ("192.0.2.7", 40000), ("10.0.0.1", 443), tls=("", ""), verified=True) == v2(
        0x11, IPV4 + value(0x20, b"\x07\0\0\0\0")
    )


@pytest.mark.parametrize("source", [("a.test", 1), ("", 1), ("192.0.2.7\r\n", 1), ("192.0.2.7", 65536), ("::1", -1)])
def test_what_cannot_be_written(source: tuple[str, int]) -> None:
    for version in ("v1", "v2"):
        with pytest.raises(ValueError, match=r"."):
            encode_header(version, source)  # type: ignore[arg-type]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: SIGNATURE + b"\x21\x11\x00\x60" + data))
def test_any_octets_are_read_the_same_however_they_are_cut(data: bytes) -> None:
    found = set()
    for piece in (1, 3, 1000):
        try:
            found.add(read(data, piece))
        except ProxyHeaderError as error:
            found.add((None, str(error).encode()))
    assert len(found) == 1
