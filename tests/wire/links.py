"""Two sessions joined back to back, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from wormhole_tw.wire.events import DataReceived, Event
from wormhole_tw.wire.frames import FrameParser
from wormhole_tw.wire.messages import Hello, Open, Welcome
from wormhole_tw.wire.session import Session, SessionConfig, Side

E = TypeVar("E")

HELLO = Hello(role="agent", versions=[1], token="wh_test", instance=bytes(16), generation=1)
WELCOME = Welcome(session="s-1")
HTTP = Open(kind="http")


def joined(pieces: Iterable[bytes | memoryview]) -> bytes:
    return b"".join(pieces)


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """The frames in some bytes, which must be whole."""
    parser = FrameParser(expect_preface=False)
    found = parser.feed(data)
    assert parser.error is None
    assert parser.held == 0
    return found


def of(kind: type[E], events: Iterable[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def octets(events: Iterable[Event], stream_id: int) -> bytes:
    return b"".join(event.data for event in of(DataReceived, events) if event.stream_id == stream_id)


@dataclass
class Link:
    """A dialler and an acceptor. ``role`` is the dialler's; an agent's edge is the one that opens streams."""

    config: SessionConfig = field(default_factory=SessionConfig)
    role: str = "agent"
    dialler_config: SessionConfig | None = None
    now: float = 0.0

    def __post_init__(self) -> None:
        self.dialler = Session(Side.DIALLER, config=self.dialler_config or self.config, now=self.now)
        self.acceptor = Session(Side.ACCEPTOR, config=self.config, now=self.now)

    def carry(self, source: Session, target: Session, *, limit: int = 1 << 17) -> list[Event]:
        """Bring what one has to send to the other; the target's events."""
        events: list[Event] = []
        while source.has_data and (data := joined(source.data_to_send(limit))):
            events += target.receive_data(data, self.now)
        return events

    def settle(self) -> tuple[list[Event], list[Event]]:
        """Carry both ways until nothing moves: events of the dialler and of the acceptor."""
        ours: list[Event] = []
        theirs: list[Event] = []
        while self.dialler.has_data or self.acceptor.has_data:
            theirs += self.carry(self.dialler, self.acceptor)
            ours += self.carry(self.acceptor, self.dialler)
        return ours + self.dialler.take_events(), theirs + self.acceptor.take_events()

    def greet(self, *, ready: bool = True) -> Link:
        """Up to WELCOME and the first STATUS, events thrown away."""
        hello = (
            HELLO
            if self.role == "agent"
            else Hello(role="edge", versions=[1], token="t", instance=bytes(16), generation=1)
        )
        self.dialler.hello(hello, self.now)
        self.settle()
        self.acceptor.welcome(WELCOME, self.now)
        if ready:
            self.dialler.set_status(True, "here")
        self.settle()
        return self

    def stream(self, message: Open = HTTP) -> int:
        """A stream that the acceptor opened and the dialler accepted."""
        stream_id = self.acceptor.open(message, self.now)
        self.settle()
        self.dialler.accept(stream_id)
        self.settle()
        return stream_id
