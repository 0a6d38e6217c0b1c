"""Logs for people and for ``grep``: one event, one line.

``2026-11-22T20:09:11.042Z info agent.service: connected to edge-1 …``: the time in UTC (RFC 3339), the level, the part
of the program, the text.  What came from outside (an edge's sentence, an exception's text) can hold no line break of
its own: control characters are escaped, so that no peer writes a line in our log.  Only the traceback of a bug takes
more lines, each indented.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import WormholeError

__all__ = ["LEVELS", "LineObserver", "log_observer", "parse_level", "sentence"]

LEVELS = ("debug", "info", "warn", "error")
"""The names of levels, from the most talkative."""

_PACKAGE = "wormhole_tw."
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_TEXT = 8192  # characters of one line: an event is made of sentences, what is longer is somebody's data


def parse_level(text: str | None) -> str:
    """A level's name in any case; ``warning`` and ``critical`` are known too, everything else is ``info``."""
    name = (text or "").strip().lower()
    name = {"warning": "warn", "critical": "error", "fatal": "error", "trace": "debug"}.get(name, name)
    return name if name in LEVELS else "info"


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line to ``out`` and flushes it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        try:
            self._out.write(format_line(event))
            self._out.flush()
        except (OSError, ValueError):
            pass  # nobody reads any more (a closed pipe): the program goes on


def format_line(event: LogEvent) -> str:
    """One event as text, with the line break at its end."""
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    name = getattr(event.get("log_level"), "name", "info")
    where = str(event.get("log_namespace") or "-").removeprefix(_PACKAGE)
    text = formatEvent(event)
    lines = [text]
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        if not isinstance(failure.value, WormholeError):
            lines.append(failure.getTraceback())
        elif failure.getErrorMessage() not in text:
            lines[0] = f"{text}: {failure.getErrorMessage()}"
    head = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z {name} {where}: {_escape(lines[0])}\n"
    return head + "".join(f"    {_escape(line)}\n" for part in lines[1:] for line in part.splitlines())


def sentence(event: LogEvent) -> str:
    """The text of one event on one line, for a person who watches: no time, no level."""
    return _escape(formatEvent(event))


def _escape(text: str) -> str:
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "…"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def log_observer(out: TextIO, level: str = "info") -> ILogObserver:
    """An observer that writes lines of at least ``level``.

    Twisted's own talk (ports and factories that start and stop, retries, which the agent reports better) is let through
    from ``warn`` on, unless the level is ``debug``.  What comes by its old ``log.msg`` is its talk too.
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    if level == "info":
        for namespace in ("twisted", "log_legacy"):
            predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
    return FilteringLogObserver(LineObserver(out), [predicate])
