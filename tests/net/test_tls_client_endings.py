"""How connections of the client side of TLS end, over real sockets; the standard library is the other side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.net.peers import server_context
from tests.net.services import HalfTalker, Service, Talker, tls_peer, turn
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import client_creator


async def test_half_close_ours_first(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem), HalfTalker())
    peer = service.accepted[0]
    talker.transport.write(b"question" * 50_000)
    talker.transport.loseWriteConnection()
    talker.transport.loseWriteConnection()
    talker.transport.write(b"too late")
    await peer.until(lambda: peer.closed)
    assert peer.received == b"question" * 50_000
    assert talker.events == ["handshake", "write lost"]
    peer.send(b"answer" * 50_000)
    await talker.until(lambda: len(talker.received) == 300_000)
    peer.close_notify()
    await talker.until(lambda: "read lost" in talker.events)
    talker.transport.loseConnection()
    assert isinstance(await talker.gone(), ConnectionDone)


async def test_half_close_theirs_first(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem), HalfTalker())
    peer = service.accepted[0]
    await peer.handshake()
    peer.send(b"all I say")
    peer.close_notify()
    await talker.until(lambda: "read lost" in talker.events)
    assert talker.received == b"all I say"
    talker.transport.write(b"x" * 300_000)
    await peer.until(lambda: len(peer.received) == 300_000)
    talker.transport.loseConnection()
    assert isinstance(await talker.gone(), ConnectionDone)
    assert talker.events == ["handshake", "read lost"]


async def test_close_notify_and_fin_still_let_us_write(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem), HalfTalker())
    peer = service.accepted[0]
    await peer.handshake()
    peer.close_notify()
    peer.transport.loseWriteConnection()
    await talker.until(lambda: "read lost" in talker.events)
    talker.transport.write(b"x" * 300_000)
    talker.transport.loseWriteConnection()
    await peer.until(lambda: len(peer.received) == 300_000)
    talker.transport.loseConnection()
    assert isinstance(await talker.gone(), ConnectionDone)


async def test_a_whole_protocol_is_closed_by_close_notify(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    await peer.handshake()
    peer.send(b"last words")
    peer.close_notify()
    assert isinstance(await talker.gone(), ConnectionDone)
    assert talker.received == b"last words"


@pytest.mark.parametrize("kind", [Talker, HalfTalker])
async def test_truncation_is_an_error(service: Service, authority: DevCa, tmp_path: Path, kind: type[Talker]) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem), kind())
    peer = service.accepted[0]
    await peer.handshake()
    peer.send(b"half an ans")
    peer.transport.loseConnection()
    assert isinstance(await talker.gone(), ConnectionLost)
    assert talker.received == b"half an ans"
    assert "read lost" not in talker.events


async def test_lose_connection_sends_everything_first(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    talker.transport.write(b"y" * 1_000_000)
    talker.transport.loseConnection()
    talker.transport.write(b"too late")
    await peer.until(lambda: peer.closed)
    assert len(peer.received) == 1_000_000
    peer.close_notify()
    assert isinstance(await talker.gone(), ConnectionDone)


async def test_abort_drops_what_waits(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    await peer.handshake()
    talker.transport.write(b"never sent")
    talker.transport.abortConnection()
    talker.transport.abortConnection()
    await talker.gone()
    await peer.gone()
    assert peer.received == b""


async def test_garbage_after_the_handshake_is_an_error(service: Service, authority: DevCa, tmp_path: Path) -> None:
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    await peer.handshake()
    peer.transport.write(b"\x17\x03\x03\x00\x20" + b"g" * 32)
    assert isinstance(await talker.gone(), SSL.Error | ConnectionLost)


async def test_backpressure_reaches_the_producer(
    service: Service, authority: DevCa, tmp_path: Path, reactor: Any
) -> None:
    class Producer:
        paused = 0
        resumed = 0

        def pauseProducing(self) -> None:
            self.paused += 1

        def resumeProducing(self) -> None:
            self.resumed += 1
            talker.look()

        def stopProducing(self) -> None:
            pass

    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    await peer.handshake()
    peer.transport.pauseProducing()
    producer = Producer()
    talker.transport.registerProducer(producer, True)
    written = 0
    while not producer.paused:
        talker.transport.write(b"z" * 32_768)
        written += 32_768
        if written % (32 * 32_768) == 0:
            await turn(reactor)
        assert written < 64 << 20
    peer.transport.resumeProducing()
    await talker.until(lambda: producer.resumed == 1)
    talker.transport.unregisterProducer()
    await peer.until(lambda: len(peer.received) == written)
