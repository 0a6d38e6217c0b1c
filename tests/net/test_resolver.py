"""Addresses of names: how long they are believed, who is asked, and what serves where nobody answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from tests._harness import LogLines
from tests.net.nameserver import NameServer
from wormhole_tw.net import dns_question, resolver
from wormhole_tw.net.dns_question import LookupFailed, NoSuchName
from wormhole_tw.net.resolver import MAX_TTL, MIN_TTL, STALE, SYSTEM_TTL, Resolver

NAME = "pages.example"


class Later:
    """A reactor on which it is later than on the test's.

    :ivar by: how many seconds
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.by = 0.0

    def seconds(self) -> float:
        return float(self._reactor.seconds()) + self.by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@pytest.fixture
def later(reactor: Any) -> Later:
    return Later(reactor)


@pytest_twisted.async_yield_fixture
async def server(reactor: Any) -> AsyncIterator[NameServer]:
    server = NameServer(reactor).start()
    server.names[NAME] = [("A", "192.0.2.1", 60), ("AAAA", "2001:db8::1", 90)]
    yield server
    await server.stop()


@pytest.fixture
def names(later: Later, server: NameServer) -> Resolver:
    return Resolver(later, [server.server])


async def addresses(names: Resolver, name: str = NAME) -> tuple[str, ...]:
    return (await names.lookup(name)).addresses


async def test_an_address_is_its_own(names: Resolver, server: NameServer) -> None:
    assert await addresses(names, "192.0.2.7") == ("192.0.2.7",)
    assert await addresses(names, "2001:db8::7") == ("2001:db8::7",)
    assert server.asked == []


async def test_both_families_for_as_long_as_the_shorter_holds(
    names: Resolver, server: NameServer, later: Later
) -> None:
    assert set(await addresses(names)) == {"192.0.2.1", "2001:db8::1"}
    later.by = 55
    assert set(await addresses(names)) == {"192.0.2.1", "2001:db8::1"}
    assert len(server.asked) == 2
    server.names[NAME] = [("A", "192.0.2.2", 60)]
    later.by = 61
    assert await addresses(names) == ("192.0.2.2",)
    assert len(server.asked) == 4


@pytest.mark.parametrize(("ttl", "held"), [(0, MIN_TTL), (10**6, MAX_TTL)])
async def test_bounds_of_ttl(names: Resolver, server: NameServer, later: Later, ttl: int, held: float) -> None:
    server.names[NAME] = [("A", "192.0.2.1", ttl)]
    before = later.seconds()
    found = await names.lookup(NAME)
    assert before + held <= found.until <= later.seconds() + held


async def test_who_asks_at_once_shares_the_answer(names: Resolver, server: NameServer) -> None:
    waiting = [names.lookup(NAME) for _ in range(5)]
    waiting[0].cancel()
    with pytest.raises(CancelledError):
        await waiting[0]
    found = [await one for one in waiting[1:]]
    assert len(set(found)) == 1
    assert len(server.asked) == 2


async def test_a_family_whose_answer_does_not_come_holds_nobody_up(names: Resolver, server: NameServer) -> None:
    server.silent.add("AAAA")
    assert await addresses(names) == ("192.0.2.1",)
    server.silent.clear()


async def test_the_other_family_is_waited_for_where_the_first_has_nothing(names: Resolver, server: NameServer) -> None:
    server.names[NAME] = [("A", "192.0.2.1", 60)]
    assert await addresses(names) == ("192.0.2.1",)
    server.names["six.example"] = [("AAAA", "2001:db8::1", 60)]
    assert await addresses(names, "six.example") == ("2001:db8::1",)


async def test_there_is_nothing(names: Resolver, server: NameServer) -> None:
    with pytest.raises(NoSuchName):
        await names.lookup("nothing.example")
    server.names["empty.example"] = []
    with pytest.raises(NoSuchName, match="no address"):
        await names.lookup("empty.example")


async def test_the_last_addresses_serve_on_while_nobody_answers(
    names: Resolver, server: NameServer, later: Later, log_lines: LogLines
) -> None:
    await names.lookup(NAME)
    server.broken = {"A", "AAAA"}
    later.by = 100
    assert set(await addresses(names)) == {"192.0.2.1", "2001:db8::1"}
    assert "its last addresses go on serving" in log_lines
    # for some seconds nobody is asked again
    count = len(server.asked)
    assert set(await addresses(names)) == {"192.0.2.1", "2001:db8::1"}
    assert len(server.asked) == count
    # not for ever
    later.by = 100 + STALE
    with pytest.raises(LookupFailed, match=r"no answer for pages\.example"):
        await names.lookup(NAME)


async def test_they_serve_soon_where_name_servers_are_slow(
    names: Resolver, server: NameServer, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until it is clear that no answer comes."""
    monkeypatch.setattr(resolver, "STALE_AFTER", 0.01)
    await names.lookup(NAME)
    later.by = 100
    server.silent = {"A", "AAAA"}
    assert set(await addresses(names)) == {"192.0.2.1", "2001:db8::1"}
    names.close()
    # a name of which nothing is known has nothing that could serve
    monkeypatch.setattr(dns_question, "PATIENCE", (0.05,))
    with pytest.raises(LookupFailed):
        await names.lookup("other.example")


async def test_a_failure_is_not_looked_up_for_every_visitor(names: Resolver, server: NameServer, later: Later) -> None:
    for _ in range(3):
        with pytest.raises(NoSuchName):
            await names.lookup("nothing.example")
    assert server.count("A") == 1
    server.names["nothing.example"] = [("A", "192.0.2.1", 60)]
    later.by = 6
    assert await addresses(names, "nothing.example") == ("192.0.2.1",)


async def test_a_name_that_is_gone_is_gone(names: Resolver, server: NameServer, later: Later) -> None:
    await names.lookup(NAME)
    del server.names[NAME]
    later.by = 100
    with pytest.raises(NoSuchName):
        await names.lookup(NAME)


async def test_other_servers(names: Resolver, server: NameServer, reactor: Any) -> None:
    await names.lookup(NAME)
    other = NameServer(reactor).start()
    other.names[NAME] = [("A", "192.0.2.9", 60)]
    try:
        names.ask_others([server.server])
        await names.lookup(NAME)
        assert len(server.asked) == 2
        names.ask_others([other.server])
        assert await addresses(names) == ("192.0.2.9",)
    finally:
        await other.stop()


async def test_many_addresses_and_many_names(
    names: Resolver, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names[NAME] = [("A", f"192.0.2.{last}", 60) for last in range(20)]
    assert len(await addresses(names)) == resolver.MAX_ADDRESSES
    monkeypatch.setattr(resolver, "MAX_NAMES", 1)
    server.names["other.example"] = [("A", "192.0.2.1", 60)]
    await names.lookup("other.example")
    count = len(server.asked)
    await names.lookup(NAME)
    assert len(server.asked) == count + 2


async def test_closing_tells_whoever_waits(names: Resolver, server: NameServer) -> None:
    server.silent = {"A", "AAAA"}
    asked: Deferred[None] = Deferred()
    server.on_question = lambda name, kind: asked.called or asked.callback(None)
    waiting = names.lookup(NAME)
    await asked
    names.close()
    with pytest.raises(CancelledError):
        await waiting


class OfTheMachine:
    """A machine's files, which name a server of the test's."""

    def __init__(self, reactor: Any, folder: Path, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resolver, "PORT", server.port)
        self.hosts = folder / "hosts"
        self.hosts.write_text("192.0.2.50 files.example # a comment\n")
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text("# a comment\nnameserver\nnameserver nonsense\nnameserver 127.0.0.1\n")
        self.names = Resolver(reactor, hosts=str(self.hosts), resolv_conf=str(self.resolv_conf))


@pytest.fixture
def machine(later: Later, tmp_path: Path, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> OfTheMachine:
    return OfTheMachine(later, tmp_path, server, monkeypatch)


async def test_the_hosts_file_comes_first(machine: OfTheMachine, server: NameServer, later: Later) -> None:
    server.names["files.example"] = [("A", "192.0.2.1", 60)]
    assert await addresses(machine.names, "files.example") == ("192.0.2.50",)
    machine.hosts.write_text("")
    assert await addresses(machine.names, "files.example") == ("192.0.2.50",)
    later.by = SYSTEM_TTL + 1
    assert await addresses(machine.names, "files.example") == ("192.0.2.1",)


async def test_then_the_name_servers_of_the_machine(machine: OfTheMachine) -> None:
    assert set(await addresses(machine.names)) == {"192.0.2.1", "2001:db8::1"}


async def test_then_whatever_the_machine_itself_asks(machine: OfTheMachine, server: NameServer) -> None:
    machine.hosts.unlink()
    found = await addresses(machine.names, "localhost")
    assert set(found) <= {"127.0.0.1", "::1"}
    assert server.asked == []  # no dot: a name within some domain, or the machine's own
    # one that name servers do not know, and the system does, without asking anybody
    assert await addresses(machine.names, "127.1") == ("127.0.0.1",)
    assert server.count("A", "127.1") == 1


async def test_a_machine_without_name_servers(machine: OfTheMachine) -> None:
    machine.resolv_conf.unlink()
    assert set(await addresses(machine.names, "localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(LookupFailed, match=r"cannot be looked up|has no address"):
        await machine.names.lookup("a" * 64 + ".example")


async def test_a_bug_in_there_is_told_and_logged(
    names: Resolver, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(resolver, "ask", broken)
    with pytest.raises(LookupFailed, match="could not be looked up"):
        await names.lookup(NAME)
    assert logged_failures.flush(ZeroDivisionError)


def test_patience_ends_before_that_of_whoever_waits() -> None:
    assert sum(dns_question.PATIENCE) < 5
