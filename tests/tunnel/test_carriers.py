"""What every carrier gives a link, whatever it is made of: all octets, in order, backpressure, and an end."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.tunnel.links import HTTP, TCP, Echo, HalfReader, PushProducer, Sockets
from wormhole_tw.errors import LinkLost, LinkRefused
from wormhole_tw.tunnel import carriers
from wormhole_tw.tunnel.endpoints import StreamEndpoint
from wormhole_tw.wire.codes import GoawayCode

CARRIERS = ("tls", "websocket")


def test_every_carrier_is_held_to_this() -> None:
    assert sorted(CARRIERS) == sorted(module.name for module in pkgutil.iter_modules(carriers.__path__))


@pytest_twisted.async_yield_fixture(params=CARRIERS)
async def sockets(request: Any, reactor: Any, tmp_path: Path) -> AsyncIterator[Sockets]:
    made = Sockets(reactor, tmp_path / "dev", carrier=request.param)
    await made.connect()
    yield made
    await made.close()


class Readers:
    """A factory of one reader."""

    def buildProtocol(self, _address: object) -> HalfReader:
        return HalfReader()


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 65537, 1_000_003])
async def test_octets_of_any_number_come_back(sockets: Sockets, size: int) -> None:
    sockets.far_owner.on_stream = lambda stream: (stream.attach(Echo()), stream.accept())
    near: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())  # type: ignore[arg-type]
    sent = os.urandom(size)
    near.transport.write(sent)
    near.transport.loseWriteConnection()
    await near.gone
    assert near.data == sent


async def test_who_reads_nothing_stops_who_writes_to_it_and_nobody_else(sockets: Sockets) -> None:
    stuck = HalfReader()
    producers: list[PushProducer] = []

    def serve(stream: Any) -> None:
        stream.attach(HalfReader())
        stream.accept()
        producers.append(PushProducer(stream, total=3_000_000))
        producers[-1].start()

    sockets.far_owner.on_stream = serve
    sockets.near.open(HTTP).attach(stuck)
    stuck.transport.pauseProducing()
    sockets.far_owner.on_stream = lambda stream: (
        (stream.attach(Echo()), stream.accept()) if producers else serve(stream)
    )
    for _ in range(3):
        other: Any = await StreamEndpoint(sockets.near, TCP).connect(Readers())  # type: ignore[arg-type]
        other.transport.write(bytes(200_000))
        other.transport.loseWriteConnection()
        await other.gone
        assert len(other.data) == 200_000
    assert stuck.data == b""
    assert producers[0].left > 0
    assert not producers[0].running


async def test_a_goodbye_comes_with_its_reason(sockets: Sockets) -> None:
    sockets.near.fail(GoawayCode.NOT_AVAILABLE, "no more today", 7.0)
    await sockets.far_owner.lost
    reason = sockets.far_owner.reason
    assert isinstance(reason, LinkRefused)
    assert (reason.code, reason.message, reason.retry_after) == (GoawayCode.NOT_AVAILABLE, "no more today", 7.0)


async def test_a_drained_link_closes_in_order_on_both_sides(sockets: Sockets) -> None:
    await sockets.far.drain(10.0, message="leaving")
    await sockets.near_owner.lost
    await sockets.far_owner.lost
    assert "goaway" in sockets.near_owner.said
    assert isinstance(sockets.near_owner.reason, LinkLost)


@pytest.mark.parametrize("side", ["near", "far"])
async def test_a_link_that_breaks_is_lost_on_both_sides(sockets: Sockets, side: str) -> None:
    getattr(sockets, side).abort()
    await sockets.near_owner.lost
    await sockets.far_owner.lost
    assert isinstance(sockets.near_owner.reason, LinkLost)
    assert isinstance(sockets.far_owner.reason, LinkLost)
