"""One question to name servers, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.names import dns

from tests.net.nameserver import NameServer
from wormhole_tw.net import dns_question
from wormhole_tw.net.dns_question import AAAA, A, Answer, LookupFailed, NoSuchName, _ask_servers, ask

NAME = "pages.example"


@pytest_twisted.async_yield_fixture
async def server(reactor: Any) -> AsyncIterator[NameServer]:
    server = NameServer(reactor).start()
    yield server
    await server.stop()


async def test_addresses_of_both_kinds(reactor: Any, server: NameServer) -> None:
    server.names[NAME] = [("A", "192.0.2.1", 60), ("A", "192.0.2.2", 30), ("AAAA", "2001:db8::1", 90)]
    assert await ask(reactor, [server.server], "Pages.Example", A) == Answer(("192.0.2.1", "192.0.2.2"), 30)
    assert await ask(reactor, [server.server], NAME, AAAA) == Answer(("2001:db8::1",), 90)
    assert [transport for _, _, transport in server.asked] == ["udp", "udp"]


async def test_a_long_answer_comes_over_tcp(reactor: Any, server: NameServer) -> None:
    server.truncates = True
    server.names[NAME] = [("A", f"192.0.2.{last}", 60) for last in range(200)]
    answer = await ask(reactor, [server.server], NAME, A)
    assert len(answer.addresses) == 200
    assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize("follows", [True, False])
async def test_cnames_are_followed_and_the_shortest_ttl_counts(reactor: Any, server: NameServer, follows: bool) -> None:
    server.follows = follows
    server.names = {
        NAME: [("CNAME", "one.example", 300)],
        "one.example": [("CNAME", "two.example", 7)],
        "two.example": [("A", "192.0.2.1", 60)],
    }
    assert await ask(reactor, [server.server], NAME, A) == Answer(("192.0.2.1",), 7)
    assert len(server.asked) == (1 if follows else 3)


async def test_cnames_in_a_circle(reactor: Any, server: NameServer) -> None:
    server.names = {NAME: [("CNAME", "two.example", 60)], "two.example": [("CNAME", NAME, 60)]}
    for server.follows in (True, False):
        with pytest.raises(LookupFailed, match="or in a circle"):
            await ask(reactor, [server.server], NAME, A)


async def test_a_name_of_any_octets_that_nobody_answers_for(reactor: Any) -> None:
    # what a CNAME leads to is for whoever has the say over it
    with pytest.raises(LookupFailed, match=r"no answer for \\xff\.example: there is no server"):
        await _ask_servers(reactor, (), b"\xff.example", A)


async def test_there_is_nothing(reactor: Any, server: NameServer) -> None:
    server.names["four.example"] = [("A", "192.0.2.1", 60)]
    assert (await ask(reactor, [server.server], "four.example", AAAA)).addresses == ()
    with pytest.raises(NoSuchName, match=r"no name nothing\.example"):
        await ask(reactor, [server.server], "nothing.example", A)


async def test_the_next_server_where_one_fails(reactor: Any, server: NameServer) -> None:
    other = NameServer(reactor).start()
    other.names[NAME] = [("A", "192.0.2.1", 60)]
    server.broken.add("A")
    try:
        assert (await ask(reactor, [server.server, other.server], NAME, A)).addresses == ("192.0.2.1",)
        # and where nobody listens
        await server.stop()
        assert (await ask(reactor, [server.server, other.server], NAME, A)).addresses == ("192.0.2.1",)
    finally:
        await other.stop()


async def test_nobody_answers(reactor: Any, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_question, "PATIENCE", (0.05, 0.05))
    server.silent.add("A")
    with pytest.raises(LookupFailed, match=r"no answer for pages\.example: .* does not answer"):
        await ask(reactor, [server.server], NAME, A)
    assert server.count("A") == 2
    server.broken.add("AAAA")
    with pytest.raises(LookupFailed, match="error 2"):
        await ask(reactor, [server.server], NAME, AAAA)
    with pytest.raises(LookupFailed, match="no server to ask"):
        await ask(reactor, [], NAME, AAAA)


async def test_given_up(reactor: Any, server: NameServer) -> None:
    server.silent.add("A")
    asked: Deferred[None] = Deferred()
    server.on_question = lambda name, kind: asked.callback(None)
    waiting = ensureDeferred(ask(reactor, [server.server], NAME, A))
    await asked
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_no_octets_break_the_decoder(data: bytes, tail: bytes) -> None:
    question = dns_question._Question(("127.0.0.1", 53), b"pages.example", A)
    for octets in (data, question.octets + tail, question.octets[:2] + b"\x81\x80" + question.octets[4:] + tail):
        try:
            question.read(octets)
        except dns_question._Garbled:
            continue


class Liar(DatagramProtocol):
    """Sends what is wrong first, and then the answer."""

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        question = dns.Message()
        question.fromStr(data)
        name, number = question.queries[0].name.name, question.id

        def answer(number: int, name: bytes, address: str, *, is_answer: bool = True) -> bytes:
            message = dns.Message(id=number, answer=is_answer)
            message.addQuery(name, dns.A)
            message.answers.append(dns.RRHeader(name, dns.A, dns.IN, 60, dns.Record_A(address, 60)))
            return message.toStr()

        assert self.transport is not None
        for reply in (
            b"nonsense",
            b"",
            answer(number ^ 1, name, "192.0.2.66"),
            answer(number, b"other.example", "192.0.2.66"),
            answer(number, name, "192.0.2.66", is_answer=False),
            answer(number, name, "192.0.2.1"),
        ):
            self.transport.write(reply, addr)


async def test_only_the_answer_to_the_question_is_taken(reactor: Any) -> None:
    port = reactor.listenUDP(0, Liar(), interface="127.0.0.1")
    try:
        answer = await ask(reactor, [("127.0.0.1", port.getHost().port)], NAME, A)
        assert answer.addresses == ("192.0.2.1",)
    finally:
        await port.stopListening()


class Babbler(Protocol):
    """Answers over TCP with what is no answer."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"\0")
        self.transport.write(b"\x03xyz")


async def test_nonsense_over_tcp(reactor: Any, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_question, "PATIENCE", (5.0,))
    server.truncates = True
    server.names[NAME] = [("A", "192.0.2.1", 60)]
    await server._open.pop(0).stopListening()
    port = reactor.listenTCP(server.port, Factory.forProtocol(Babbler), interface="127.0.0.1")
    try:
        with pytest.raises(LookupFailed, match="no DNS message"):
            await ask(reactor, [server.server], NAME, A)
    finally:
        await port.stopListening()
