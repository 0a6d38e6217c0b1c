"""Following CNAMEs, finding a zone's servers, and waiting until they all have the record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.edge.dns01.nameserver import KEY, NameServer, refuse
from wormhole_tw.control.dns import DnsConfig, DnsServer, UpdateConfig
from wormhole_tw.edge.certificates.challenges import IChallengeSolver
from wormhole_tw.edge.certificates.dns01 import lookup as lookup_module
from wormhole_tw.edge.certificates.dns01 import solver as solver_module
from wormhole_tw.edge.certificates.dns01.lookup import Lookup
from wormhole_tw.edge.certificates.dns01.solver import DnsSolver
from wormhole_tw.errors import ChallengeFailed

NAME = "_acme-challenge.a.example.test"

Servers = Callable[[], NameServer]


@pytest_twisted.async_yield_fixture
async def servers(reactor: Any) -> AsyncIterator[Servers]:
    made: list[NameServer] = []

    def make() -> NameServer:
        made.append(NameServer(reactor))
        return made[-1]

    yield make
    for server in made:
        await server.close()


@pytest_twisted.async_fixture
async def primary(servers: Servers) -> NameServer:
    """Takes every update, and has what the test gives it."""
    server = servers()
    server.takes_updates("example.test")
    return server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "FIRST_PAUSE", 0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "ANSWER", 0.2)
    monkeypatch.setattr(lookup_module, "LIFETIME", 0.3)


def solver(reactor: Any, primary: NameServer, *, lookup: Lookup | None = None, **changes: Any) -> DnsSolver:
    config = {
        "writer": UpdateConfig(server=primary.server, key=KEY, zone="example.test"),
        "resolvers": (primary.server,),
        "propagation_servers": (primary.server,),
        "propagation_timeout": 10,
        **changes,
    }
    return DnsSolver(reactor, reactor, DnsConfig(**config), lookup=lookup)


def has_it_at(server: NameServer, times: int) -> None:
    """The server has the value from its ``times``-th answer on."""
    before = server.answer
    count = 0

    def answer(question: dns.message.Message) -> Any:
        nonlocal count
        if server.asked[-1] == (NAME, "TXT"):
            count += 1
            if count == times:
                server.records[NAME, "TXT"] = ['"value"']
        return before(question)

    server.answer = answer


async def refusal(waiting: Deferred[None]) -> str:
    with pytest.raises(ChallengeFailed) as caught:
        await waiting
    return str(caught.value)


async def test_it_is_a_solver(reactor: Any, primary: NameServer) -> None:
    assert verifyObject(IChallengeSolver, solver(reactor, primary))


async def test_it_waits_for_every_server(reactor: Any, primary: NameServer, servers: Servers) -> None:
    secondary = servers()
    has_it_at(primary, 1)
    has_it_at(secondary, 4)
    await solver(reactor, primary, propagation_servers=(primary.server, secondary.server)).present(NAME, ["value"])
    assert secondary.asked.count((NAME, "TXT")) == 4
    assert primary.asked.count((NAME, "TXT")) == 1


async def test_all_values_are_waited_for(reactor: Any, primary: NameServer) -> None:
    primary.records[NAME, "TXT"] = ['"first"']
    said = await refusal(solver(reactor, primary, propagation_timeout=0.1).present(NAME, ["first", "second"]))
    where = f"127.0.0.1:{primary.port} did not have it"
    assert said == f"{NAME} was not seen within 0.1 s (tls.dns.propagation_timeout): {where}"
    assert len(primary.updates) == 2


async def test_nobody_is_asked(reactor: Any, primary: NameServer) -> None:
    await solver(reactor, primary, propagation_timeout=0, follow_cname=False).present(NAME, ["value"])
    assert {kind for _, kind in primary.asked} == {"SOA"}  # an update's first section is its zone


async def test_a_server_that_is_silent_is_left_out(
    reactor: Any, primary: NameServer, servers: Servers, log_lines: Any, impatient: None
) -> None:
    mute, lame = servers(), servers()
    mute.answer = lambda _: None
    lame.answer = refuse(dns.rcode.REFUSED)
    has_it_at(primary, 1)
    wanted = (mute.server, lame.server, primary.server)
    await solver(reactor, primary, propagation_servers=wanted).present(NAME, ["value"])
    assert f"the name server {mute.server} does not answer for {NAME}" in log_lines
    assert f"the name server {lame.server} does not answer for {NAME}" in log_lines
    assert lame.asked.count((NAME, "TXT")) >= solver_module.PATIENCE


async def test_silence_alone_is_no_answer(reactor: Any, primary: NameServer, servers: Servers) -> None:
    lame = servers()
    lame.answer = refuse(dns.rcode.SERVFAIL)
    waiting = solver(reactor, primary, propagation_servers=(lame.server,), propagation_timeout=0.3)
    assert (await refusal(waiting.present(NAME, ["value"]))).endswith(f": {lame.server} did not answer")


async def test_a_long_answer_comes_by_tcp(reactor: Any, primary: NameServer) -> None:
    primary.truncates = True
    has_it_at(primary, 1)
    await solver(reactor, primary).present(NAME, ["value"])


async def test_the_delay_comes_last(reactor: Any, primary: NameServer) -> None:
    has_it_at(primary, 1)
    began = reactor.seconds()
    await solver(reactor, primary, propagation_delay=0.3).present(NAME, ["value"])
    assert reactor.seconds() - began >= 0.3


async def test_given_up_while_it_waits(reactor: Any, primary: NameServer) -> None:
    """The harness looks whether anything is left scheduled."""
    seen: Deferred[None] = Deferred()
    before = primary.answer

    def answer(question: dns.message.Message) -> Any:
        if primary.asked.count((NAME, "TXT")) == 2 and not seen.called:
            seen.callback(None)
        return before(question)

    primary.answer = answer
    waiting = solver(reactor, primary).present(NAME, ["value"])
    await seen
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting


# where it is written


async def test_it_is_taken_away_where_it_was_written(reactor: Any, primary: NameServer) -> None:
    primary.records[NAME, "CNAME"] = ["target.example.test."]
    mine = solver(reactor, primary, propagation_timeout=0)
    await mine.present(NAME, ["value"])
    primary.records[NAME, "CNAME"] = ["elsewhere.example.test."]
    await mine.clean_up(NAME, ["value"])
    assert [line for _, line in primary.updates] == [
        'target.example.test. 60 IN TXT "value"',
        'target.example.test. 0 NONE TXT "value"',
    ]


async def test_what_an_earlier_run_wrote_is_found_again(reactor: Any, primary: NameServer) -> None:
    primary.records[NAME, "CNAME"] = ["Target.Example.Test."]
    await solver(reactor, primary).clean_up(NAME, ["value"])
    assert primary.updates == [("example.test.", 'target.example.test. 0 NONE TXT "value"')]


async def test_every_value_is_taken_away(reactor: Any, primary: NameServer) -> None:
    primary.takes_updates("example.test", dns.rcode.REFUSED)
    assert "REFUSED" in await refusal(solver(reactor, primary).clean_up(NAME, ["first", "second"]))
    assert len(primary.updates) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (dns.rcode.SERVFAIL, "every resolver fails or refuses"),
        (dns.rcode.REFUSED, "every resolver fails or refuses"),
        (dns.rcode.YXDOMAIN, "too long after DNAME substitution"),
    ],
)
async def test_resolvers_that_fail(reactor: Any, primary: NameServer, servers: Servers, code: int, reason: str) -> None:
    resolver = servers()
    resolver.answer = refuse(code)
    said = await refusal(solver(reactor, primary, resolvers=(resolver.server,)).present(NAME, ["value"]))
    assert said.startswith(f"the CNAME of {NAME} cannot be looked up (tls.dns.resolvers): ")
    assert reason in said, said
    assert primary.updates == []


async def test_resolvers_that_are_silent(reactor: Any, primary: NameServer, servers: Servers, impatient: None) -> None:
    resolver = servers()
    resolver.answer = lambda _: None
    said = await refusal(solver(reactor, primary, resolvers=(resolver.server,)).present(NAME, ["value"]))
    assert said.endswith("no resolver answers")


async def test_a_server_that_cannot_be_found(reactor: Any, primary: NameServer) -> None:
    wanted = (DnsServer("fe80::1%missing"),)
    said = await refusal(solver(reactor, primary, propagation_servers=wanted).present(NAME, ["value"]))
    assert said.startswith("the name server [fe80::1%missing] (tls.dns.propagation_servers) cannot be found: ")


# the zone's own servers


def zone_of(resolver: NameServer, **hosts: str) -> None:
    resolver.records["example.test", "SOA"] = ["ns1.example.test. admin. 1 60 60 600 5"]
    resolver.records["example.test", "NS"] = [f"{host}.example.test." for host in hosts]
    for host, address in hosts.items():
        resolver.records[f"{host}.example.test", "AAAA" if ":" in address else "A"] = [address]


async def test_the_zones_servers_are_found(reactor: Any, primary: NameServer, servers: Servers) -> None:
    """The resolver knows the zone's server; that one alone has the record, and is not asked to look further."""
    authority = servers()
    authority.records[NAME, "TXT"] = ['"value"']
    zone_of(primary, ns1="127.0.0.1")
    recursive: list[int] = []
    before = authority.answer

    def answer(question: dns.message.Message) -> Any:
        recursive.append(question.flags & dns.flags.RD)
        return before(question)

    authority.answer = answer
    asking = Lookup((primary.server,), authority_port=authority.port)
    await solver(reactor, primary, lookup=asking, propagation_servers=()).present(NAME, ["value"])
    assert authority.asked == [(NAME, "TXT")]
    assert recursive == [0]


async def test_a_server_with_two_addresses_needs_one(reactor: Any, primary: NameServer, servers: Servers) -> None:
    authority = servers()
    authority.records[NAME, "TXT"] = ['"value"']
    zone_of(primary, ns1="127.0.0.1")
    primary.records["ns1.example.test", "A"] = ["127.1.2.3", "127.0.0.1"]
    asking = Lookup((primary.server,), authority_port=authority.port)
    await solver(reactor, primary, lookup=asking, propagation_servers=()).present(NAME, ["value"])


async def test_a_zone_that_has_no_servers(reactor: Any, primary: NameServer) -> None:
    primary.takes_updates("example.test")
    zone_of(primary, ns1="127.0.0.1")
    del primary.records["ns1.example.test", "A"]
    said = await refusal(solver(reactor, primary, propagation_servers=()).present(NAME, ["value"]))
    assert said == "none of the name servers of example.test has an address"
    del primary.records["example.test", "NS"]
    said = await refusal(solver(reactor, primary, propagation_servers=()).present(NAME, ["value"]))
    assert said.startswith(f"the name servers of {NAME} cannot be looked up")


async def test_no_zone_at_all(reactor: Any, primary: NameServer, servers: Servers) -> None:
    nothing = servers()
    said = await refusal(
        solver(reactor, primary, resolvers=(nothing.server,), propagation_servers=()).present(NAME, ["value"])
    )
    assert said.startswith(f"the name servers of {NAME} cannot be looked up (tls.dns.resolvers): ")


def test_the_machines_own_resolvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dns.resolver.Resolver.read_resolv_conf", _no_resolver)
    with pytest.raises(ChallengeFailed, match=r"no resolver \(/etc/resolv.conf\): set tls.dns.resolvers"):
        Lookup().follow(NAME)


def _no_resolver(*_: object) -> None:
    from dns.resolver import NoResolverConfiguration

    raise NoResolverConfiguration
