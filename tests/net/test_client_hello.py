"""ClientHellos read before TLS is, made by OpenSSL: cut in every place, split over records, and broken."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.net.client_hello import MAX_EXTENSIONS, MAX_SESSIONS, ClientHello, read_client_hello


def hello(name: str | None = "app.example.test", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = version
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


HELLO = hello()
APP = ClientHello(b"app.example.test", ())


def record(content: bytes, version: bytes = b"\x03\x01") -> bytes:
    return b"\x16" + version + len(content).to_bytes(2, "big") + content


def test_the_name_that_openssl_sends() -> None:
    assert read_client_hello(HELLO) == APP
    assert read_client_hello(hello(version=ssl.TLSVersion.TLSv1_2)) == APP
    assert read_client_hello(hello(None)) == ClientHello(None, ())
    # what comes behind is not its own
    assert read_client_hello(HELLO + b"\x17\x03\x03\0\1x") == APP


def test_cut_in_every_place_it_is_not_whole() -> None:
    for size in range(len(HELLO)):
        assert read_client_hello(HELLO[:size]) is None, size


def test_in_records_of_every_size() -> None:
    content = HELLO[5:]
    for size in (len(content) // 60, 100, len(content) - 1):
        records = b"".join(record(content[at : at + size]) for at in range(0, len(content), size))
        assert read_client_hello(records) == APP
        assert read_client_hello(records[:-1]) is None
    small = b"".join(record(content[at : at + 1]) for at in range(5)) + record(content[5:])
    for cut in range(len(small)):
        assert read_client_hello(small[:cut]) is None, cut
    assert read_client_hello(small) == APP
    with pytest.raises(ValueError, match="so many records"):
        read_client_hello(b"".join(record(content[at : at + 1]) for at in range(len(content))))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02",  # SSL 2, or no TLS at all
        b"\x16\x03\x01\0\0",  # an empty record
        b"\x16\x03\x01\xff\xff",  # a longer one than there may be
        record(b"\x02\0\0\0"),  # another message
        record(b"\1\0\0\1\3"),
        record(b"\1"[:1]) + b"\x17\x03\x03\0\1x",  # another record within
    ],
)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="no "):
        read_client_hello(data)


def extensions(*found: tuple[int, bytes], behind: bytes = b"") -> bytes:
    block = b"".join(kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content for kind, content in found)
    message = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(block).to_bytes(2, "big") + block + behind
    return record(b"\1" + len(message).to_bytes(3, "big") + message)


def server_name(*names: tuple[int, bytes], behind: bytes = b"") -> tuple[int, bytes]:
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for kind, name in names)
    return 0, len(listed).to_bytes(2, "big") + listed + behind


def test_extensions() -> None:
    assert read_client_hello(extensions(server_name((0, b"a.test")))) == ClientHello(b"a.test", ())
    assert read_client_hello(extensions((41, b"\0\x0b\0\5abcde\0\0\0\1"))) == ClientHello(None, (b"abcde",))
    many = extensions(server_name((0, b"a.test")), *((kind, b"") for kind in range(100, 99 + MAX_EXTENSIONS)))
    assert read_client_hello(many) == ClientHello(b"a.test", ())
    sessions = b"".join(b"\0\1" + bytes([number]) + bytes(4) for number in range(200))
    found = read_client_hello(extensions((41, len(sessions).to_bytes(2, "big") + sessions)))
    assert found == ClientHello(None, tuple(bytes([number]) for number in range(MAX_SESSIONS)))
    message = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"  # none, as in TLS 1.2
    assert read_client_hello(record(b"\1" + len(message).to_bytes(3, "big") + message)) == ClientHello(None, ())


@pytest.mark.parametrize(
    "data",
    [
        extensions(server_name((0, b"a.test"), (0, b"b.test"))),  # OpenSSL takes one name only
        extensions(server_name((1, b"a.test"))),
        extensions(server_name((0, b"a.test"), behind=b"x")),
        extensions(server_name((0, b"a\0.test"))),
        extensions(server_name((0, b"a" * 256))),
        extensions(server_name((0, b"a.test")), server_name((0, b"b.test"))),
        extensions(server_name((0, b"a.test")), behind=b"x"),
        extensions(server_name((0, b"a.test")), *((kind, b"") for kind in range(100, 100 + MAX_EXTENSIONS))),
        extensions((0, b"\0\5\0\0\x09")),
        extensions((41, b"\0\3\0\1a")),
    ],
)
def test_what_openssl_would_refuse(data: bytes) -> None:
    with pytest.raises(ValueError, match="no valid"):
        read_client_hello(data)


@given(st.binary(max_size=400))
def test_anything(data: bytes) -> None:
    try:
        found = read_client_hello(b"\x16\x03" + data)
    except ValueError:
        return
    assert found is None or isinstance(found, ClientHello)


@given(st.integers(9, len(HELLO) - 1), st.integers(0, 255))
def test_one_octet_changed(at: int, octet: int) -> None:
    changed = bytearray(HELLO)
    changed[at] = octet
    try:
        read_client_hello(bytes(changed))
    except ValueError:
        assert changed[at] != HELLO[at]
