"""Transports that send at once: same order, backpressure and errors as Twisted's own, which are held to it too."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp, unix
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from zope.interface import implementer

from tests import _support
from tests.net.pairs import BIG, Pair, Peer, Push, buffered, turn
from wormhole_tw.errors import ConfigError
from wormhole_tw.net import choice
from wormhole_tw.net.immediate import (
    ImmediateClient,
    ImmediateServer,
    ImmediateUnixClient,
    ImmediateUnixServer,
    immediate_port,
    immediate_reactor,
)
from wormhole_tw.net.transport import BULK_READ, READ_SIZE, limit_unsent, not_sent

KINDS: dict[tuple[str, bool], tuple[type, type]] = {
    ("tcp", True): (ImmediateServer, ImmediateClient),
    ("tcp", False): (tcp.Server, tcp.Client),
    ("unix", True): (ImmediateUnixServer, ImmediateUnixClient),
    ("unix", False): (unix.Server, unix.Client),
}


async def test_both_sides_get_them(pair: Pair) -> None:
    async with pair:
        server, client = KINDS[pair.kind, pair.fast]
        assert type(pair.server.transport) is server
        assert type(pair.client.transport) is client


async def test_a_small_write_has_left_when_write_returns(pair: Pair, reactor: Any) -> None:
    async with pair:
        pair.client.transport.write(b"hello")
        handle: socket.socket = pair.server.transport.getHandle()
        if pair.fast:
            assert handle.recv(100, socket.MSG_PEEK) == b"hello"
            assert pair.client.transport not in reactor.getWriters()
        else:
            with pytest.raises(BlockingIOError):
                handle.recv(100, socket.MSG_PEEK)
            assert pair.client.transport in reactor.getWriters()


async def test_what_the_socket_refuses_follows_in_order_then_the_end(pair: Pair, reactor: Any) -> None:
    pieces = [bytes([number % 251]) * (1 + number * 37 % 90000) for number in range(200)]
    async with pair:
        pair.small()
        for piece in pieces:
            pair.client.transport.write(piece)
        assert pair.client.transport in reactor.getWriters()  # more than any socket takes at once
        pair.client.transport.writeSequence([b"and", b"then"])
        pair.client.transport.loseWriteConnection()
        await pair.server.ended
        assert pair.server.hash.digest() == hashlib.sha256(b"".join(pieces) + b"andthen").digest()
        pair.server.transport.write(b"heard")
        pair.server.transport.loseConnection()
        await pair.client.ended
        assert pair.client.size == 5
        pair.client.transport.loseConnection()
        assert isinstance(await pair.client.lost, ConnectionDone)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what it has not sent")
async def test_a_producer_is_paused_before_the_kernel_holds_megabytes(pair: Pair, reactor: Any) -> None:
    limit = 8192
    if pair.kind != "tcp" or not pair.fast:
        return  # the others know nothing of what the kernel holds
    async with pair:
        # a limit that any kernel reaches before its own buffer is full
        limit_unsent(pair.client.transport, limit)
        pair.server.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, BIG // 65536)
        producer.start()
        handle = pair.client.transport.getHandle()
        assert buffered(pair.client.transport) == 0
        assert limit < not_sent(handle) <= limit + 2 * 65536
        left = producer.left
        for _ in range(3):
            await turn(reactor)
        assert (producer.left, producer.paused) == (left, 1)  # nobody reads: it is not asked again
        pair.server.transport.resumeProducing()
        await pair.server.ended
        assert pair.server.size == BIG


async def test_reads_grow_while_they_fill_and_shrink_again(pair: Pair) -> None:
    if pair.kind != "tcp" or not pair.fast:
        return  # the others have one size
    async with pair:
        reads: list[int] = []
        receive = pair.server.dataReceived

        def received(data: bytes) -> None:
            reads.append(len(data))
            receive(data)

        pair.server.dataReceived = received  # type: ignore[method-assign]
        pair.client.transport.write(b"small")
        Push(pair.client.transport, BIG // 65536).start()
        await pair.server.ended
        assert pair.server.size == BIG + 5
        assert max(reads) <= BULK_READ
        for before, read in pairwise(reads):
            assert read <= READ_SIZE or before >= READ_SIZE


async def test_a_socket_that_takes_a_part_or_nothing(pair: Pair) -> None:
    async with pair:
        pair.small()
        pair.server.transport.pauseProducing()
        written = hashlib.sha256()
        size = 0
        refused = 0
        while refused < 3:
            piece = bytes([size % 251]) * 50_000
            pair.client.transport.write(piece)
            written.update(piece)
            size += len(piece)
            refused += bool(buffered(pair.client.transport))
        pair.client.transport.write(b"")
        assert buffered(pair.client.transport) > 50_000
        pair.server.transport.resumeProducing()
        pair.client.transport.loseConnection()
        pair.client.transport.loseConnection()
        await pair.server.ended
        assert (pair.server.size, pair.server.hash.digest()) == (size, written.digest())


async def test_a_write_after_the_peer_reset_is_told_by_connection_lost(pair: Pair) -> None:
    async with pair:
        pair.server.transport.abortConnection()
        await pair.server.lost
        for _ in range(3):
            pair.client.transport.write(b"into the void")
            assert not pair.client.lost.called, "never told out of a call"
        assert isinstance(await pair.client.lost, ConnectionLost | ConnectionDone)
        pair.client.transport.write(b"more")  # dropped, as Twisted drops it


@pytest.mark.parametrize("end", ["loseConnection", "loseWriteConnection", "abortConnection"])
async def test_an_error_found_by_a_direct_send_is_told_once_and_later(pair: Pair, end: str) -> None:
    async with pair:
        transport = pair.client.transport
        # Broken under its feet: the next send is EPIPE, as it is when the peer's reset came in this very turn.
        transport.getHandle().shutdown(socket.SHUT_WR)
        transport.write(b"into the void")
        assert not pair.client.lost.called
        transport.write(b"and again")
        getattr(transport, end)()
        transport.write(b"and again")
        assert not pair.client.lost.called
        # (Peer.connectionLost fails if it is called twice.)
        reason = await pair.client.lost
        assert isinstance(reason, ConnectionAborted if end == "abortConnection" else ConnectionLost)
        transport.write(b"and again")
        transport.loseConnection()
        transport.abortConnection()
        await turn(pair.reactor)


@pytest.mark.parametrize("reading", [True, False])
async def test_what_a_peer_said_before_it_reset_is_heard_though_the_write_fails_first(
    pair: Pair, reactor: Any, reading: bool
) -> None:
    family = socket.AF_UNIX if pair.kind == "unix" else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind(pair.path if pair.kind == "unix" else ("127.0.0.1", 0))
        listening.listen()
        dial = immediate_reactor(reactor)
        endpoint: Any
        if pair.kind == "unix":
            endpoint = UNIXClientEndpoint(dial, pair.path)
        else:
            endpoint = TCP4ClientEndpoint(dial, *listening.getsockname())
        client = pair.client
        await connectProtocol(endpoint, client)
        service, _ = listening.accept()
        client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        while not buffered(client.transport):
            client.transport.write(b"an upload " * 10_000)
            client.transport.doWrite()
        answer = b"413 Content Too Large " * 2_000
        service.sendall(answer)
        if not reading:
            client.transport.pauseProducing()
        service.close()  # with octets unread: a reset, all before the reactor looks at the sockets again
        # The reactor had asked only whether it may write: the failure comes before the look at what was said.
        reason = client.transport.doWrite()
        assert isinstance(reason, ConnectionLost)
        # Twisted's own end with the write that fails.
        assert client.size == (len(answer) if reading and pair.fast else 0)
        client.transport.resumeProducing()
        await client.lost


async def test_what_is_written_behind_lose_connection_still_leaves(pair: Pair) -> None:
    async with pair:
        transport = pair.client.transport
        transport.loseConnection()
        transport.write(b"one ")
        transport.write(b"more")
        assert not pair.client.lost.called, "never told out of a call"
        await pair.server.ended
        assert pair.server.size == 8
        pair.server.transport.loseConnection()
        assert isinstance(await pair.client.lost, ConnectionDone)


@pytest.mark.parametrize("small", [True, False])
async def test_what_does_not_fit_behind_lose_connection_still_leaves(pair: Pair, small: bool) -> None:
    async with pair:
        pair.small()
        if not small:
            pair.client.transport.write(bytes(1_000_000))
        pair.client.transport.loseConnection()
        pair.client.transport.write(bytes(1_000_000))
        await pair.server.ended
        assert pair.server.size == (1_000_000 if small else 2_000_000)
        assert isinstance(await pair.client.lost, ConnectionDone)


async def test_nothing_is_sent_after_an_abort(pair: Pair) -> None:
    async with pair:
        pair.client.transport.abortConnection()
        pair.client.transport.write(b"too late")
        # A Unix socket has no reset: an abort looks like any end there.
        await (pair.server.ended if pair.kind == "unix" else pair.server.lost)
        assert pair.server.size == 0
        assert isinstance(await pair.client.lost, ConnectionAborted)


async def test_nothing_is_sent_after_the_half_is_closed(pair: Pair) -> None:
    async with pair:
        pair.client.transport.write(b"in time")
        pair.client.transport.loseWriteConnection()
        await pair.server.ended
        pair.client.transport.write(b"too late")
        pair.server.transport.write(b"still heard")
        pair.server.transport.loseConnection()
        await pair.client.ended
        assert (pair.server.size, pair.client.size) == (7, 11)


async def test_written_out_of_data_received_and_out_of_resume(pair: Pair) -> None:
    class Echo(Peer):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.write(data)

        def readConnectionLost(self) -> None:
            super().readConnectionLost()
            self.transport.loseConnection()

    pair.server = Echo()
    async with pair:
        Push(pair.client.transport, BIG // 65536).start()
        await pair.client.ended
        assert pair.client.size == BIG
        assert pair.client.hash.digest() == pair.server.hash.digest()


@pytest.mark.parametrize("data", ["text", bytearray(b"octets"), memoryview(b"octets"), None])
async def test_what_is_no_bytes_is_refused(pair: Pair, data: Any) -> None:
    # Twisted's refuses them always; sent at once they would go through until the first full socket.
    async with pair:
        with pytest.raises(TypeError):
            pair.client.transport.write(data)
        pair.client.transport.loseConnection()
        await pair.server.ended
        assert pair.server.size == 0


async def test_descriptors_go_with_the_data_behind_them(reactor: Any, tmp_path: Path, transports: str) -> None:
    @implementer(IFileDescriptorReceiver)
    class Taker(Peer):
        events: list[Any] = []

        def fileDescriptorReceived(self, descriptor: int) -> None:
            self.events.append("descriptor")
            os.close(descriptor)

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.events.append(data)

    pair = Pair(reactor, "unix", tmp_path, transports == "fast")
    pair.server = taker = Taker()
    async with pair:
        sent, received = os.pipe()
        pair.client.transport.write(b"before")
        pair.client.transport.sendFileDescriptor(sent)
        pair.client.transport.write(b"after")
        pair.client.transport.loseConnection()
        await pair.server.ended
        os.close(sent)
        os.close(received)
        data = b"".join(event for event in taker.events if event != "descriptor")
        assert data == b"beforeafter"
        assert taker.events.count("descriptor") == 1


def test_other_reactors_and_ports_are_left_alone() -> None:
    clock = Clock()
    assert immediate_reactor(clock) is clock

    class Other(tcp.Port):
        pass

    port = Other(0, Factory(), reactor=clock)
    assert immediate_port(port) is port
    assert port.transport is tcp.Server


async def test_the_choice_is_the_operators(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, ours in (("fast", True), ("", True), (" Twisted ", False)):
        monkeypatch.setenv(choice.VARIABLE, said)
        assert choice.ours() is ours
        assert (immediate_reactor(reactor) is not reactor) is ours
    monkeypatch.delenv(choice.VARIABLE)
    assert choice.ours()
    monkeypatch.setenv(choice.VARIABLE, "slow")
    with pytest.raises(ConfigError, match=r"^WORMHOLE_TRANSPORTS: fast or twisted, not 'slow'$"):
        immediate_reactor(reactor)
    assert _support.TRANSPORTS == choice.VARIABLE
