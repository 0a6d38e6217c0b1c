"""What of an origin's answer is believed."""

from __future__ import annotations

import pytest

from wormhole_tw.http.events import Framing, InformationalHead, ResponseHead
from wormhole_tw.http.h1 import H1ClientCodec

from .talk import ask, told

BAD = (1, "failed", 502, "bad-answer")


def head_of(data, method=b"GET", upgrade=None):
    codec = H1ClientCodec()
    ask(codec, method, upgrade)
    return codec.receive_data(data, 0.0)[0][1]


@pytest.mark.parametrize(
    ("start", "status", "reason", "version"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", (1, 1)),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found", (1, 0)),
        (b"HTTP/1.1 200 ", 200, b"", (1, 1)),
        (b"HTTP/1.1 200", 200, b"", (1, 1)),
        (b"HTTP/1.1 599 \xe9t\xe9\t!", 599, b"\xe9t\xe9\t!", (1, 1)),
        (b"HTTP/1.1 999 x", 999, b"x", (1, 1)),
    ],
)
def test_status_lines(start, status, reason, version):
    head = head_of(start + b"\r\nX: y\r\n\r\n")
    assert isinstance(head, ResponseHead)
    assert (head.status, head.reason, head.version, head.fields) == (status, reason, version, [(b"X", b"y")])


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.2 200 OK\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"http/1.1 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 099 OK\r\n",
        b"HTTP/1.1 200 O\x01K\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n",
        b"HTTP/1.1 200 OK\r\nX\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x01\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 103 Early\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
    ],
)
def test_heads_that_are_refused(head):
    codec = H1ClientCodec()
    ask(codec)
    assert told(codec, head + b"\r\n") == [BAD]
    assert codec.should_abort
    assert codec.should_close
    assert not codec.reusable


@pytest.mark.parametrize(
    ("method", "start", "fields", "framing", "length", "keep_alive"),
    [
        (b"GET", b"HTTP/1.1 200 OK", b"Content-Length: 5", Framing.LENGTH, 5, True),
        (b"GET", b"HTTP/1.1 200 OK", b"Content-Length: 0", Framing.LENGTH, 0, True),
        (b"GET", b"HTTP/1.1 200 OK", b"transfer-encoding: CHUNKED", Framing.CHUNKED, None, True),
        (b"GET", b"HTTP/1.1 200 OK", b"X: y", Framing.CLOSE, None, False),
        (b"GET", b"HTTP/1.1 200 OK", b"Content-Length: 5\r\nConnection: close", Framing.LENGTH, 5, False),
        (b"GET", b"HTTP/1.0 200 OK", b"Content-Length: 5", Framing.LENGTH, 5, False),
        (b"GET", b"HTTP/1.0 200 OK", b"Content-Length: 5\r\nConnection: Keep-Alive", Framing.LENGTH, 5, True),
        (b"HEAD", b"HTTP/1.1 200 OK", b"Content-Length: 5", Framing.NONE, 5, False),
        (b"HEAD", b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", Framing.NONE, None, False),
        (b"HEAD", b"HTTP/1.1 200 OK", b"X: y", Framing.NONE, None, False),
        (b"HEAD", b"HTTP/1.1 200 OK", b"Content-Length: 0", Framing.NONE, 0, True),
        (b"HEAD", b"HTTP/1.1 304 Not Modified", b"X: y", Framing.NONE, None, True),
        (b"GET", b"HTTP/1.1 304 Not Modified", b"Content-Length: 5", Framing.NONE, 5, False),
        (b"GET", b"HTTP/1.1 304 Not Modified", b"X: y", Framing.NONE, None, True),
        (b"GET", b"HTTP/1.1 204 No Content", b"X: y", Framing.NONE, None, True),
        (b"GET", b"HTTP/1.1 204 No Content", b"Content-Length: 0", Framing.NONE, None, True),
        (b"GET", b"HTTP/1.1 204 No Content", b"Content-Length: 5", Framing.NONE, None, False),
        (b"GET", b"HTTP/1.1 204 No Content", b"Transfer-Encoding: chunked", Framing.NONE, None, False),
    ],
)
def test_framing(method, start, fields, framing, length, keep_alive):
    head = head_of(start + b"\r\n" + fields + b"\r\n\r\n", method)
    assert isinstance(head, ResponseHead)
    assert (head.framing, head.length, head.keep_alive) == (framing, length, keep_alive)
    assert not {name.lower() for name, _ in head.fields} & {b"content-length", b"transfer-encoding"}


def test_fields_that_mean_something_in_requests_only_pass():
    head = head_of(b"HTTP/1.1 200 OK\r\nHost: x\r\nExpect: y\r\n\r\n")
    assert head.fields == [(b"Host", b"x"), (b"Expect", b"y")]


def test_interim_answers():
    assert head_of(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") == InformationalHead(103, [(b"Link", b"</a>")])


@pytest.mark.parametrize(
    ("offered", "head", "good"),
    [
        (b"websocket", b"HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n", True),
        (b"a, b", b"HTTP/1.1 101 x\r\nUpgrade: b\r\nConnection: keep-alive, upgrade\r\n", True),
        (b"websocket", b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n", False),
        (b"websocket", b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\n", False),
        (b"websocket", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n", False),
        (b"websocket", b"HTTP/1.0 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", False),
        (b"websocket", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n", False),
    ],
)
def test_switching(offered, head, good):
    codec = H1ClientCodec()
    ask(codec, upgrade=offered)
    assert told(codec, head + b"\r\n") == ([(1, "answer", 101)] if good else [BAD])
