"""The TLS engine gets what the other says, wherever the octets are cut: in the handshake, a record, an alert."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone

from tests._support import sized
from tests.net.engines import Conversation, HalfApp, Matrix

pytestmark = pytest.mark.usefixtures("way_through_openssl")


def exchange(matrix: Matrix, direction: int, cut: int | None) -> Conversation:
    """Hands are shaken, a question, an answer, two ends; one direction waits behind so many octets till all rests."""
    talk = Conversation(*matrix, app=HalfApp())
    end = talk.wire.ends[direction]
    end.barrier = cut
    said: set[str] = set()

    def say() -> None:
        for due, word, act in (
            ("handshake" in talk.app.events, "question", lambda: talk.tls.write(b"a question")),
            (bool(talk.far.received), "answer", lambda: talk.far.send(b"an answer")),
            (bool(talk.app.received), "our end", talk.tls.loseWriteConnection),
            (talk.far.ended, "the other's end", talk.far.finish),
        ):
            if due and word not in said:
                said.add(word)
                act()

    talk.wire.run_through(say)
    end.barrier = None
    talk.wire.run_through(say)
    assert talk.far.received == b"a question"
    assert talk.app.received == b"an answer"
    assert talk.far.ended
    assert "read lost" in talk.app.events or isinstance(talk.app.reason, ConnectionDone)
    return talk


@pytest.mark.deadline(240)
def test_cut_at_every_place(matrix: Matrix, way_through_openssl: str) -> None:
    # Each place is a handshake; the three ways and the others share what comes before the cut. Records and their heads
    # (5 octets) are longer than the ordinary step: each is cut, if not everywhere.
    own = way_through_openssl == "direct" and matrix[1] == "ssl"
    step = sized(5 if own else 97, 1)
    whole = exchange(matrix, 0, None)
    for direction, end in enumerate(whole.wire.ends):
        for cut in range(direction % step, end.delivered, step):
            exchange(matrix, direction, cut)
