"""The straight way of records: it says and hears what the ordinary one does, and nothing overtakes on it."""

from __future__ import annotations

import os

import pytest

from tests.net.engines import App, Conversation, HalfApp
from wormhole_tw.net.records import RECORD_SIZE
from wormhole_tw.net.tls_transport import TlsTransport, write_at_once


def talk_of(role: str, version: str, app: App | None = None) -> Conversation:
    """A conversation by our transport, whichever others are under test."""
    talk = Conversation(role, "ssl", version, app=app)
    if not isinstance(talk.tls, TlsTransport):
        pytest.skip("this way is not Twisted's")
    return talk


def begun(role: str, version: str) -> Conversation:
    """One that is shaken, and has heard its first word: the way lies open."""
    talk = talk_of(role, version)
    talk.shake()
    talk.far.send(b"hello")
    talk.run()
    assert talk.tls.straight.open
    return talk


def test_it_opens_with_the_handshake(role: str, version: str) -> None:
    talk = talk_of(role, version)
    straight = talk.tls.straight
    assert not straight.open
    talk.shake()
    talk.far.send(b"hello")
    talk.run()
    assert straight.open
    write_at_once(talk.tls)(b"answer")
    talk.run()
    assert (talk.app.received, talk.far.received) == (b"hello", b"answer")
    assert straight.open


def test_what_was_written_before_the_handshake_goes_first(role: str, version: str) -> None:
    talk = talk_of(role, version)
    write = write_at_once(talk.tls)
    write(b"first, ")
    talk.tls.write(b"second, ")
    talk.shake()
    write(b"third")
    talk.run()
    assert talk.far.received == b"first, second, third"


def test_nothing_overtakes_what_waits_for_the_end_of_the_turn(role: str, version: str) -> None:
    talk = begun(role, version)
    write = write_at_once(talk.tls)
    pieces = [os.urandom(size) for size in (5, RECORD_SIZE, RECORD_SIZE + 1, 1, 3 * RECORD_SIZE, 7)]
    for number, piece in enumerate(pieces):
        (talk.tls.write if number % 3 == 1 else write)(piece)
    write(b"")
    talk.run()
    assert talk.far.received == b"".join(pieces)


@pytest.mark.parametrize("end", ["loseWriteConnection", "loseConnection", "abortConnection"])
def test_nothing_is_said_after_the_last_word(role: str, version: str, end: str) -> None:
    talk = talk_of(role, version)
    write = write_at_once(talk.tls)
    talk.shake()
    write(b"all")
    talk.far.send(b"hello")
    talk.run()
    getattr(talk.tls, end)()
    write(b" and more")
    talk.run()
    assert talk.far.received == b"all"


def test_who_has_heard_all_may_go_on_talking(role: str, version: str) -> None:
    talk = talk_of(role, version, HalfApp())
    write = write_at_once(talk.tls)
    talk.shake()
    write(b"one ")
    talk.far.send(b"hello")
    talk.far.finish()
    talk.run()
    assert talk.app.events[-1] == "read lost"
    write(b"two")
    talk.run()
    assert talk.far.received == b"one two"


def test_a_damaged_record_ends_it(role: str, version: str) -> None:
    talk = begun(role, version)
    write = write_at_once(talk.tls)
    talk.tls.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))
    write(b"nobody hears this")
    talk.run()
    assert talk.app.reason is not None
    assert talk.far.received == b""


def test_it_is_gone_with_the_connection(role: str, version: str) -> None:
    """They hold each other while it lasts, and OpenSSL's memory does not wait for the collector when it is over."""
    talk = begun(role, version)
    write = write_at_once(talk.tls)
    talk.tls.abortConnection()
    talk.run()
    assert talk.app.events[-1] == "lost"
    assert talk.tls.straight is None
    assert "dataReceived" not in vars(talk.tls)
    write(b"too late")
    talk.tls.dataReceived(b"too late")
    assert talk.app.received == b"hello"
