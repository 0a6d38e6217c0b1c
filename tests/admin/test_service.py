"""The admin listener."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.web.client import HTTPConnectionPool

from wormhole_tw.admin.service import AdminService
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.errors import ConfigError, MisuseError


def config(admin: str | None) -> EdgeConfig:
    edge = {"https": ["tcp:0"], "admin": admin} if admin else {"https": ["tcp:0"]}
    return EdgeConfig.from_dict({"edge": edge}, source="edge.toml")


@pytest_twisted.async_yield_fixture
async def admin(reactor: Any) -> AsyncIterator[AdminService]:
    service = AdminService(reactor, config("tcp:0:interface=127.0.0.1"))
    service.startService()
    yield service
    await service.stopService()


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/healthz", 200, b"ok\n"),
        ("GET", "/healthz?verbose", 200, b"ok\n"),
        ("HEAD", "/healthz", 200, b""),
        ("POST", "/healthz", 405, None),
        ("GET", "/", 404, None),
        ("GET", "/healthz/more", 404, None),
        ("GET", "/metrics", 404, None),
    ],
)
async def test_what_it_answers(
    admin: AdminService, reactor: Any, method: str, path: str, status: int, body: bytes | None
) -> None:
    address: Any = admin.address
    pool = HTTPConnectionPool(reactor, persistent=False)
    response = await treq.request(method, f"http://127.0.0.1:{address.port}{path}", pool=pool, reactor=reactor)
    content = await response.content()
    assert response.code == status
    if body is not None:
        assert content == body


async def test_it_ends_with_its_connections(admin: AdminService, reactor: Any) -> None:
    class Idle(Protocol):
        lost = False

        def connectionLost(self, reason: Any = None) -> None:
            self.lost = True

    address: Any = admin.address
    idle = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), Idle())
    await admin.stopService()
    with pytest.raises(MisuseError):
        _ = admin.address
    admin.startService()
    assert admin.address
    while not idle.lost:
        await turn(reactor)


def turn(reactor: Any) -> Any:
    from twisted.internet.task import deferLater

    return deferLater(reactor, 0.005)


async def test_without_a_listener_it_does_nothing(reactor: Any) -> None:
    service = AdminService(reactor, config(None))
    service.privilegedStartService()
    service.startService()
    await service.stopService()


async def test_a_port_in_use(admin: AdminService, reactor: Any) -> None:
    address: Any = admin.address
    other = AdminService(reactor, config(f"tcp:{address.port}:interface=127.0.0.1"))
    with pytest.raises(ConfigError) as caught:
        other.privilegedStartService()
    assert (caught.value.source, caught.value.key) == ("edge.toml", "$.edge.admin")
    await other.stopService()
