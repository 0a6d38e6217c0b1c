"""An edge, a service and agents between them; all are closed at the end of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.agent._edge import TOKEN, FakeEdge
from tests.agent._services import LocalServer
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.service import AgentService

AgentMaker = Callable[..., AgentService]


@pytest_twisted.async_yield_fixture
async def edge(reactor: Any, tmp_path: Path) -> AsyncIterator[FakeEdge]:
    edge = FakeEdge(reactor, tmp_path / "edge-ca")
    await edge.listen()
    yield edge
    await edge.close()


@pytest_twisted.async_yield_fixture
async def local(reactor: Any) -> AsyncIterator[LocalServer]:
    service = LocalServer(reactor)
    await service.listen()
    yield service
    await service.close()


@pytest_twisted.async_yield_fixture
async def make_agent(reactor: Any, edge: FakeEdge, local: LocalServer) -> AsyncIterator[AgentMaker]:
    """Makes and starts agents of the edge and the service; keyword arguments are those of AgentConfig."""
    agents: list[AgentService] = []

    def make(*, start: bool = True, **settings: Any) -> AgentService:
        config = AgentConfig(
            **{
                "token": TOKEN,
                "edges": [edge.address],
                "local": local.target,
                "ca_file": edge.ca_file,
                "drain": 0.5,
                "refused_retry": 0.2,
                **settings,
            }
        )
        agent = AgentService(reactor, config)
        agents.append(agent)
        if start:
            agent.startService()
        return agent

    yield make
    for agent in agents:
        await agent.stopService()
