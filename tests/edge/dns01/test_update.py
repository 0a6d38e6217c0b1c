"""Dynamic updates: what is said to a server, and what is made of each of its answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import dns.message
import dns.rcode
import dns.tsig
import pytest
import pytest_twisted

from tests.edge.dns01.nameserver import KEY, NameServer, refuse
from wormhole_tw.control.dns import DnsServer, UpdateConfig
from wormhole_tw.edge.certificates.dns01.update import UpdateWriter
from wormhole_tw.errors import ChallengeFailed

NOWHERE = DnsServer("fe80::1%missing")
"""A name that needs no resolver to be unknown."""

NAME = "_acme-challenge.a.example.test"


@pytest_twisted.async_yield_fixture
async def server(reactor: Any) -> AsyncIterator[NameServer]:
    server = NameServer(reactor)
    yield server
    await server.close()


def writer(reactor: Any, fake: NameServer, **changes: Any) -> UpdateWriter:
    return UpdateWriter(reactor, UpdateConfig(**{"server": fake.server, "key": KEY, **changes}))


async def refusal(reactor: Any, fake: NameServer, **changes: Any) -> str:
    with pytest.raises(ChallengeFailed) as caught:
        await writer(reactor, fake, **changes).add(NAME, NAME, "value")
    return str(caught.value)


async def test_one_value_is_added_and_deleted(reactor: Any, server: NameServer) -> None:
    server.takes_updates("example.test")
    mine = writer(reactor, server, ttl=7)
    await mine.add(NAME, NAME, "value")
    await mine.remove(NAME, NAME, "value")
    assert (
        server.asked
        == [
            *((name, "SOA") for name in (NAME, "a.example.test", "example.test")),
            ("example.test", "SOA"),
        ]
        * 2
    )
    assert server.updates == [
        ("example.test.", f'{NAME}. 7 IN TXT "value"'),
        ("example.test.", f'{NAME}. 0 NONE TXT "value"'),
    ]


async def test_quotes_stay_inside(reactor: Any, server: NameServer) -> None:
    server.takes_updates("example.test")
    await writer(reactor, server, zone="example.test").add(NAME, NAME, 'a" "b\\')
    assert server.updates == [("example.test.", f'{NAME}. 60 IN TXT "a\\" \\"b\\\\"')]


async def test_two_never_overlap(reactor: Any, server: NameServer) -> None:
    server.takes_updates("example.test")
    mine = writer(reactor, server, zone="example.test")
    given_up = mine.add(NAME, NAME, "value")
    given_up.addErrback(lambda _: None)
    undone = mine.remove(NAME, NAME, "value")
    given_up.cancel()
    await undone
    assert [line.split()[2] for _, line in server.updates] == ["IN", "NONE"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (dns.rcode.REFUSED, f"(REFUSED): the key edge may not change {NAME} in the zone example.test"),
        (dns.rcode.NOTAUTH, "(NOTAUTH): it is not the primary server of the zone example.test"),
        (dns.rcode.NOTZONE, f"(NOTZONE): {NAME} is not in the zone example.test"),
        (dns.rcode.NOTIMP, "(NOTIMP): it takes no dynamic updates"),
        (dns.rcode.SERVFAIL, "(SERVFAIL): see its log"),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
async def test_a_refusal(reactor: Any, server: NameServer, code: int, reason: str, signed: bool) -> None:
    server.takes_updates("example.test", code, signed=signed)
    said = await refusal(reactor, server, zone="example.test")
    assert said == f"the name server 127.0.0.1:{server.port} refuses the update {reason}"


async def test_a_yes_without_a_signature(reactor: Any, server: NameServer) -> None:
    server.takes_updates("example.test", signed=False)
    said = await refusal(reactor, server, zone="example.test")
    assert said.endswith("gives no answer that can be read: it is not signed")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (dns.rcode.BADSIG, "has another secret for the key edge (tls.dns.rfc2136.key_file)"),
        (dns.rcode.BADKEY, "does not take the key edge (hmac-sha256): unknown there, or it may not write this"),
        (dns.rcode.BADTIME, "has another time than this machine, by minutes: set the clocks"),
    ],
)
async def test_a_signature_that_the_server_does_not_take(
    reactor: Any, server: NameServer, error: int, reason: str
) -> None:
    def answer(question: dns.message.Message) -> dns.message.Message:
        return dns.message.make_response(question, tsig_error=error)

    server.answer = answer
    assert (await refusal(reactor, server)).endswith(reason)


async def test_an_answer_signed_by_somebody_else(reactor: Any, server: NameServer) -> None:
    def answer(question: dns.message.Message) -> dns.message.Message:
        found = dns.message.make_response(question)
        found.use_tsig(dns.tsig.Key("edge.", b"another", "hmac-sha256."))
        return found

    server.answer = answer
    assert "another secret" in await refusal(reactor, server)


async def test_a_clock_that_is_wrong(reactor: Any, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer signed ten minutes from now."""

    def answer(question: dns.message.Message) -> bytes:
        found = dns.message.make_response(question)
        with monkeypatch.context() as clock:
            real = time.time
            clock.setattr("time.time", lambda: real() + 600)
            return found.to_wire()

    server.answer = answer
    assert "set the clocks" in await refusal(reactor, server)


async def test_no_zone(reactor: Any, server: NameServer) -> None:
    server.takes_updates("example.test")
    server.answer = refuse(dns.rcode.REFUSED)
    assert "has no zone that" in await refusal(reactor, server)
    assert ("test", "SOA") in server.asked


async def test_silence(reactor: Any, server: NameServer) -> None:
    server.answer = lambda _: None
    said = await refusal(reactor, server, timeout=0.2)
    assert said.endswith("(tls.dns.rfc2136.server) does not answer within 0.2 s")


@pytest.mark.parametrize("octets", [b"", b"\0", b"x" * 40])
async def test_nonsense(reactor: Any, server: NameServer, octets: bytes) -> None:
    server.answer = lambda _: octets
    said = await refusal(reactor, server)
    assert (
        "cannot be reached: it ended the connection without an answer" if not octets else "no answer that can"
    ) in said


async def test_the_answer_to_another_question(reactor: Any, server: NameServer) -> None:
    def answer(question: dns.message.Message) -> bytes:
        found = dns.message.make_response(question)
        found.tsig = None
        found.set_rcode(dns.rcode.REFUSED)
        return bytes(a ^ 1 if index == 1 else a for index, a in enumerate(found.to_wire()))

    server.answer = answer
    assert "no answer that can be read" in await refusal(reactor, server)


async def test_a_server_without_an_address(reactor: Any, server: NameServer) -> None:
    said = await refusal(reactor, server, server=NOWHERE)
    assert said.startswith("the name server [fe80::1%missing] (tls.dns.rfc2136.server) cannot be found: ")
