"""Producers on transports that send at once: paused, resumed and stopped as on Twisted's own."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from tests.net.pairs import BIG, Pair, Push, buffered, turn


async def test_a_push_producer_is_paused_by_a_reader_that_does_not_read(pair: Pair) -> None:
    async with pair:
        pair.small()
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, BIG // 65536)
        producer.start()
        # The kernel takes some of it, in turns.
        while buffered(pair.client.transport) <= 65536:
            await turn(pair.reactor)
        assert producer.paused
        assert producer.left
        pair.server.transport.resumeProducing()
        await pair.server.ended
        assert pair.server.size == BIG
        assert producer.most_buffered <= 3 * 65536


@implementer(IPullProducer)
class Pull:
    def __init__(self, transport: Any, left: int) -> None:
        self.transport = transport
        self.left = left

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            self.transport.write(b"y" * 1000)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        pass


async def test_a_pull_producer_is_asked_again_and_again(pair: Pair) -> None:
    async with pair:
        pair.client.transport.registerProducer(Pull(pair.client.transport, 50), False)
        await pair.server.ended
        assert pair.server.size == 50000


async def test_one_producer_after_another_and_writes_between(pair: Pair) -> None:
    class Few(Pull):
        def __init__(self, transport: Any) -> None:
            super().__init__(transport, 3)
            self.done: Deferred[None] = Deferred()

        def resumeProducing(self) -> None:
            self.left -= 1
            self.transport.write(b"%d" % self.left)
            if not self.left:
                self.transport.unregisterProducer()
                self.done.callback(None)

    async with pair:
        transport = pair.client.transport
        pushing = Push(transport, 0)
        for _ in range(3):
            pulled = Few(transport)
            transport.write(b"<")
            transport.registerProducer(pulled, False)
            with pytest.raises(RuntimeError):
                transport.registerProducer(pushing, True)
            await pulled.done
            transport.registerProducer(pushing, True)
            transport.write(b"-")
            transport.unregisterProducer()
            transport.write(b">")
        transport.loseConnection()
        await pair.server.ended
        assert pair.server.hash.digest() == hashlib.sha256(b"<210->" * 3).digest()


async def test_lose_connection_waits_for_the_producer_and_for_what_it_writes(pair: Pair) -> None:
    async with pair:
        transport = pair.client.transport
        transport.registerProducer(Push(transport, 0), True)
        transport.loseConnection()
        transport.write(b"late, ")
        await turn(pair.reactor)
        assert not pair.client.lost.called
        transport.write(b"and in time")
        transport.unregisterProducer()
        await pair.server.ended
        assert pair.server.size == 17
        assert isinstance(await pair.client.lost, ConnectionDone)


async def test_a_producer_is_stopped_when_the_connection_breaks(pair: Pair) -> None:
    async with pair:
        pair.server.transport.pauseProducing()
        producer = Push(pair.client.transport, 1 << 20)
        producer.start()
        assert producer.left
        pair.server.transport.abortConnection()
        await pair.client.lost
        assert producer.stopped == 1
        late = Push(pair.client.transport, 1)
        pair.client.transport.registerProducer(late, True)
        assert late.stopped == 1
