"""Bulk through the TLS engine: pieces that are not joined, and views that are not copied."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from tests.net.engines import App, Conversation, Matrix
from tests.net.pairs import Pair, buffered
from wormhole_tw.net.records import RECORD_SIZE
from wormhole_tw.net.tls_transport import TlsTransport, exchange_views, rest, write_at_once

pytestmark = pytest.mark.usefixtures("way_through_openssl")

SIZES = [8, 65_528, 8, 100, 3 * RECORD_SIZE, 1, RECORD_SIZE, RECORD_SIZE - 1, 8, RECORD_SIZE + 1, 400_000, 7]


def pieces_of(sizes: list[int]) -> list[bytes | memoryview]:
    made = [os.urandom(size) for size in sizes]
    return [memoryview(piece) if number % 2 else piece for number, piece in enumerate(made)]


def test_pieces_arrive_as_one(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    if not isinstance(talk.tls, TlsTransport):
        return  # Twisted's has no such method
    talk.shake()
    pieces = pieces_of(SIZES)
    talk.tls.write(b"before")  # waits for the end of the turn, so they wait with it
    talk.tls.write_pieces(pieces)
    talk.run()
    talk.tls.write_pieces(pieces)
    talk.tls.write(b"behind")
    talk.tls.write_pieces(pieces[:3])
    talk.run()
    whole = b"".join(pieces)
    assert talk.far.received == b"before" + whole + whole + b"behind" + b"".join(pieces[:3])


def test_pieces_before_the_handshake_and_after_the_end(role: str, version: str) -> None:
    class Early(App):
        def connectionMade(self) -> None:
            super().connectionMade()
            if isinstance(self.transport, TlsTransport):
                self.transport.write_pieces(pieces)

    pieces = pieces_of(SIZES)
    talk = Conversation(role, "ssl", version, app=Early())
    if not isinstance(talk.tls, TlsTransport):
        return
    talk.run()
    assert talk.far.received == b"".join(pieces)
    talk.tls.loseWriteConnection()
    talk.tls.write_pieces(pieces)
    talk.run()
    talk.tls.abortConnection()
    talk.tls.write_pieces(pieces)
    assert talk.far.received == b"".join(pieces)


def test_a_header_shares_its_datas_first_record(role: str) -> None:
    talk = Conversation(role, "ssl", "TLSv1.3")
    if not isinstance(talk.tls, TlsTransport):
        return
    talk.shake()
    talk.run()  # session tickets, too
    before = talk.near_end.delivered
    talk.tls.write_pieces([bytes(8), bytes(4 * RECORD_SIZE - 8)])
    talk.run()
    overhead = 22  # header 5, type 1, tag 16
    assert talk.near_end.delivered - before == 4 * (RECORD_SIZE + overhead)


def test_a_protocol_that_takes_views_gets_the_same_octets(role: str, version: str) -> None:
    kinds: set[type] = set()

    class Viewer(App):
        def dataReceived(self, data: Any) -> None:
            kinds.add(type(data))
            super().dataReceived(bytes(data))

    talk = Conversation(role, "ssl", version, app=Viewer())
    if exchange_views(talk.tls) is None:
        assert not isinstance(talk.tls, TlsTransport)
        return
    talk.shake()
    said = os.urandom(1_000_000)
    talk.far.send(said[:10])
    talk.run()
    talk.far.send(said[10:])
    talk.run()
    assert talk.app.received == said
    assert kinds <= {bytes, memoryview}


def test_at_once_is_before_the_turn_ends(role: str) -> None:
    talk = Conversation(role, "ssl", "TLSv1.3")
    talk.shake()
    write_at_once(talk.tls)
    sent = len(talk.near_end.queue)
    talk.tls.write(b"now")
    assert len(talk.near_end.queue) > sent  # Twisted's always writes at once
    talk.run()
    assert talk.far.received == b"now"


def test_a_rest_at_any_time_changes_nothing(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    rest(talk.tls)  # the handshake has not begun
    talk.shake()
    for _ in range(3):
        rest(talk.tls)
        talk.tls.write(b"here ")
        rest(talk.tls)  # it waits for the end of the turn
        talk.run()
        talk.far.send(b"there ")
        talk.run()
    rest(talk.tls)
    talk.far.finish()
    rest(talk.tls)
    talk.run()
    rest(talk.tls)
    assert talk.far.received == b"here " * 3
    assert talk.app.received == b"there " * 3
    assert talk.app.events[-1] == "lost"
    rest(talk.tls.transport)  # no TLS, nothing to do


async def test_what_a_socket_refuses_of_a_view_is_copied(pair: Pair) -> None:
    if not pair.fast:
        return  # Twisted's has no such method
    async with pair:
        pair.small()
        scratch = bytearray(os.urandom(1_000_000))
        said = bytes(scratch)
        pair.client.transport.write_view(memoryview(scratch))
        assert buffered(pair.client.transport) > 0
        scratch[:] = bytes(len(scratch))  # it is ours again
        pair.client.transport.write_view(memoryview(said))  # behind what waits
        pair.client.transport.write_view(b"and bytes")
        pair.client.transport.loseConnection()
        await pair.server.ended
        assert pair.server.size == 2 * len(said) + 9
        assert pair.server.hash.digest() == hashlib.sha256(said + said + b"and bytes").digest()
