"""How connections through the TLS engine end: halves, callbacks that end them, and what was written before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from tests.net.engines import App, Conversation, HalfApp, Matrix

pytestmark = pytest.mark.usefixtures("way_through_openssl")

LONG = b"0123456789abcdef" * 20_000


class Acting(HalfApp):
    """Does something within a callback."""

    def __init__(self, when: str, act: Callable[[Any], None]) -> None:
        super().__init__()
        self._when = when
        self._act = act

    def _at(self, place: str) -> None:
        if place == self._when:
            self._when = ""
            self._act(self.transport)

    def connectionMade(self) -> None:
        super().connectionMade()
        self._at("made")

    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        self._at("handshake")

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._at("data")

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self._at("read lost")

    def writeConnectionLost(self) -> None:
        super().writeConnectionLost()
        self._at("write lost")


def test_our_half_first(matrix: Matrix) -> None:
    talk = Conversation(*matrix, app=HalfApp())
    talk.shake()
    talk.tls.write(LONG)
    talk.tls.loseWriteConnection()
    talk.tls.write(b"too late")
    talk.tls.loseWriteConnection()
    talk.run()
    assert talk.far.received == LONG
    assert talk.far.ended
    if matrix[1] == "twisted":  # it knows no halves, and answers the end with an end
        assert isinstance(talk.app.reason, ConnectionDone) or talk.app.events[-1] == "read lost"
        return
    assert talk.app.events == ["made", "handshake", "write lost"]
    talk.far.send(LONG)
    talk.run()
    assert talk.app.received == LONG
    talk.far.finish()
    talk.run()
    assert talk.app.events[-2:] == ["data", "read lost"]
    talk.tls.loseConnection()
    talk.run()
    assert isinstance(talk.app.reason, ConnectionDone)


def test_both_halves_at_once(matrix: Matrix) -> None:
    talk = Conversation(*matrix, app=HalfApp())
    talk.shake()
    talk.tls.write(b"mine")
    talk.far.send(b"yours")
    talk.tls.loseWriteConnection()
    talk.far.finish()
    talk.run()
    assert (talk.far.received, talk.app.received) == (b"mine", b"yours")
    assert talk.far.ended
    talk.tls.loseConnection()
    talk.run()
    assert isinstance(talk.app.reason, ConnectionDone)


def test_the_other_s_half_and_its_fin_and_then_we_go_on(role: str, version: str) -> None:
    talk = Conversation(role, "ssl", version, app=HalfApp())
    talk.shake()
    talk.far.finish()
    talk.far_end.loseWriteConnection()
    talk.run()
    assert talk.app.events[-1] == "read lost"
    talk.tls.write(LONG)
    talk.tls.loseConnection()
    talk.run()
    assert talk.far.received == LONG
    assert talk.far.ended
    assert isinstance(talk.app.reason, ConnectionDone)


def test_close_notify_that_is_never_answered_is_ended_by_an_abort(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.far_end.barrier = talk.far_end.delivered  # nothing more comes from there
    talk.tls.write(b"bye")
    talk.tls.loseConnection()
    talk.run()
    assert talk.app.reason is None
    talk.tls.abortConnection()
    talk.tls.abortConnection()
    talk.tls.loseConnection()
    talk.run()
    assert talk.far.received == b"bye"
    assert isinstance(talk.app.reason, ConnectionAborted)


def test_fin_instead_of_an_answer_to_our_close_notify(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.tls.loseConnection()
    talk.far_end.barrier = talk.far_end.delivered
    talk.run()
    talk.far_end.queue.clear()
    talk.far_end.loseConnection()
    talk.run()
    assert isinstance(talk.app.reason, ConnectionLost)


def test_what_was_written_before_the_handshake_comes_after_it_and_in_order(matrix: Matrix) -> None:
    def speak(transport: Any) -> None:
        transport.write(b"first ")
        transport.writeSequence([b"second ", LONG])

    app = Acting("made", speak)
    talk = Conversation(*matrix, app=app)
    app._when, app._act = "handshake", lambda transport: transport.write(LONG + b"third")
    talk.run()
    assert talk.far.received == b"first second " + LONG + LONG + b"third"


@pytest.mark.parametrize("half", [True, False])
def test_all_is_said_before_the_handshake(matrix: Matrix, half: bool) -> None:
    def speak(transport: Any) -> None:
        transport.write(LONG)
        (transport.loseWriteConnection if half else transport.loseConnection)()
        transport.write(b"too late")

    talk = Conversation(*matrix, app=Acting("made", speak))
    talk.run()
    assert talk.far.received == LONG
    assert talk.far.ended
    assert "handshake" in talk.app.events


def test_closed_in_the_first_callback(matrix: Matrix) -> None:
    talk = Conversation(*matrix, app=Acting("made", lambda transport: transport.loseConnection()))
    talk.run()
    assert talk.app.events == ["made", "lost"]
    assert talk.far.failed


@pytest.mark.parametrize("when", ["made", "handshake", "data", "read lost", "write lost"])
def test_aborted_in_a_callback(matrix: Matrix, when: str) -> None:
    app = Acting(when, lambda transport: transport.abortConnection())
    talk = Conversation(*matrix, app=app)
    talk.run()
    if when == "write lost":
        talk.tls.loseWriteConnection()
    elif when in ("data", "read lost"):
        talk.far.send(LONG)
        talk.far.finish()
    talk.run()
    assert app.events[-1] == "lost"
    # (Where the other ends as soon as it hears our end, that comes first.)
    assert app.events[-2] in (when, "read lost")
    assert len(app.received) < len(LONG) or when in ("read lost", "write lost")
    talk.tls.write(b"nobody hears this")
    talk.tls.loseConnection()
    talk.run()


@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection"])
@pytest.mark.parametrize("when", ["handshake", "data", "read lost"])
def test_answered_and_ended_in_a_callback(role: str, version: str, when: str, how: str) -> None:
    def act(transport: Any) -> None:
        transport.write(b"the answer")
        getattr(transport, how)()

    app = Acting(when, act)
    talk = Conversation(role, "ssl", version, app=app)
    talk.run()
    if when != "handshake":
        talk.far.send(b"a question")
        talk.run()
    if when == "read lost":
        talk.far.finish()
        talk.run()
    assert talk.far.received == b"the answer"
    assert talk.far.ended
    if when != "read lost":
        talk.far.finish()
        talk.run()
    talk.tls.loseConnection()
    talk.run()
    assert isinstance(app.reason, ConnectionDone)


def test_written_in_data_received(matrix: Matrix) -> None:
    class Echo(App):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            for octet in data[:3]:
                self.transport.write(bytes([octet]))
            self.transport.write(data[3:])

    talk = Conversation(*matrix, app=Echo())
    talk.shake()
    talk.far.send(LONG)
    talk.run()
    assert talk.far.received == LONG


def test_data_and_end_that_come_in_one_piece(matrix: Matrix) -> None:
    talk = Conversation(*matrix, app=HalfApp())
    talk.shake()
    talk.far.send(LONG)
    talk.run()
    talk.far.send(b"the last word")
    talk.far.finish()
    talk.run()
    assert talk.app.received == LONG + b"the last word"
    assert talk.app.events == ["made", "handshake", "data", "read lost"]


def test_a_protocol_that_raises_loses_its_connection_only(matrix: Matrix) -> None:
    class Broken(App):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    talk = Conversation(*matrix, app=Broken())
    talk.shake()
    talk.far.send(b"x")
    with pytest.raises(ZeroDivisionError):  # a reactor logs it, and ends the connection for it
        talk.run()
    talk.near_end.abortConnection()
    talk.run()
    assert talk.app.events[-1] == "lost"


def test_lost_in_the_middle_of_a_handshake(matrix: Matrix) -> None:
    for size in (0, 1, 5, 50, 200):
        talk = Conversation(*matrix)
        talk.far_end.barrier = size
        talk.run()
        talk.far_end.queue.clear()
        talk.far_end.loseConnection()
        talk.far_end.barrier = None
        talk.run()
        assert isinstance(talk.app.reason, ConnectionLost | SSL.Error), size
        assert "handshake" not in talk.app.events


def test_nothing_is_held_after_the_end(matrix: Matrix) -> None:
    talk = Conversation(*matrix)
    talk.shake()
    talk.tls.loseConnection()
    talk.far.finish()
    talk.run()
    assert talk.tls.getHandle() is None
    assert talk.tls.negotiatedProtocol is None
    talk.tls.write(b"too late")
    talk.tls.loseWriteConnection()
    talk.tls.abortConnection()
    talk.run()
