"""The PROXY protocol, versions 1 and 2: what a proxy says of a connection before the first of its octets.

Reading is sans-IO and strict: what could be read in two ways, or is cut short, is refused, and nothing is guessed.
Section numbers are of HAProxy's ``proxy-protocol.txt`` (2.6, 2023).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

from wormhole_tw.errors import ProxyHeaderError
from wormhole_tw.net.networks import canonical_address

__all__ = [
    "MAX_HEADER",
    "SIGNATURE",
    "ProxyHeader",
    "ProxyReader",
    "ProxyVersion",
    "begins_like_header",
    "crc32c",
    "encode_header",
]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first octets of version 2 (§2.2), which no other protocol begins with."""

MAX_V1 = 107
"""Octets of a header of version 1, its line end included (§2.1)."""

MAX_HEADER = 16 * 1024
"""Octets of a header of version 2: HAProxy's own buffer. Addresses need 52; a client's certificate may stand in it."""

ProxyVersion = Literal["v1", "v2"]

Address = tuple[str, int]
"""IP address as text, and port."""

_V1 = b"PROXY "
_FIXED = struct.Struct("!12sBBH")
_TLV = struct.Struct("!BH")

_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]{2,39}) ([0-9a-fA-F:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,4}")
_AUTHORITY = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_WORD = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# §2.2: command, family and protocol
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_LENGTHS = {_TCP4: 12, _TCP6: 36, _UNIX: 216}

# §2.2.1 to §2.2.8: types of values
_ALPN, _NAME, _CRC32C, _SSL = 0x01, 0x02, 0x03, 0x20
_SSL_VERSION, _SSL_CIPHER = 0x21, 0x23
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 0x01, 0x02, 0x04
_USED = frozenset({_ALPN, _NAME, _CRC32C, _SSL})


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says.

    :ivar source: the visitor; None where the proxy speaks for itself, or does not know (LOCAL, UNKNOWN, a Unix socket)
    :ivar destination: where the visitor came to
    :ivar secure: the visitor came by TLS, which ended at the proxy
    :ivar tls_version: its version, ``TLSv1.3``; empty where that is not told
    :ivar cipher: its cipher, or empty
    :ivar alpn: the protocol within, or empty
    :ivar authority: the host name that the visitor asked for (SNI), in lower case, or empty
    """

    source: Address | None = None
    destination: Address | None = None
    secure: bool = False
    tls_version: str = ""
    cipher: str = ""
    alpn: bytes = b""
    authority: str = ""


_NOBODY = ProxyHeader()


def begins_like_header(data: bytes) -> bool | None:
    """Whether a connection begins with a header of either version; None where more octets are needed to tell."""
    undecided = False
    for beginning in (b"PROXY TCP", b"PROXY UNKNOWN", SIGNATURE):
        if data.startswith(beginning):
            return True
        undecided = undecided or beginning.startswith(data)
    return None if undecided else False


class ProxyReader:
    """Reads one header, however its octets are cut.

    :ivar rest: what came behind it
    """

    __slots__ = ("_data", "rest")

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    @property
    def begun(self) -> bool:
        """Something of it came."""
        return bool(self._data)

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take more octets; give the header when it is whole.

        :raises ProxyHeaderError: there is none, or it is not valid; the connection must be closed
        """
        data = self._data = self._data + data
        if data.startswith(_V1):
            return self._feed_v1(data)
        if data.startswith(SIGNATURE):
            return self._feed_v2(data)
        if _V1.startswith(data) or SIGNATURE.startswith(data):
            return None
        what = "TLS begins" if data[0] == 0x16 else "something else begins"
        raise ProxyHeaderError(f"there is none, {what} at once")

    def _feed_v1(self, data: bytes) -> ProxyHeader | None:
        end = data.find(b"\n", 0, MAX_V1)
        if end < 0:
            if len(data) >= MAX_V1:
                raise ProxyHeaderError(f"its line is longer than {MAX_V1} octets")
            return None
        if data[end - 1] != 0x0D:
            raise ProxyHeaderError("its line does not end with CR LF")
        line = data[: end - 1]
        self.rest = data[end + 1 :]
        if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
            return _NOBODY
        match = _LINE.fullmatch(line)
        if match is None or not _NUMBER.fullmatch(match[4]) or not _NUMBER.fullmatch(match[5]):
            raise ProxyHeaderError("its line is not of version 1's form")
        kind = IPv4Address if match[1] == b"TCP4" else IPv6Address
        ends: list[Address] = []
        for address, port in ((match[2], match[4]), (match[3], match[5])):
            try:
                text = str(kind(address.decode("ascii")))
            except AddressValueError:
                raise ProxyHeaderError(f"an address in it is none of {match[1].decode()}") from None
            if int(port) > 65535:
                raise ProxyHeaderError("a port in it is above 65535")
            ends.append((_one_spelling(text), int(port)))
        return ProxyHeader(ends[0], ends[1])

    def _feed_v2(self, data: bytes) -> ProxyHeader | None:
        if len(data) < _FIXED.size:
            return None
        _, command, family, length = _FIXED.unpack_from(data)
        if command >> 4 != 2:
            raise ProxyHeaderError(f"its version is {command >> 4}")
        if command not in (_LOCAL, _PROXY):
            raise ProxyHeaderError(f"its command {command & 15} is unknown")
        if _FIXED.size + length > MAX_HEADER:
            raise ProxyHeaderError(f"it is longer than {MAX_HEADER} octets")
        if command == _PROXY and family != _UNSPEC:
            if family not in _LENGTHS:
                raise ProxyHeaderError(f"its address family and protocol {family:#04x} are none of a TCP connection")
            if length < _LENGTHS[family]:
                raise ProxyHeaderError("it is too short for its addresses")
        end = _FIXED.size + length
        if len(data) < end:
            return None
        self.rest = data[end:]
        if command == _LOCAL or family == _UNSPEC:
            # §2.2: whatever else stands in it is to be ignored
            return _NOBODY
        at = _FIXED.size + _LENGTHS[family]
        values = _read_values(data[at:end])
        _check_sum(data[:end], at, values)
        source, destination = _read_addresses(family, data)
        return _with_values(source, destination, values)


def _read_addresses(family: int, data: bytes) -> tuple[Address | None, Address | None]:
    if family == _UNIX:
        return None, None
    size = 4 if family == _TCP4 else 16
    kind = IPv4Address if family == _TCP4 else IPv6Address
    at = _FIXED.size
    source, destination = (str(kind(data[start : start + size])) for start in (at, at + size))
    ports = struct.unpack_from("!HH", data, at + 2 * size)
    return (_one_spelling(source), ports[0]), (_one_spelling(destination), ports[1])


def _one_spelling(text: str) -> str:
    # Python's own spelling of a mapped address has changed with its versions
    mapped = IPv6Address(text).ipv4_mapped if ":" in text else None
    return canonical_address(text) if mapped is None else str(mapped)


def _read_values(data: bytes) -> list[tuple[int, bytes, int]]:
    """Type, value and where the value begins, of each (§2.2: type-length-value).

    :raises ProxyHeaderError: one is cut short, or one that is used stands there twice
    """
    found: list[tuple[int, bytes, int]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _TLV.size:
            raise ProxyHeaderError("a value in it is cut short")
        kind, length = _TLV.unpack_from(data, at)
        at += _TLV.size
        if len(data) - at < length:
            raise ProxyHeaderError("a value in it is cut short")
        if kind in _USED and any(kind == other for other, _, _ in found):
            raise ProxyHeaderError(f"a value of type {kind:#04x} stands in it twice")
        found.append((kind, data[at : at + length], at))
        at += length
    return found


def _check_sum(header: bytes, values_at: int, values: list[tuple[int, bytes, int]]) -> None:
    for kind, value, at in values:
        if kind == _CRC32C:
            if len(value) != 4:
                raise ProxyHeaderError("its checksum has not four octets")
            start = values_at + at
            if crc32c(header[:start] + bytes(4) + header[start + 4 :]) != int.from_bytes(value):
                raise ProxyHeaderError("its checksum is wrong")


def _with_values(
    source: Address | None, destination: Address | None, values: list[tuple[int, bytes, int]]
) -> ProxyHeader:
    """What is told besides; a value that is not as it should be tells nothing, for none of them is needed."""
    secure, version, cipher, alpn, authority = False, "", "", b"", ""
    for kind, value, _ in values:
        if kind == _ALPN and _WORD.fullmatch(value.replace(b"/", b"-")):
            alpn = value
        elif kind == _NAME and _AUTHORITY.fullmatch(value):
            authority = value.decode("ascii").lower()
        elif kind == _SSL and len(value) >= 5 and value[0] & _CLIENT_SSL:
            secure = True
            for part, text, _ in _read_values(value[5:]):
                if part == _SSL_VERSION and _WORD.fullmatch(text):
                    version = text.decode("ascii")
                elif part == _SSL_CIPHER and _WORD.fullmatch(text):
                    cipher = text.decode("ascii")
    return ProxyHeader(source, destination, secure, version, cipher, alpn, authority)


def encode_header(
    version: ProxyVersion,
    source: Address | None,
    destination: Address | None = None,
    *,
    authority: str = "",
    tls: tuple[str, str] | None = None,
    verified: bool = False,
) -> bytes:
    """Write a header.

    :param source: the visitor; None where it has no address, which is said
    :param destination: where it came to; none, or one of the other family, is written as the unspecified address
    :param authority: the host name that it asked for (version 2 only; left out where it is not ASCII)
    :param tls: version and cipher of its TLS, either may be empty; None where it came without (version 2 only)
    :param verified: it showed a certificate in TLS, which was found good
    :raises ValueError: the source's address is none, or a port is no port
    """
    if source is None:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _FIXED.pack(SIGNATURE, _PROXY, _UNSPEC, 0)
    kind = IPv6Address if ":" in source[0] else IPv4Address
    # a zone means something on the proxy alone
    visitor = kind(source[0].partition("%")[0])
    address, port = destination or ("", 0)
    try:
        reached = kind(address.partition("%")[0])
    except AddressValueError:
        reached = kind(0)
    if not (0 <= source[1] <= 65535 and 0 <= port <= 65535):
        raise ValueError("a port is 0 to 65535")
    if version == "v1":
        family = b"TCP6" if kind is IPv6Address else b"TCP4"
        return b"PROXY %s %s %s %d %d\r\n" % (family, str(visitor).encode(), str(reached).encode(), source[1], port)
    values = b""
    if authority and authority.isascii():
        values += _value(_NAME, authority.encode("ascii")[:255])
    if tls is not None:
        inner = b"".join(
            _value(part, text.encode("ascii", "replace"))
            for part, text in ((_SSL_VERSION, tls[0]), (_SSL_CIPHER, tls[1]))
            if text
        )
        # §2.2.6: 0 says that a certificate of the visitor's was verified, and anything else that none was
        client = _CLIENT_SSL | (_CLIENT_CERT_CONN | _CLIENT_CERT_SESS if verified else 0)
        values += _value(_SSL, struct.pack("!BI", client, not verified) + inner)
    block = visitor.packed + reached.packed + struct.pack("!HH", source[1], port) + values
    return _FIXED.pack(SIGNATURE, _PROXY, _TCP6 if kind is IPv6Address else _TCP4, len(block)) + block


def _value(kind: int, value: bytes) -> bytes:
    return _TLV.pack(kind, len(value)) + value


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ 0x82F63B78 if number & 1 else number >> 1
        table.append(number)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The checksum of §2.2.3 (Castagnoli, RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 255]
    return crc ^ 0xFFFFFFFF
