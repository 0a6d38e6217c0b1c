"""What is left of a connection whose TLS is over: it ends, whoever still produces for it, and takes nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.net.engines import Conversation, HalfApp
from tests.net.pairs import turn
from tests.net.peers import server_context
from tests.net.services import Service, Talker, tls_peer
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import client_creator

pytestmark = pytest.mark.usefixtures("way_through_openssl")


@implementer(IPushProducer)
class Source:
    """Has more each time it is asked, and never an end; as a tunnel does."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.paused = False
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.paused = False
        for _ in range(200):
            if self.paused:
                break
            self.transport.write(b"x" * 65536)

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.stopped += 1


async def producing(service: Service, authority: DevCa, tmp_path: Path, reactor: Any) -> tuple[Talker, Any, Source]:
    """A connection whose peer does not read, and whose producer is paused for that."""
    await service.listen(tls_peer(server_context(tmp_path, authority.certificate_for([]))))
    talker = await service.dial(client_creator("localhost", ca_pem=authority.ca_pem))
    peer = service.accepted[0]
    await peer.handshake()
    peer.transport.pauseProducing()
    producer = Source(talker.transport)
    talker.transport.registerProducer(producer, True)
    producer.resumeProducing()
    for _ in range(20):
        await turn(reactor)
    assert producer.paused
    return talker, peer, producer


async def test_close_notify_ends_one_whose_producer_is_paused(
    service: Service, authority: DevCa, tmp_path: Path, reactor: Any
) -> None:
    talker, peer, producer = await producing(service, authority, tmp_path, reactor)
    peer.close_notify()
    await turn(reactor)
    peer.transport.resumeProducing()
    assert isinstance(await talker.gone(), ConnectionDone)
    assert producer.stopped == 1


async def test_an_abort_drops_what_a_peer_that_broke_tls_does_not_read(
    service: Service, authority: DevCa, tmp_path: Path, reactor: Any
) -> None:
    talker, peer, producer = await producing(service, authority, tmp_path, reactor)
    peer.transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    while not producer.stopped:
        await turn(reactor)
    talker.transport.abortConnection()
    try:
        assert isinstance(await talker.gone(), SSL.Error)
    finally:
        peer.transport.abortConnection()


def test_what_comes_behind_close_notify_is_not_kept(role: str, version: str) -> None:
    talk = Conversation(role, "ssl", version, app=HalfApp())
    talk.shake()
    talk.far.finish()
    talk.run()
    assert talk.app.events[-1] == "read lost"
    for _ in range(10):
        talk.tls.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))
    inside: Any = SSL
    assert inside._lib.BIO_read(talk.tls._tlsConnection._into_ssl, inside._ffi.new("char[]", 1), 1) <= 0
    talk.tls.write(b"answer")
    talk.run()
    assert talk.far.received == b"answer"
