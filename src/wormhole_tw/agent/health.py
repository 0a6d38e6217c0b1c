"""Looking again and again whether the private service is well.

Each check has a connection of its own, made as for a visitor: with TLS, over a Unix socket or an endpoint of the
application, and behind the header that the service's connections begin with.  There is one check at a time, so a
service that is slow gets no second one on top.

The agent reads no HTTP of visitors.  What a check has to know of it is the first line of an answer to its own question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw import __version__
from wormhole_tw.agent.health_settings import HealthCheck
from wormhole_tw.agent.local import LocalService
from wormhole_tw.agent.readiness import FIRST_WAIT, LONGEST_WAIT

__all__ = ["JITTER", "HealthWatch"]

_log = Logger()

JITTER = 0.1
"""The part of an interval by which each wait is longer or shorter, so that the agents of many replicas do not all ask
at the same moment."""

NOT_YET = "the service has not passed its health check yet"

MAX_HEAD = 16 * 1024
"""Octets before the answer's status that are read: interim answers may come before it."""

MAX_BODY = 64 * 1024
"""Octets of the answer that are read, so that a service sees its answer taken, before the connection is closed."""

_GROWTH = 1.5
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class HealthWatch:
    """Checks the service from :meth:`start` to :meth:`stop`.

    Until it was well for the first time it is asked often, as one that is starting; later every ``check.interval``.

    :param changed: called when ``ready`` has changed
    :param random: gives a float from 0 to below 1
    :ivar ready: the last ``check.rise`` checks passed, and since then no ``check.fall`` in a row have failed
    :ivar reason: why not, one sentence for the edge, which tells visitors nothing of the private network
    """

    def __init__(
        self,
        clock: IReactorTime,
        local: LocalService,
        changed: Callable[[], None],
        check: HealthCheck,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._local = local
        self._changed = changed
        self._check = check
        self._random = random
        self._question = _question(check, local.authority)
        self._header = b""
        self._running = False
        self._starting = True
        self._passes = 0
        self._failures = 0
        self._wait = FIRST_WAIT
        self._said = ""
        self._timer: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._dialling: Deferred[Any] | None = None
        self._connection: _Connection | None = None
        self.ready = False
        self.reason = NOT_YET

    def start(self) -> None:
        """Begin, from the state of a service never reached."""
        self._running = self._starting = True
        self._passes = self._failures = 0
        self._wait = FIRST_WAIT
        self._said = ""
        self.ready = False
        self.reason = NOT_YET
        self._begin()

    def stop(self) -> None:
        """Leave nothing scheduled and no connection open. Safe to call twice."""
        self._running = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._leave()

    def begin_with(self, header: bytes) -> None:
        """From now on the service's connections begin with these octets, without which it may take none."""
        if header != self._header:
            self._header = header
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
                self._begin()

    # One check

    def _begin(self) -> None:
        self._timer = None
        self._leave()
        self._deadline = self._clock.callLater(self._check.timeout, self._too_late)
        connection = self._connection = _Connection(self._question, self._answered, self._broke)
        dialling = self._dialling = self._local.connect(_Once(connection), self._header)
        dialling.addCallbacks(self._stands, self._not_reached)

    def _leave(self) -> None:
        """End what is left of a check, without a verdict."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
        dialling, self._dialling = self._dialling, None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        if dialling is not None:
            dialling.cancel()

    def _stands(self, _protocol: object) -> None:
        self._dialling = None
        if not self._question and self._connection is not None:
            self._verdict("")

    def _not_reached(self, failure: Failure) -> None:
        if self._dialling is not None:  # otherwise it was cancelled: by us
            self._dialling = None
            self._verdict(self._local.explain(failure)[1], told=True)  # by the service's own line

    def _answered(self, status: int) -> None:
        fine = self._check.accepts(status)
        self._verdict("" if fine else f"{self._check.question} is answered with status {status}")

    def _broke(self, sentence: str) -> None:
        self._verdict(f"{self._check.question}: {sentence}")

    def _too_late(self) -> None:
        self._deadline = None
        self._verdict(f"{self._check.question}: no answer within {self._check.timeout:g} s")

    def _verdict(self, trouble: str, told: bool = False) -> None:
        """The check has passed, or not, and why; ``told`` where the log says that already."""
        if trouble:
            self._leave()
            self._failed(trouble, told)
        else:
            deadline, self._deadline = self._deadline, None
            if deadline is not None:
                deadline.cancel()
            if self._connection is not None and not self._question:
                self._connection.close()
            # One that has answered may send the rest: it ends by itself, or by the next check, or when we stop.
            self._passed()
        if self._running:  # what was told of a change may have stopped us
            self._timer = self._clock.callLater(self._next_wait(), self._begin)

    # What follows

    def _passed(self) -> None:
        self._failures = 0
        self._said = ""
        if self.ready:
            return
        self._passes += 1
        self._wait = FIRST_WAIT
        if self._passes >= self._check.rise:
            if not self._starting:
                _log.info("{service} passes its health check again", service=self._local.description)
            self._starting = False
            self.ready, self.reason = True, ""
            self._changed()

    def _failed(self, trouble: str, told: bool) -> None:
        self._passes = 0
        self._failures += 1
        falls = self.ready and self._failures >= self._check.fall
        if falls:
            self.ready, self.reason = False, "the service fails its health check"
        if self.ready or (told and not falls):
            _log.debug("{service}: {trouble}", service=self._local.description, trouble=trouble)
        elif trouble != self._said:  # once, and not at every check
            self._said = trouble
            what = "does not pass its health check yet" if self._starting else "fails its health check"
            if falls:
                what += " and gets no new requests"
            _log.warn("{service} {what}: {trouble}", service=self._local.description, what=what, trouble=trouble)
        if falls:
            self._changed()

    def _next_wait(self) -> float:
        interval = self._check.interval
        if self._starting:
            wait = self._wait
            self._wait = min(wait * _GROWTH, LONGEST_WAIT)
            return min(wait, interval)
        return interval * (1 - JITTER + 2 * JITTER * self._random())


def _question(check: HealthCheck, authority: str) -> bytes:
    """The request of a check; empty where a connection is enough."""
    if check.path is None:
        return b""
    return (
        f"GET {check.path} HTTP/1.1\r\nHost: {check.host or authority}\r\n"
        f"User-Agent: wormhole-tw/{__version__} (health check)\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


class _Connection(Protocol):
    """Asks one question, and tells the answer's status, or why there is none, once."""

    def __init__(self, question: bytes, answered: Callable[[int], None], broke: Callable[[str], None]) -> None:
        self._question = question
        self._answered: Callable[[int], None] | None = answered if question else None
        self._broke = broke
        self._head = bytearray()
        self._body = 0
        self._lost = False

    def connectionMade(self) -> None:
        if self._question:
            cast(Any, self.transport).write(self._question)

    def dataReceived(self, data: bytes) -> None:
        if self._answered is None:
            self._body += len(data)
            if self._body > MAX_BODY:
                self.close()
            return
        self._head += data
        try:
            status = _status(self._head)
        except ValueError as error:
            self._tell_trouble(str(error))
            return
        if status:
            answered, self._answered = self._answered, None
            answered(status)
        elif len(self._head) > MAX_HEAD:
            self._tell_trouble("its answer has no end of interim answers, or of its first line")

    def _tell_trouble(self, sentence: str) -> None:
        if self._answered is not None:
            self._answered = None
            self._broke(sentence)

    def close(self) -> None:
        """Close it, as one who has all that he wanted."""
        if not self._lost and self.transport is not None:
            cast(Any, self.transport).loseConnection()

    def abandon(self) -> None:
        """Close it now, and tell nothing any more."""
        self._answered = None
        if not self._lost and self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._tell_trouble("the connection was closed without an answer")


def _status(head: bytearray) -> int:
    """The status of the final answer that begins with ``head``; 0 where more of it has to come.

    :raises ValueError: what comes is no answer of HTTP/1
    """
    start = 0
    while True:
        match = _STATUS_LINE.match(head, start)
        if match is None:
            rest = bytes(head[start : start + 5])
            if not b"HTTP/".startswith(rest) or b"\n" in head[start:]:
                raise ValueError("what answers does not speak HTTP/1")
            return 0
        status = int(match[1])
        if status >= 200 or status == 101:
            return status
        end = _HEAD_END.search(head, match.end() - 2)
        if end is None:
            return 0
        start = end.end()


class _Once(Factory):
    """Builds the one protocol that it was made with."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress) -> IProtocol:  # type: ignore[override]
        return self._protocol
