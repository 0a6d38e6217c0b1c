"""The access log: a line for each request, and for each connection that is passed through as it is; written in batches
and in a thread, so that no disk holds a request up.

What a line never has: cookies, ``Authorization``, any field but ``User-Agent`` and ``Referer``, and any query string of
the target or of the referer, for applications put tokens there.  docs/observability.md has the fields.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from wormhole_tw.edge.access_lines import LINES
from wormhole_tw.edge.again import Again
from wormhole_tw.edge.noted import Noted
from wormhole_tw.edge.passage import Passage
from wormhole_tw.edge.passage_lines import PASSAGE_LINES
from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from wormhole_tw.control.config import AccessLogConfig
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.net.timers import Timer, TimerWheel

__all__ = ["BATCH", "EVERY", "MAX_WAITING", "AccessLog"]

log = Logger()

EVERY = 0.5
"""Seconds that a line waits for others: a person with ``tail -f`` sees no delay."""

BATCH = 512
"""Lines that do not wait any longer: about 200 KB, and 2 ms to write out as text."""

MAX_WAITING = 8192
"""Requests that may wait while the disk (or who reads our standard output) holds up; with their heads some 20 MB.  What
comes then is counted and dropped; serving goes on."""

_MODE = 0o640
_STDOUT = 1


class AccessLog:
    """Writes lines to a file or to standard output.

    :param config: where, and in which format
    :param timers: the wheel of the edge
    :param wall: seconds since 1970
    :param in_thread: calls a function elsewhere and gives a Deferred of its result; one at a time
    :param source: the configuration file, for errors

    :ivar form: of its lines
    :ivar written: lines that were written
    :ivar dropped: lines that were not: there was no room to wait, or writing failed
    """

    def __init__(
        self,
        config: AccessLogConfig,
        timers: TimerWheel,
        wall: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        *,
        source: str = "",
    ) -> None:
        self._path = config.path
        self.form = LINES[config.format]
        self._passage_line = PASSAGE_LINES[config.format]
        self._timers = timers
        self._wall = wall
        self._in_thread = in_thread
        self._source = source
        # what has ended, the wheel's clock then (or the name of the request and more), and the wall's
        self._waiting: list[tuple[Any, Any, float]] = []
        self._timer: Timer | None = None
        self._writing: Deferred[None] | None = None
        self._descriptor: int | None = None
        self._reopen = False
        self._failing = False
        self._closing: Deferred[None] | None = None
        self.written = 0
        self.dropped = 0

    def open(self) -> None:
        """Open the file.

        :raises ConfigError: it cannot be
        """
        try:
            self._descriptor = self._opened()
        except OSError as error:
            reason = f"{self._path} cannot be opened: {error.strerror}"
            raise ConfigError(self._source, "$.access_log.path", reason) from error

    def again(self, repeated: Again, request_id: bytes, wall: float) -> None:
        """Take an answer that was given again.

        :param wall: seconds since 1970
        """
        waiting = self._waiting
        waiting.append((repeated, request_id, wall))
        length = len(waiting)
        if length == 1 or length >= BATCH:
            self._one_more(length)

    def alike(self, noted: Noted, request_id: bytes, sent: int, first: float, whole: float) -> None:
        """Take a request of which all else is known.

        :param sent: octets of its answer's body
        :param first: seconds from its head to that of its answer
        :param whole: seconds from its head to the end of its answer
        """
        waiting, wall = self._waiting, self._wall
        waiting.append((noted, (request_id, sent, first, whole), wall()))
        length = len(waiting)
        if length == 1 or length >= BATCH:
            self._one_more(length)

    def record(self, over: Exchange | Passage, now: float) -> None:
        """Take what has ended.

        :param now: the wheel's clock
        """
        waiting = self._waiting
        waiting.append((over, now, self._wall()))
        length = len(waiting)
        if length == 1 or length >= BATCH:
            self._one_more(length)

    def reopen(self) -> None:
        """Write to a file of that name from now on, whatever became of the one that is open; what waits goes there."""
        self._reopen = True
        self._flush()

    def close(self) -> Deferred[None]:
        """Write what waits and close; fires when that is done, and never fails. Nothing may be recorded after it."""
        closing: Deferred[None] = Deferred()
        self._closing = closing
        self._flush()
        return closing

    # within

    def _one_more(self, length: int) -> None:
        """The first waits for others; with so many it is time."""
        if self._writing is None:
            if length == 1:
                self._start_timer()
            else:
                self._flush()
        elif length > MAX_WAITING:
            self._waiting.pop()
            self.dropped += 1

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._timers.start(EVERY, self._flush)
        else:
            self._timer.restart(EVERY)

    def _flush(self) -> None:
        if self._writing is not None:
            return  # it comes back here
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        if waiting or self._reopen:
            reopen, self._reopen = self._reopen, False
            data = b"".join(self._lines(waiting))
            writing = self._writing = self._in_thread(self._write, data, reopen)
            writing.addCallbacks(self._wrote, self._failed, callbackArgs=(len(waiting),), errbackArgs=(len(waiting),))
            return
        closing, self._closing = self._closing, None
        if closing is not None:
            self._close_descriptor()
            closing.callback(None)

    def _lines(self, waiting: Iterable[tuple[Any, Any, float]]) -> Iterator[bytes]:
        form = self.form
        alike = form.alike
        time, before = None, -1
        for over, said, wall in waiting:
            kind = type(over)
            if kind is Noted or kind is Again:
                # many in one millisecond
                milliseconds = int(wall * 1000)
                if milliseconds != before:
                    time, before = form.time(milliseconds), milliseconds
                if kind is Noted:
                    request_id, sent, first, whole = said
                    yield alike(time, over.common, request_id, sent, first, whole)
                else:
                    yield alike(time, over.common(form), said, over.sent, 0.0, 0.0)
            elif kind is Passage:
                yield self._passage_line(over, said, wall)
            else:
                yield form.line(over, said, wall)

    def _wrote(self, _: None, lines: int) -> None:
        self.written += lines
        if self._failing:
            self._failing = False
            log.info("the access log {path} is written again", path=self._path)
        self._next()

    def _failed(self, failure: Failure, lines: int) -> None:
        self.dropped += lines
        if not self._failing:
            self._failing = True
            log.error("the access log {path} cannot be written: {why}", path=self._path, why=failure.getErrorMessage())
        self._next()

    def _next(self) -> None:
        self._writing = None
        if self._closing is not None or self._reopen or len(self._waiting) >= BATCH:
            self._flush()
        elif self._waiting:
            self._start_timer()

    # in the thread

    def _write(self, data: bytes, reopen: bool) -> None:
        if reopen or self._descriptor is None:
            opened = self._opened()
            self._close_descriptor()
            self._descriptor = opened
        assert self._descriptor is not None
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # standard output is a pipe that somebody made non-blocking
                    _wait_until_writable(self._descriptor, EVERY)
        except OSError:
            if self._path != "-":
                self._close_descriptor()  # the next one opens it anew: a disk may be back
            raise

    def _opened(self) -> int:
        if self._path == "-":
            return os.dup(_STDOUT)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _wait_until_writable(descriptor: int, seconds: float) -> None:
    """Not by select(2), which takes no descriptor above 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(seconds * 1000)
