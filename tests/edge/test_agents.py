"""Who may come in, and who takes whose place: an edge over real sockets, agents that are bare links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.edge.tenants import OTHER, TOKEN, Premises, until
from wormhole_tw.control.registry import Registry
from wormhole_tw.edge import agents as agents_module
from wormhole_tw.edge.agents import RETRY_UNAUTHORIZED
from wormhole_tw.net.tls import client_creator, wrap_client_tls
from wormhole_tw.wire.codes import GoawayCode
from wormhole_tw.wire.messages import Open


@pytest_twisted.async_yield_fixture
async def premises(reactor: Any, tmp_path: Path) -> AsyncIterator[Premises]:
    premises = Premises(reactor, tmp_path)
    premises.edge.startService()
    yield premises
    await premises.close()


def registry_of(premises: Premises) -> Registry:
    assert premises.edge.registry is not None
    return premises.edge.registry


def candidates(premises: Premises) -> list[str]:
    return [session.facts.session_id for session in registry_of(premises).candidates("app")]


def open_stream(premises: Premises, tenant: Any) -> Any:
    """A stream from the edge to this agent."""
    session: Any = next(s for s in registry_of(premises).all() if s.facts.session_id == tenant.session)
    return session.link.open(Open(kind="tcp"))


async def test_a_welcome(premises: Premises, log_lines: Any) -> None:
    welcome = await premises.tenant(options=["visitor_per_stream", "telepathy"]).welcomed_
    assert welcome.edge == "edge-1"
    assert welcome.urls == [f"https://app.example.test:{premises.edge.public_port}"]
    assert welcome.granted == ["visitor_per_stream"]
    assert len(welcome.session) == 16
    (session,) = registry_of(premises).all()
    assert session.facts.visitor_per_stream
    assert session.facts.address == "127.0.0.1"
    assert session.facts.host == "a-host"
    assert "of backend app connected from 127.0.0.1 (a-host, a test)" in log_lines
    assert TOKEN not in log_lines.text


async def test_where_another_process_takes_over_agents_are_told_and_serve_on(premises: Premises, reactor: Any) -> None:
    able, unable = await premises.ready(options=["moves"]), await premises.ready(instance=b"u" * 16)
    assert able.welcome is not None
    assert able.welcome.granted == ["moves"]
    premises.edge.agents.move()
    # who knows what that means keeps its link for what is still asked here; who does not gets GOAWAY
    await until(reactor, lambda: able.statuses == [(False, "the edge restarts")])
    await until(reactor, lambda: unable.goaway is not None)
    assert able.goaway is None
    assert candidates(premises) == [able.session]
    # and who comes here all the same is sent on at once
    late = await premises.tenant(instance=b"l" * 16).refusal()
    assert (late.code, late.retry_after) == (GoawayCode.NORMAL, 0.0)


async def test_ready_and_not_ready(premises: Premises, reactor: Any) -> None:
    tenant = await premises.ready()
    assert candidates(premises) == [tenant.session]
    tenant.link.set_status(False, "the service is down")
    await until(reactor, lambda: not candidates(premises))
    tenant.link.set_status(True)
    await until(reactor, lambda: candidates(premises))


async def test_a_higher_generation_takes_over_and_the_old_streams_end_now(premises: Premises, reactor: Any) -> None:
    old = await premises.ready()
    open_stream(premises, old)
    await until(reactor, lambda: old.streams)
    new = await premises.ready(generation=2, previous="gone")
    assert (await old.refusal()).code == GoawayCode.REPLACED
    assert candidates(premises) == [new.session]


async def test_the_old_one_drains_where_it_is_still_there(premises: Premises, reactor: Any) -> None:
    old = await premises.ready()
    stream = open_stream(premises, old)
    await until(reactor, lambda: old.streams)
    new = await premises.ready(generation=2, previous="draining")
    await until(reactor, lambda: old.goaway)
    assert old.goaway is not None
    assert old.goaway.code == GoawayCode.REPLACED
    assert candidates(premises) == [new.session]
    assert old.lost is None
    assert old.link.load == 1
    stream.reset(0, "", delivered=False)
    await old.link.when_lost()


async def test_a_stale_generation_is_refused(premises: Premises) -> None:
    held = await premises.ready(generation=7)
    for generation in (7, 6):
        goaway = await premises.tenant(generation=generation).refusal()
        assert goaway.code == GoawayCode.STALE_GENERATION
    assert candidates(premises) == [held.session]


async def test_another_instance_is_a_replica(premises: Premises) -> None:
    one = await premises.ready()
    two = await premises.ready(instance=b"j" * 16)
    three = await premises.ready(slot=1)
    assert candidates(premises) == [one.session, two.session, three.session]


async def test_a_wrong_token(premises: Premises, log_lines: Any) -> None:
    goaway = await premises.tenant(token="wh_a-guess").refusal()
    assert goaway.code == GoawayCode.UNAUTHORIZED
    assert goaway.retry_after == RETRY_UNAUTHORIZED
    assert len(log_lines.matching("came with a token that is not in the configuration")) == 1
    assert "wh_a-guess" not in log_lines.text
    assert registry_of(premises).all() == ()


async def test_who_guesses_has_to_wait(premises: Premises, log_lines: Any) -> None:
    for _ in range(3):
        assert (await premises.tenant(token="wh_a-guess").refusal()).code == GoawayCode.UNAUTHORIZED
    goaway = await premises.tenant(token="wh_a-guess").refusal()
    assert goaway.code == GoawayCode.RATE_LIMITED
    assert goaway.retry_after is not None
    assert 0 < goaway.retry_after <= 60
    # What is limited is not even looked at, nor logged.
    assert len(log_lines.matching("came with a token")) == 3


async def test_good_tokens_are_not_counted(premises: Premises) -> None:
    for generation in range(1, 7):
        await premises.ready(generation=generation)


async def test_other_edges_are_not_taken(premises: Premises) -> None:
    assert (await premises.tenant(role="edge").refusal()).code == GoawayCode.NOT_AVAILABLE


async def test_a_token_that_is_taken_away_ends_its_agents(premises: Premises, log_lines: Any) -> None:
    gone = await premises.ready()
    stays = premises.tenant(token=OTHER, instance=b"o" * 16)
    await stays.welcomed_
    text = premises.file.read_text()
    premises.write(text.replace(text.split('tokens = ["')[1].split('"')[0], "sha256:" + "0" * 64))
    await premises.edge.reload()
    assert (await gone.refusal()).code == GoawayCode.TOKEN_REVOKED
    assert stays.lost is None
    assert "1 agents ended whose token is gone" in log_lines


async def test_an_agent_that_cannot_write_the_header_its_service_wants(premises: Premises, log_lines: Any) -> None:
    unable = await premises.ready()
    other = premises.tenant(token=OTHER, instance=b"o" * 16)
    await other.welcomed_
    able = await premises.ready(instance=b"a" * 16, options=["proxy_protocol"])
    assert able.welcome is not None
    assert able.welcome.granted == []
    text = premises.file.read_text()
    premises.write(text.replace('name = "app"\ntokens', 'name = "app"\nproxy_protocol = "v2"\ntokens', 1))
    await premises.edge.reload()
    assert (await unable.refusal()).code == GoawayCode.NOT_AVAILABLE
    assert "1 agents ended that cannot write the PROXY protocol's header" in log_lines
    goaway = await premises.tenant().refusal()
    assert goaway.code == GoawayCode.NOT_AVAILABLE
    assert "it needs a newer version" in goaway.message
    assert "was refused: it cannot write the PROXY protocol" in log_lines
    assert (other.lost, able.lost) == (None, None)
    # it is told that the header is wanted, once it comes anew
    again = await premises.ready(instance=b"a" * 16, generation=2, options=["proxy_protocol", "visitor_per_stream"])
    assert again.welcome is not None
    assert again.welcome.granted == ["proxy_protocol", "visitor_per_stream"]


async def test_an_agent_opens_no_streams(premises: Premises) -> None:
    tenant = await premises.ready()
    assert not tenant.link.can_open


async def test_there_is_room_for_so_many_strangers(
    premises: Premises, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents_module, "MAX_STRANGERS", 2)

    class Silent(Protocol):
        lost = False

        def connectionLost(self, reason: Any = None) -> None:
            self.lost = True

    port: Any = premises.edge.addresses[0]
    silent = []
    for _ in range(3):
        creator = client_creator("localhost", ca_file=premises.edge.ca_file, alpn=[b"wormhole/1"])
        endpoint = wrap_client_tls(reactor, creator, TCP4ClientEndpoint(reactor, "127.0.0.1", port.port))
        silent.append(await connectProtocol(endpoint, Silent()))
    await until(reactor, lambda: silent[0].lost)
    assert [one.lost for one in silent] == [True, False, False]
    # Whoever says HELLO gets in all the same, and is a stranger no more.
    await premises.ready()
    await premises.ready(slot=1)
    await premises.edge.stopService()
    await until(reactor, lambda: all(one.lost for one in silent))


async def test_one_who_waits_for_the_end_may_cancel_another(premises: Premises, reactor: Any) -> None:
    tenant = premises.tenant()
    await tenant.welcomed_
    (session,) = registry_of(premises).all()
    ended: list[str] = []
    first, second, third, fourth = (session.when_lost() for _ in range(4))
    first.addCallback(lambda _: second.cancel()).addErrback(lambda failure: ended.append(str(failure)))
    second.addErrback(lambda failure: ended.append(failure.type.__name__))
    third.addCallback(lambda _: ended.append("third"))
    fourth.addErrback(lambda failure: ended.append("fourth"))
    fourth.cancel()
    tenant.link.abort()
    await third
    assert ended == ["fourth", "CancelledError", "third"]
