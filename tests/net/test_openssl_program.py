"""The TLS engine against the ``openssl`` program, which can do what no library does: new keys and second handshakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests import _support
from tests.net.engines import HOST, MATERIAL
from tests.net.peers import chain_pem, write_pair
from wormhole_tw.net.immediate import immediate_port, immediate_reactor
from wormhole_tw.net.tls import CertificateMap, ServerTls, client_creator, wrap_client_tls
from wormhole_tw.net.tls_transport import TlsAcceptor

pytestmark = [pytest.mark.usefixtures("way_through_openssl"), pytest.mark.requires_program("openssl")]


@implementer(IHandshakeListener)
class Talker(Protocol):
    """Answers each line in capitals."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.handshakes = 0
        self.reason: BaseException | None = None
        self.lost: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:
        self.handshakes += 1

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.value
        self.lost.callback(None)


class Program(ProcessProtocol):
    """``openssl``, which does what one types."""

    transport: Any

    def __init__(self) -> None:
        self.said = b""
        self.ended: Deferred[None] = Deferred()
        self._waiters: list[tuple[bytes, Deferred[None]]] = []

    def type(self, line: bytes) -> None:
        self.transport.write(line + b"\n")

    def until(self, text: bytes) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._waiters.append((text, waiter))
        self._look()
        return waiter

    def _look(self) -> None:
        for text, waiter in list(self._waiters):
            if text in self.said:
                self._waiters.remove((text, waiter))
                waiter.callback(None)

    def outReceived(self, data: bytes) -> None:
        self.said += data
        self._look()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)


class Stage:
    """Starts and ends everything."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.folder = folder
        self.programs: list[Program] = []
        self.talkers: list[Talker] = []
        self.port: Any = None

    def start(self, *arguments: str) -> Program:
        program = Program()
        path = _support.require_program("openssl")
        self.reactor.spawnProcess(program, path, [path, *arguments], env={"HOME": str(self.folder)})
        self.programs.append(program)
        return program

    async def client(self, version: str) -> tuple[Program, Talker]:
        """``openssl`` dials a server of ours; both are given when hands are shaken."""
        acceptor = TlsAcceptor(self.reactor, ServerTls(CertificateMap([MATERIAL]), []))
        stage = self

        class Accept(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                stage.talkers.append(Talker())
                return acceptor.wrap(stage.talkers[-1])

        listening = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self.port = immediate_port(await listening.listen(Accept()))
        address = f"127.0.0.1:{self.port.getHost().port}"
        program = self.start("s_client", "-connect", address, version, "-servername", HOST)
        program.type(b"first")
        await program.until(b"FIRST")
        return program, self.talkers[0]

    async def server(self, version: str) -> tuple[Program, Talker]:
        """We dial ``openssl``; both are given when hands are shaken."""
        certificate, key = write_pair(self.folder, MATERIAL)
        program = self.start("s_server", "-accept", "127.0.0.1:0", version, "-cert", str(certificate), "-key", str(key))
        await program.until(b"\nACCEPT 127.0.0.1:")
        await program.until(b"\n")
        number = int(program.said.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
        creator = client_creator(HOST, ca_pem=chain_pem(MATERIAL))
        endpoint = TCP4ClientEndpoint(immediate_reactor(self.reactor), "127.0.0.1", number)
        factory: Factory = Factory.forProtocol(Talker)
        factory.noisy = False
        talker: Any = await wrap_client_tls(self.reactor, creator, endpoint).connect(factory)
        self.talkers.append(talker)
        program.type(b"first")
        await program.until(b"FIRST")
        return program, talker

    async def command(self, program: Program, letter: bytes, talker: Talker) -> None:
        """Have the program do something else than send data. What it reads behind the letter in one piece, it drops:
        wait until something came of it."""
        tls = talker.transport
        hear = tls.dataReceived  # which may be the straight way's, and is left by whoever laid it
        came: Deferred[None] = Deferred()

        def pass_on(data: bytes) -> None:
            tls.dataReceived = hear
            came.callback(None)
            hear(data)

        tls.dataReceived = pass_on
        program.type(letter)
        await came

    async def stop(self) -> None:
        for talker in self.talkers:
            if talker.reason is None:
                talker.transport.abortConnection()
            await talker.lost
        for program in self.programs:
            program.transport.loseConnection()
            if program.transport.pid:
                program.transport.signalProcess("KILL")
            await program.ended
        if self.port is not None:
            await self.port.stopListening()


@pytest_twisted.async_yield_fixture
async def stage(reactor: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(reactor, tmp_path)
    yield made
    await made.stop()


@pytest.mark.parametrize("role", ["client", "server"])
async def test_new_keys_in_the_middle(stage: Stage, role: str) -> None:
    program, talker = await (stage.server if role == "client" else stage.client)("-tls1_3")
    for number, command in enumerate([b"k", b"K", b"K", b"k"]):  # K wants that we change ours, too
        await stage.command(program, command, talker)
        program.type(b"line %d" % number)
        await program.until(b"LINE %d" % number)
    assert talker.received == b"first\nline 0\nline 1\nline 2\nline 3\n"
    assert talker.reason is None


async def test_a_client_that_wants_a_second_handshake(stage: Stage) -> None:
    program, talker = await stage.client("-tls1_2")
    await stage.command(program, b"R", talker)
    await program.until(b"no renegotiation")
    await talker.lost
    assert talker.handshakes == 1
    assert talker.received == b"first\n"


async def test_a_server_that_wants_a_second_handshake(stage: Stage) -> None:
    program, talker = await stage.server("-tls1_2")
    await stage.command(program, b"r", talker)
    # It is told no, by an alert; this server gives up for it, and would not have needed to.
    await talker.lost
    assert talker.handshakes == 1
    assert talker.received == b"first\n"
    assert not isinstance(talker.reason, ConnectionDone)
