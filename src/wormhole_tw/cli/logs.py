"""Logs for people and for ``grep``, or JSON for programs: one event, one line.

``2026-11-22T20:09:11.042Z info agent.service: connected to edge-1 …``: the time in UTC (RFC 3339), the level, the part
of the program, the text.  As JSON the same are ``time``, ``level``, ``where`` and ``text``, and a traceback is
``traceback``.  What came from outside (an edge's sentence, an exception's text) can hold no line break of
its own: control characters are escaped, so that no peer writes a line in our log.  Only the traceback of a bug takes
more lines, each indented.
"""

from __future__ import annotations

import json
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

__all__ = [
    "FORMATS",
    "LEVELS",
    "LineObserver",
    "format_json",
    "format_line",
    "known_level",
    "log_observer",
    "parse_level",
    "sentence",
]

LEVELS = ("debug", "info", "warn", "error")
"""The names of levels, from the most talkative."""

FORMATS = ("text", "json")
"""The names of formats, the default first."""

_OTHER_LEVELS = {"warning": "warn", "critical": "error", "fatal": "error", "panic": "error", "trace": "debug"}
_PACKAGE = "wormhole_tw."
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_TEXT = 8192  # characters of one line: an event is made of sentences, what is longer is somebody's data


def parse_level(text: str | None) -> str:
    """A level's name in any case; ``warning`` and ``critical`` are known too, everything else is ``info``."""
    name = (text or "").strip().lower()
    name = _OTHER_LEVELS.get(name, name)
    return name if name in LEVELS else "info"


def known_level(text: str) -> bool:
    """Whether :func:`parse_level` knows it, and does not fall back to ``info``."""
    return text.strip().lower() in {*LEVELS, *_OTHER_LEVELS}


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line to ``out`` and flushes it.

    :param form: one of :data:`FORMATS`
    """

    def __init__(self, out: TextIO, form: str = "text") -> None:
        self._out = out
        self._format = format_json if form == "json" else format_line

    def __call__(self, event: LogEvent) -> None:
        try:
            self._out.write(self._format(event))
            self._out.flush()
        except (OSError, ValueError):
            pass  # nobody reads any more (a closed pipe): the program goes on


def _parts(event: LogEvent) -> tuple[str, str, str, str, str]:
    """Time, level, part of the program, text and traceback."""
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    name = getattr(event.get("log_level"), "name", "info")
    where = str(event.get("log_namespace") or "-").removeprefix(_PACKAGE)
    text = formatEvent(event)
    traceback = ""
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        if not isinstance(failure.value, WormholeError):
            traceback = failure.getTraceback()
        elif failure.getErrorMessage() not in text:
            text = f"{text}: {failure.getErrorMessage()}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z", name, where, text, traceback


def format_line(event: LogEvent) -> str:
    """One event as text, with the line break at its end."""
    time, name, where, text, traceback = _parts(event)
    head = f"{time} {name} {where}: {_escape(text)}\n"
    return head + "".join(f"    {_escape(line)}\n" for line in traceback.splitlines())


def format_json(event: LogEvent) -> str:
    """One event as an object on one line, with the line break at its end."""
    time, name, where, text, traceback = _parts(event)
    found = {"time": time, "level": name, "where": where, "text": _shortened(text)}
    if traceback:
        found["traceback"] = _shortened(traceback)
    return json.dumps(found) + "\n"


def sentence(event: LogEvent) -> str:
    """The text of one event on one line, for a person who watches: no time, no level."""
    return _escape(formatEvent(event))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), _shortened(text))


def log_observer(out: TextIO, level: str = "info", form: str = "text") -> ILogObserver:
    """An observer that writes lines of at least ``level``.

    Twisted's own talk (ports and factories that start and stop, retries, which the agent reports better) is let through
    from ``warn`` on, unless the level is ``debug``.  What comes by its old ``log.msg`` is its talk too.
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    if level == "info":
        for namespace in ("twisted", "log_legacy"):
            predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
    return FilteringLogObserver(LineObserver(out, form), [predicate])
