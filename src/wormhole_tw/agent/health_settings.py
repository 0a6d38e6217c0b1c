"""How an agent looks whether its private service is well: what to ask, how often, and how many answers count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wormhole_tw.errors import ConfigError

__all__ = ["HealthCheck", "parse_statuses", "read_health_check"]

_MAX_SECONDS = 3600.0
_MAX_COUNT = 100
_PATH = re.compile(r"/[!\"$-~]{0,2047}", re.ASCII)  # neither blanks nor "#", which begins what no server gets
_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]{1,255}", re.ASCII)
_STATUSES = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """The settings of a check; times are in seconds.

    :ivar path: of an HTTP/1.1 ``GET``; None: a connection that stands is enough
    :ivar host: its ``Host``; None: the service's own address
    :ivar statuses: the statuses of a healthy service, each pair from … to (both counted)
    :ivar interval: from the end of one check to the next, a tenth more or less by chance
    :ivar timeout: for the connection and the answer's first line together
    :ivar rise: checks in a row that pass before the service gets requests
    :ivar fall: checks in a row that fail before it gets none

    :raises ConfigError: a value is out of its range; its source is the field's name behind ``health.``
    """

    path: str | None = None
    host: str | None = None
    statuses: Sequence[tuple[int, int]] = ((200, 399),)
    interval: float = 5.0
    timeout: float = 3.0
    rise: int = 2
    fall: int = 3

    def __post_init__(self) -> None:
        if self.path is not None and _PATH.fullmatch(self.path) is None:
            raise _wrong("path", "give tcp, or a path as /healthz: ASCII without blanks, 2048 characters at most")
        if self.host is not None and _HOST.fullmatch(self.host) is None:
            raise _wrong("host", "give a host name, or HOST:PORT")
        for name in ("interval", "timeout"):
            value = getattr(self, name)
            if not 0 < value <= _MAX_SECONDS:
                raise _wrong(
                    name, f"{value!r} is out of range; give seconds, more than 0 and at most {_MAX_SECONDS:.0f}"
                )
        for name in ("rise", "fall"):
            value = getattr(self, name)
            if not 1 <= value <= _MAX_COUNT:
                raise _wrong(name, f"{value!r} is out of range; give a number from 1 to {_MAX_COUNT}")
        if not self.statuses:
            raise _wrong("statuses", "no status is given")

    @property
    def question(self) -> str:
        """What is asked, for people."""
        return "a connection" if self.path is None else f"GET {self.path}"

    def accepts(self, status: int) -> bool:
        """Whether a healthy service may answer with this."""
        return any(low <= status <= high for low, high in self.statuses)


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``200-399`` or ``200,204,301-302``.

    :raises ValueError: it is none; one sentence
    """
    found = []
    for part in text.split(","):
        match = _STATUSES.fullmatch(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise ValueError("give statuses from 200 to 599, as 200-399 or 200,204")
        found.append((low, high))
    return tuple(found)


class Reader(Protocol):
    """Looks up a setting by its option and its variable, and remembers where it was found."""

    sources: dict[str, str]

    def text(self, name: str, variable: str | None) -> str: ...

    def seconds(self, name: str, default: float, variable: str | None = None) -> float: ...

    def count(self, name: str, default: int, variable: str) -> int: ...


_SETTINGS = ("host", "status", "interval", "timeout", "rise", "fall")


def read_health_check(read: Reader) -> HealthCheck | None:
    """The check that ``FLY_HEALTH_CHECK`` (``tcp``, or a path) and its companions ask for; None without it.

    :raises ConfigError: a value is wrong, or is given for no check; it names the variable or option
    """
    check = read.text("health_check", "FLY_HEALTH_CHECK")
    if not check:
        for name in _SETTINGS:
            if read.text(f"health_{name}", f"FLY_HEALTH_{name.upper()}"):
                raise ConfigError(
                    read.sources[f"health_{name}"],
                    "",
                    "there is no health check: set FLY_HEALTH_CHECK to tcp or a path",
                )
        return None
    usual = HealthCheck()
    statuses = read.text("health_status", "FLY_HEALTH_STATUS")
    host = read.text("health_host", "FLY_HEALTH_HOST")
    if check.lower() == "tcp":
        for name, text in (("health_status", statuses), ("health_host", host)):
            if text:
                raise ConfigError(read.sources[name], "", "it is for a check by HTTP, and this one only connects (tcp)")
    try:
        expected = parse_statuses(statuses) if statuses else usual.statuses
    except ValueError as error:
        raise ConfigError(read.sources["health_status"], "", str(error)) from None
    try:
        return HealthCheck(
            path=None if check.lower() == "tcp" else check,
            host=host or None,
            statuses=expected,
            interval=read.seconds("health_interval", usual.interval, "FLY_HEALTH_INTERVAL"),
            timeout=read.seconds("health_timeout", usual.timeout, "FLY_HEALTH_TIMEOUT"),
            rise=read.count("health_rise", usual.rise, "FLY_HEALTH_RISE"),
            fall=read.count("health_fall", usual.fall, "FLY_HEALTH_FALL"),
        )
    except ConfigError as error:
        field = error.source.removeprefix("health.")
        name = {"path": "health_check"}.get(field, f"health_{field}")
        raise ConfigError(read.sources.get(name, error.source), "", error.reason) from None


def _wrong(field: str, reason: str) -> ConfigError:
    return ConfigError(f"health.{field}", "", reason)
