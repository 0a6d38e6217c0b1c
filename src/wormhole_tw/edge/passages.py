"""The connections that lead through the tunnel as they are: those that there are, what became of the others, and what
the log says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.edge.complaints import Lines
from wormhole_tw.edge.metrics import Histogram
from wormhole_tw.edge.passage import Course, Passage

if TYPE_CHECKING:
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts

__all__ = ["PassageTraffic", "Passages"]

log = Logger()

_WHAT = {"tcp": "TCP service", "passthrough": "site"}

_TROUBLE = {
    "no-agent": "no agent of backend {backend} is there",
    "agent-lost": "the connection to the agent of backend {backend} was lost",
    "overloaded": "the agent of backend {backend} has no room for another stream",
    "service-refused": "the service of backend {backend} does not accept connections",
    "service-timeout": "the service of backend {backend} was not reached within {connect:g} s",
    "service-failed": "the service of backend {backend} failed",
    "service-busy": "as many connections as it may have are there",
    "too-many-connections": "as many connections as one address may have are there",
    "removed": "the service is no longer in the configuration",
}
"""What the operator is told of connections that were closed before they reached a service."""


class PassageTraffic:
    """The connections of one TCP service or site.

    :ivar open: those that there are
    :ivar ended: how many ended, by reason
    :ivar connect: seconds from the connection until its service was reached
    """

    __slots__ = ("_received", "_sent", "connect", "ended", "open")

    def __init__(self) -> None:
        self.open: set[Passage] = set()
        self.ended: Counter[str] = Counter()
        self.connect = Histogram()
        self._received = 0
        self._sent = 0

    @property
    def received(self) -> int:
        """Octets from visitors, those of open connections too: one may last for weeks."""
        return self._received + sum(passage.received for passage in self.open)

    @property
    def sent(self) -> int:
        """Octets to visitors, likewise."""
        return self._sent + sum(passage.sent for passage in self.open)

    def over(self, passage: Passage) -> None:
        """Count one that has ended."""
        self.open.discard(passage)
        self._received += passage.received
        self._sent += passage.sent
        self.ended[passage.reason] += 1


class Passages:
    """All of an edge.

    :param seconds: the clock

    :ivar traffic: (kind, name, backend) → its connections; bounded by the configuration
    :ivar on_done: called with each :class:`Passage` that is over, or None
    """

    __slots__ = ("_lines", "_seconds", "on_done", "traffic")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._lines: dict[tuple[str, str], Lines] = {}
        self.traffic: dict[tuple[str, str, str], PassageTraffic] = {}
        self.on_done: Callable[[Passage], None] | None = None

    def begun(self, passage: Passage) -> None:
        """Here is one."""
        self.of(passage.course).open.add(passage)

    def joined(self, passage: Passage) -> None:
        """It has reached its service."""
        self.of(passage.course).connect.observe(passage.joined - passage.began)

    def ended(self, passage: Passage) -> None:
        """It is over, or was never let in."""
        self.of(passage.course).over(passage)
        if passage.reason == "not-allowed":
            # every public port is scanned all day: a list that does what it is for is no trouble
            course, who = passage.course, passage.facts.address
            log.debug("TCP service {name}: {who} may not connect", name=course.name, who=who)
        elif not passage.joined and passage.reason in _TROUBLE:
            self._complain(passage)
        if self.on_done is not None:
            self.on_done(passage)

    def refuse(self, context: EdgeContext, course: Course, facts: ConnectionFacts, reason: str) -> None:
        """Note one that was closed at once."""
        passage = Passage(context, course, facts)
        passage.reason = reason
        self.ended(passage)

    def of(self, course: Course) -> PassageTraffic:
        """The connections of a course."""
        key = (course.kind, course.name, course.backend)
        traffic = self.traffic.get(key)
        if traffic is None:
            traffic = self.traffic[key] = PassageTraffic()
        return traffic

    def _complain(self, passage: Passage) -> None:
        course = passage.course
        key = (course.kind, course.name)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = Lines(self._seconds)
        why = _TROUBLE[passage.reason].format(backend=course.backend, connect=course.connect)
        who = passage.facts.address or "a peer on the Unix socket"
        lines.say(f"{_WHAT[course.kind]} {course.name}: a connection of {who} was closed: {why}")
