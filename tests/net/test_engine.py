"""The TLS engine against itself, Twisted's TLS and the standard library's, in both roles and both versions."""

from __future__ import annotations

import hashlib

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests._support import sized
from tests.net.engines import HOST, App, Conversation, HalfApp, Matrix

pytestmark = pytest.mark.usefixtures("way_through_openssl")

BIG = sized(1_500_000, 30_000_000)


def test_there_and_back(matrix: Matrix) -> None:
    talk = Conversation(*matrix, alpn=(b"wormhole/1", b"http/1.1"))
    talk.shake()
    handle = talk.tls.getHandle()
    assert handle.get_protocol_version_name() == matrix[2]
    assert talk.tls.negotiatedProtocol == talk.far.alpn == b"wormhole/1"
    assert handle.get_servername() == HOST.encode()
    talk.tls.write(b"a question")
    talk.far.send(b"an answer")
    talk.run()
    assert talk.far.received == b"a question"
    assert talk.app.received == b"an answer"
    assert talk.app.events == ["made", "handshake", "data"]


@pytest.mark.parametrize("piece", [1, 7])
def test_every_octet_by_itself(matrix: Matrix, piece: int | None) -> None:
    talk = Conversation(*matrix, app=HalfApp())
    talk.wire.cut(piece)
    talk.shake()
    data = bytes(range(256)) * 8
    talk.tls.write(data)
    talk.far.send(data[::-1])
    talk.run()
    assert talk.far.received == data
    assert talk.app.received == data[::-1]
    talk.far.finish()
    talk.tls.loseWriteConnection()
    talk.run()
    assert talk.far.ended
    assert "read lost" in talk.app.events or talk.app.reason is not None


def test_large_transfers_both_ways_at_once(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    data = hashlib.shake_128(b"").digest(BIG)
    for start in range(0, BIG, 99_999):
        talk.tls.write(data[start : start + 99_999])
        talk.far.send(data[start : start + 99_999])
    talk.wire.cut(65_537)
    talk.run()
    assert talk.far.received == data
    assert talk.app.received == data


def test_our_close_notify_is_an_end_for_the_other(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.tls.write(b"the last word")
    talk.tls.loseConnection()
    talk.run()
    assert talk.far.received == b"the last word"
    assert talk.far.ended
    assert not talk.far.failed
    talk.far.finish()
    talk.run()
    assert isinstance(talk.app.reason, ConnectionDone)


@pytest.mark.parametrize("kind", [App, HalfApp])
def test_the_other_s_close_notify_is_an_end_for_us(matrix: Matrix, kind: type[App]) -> None:
    talk = Conversation(*matrix, app=kind())
    talk.shake()
    talk.far.send(b"the last word")
    talk.far.finish()
    talk.run()
    assert talk.app.received == b"the last word"
    if kind is HalfApp:
        assert talk.app.events[-1] == "read lost"
        if matrix[1] != "twisted":  # which hears nothing after loseConnection
            talk.tls.write(b"x" * 100_000)
            talk.run()
            assert len(talk.far.received) == 100_000
        talk.tls.loseConnection()
        talk.run()
    assert isinstance(talk.app.reason, ConnectionDone)
    assert talk.app.events[-1] == "lost"


@pytest.mark.parametrize("kind", [App, HalfApp])
@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection", "abortConnection"])
def test_an_end_without_close_notify_is_an_error(matrix: Matrix, kind: type[App], how: str) -> None:
    talk = Conversation(*matrix, app=kind())
    talk.shake()
    talk.far.send(b"half an ans")
    talk.run()
    getattr(talk.far_end, how)()
    talk.run()
    assert talk.app.received == b"half an ans"
    assert isinstance(talk.app.reason, ConnectionLost)
    assert talk.app.events == ["made", "handshake", "data", "lost"]


@pytest.mark.parametrize("kind", [App, HalfApp])
def test_half_a_record_is_an_error(matrix: Matrix, kind: type[App]) -> None:
    talk = Conversation(*matrix, app=kind())
    talk.shake()
    talk.run()  # tickets
    talk.far_end.barrier = talk.far_end.delivered + 20
    talk.far.send(b"this record never comes whole")
    talk.run()
    talk.far_end.abortConnection()
    talk.far_end.queue.clear()
    talk.run()
    assert talk.app.received == b""
    assert isinstance(talk.app.reason, ConnectionLost)


def test_what_we_abort_looks_broken_to_the_other(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.tls.write(b"half an ans")
    talk.run()
    talk.tls.abortConnection()
    talk.run()
    assert talk.far.received == b"half an ans"
    assert not talk.far.ended
    assert talk.far.failed
    assert talk.app.events[-1] == "lost"


def test_garbage_is_an_error(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.far_end.write(b"\x17\x03\x03\x00\x20" + b"g" * 32)
    talk.run()
    assert talk.app.reason is not None
    assert not isinstance(talk.app.reason, ConnectionDone)
    assert talk.far.failed
    assert talk.app.received == b""
