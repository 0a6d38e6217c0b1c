"""What is a request and what is refused, with which status."""

from __future__ import annotations

import pytest

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import End, Framing, RequestHead
from wormhole_tw.http.h1 import H1Limits, H1ServerCodec
from wormhole_tw.http.h1.fields import read_fields

from .talk import GET, said, told

HOST = b"Host: a.test\r\n"


def first(data, limits=None):
    """What the first event of these bytes says."""
    codec = H1ServerCodec(limits) if limits else H1ServerCodec()
    return told(codec, data)[0][1:]


def head_of(data) -> RequestHead:
    event = H1ServerCodec().receive_data(data, 0.0)[0][1]
    assert isinstance(event, RequestHead), event
    return event


def test_a_plain_request():
    codec = H1ServerCodec()
    assert codec.receive_data(b"GET /a?b HTTP/1.1\r\nHost: A.test:8443\r\nX-Y:  z \t\r\n\r\n", 0.0) == [
        (1, RequestHead(b"GET", b"/a?b", b"A.test:8443", (1, 1), [(b"Host", b"A.test:8443"), (b"X-Y", b"z")])),
        (1, End()),
    ]


@pytest.mark.parametrize(
    "method", [b"GET", b"PROPFIND", b"MERGE", b"X-INVENTED", b"get", b"M-SEARCH", b"SOURCE", b"PRI"]
)
def test_any_token_is_a_method(method):
    assert first(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n") == ("request", method, b"/")


@pytest.mark.parametrize(
    ("start", "status", "reason"),
    [
        (b"GET / HTTP/2.0", 505, "bad-version"),
        (b"GET / HTTP/1.2", 505, "bad-version"),
        (b"GET / HTTP/0.9", 505, "bad-version"),
        (b"GET / HTTP/1", 400, "bad-request"),
        (b"GET / HTTP/01.1", 400, "bad-request"),
        (b"GET / HTTP/1.10", 400, "bad-request"),
        (b"GET / http/1.1", 400, "bad-request"),
        (b"GET / HTTP/1.1 ", 400, "bad-request"),
        (b"GET /", 400, "bad-request"),
        (b"GET", 400, "bad-request"),
        (b" GET / HTTP/1.1", 400, "bad-request"),
        (b"GET  / HTTP/1.1", 400, "bad-request"),
        (b"GET\t/ HTTP/1.1", 400, "bad-request"),
        (b"G(T / HTTP/1.1", 400, "bad-request"),
        (b"GET /a b HTTP/1.1", 400, "bad-request"),
        (b"GET /\x7f HTTP/1.1", 400, "bad-target"),
        (b"GET /caf\xc3\xa9 HTTP/1.1", 400, "bad-target"),
        (b"GET /#x HTTP/1.1", 400, "bad-target"),
        (b"GET x HTTP/1.1", 400, "bad-request"),
        (b"GET * HTTP/1.1", 400, "bad-target"),
        (b"GET ftp://a.test/ HTTP/1.1", 400, "bad-target"),
        (b"GET http://u@a.test/ HTTP/1.1", 400, "bad-host"),
        (b"CONNECT a.test:443 HTTP/1.1", 501, "connect-refused"),
        (b"TRACE / HTTP/1.1", 501, "trace-refused"),
        (b"TRACE / HTTP/1.1\r\ncontent-length: 0", 400, "bad-request"),
        (b"M" * 33 + b" / HTTP/1.1", 501, "method-too-long"),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1", 414, "target-too-long"),
    ],
)
def test_request_lines_that_are_refused(start, status, reason):
    assert first(start + b"\r\n" + HOST + b"\r\n") == ("failed", status, reason)


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        (b"", 400, "bad-host"),
        (HOST + HOST, 400, "bad-host"),
        (b"Host:\r\n", 400, "bad-host"),
        (b"Host: a.test, b.test\r\n", 400, "bad-host"),
        (b"Host: a.test:x\r\n", 400, "bad-host"),
        (HOST + b"X : y\r\n", 400, "bad-request"),
        (HOST + b"X\r\n", 400, "bad-request"),
        (HOST + b": y\r\n", 400, "bad-request"),
        (HOST + b"X(: y\r\n", 400, "bad-request"),
        (HOST + b"X: y\r\n z\r\n", 400, "bad-request"),
        (HOST + b"X:\r\n\tz\r\n", 400, "bad-request"),
        (b" X: y\r\n" + HOST, 400, "bad-request"),
        (HOST + b"X: y\nZ: z\r\n", 400, "bad-request"),
        (HOST + b"X: y\rZ: z\r\n", 400, "bad-request"),
        (HOST + b"X: y\r\r\n", 400, "bad-request"),
        (HOST + b"X: y\0\r\n", 400, "bad-request"),
        (HOST + b"X: \x01\r\n", 400, "bad-request"),
        (HOST + b"X: \x7f\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 1, 1\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: +1\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: -1\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 0x1\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 1_0\r\n", 400, "bad-request"),
        (HOST + b"Content-Length:\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 1000000000000000000\r\n", 400, "bad-content-length"),
        (HOST + b"Content-Length: 99999999999999999999999\r\n", 400, "bad-request"),
        (HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400, "bad-request"),
        (HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, "bad-request"),
        (HOST + b"Transfer-Encoding: gzip\r\n", 501, "bad-transfer-encoding"),
        (HOST + b"Transfer-Encoding: xchunked\r\n", 501, "bad-transfer-encoding"),
        (HOST + b"Transfer-Encoding: gzip, chunked\r\n", 501, "bad-transfer-encoding"),
        (HOST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 400, "bad-transfer-encoding"),
        (HOST + b"Transfer-Encoding: chunked, chunked\r\n", 400, "bad-request"),
        (HOST + b"Transfer-Encoding: chunked,\r\n", 400, "bad-request"),
        (HOST + b"Transfer-Encoding:\r\n", 400, "bad-request"),
        (HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, "bad-request"),
        (HOST + b"Expect: 200-ok\r\n", 417, "bad-expect"),
        (HOST + b"Expect: 100-continue\r\nExpect: 100-continue\r\n", 417, "bad-expect"),
        (HOST + b"Connection: upgrade\r\nUpgrade: web socket\r\n", 400, "bad-upgrade"),
        (HOST + b"Connection: upgrade\r\nUpgrade: a/(\r\n", 400, "bad-upgrade"),
        (HOST + b"X: y\r\n" * 100, 431, "too-many-fields"),
        (HOST + b"X: " + b"y" * 32768 + b"\r\n", 431, "head-too-large"),
    ],
)
def test_fields_that_are_refused(fields, status, reason):
    assert first(b"GET / HTTP/1.1\r\n" + fields + b"\r\n") == ("failed", status, reason)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_a_value(octet):
    seen = first(b"GET / HTTP/1.1\r\n" + HOST + b"X: a" + bytes([octet]) + b"b\r\n\r\n")
    good = octet == 9 or (octet >= 32 and octet != 127)
    assert seen == (("request", b"GET", b"/") if good else ("failed", 400, "bad-request"))


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_a_name(octet):
    seen = first(b"GET / HTTP/1.1\r\n" + HOST + b"Xa" + bytes([octet]) + b"b: c\r\n\r\n")
    good = bytes([octet]).isalnum() or octet in b"!#$%&'*+-.^_`|~:"
    assert seen == (("request", b"GET", b"/") if good else ("failed", 400, "bad-request"))


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_a_target(octet):
    seen = first(b"GET /a" + bytes([octet]) + b"b HTTP/1.1\r\n" + HOST + b"\r\n")
    good = 33 <= octet <= 126 and octet != 0x23
    assert (seen[0] == "request") is good
    assert good or seen[1] == 400


def test_a_hundred_fields_are_taken():
    assert first(b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 99 + b"\r\n")[0] == "request"


@pytest.mark.parametrize(
    ("fields", "framing", "length"),
    [
        (b"", Framing.NONE, None),
        (b"Content-Length: 0\r\n", Framing.LENGTH, 0),
        (b"Content-Length: 007\r\n", Framing.LENGTH, 7),
        (b"content-length:\t5\r\n", Framing.LENGTH, 5),
        (b"transfer-encoding: Chunked \r\n", Framing.CHUNKED, None),
    ],
)
def test_framing(fields, framing, length):
    head = head_of(b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
    assert (head.framing, head.length) == (framing, length)
    assert head.fields == [(b"Host", b"a.test")]


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: Close\r\n", False),
        (b"1.1", b"Connection: x, close\r\n", False),
        (b"1.1", b"Connection: close\r\nConnection: keep-alive\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_keep_alive(version, fields, keep_alive):
    assert head_of(b"GET / HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n").keep_alive is keep_alive


def test_http_1_0():
    assert head_of(b"GET / HTTP/1.0\r\n\r\n").authority == b""
    assert first(b"GET / HTTP/1.0\r\nHost:\r\n\r\n") == ("failed", 400, "bad-host")
    assert first(b"GET / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n") == (
        "failed",
        400,
        "bad-transfer-encoding",
    )
    head = head_of(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert head.expect_continue is False


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Expect: 100-Continue\r\nContent-Length: 3\r\n", True),
        (b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", True),
        (b"Expect: 100-continue\r\nContent-Length: 0\r\n", False),
        (b"Expect: 100-continue\r\n", False),
        (b"Content-Length: 3\r\n", False),
    ],
)
def test_expectations(fields, expected):
    assert head_of(b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n").expect_continue is expected


@pytest.mark.parametrize(
    ("version", "fields", "upgrade"),
    [
        (b"1.1", b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: a/1.0\r\nUpgrade: b\r\n", b"a/1.0, b"),
        (b"1.1", b"Upgrade: websocket\r\n", None),
        (b"1.1", b"Connection: upgrade\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: ,\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", b"websocket"),
        (b"1.1", b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket, H2C\r\n", None),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", None),
        (b"1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ],
)
def test_upgrades(version, fields, upgrade):
    assert head_of(b"GET / HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n").upgrade == upgrade


@pytest.mark.parametrize(
    ("start", "host", "target", "authority"),
    [
        (b"GET http://b.test:80/x?y", b"a.test", b"/x?y", b"b.test:80"),
        (b"GET HTTP://b.test", b"a.test", b"/", b"b.test"),
        (b"OPTIONS http://b.test", b"b.test", b"*", b"b.test"),
        (b"OPTIONS *", b"a.test", b"*", b"a.test"),
    ],
)
def test_the_target_s_authority_takes_the_place_of_host(start, host, target, authority):
    head = head_of(start + b" HTTP/1.1\r\nX: y\r\nHost: " + host + b"\r\n\r\n")
    assert (head.target, head.authority) == (target, authority)
    assert [value for name, value in head.fields if name == b"Host"] == [authority]


def test_absolute_form_needs_a_good_host_all_the_same():
    assert first(b"GET http://a.test/ HTTP/1.1\r\n\r\n") == ("failed", 400, "bad-host")
    assert first(b"GET http://a.test/ HTTP/1.1\r\nHost: a b\r\n\r\n") == ("failed", 400, "bad-host")
    assert head_of(b"GET http://a.test/ HTTP/1.0\r\n\r\n").fields == [(b"Host", b"a.test")]


def test_one_blank_line_before_a_request_is_skipped_not_two():
    codec = H1ServerCodec()
    assert told(codec, b"\r") == []
    assert told(codec, b"\n") == []
    assert codec.idle
    assert told(codec, GET)[0] == (1, "request", b"GET", b"/")
    assert first(b"\r\n" + GET) == ("request", b"GET", b"/")
    assert first(b"\r\n\r\n" + GET) == ("failed", 400, "bad-request")
    assert first(b"\n" + GET) == ("failed", 400, "bad-request")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nX: y\rZ", b"\x16\x03\x01\0", b"\r\n\r\n"])
def test_what_no_head_has_is_refused_before_its_end(data):
    assert first(data) == ("failed", 400, "bad-request")


def test_sizes_are_refused_before_a_head_s_end():
    assert first(b"G" * 40000) == ("failed", 400, "bad-request")
    assert first(b"GET " + b"a" * 40000) == ("failed", 414, "target-too-long")
    assert first(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nX: " + b"a" * 40000) == ("failed", 414, "target-too-long")
    assert first(b"GET / HTTP/1.1\r\nX: " + b"a" * 40000) == ("failed", 431, "head-too-large")
    assert first(b"GET / HTTP/1.1\r\nX: " + b"a\n" * 40000) == ("failed", 400, "bad-request")
    small = H1Limits(head=64, fields=2, target=10, method=4)
    assert first(GET, small)[0] == "request"
    assert first(b"GET /0123456789 HTTP/1.1\r\n" + HOST + b"\r\n", small) == ("failed", 414, "target-too-long")
    assert first(b"PATCH / HTTP/1.1\r\n" + HOST + b"\r\n", small) == ("failed", 501, "method-too-long")


def test_a_breach_comes_first_whatever_else_is_wrong():
    """However the bytes are cut, the refusal is the same."""
    data = b"GET / HTTP/2.0\r\nX: a\rb\r\n\r\n"
    whole, cut = H1ServerCodec(), H1ServerCodec()
    assert told(whole, data) == [(1, "failed", 400, "bad-request")]
    assert told(cut, data[:20]) + told(cut, data[20:]) == [(1, "failed", 400, "bad-request")]


def test_a_head_that_is_read_otherwise_than_it_is_counted_is_refused():
    """No such bytes are known; the rule stands for those that are not."""
    with pytest.raises(HttpError) as caught:
        read_fields(GET + b"GET / HTTP/1.1\r\nX: y\r\n\r\n", H1Limits(), response=False)
    assert caught.value.reason == "bad-request"


def test_no_message_of_a_refusal_repeats_the_bytes():
    for data in (b"GET /s3cret\x7f HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: s3cret,\r\n\r\n"):
        codec = H1ServerCodec()
        event = codec.receive_data(data, 0.0)[0][1]
        assert "s3cret" not in event.error.message
        assert "s3cret" not in str(event.error)
        assert said(codec) == b""
