"""``[backends.balance]``, ``.health``, ``.ejection``, ``.breaker``, ``.retries``, ``.queue`` and ``failover``: how the
requests of a backend are spread over its agents and origins, and what is done when some of them are not well.

The tables are what edge.toml says; :class:`Policy` is what the edge works with: checked, frozen, and equal where it
means the same, for what is remembered of a backend survives a reload where its settings are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Meta, Struct

from .limits import CountOrOff, Seconds, SecondsOrOff

if TYPE_CHECKING:
    from .model import Backend
    from .tables import BackendTable

__all__ = [
    "USUAL",
    "Balance",
    "BalanceTable",
    "BreakerTable",
    "Ejection",
    "EjectionTable",
    "HealthCheck",
    "HealthTable",
    "Key",
    "Policy",
    "QueueTable",
    "RetriesTable",
    "check_failovers",
    "parse_statuses",
    "read_key",
    "read_policy",
]

DEFAULT_METHOD = "p2c"
DEFAULT_COOKIE = "wormhole_agent"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=100000)]
Few = Annotated[int, Meta(ge=1, le=100)]

_METHOD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}", re.ASCII)  # RFC 9110 §5.6.2
_PATH = re.compile(r"/[!\"$-~]{0,2047}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]{1,255}", re.ASCII)
_STATUSES = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", re.ASCII)

MAX_WEIGHT = 1000.0


class BalanceTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.balance]``."""

    method: str = DEFAULT_METHOD
    key: str | None = None
    cookie: str | None = None
    cookie_time: SecondsOrOff = 0.0
    #: With ``hash``: how much fuller than the mean one may be before its keys go on to the next.
    overload: Annotated[float, Meta(ge=1, le=100)] = 1.5
    weights: dict[str, float] = {}
    prefer_region: list[str] = []
    slow_start: SecondsOrOff = 0.0
    max_requests: CountOrOff = 0
    settings: dict[str, str] = {}


class HealthTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.health]``."""

    path: str
    interval: Seconds = 5.0
    timeout: Seconds = 3.0
    healthy: Few = 2
    unhealthy: Few = 3
    status: str = "200-399"
    host: str | None = None


class EjectionTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.ejection]``."""

    #: As Envoy's: a service in trouble is out within a few requests, and a single page that fails ejects nobody, for
    #: others are asked in between.
    failures: Annotated[int, Meta(ge=0, le=1000)] = 5
    share: Share = 0.0
    requests: Count = 20
    #: Long enough for a process to start anew, and short enough for a moment's trouble.
    seconds: Seconds = 10.0
    longest: Seconds = 300.0
    most: Share = 0.5
    status: str = "502-504"


class BreakerTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.breaker]``."""

    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    requests: Count = 20
    window: Seconds = 10.0
    seconds: Seconds = 10.0
    trials: Few = 3


class RetriesTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.retries]``."""

    #: The first, and two more: a third agent that fails is no accident.
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    #: Of the requests of the last ten seconds: what fails more often than that is not mended by trying again.
    budget: Share = 0.2
    #: In ten seconds, in any case: a site with a request a second needs its retries, too.
    least: Annotated[int, Meta(ge=0, le=100000)] = 100
    hedge_after: SecondsOrOff = 0.0
    hedge_budget: Share = 0.05


class QueueTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backends.queue]``."""

    requests: Count = 100
    seconds: Seconds = 5.0


class Key(NamedTuple):
    """What of a request tells it from others: ``kind`` is ``address``, ``header``, ``cookie`` or ``path``."""

    kind: Literal["address", "header", "cookie", "path"]
    name: bytes = b""


_ADDRESS = Key("address")


@dataclass(frozen=True, slots=True)
class Balance:
    """How requests are spread.

    :ivar method: the name of a balancer
    :ivar key: what a balancer that keeps like requests together goes by
    :ivar cookie: the name of the cookie that remembers an upstream
    :ivar cookie_time: seconds that visitors keep it; 0 for as long as their browser runs
    :ivar overload: how much fuller than the mean one may be before its keys go on
    :ivar weights: release branch of agents → weight; others have 1
    :ivar prefer_region: regions, the best one first; ``own`` is the edge's
    :ivar slow_start: seconds in which who is new grows to its share; 0 for at once
    :ivar max_requests: in flight on one upstream; 0 for any number
    :ivar settings: for a balancer that is not one of ours
    :ivar where: the table's key, for errors
    """

    method: str = DEFAULT_METHOD
    key: Key = _ADDRESS
    cookie: str = DEFAULT_COOKIE
    cookie_time: float = 0.0
    overload: float = 1.5
    weights: tuple[tuple[str, float], ...] = ()
    prefer_region: tuple[str, ...] = ()
    slow_start: float = 0.0
    max_requests: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    where: str = field(default="$.backends", compare=False)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the edge looks whether an origin is well.

    :ivar path: of a ``GET``
    :ivar interval: seconds from one check to the next, a tenth more or less by chance
    :ivar timeout: seconds for each
    :ivar healthy: checks in a row that pass before it gets requests again
    :ivar unhealthy: checks in a row that fail before it gets none
    :ivar statuses: of one that is well, each pair from … to (both counted)
    :ivar host: its ``Host``; None for what requests say there
    """

    path: str
    interval: float = 5.0
    timeout: float = 3.0
    healthy: int = 2
    unhealthy: int = 3
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    host: str | None = None

    def accepts(self, status: int) -> bool:
        """Whether one that is well may answer with this."""
        return any(low <= status <= high for low, high in self.statuses)


@dataclass(frozen=True, slots=True)
class Ejection:
    """When an upstream that fails gets nothing for a while.

    :ivar failures: one after the other; 0 for never
    :ivar share: of failures among its latest answers; 0 for never
    :ivar requests: that there have to be for ``share``
    :ivar seconds: for which it is out the first time, and twice as long each further time
    :ivar longest: seconds, at most
    :ivar most: the share of a backend's upstreams that may be out at once; one of them never is
    :ivar statuses: that count as failures besides no answer at all
    """

    failures: int = 5
    share: float = 0.0
    requests: int = 20
    seconds: float = 10.0
    longest: float = 300.0
    most: float = 0.5
    statuses: tuple[tuple[int, int], ...] = ((502, 504),)

    def counts(self, status: int) -> bool:
        """Whether an answer of this status is a failure."""
        return any(low <= status <= high for low, high in self.statuses)


_USUAL_RETRIES = RetriesTable()


@dataclass(frozen=True, slots=True)
class Policy:
    """All that is said of how a backend's requests find their upstream.

    :ivar health: None where nobody looks
    :ivar breaker: None where there is none
    :ivar queue: None for ``limits.waiting`` and ``limits.waiting_time``, while an agent is expected back
    :ivar failover: the backend that takes requests which this one cannot take; None for none
    """

    balance: Balance = Balance()
    health: HealthCheck | None = None
    ejection: Ejection = Ejection()
    breaker: BreakerTable | None = None
    retries: RetriesTable = _USUAL_RETRIES
    queue: QueueTable | None = None
    failover: str | None = None


USUAL = Policy()
"""Where nothing is said."""


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``200-399`` or ``200,204,301-302``.

    :raises ValueError: it is none; one sentence
    """
    found = []
    for part in text.split(","):
        match = _STATUSES.fullmatch(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise ValueError("give statuses from 200 to 599, as 200-399 or 502,503")
        found.append((low, high))
    return tuple(found)


def read_policy(table: BackendTable, source: str, key: str) -> Policy:
    """Check what a backend's table says of it.

    :param key: the table's, for errors (``$.backends[0]``)
    :raises ConfigError: something is wrong; it names the key
    """
    if table.health is not None and not (table.origin or table.origins or table.preset):
        reason = "there is no origin to check; agents look after their services themselves (FLY_HEALTH_CHECK)"
        raise ConfigError(source, f"{key}.health", reason)
    if table.balance.method == "sticky" and table.retries.hedge_after:
        reason = "a visitor's session is at one agent; another one would answer without it"
        raise ConfigError(source, f"{key}.retries.hedge_after", reason)
    return Policy(
        balance=_read_balance(table.balance, source, f"{key}.balance"),
        health=None if table.health is None else _read_health(table.health, source, f"{key}.health"),
        ejection=_read_ejection(table.ejection, source, f"{key}.ejection"),
        breaker=table.breaker,
        retries=table.retries,
        queue=table.queue,
        failover=table.failover,
    )


def _read_balance(table: BalanceTable, source: str, key: str) -> Balance:
    if _METHOD.fullmatch(table.method) is None:
        reason = "the name of a balancer is small letters, digits and underscores: p2c, round_robin, hash …"
        raise ConfigError(source, f"{key}.method", reason)
    for name, method in (("key", "hash"), ("cookie", "sticky")):
        if getattr(table, name) is not None and table.method != method and table.method in OURS:
            raise ConfigError(source, f"{key}.{name}", f'only with method = "{method}"')
    if table.cookie is not None and _TOKEN.fullmatch(table.cookie) is None:
        raise ConfigError(source, f"{key}.cookie", "no name of a cookie: letters, digits, hyphens and underscores")
    if table.settings and table.method in OURS:
        raise ConfigError(source, f"{key}.settings", f"{table.method} has no settings of its own")
    for branch, weight in table.weights.items():
        if not 0.0 < weight <= MAX_WEIGHT:
            where = f"{key}.weights.{branch if _TOKEN.fullmatch(branch) else repr(branch)}"
            raise ConfigError(source, where, f"a weight is more than 0 and at most {MAX_WEIGHT:.0f}")
    return Balance(
        method=table.method,
        key=read_key(table.key or "address", source, f"{key}.key"),
        cookie=table.cookie or DEFAULT_COOKIE,
        cookie_time=table.cookie_time,
        overload=table.overload,
        weights=tuple(sorted(table.weights.items())),
        prefer_region=tuple(table.prefer_region),
        slow_start=table.slow_start,
        max_requests=table.max_requests,
        settings=tuple(sorted(table.settings.items())),
        where=key,
    )


OURS = frozenset({"p2c", "round_robin", "least_busy", "hash", "sticky"})
"""Balancers that are known not to take what is not theirs; a plugin says itself what it takes."""


def read_key(text: str, source: str, where: str) -> Key:
    """What requests are told apart by: ``address``, ``path``, ``header:NAME`` or ``cookie:NAME``.

    :param where: the key, for errors
    :raises ConfigError: it is none of these
    """
    if text == "address":
        return _ADDRESS
    if text == "path":
        return Key("path")
    kind, _, name = text.partition(":")
    if _TOKEN.fullmatch(name):
        if kind == "header":
            return Key("header", name.lower().encode("ascii"))
        if kind == "cookie":
            return Key("cookie", name.encode("ascii"))
    raise ConfigError(source, where, 'expected "address", "path", "header:NAME" or "cookie:NAME"')


def _read_health(table: HealthTable, source: str, key: str) -> HealthCheck:
    if _PATH.fullmatch(table.path) is None:
        raise ConfigError(
            source, f"{key}.path", "give a path as /healthz: ASCII without blanks, 2048 characters at most"
        )
    if table.host is not None and _HOST.fullmatch(table.host) is None:
        raise ConfigError(source, f"{key}.host", "give a host name, or HOST:PORT")
    return HealthCheck(
        path=table.path,
        interval=table.interval,
        timeout=table.timeout,
        healthy=table.healthy,
        unhealthy=table.unhealthy,
        statuses=_statuses(table.status, source, f"{key}.status"),
        host=table.host,
    )


def _read_ejection(table: EjectionTable, source: str, key: str) -> Ejection:
    if table.longest < table.seconds:
        raise ConfigError(source, f"{key}.longest", "less than seconds, the first and shortest ejection")
    return Ejection(
        failures=table.failures,
        share=table.share,
        requests=table.requests,
        seconds=table.seconds,
        longest=table.longest,
        most=table.most,
        statuses=_statuses(table.status, source, f"{key}.status"),
    )


def _statuses(text: str, source: str, key: str) -> tuple[tuple[int, int], ...]:
    try:
        return parse_statuses(text)
    except ValueError as error:
        raise ConfigError(source, key, str(error)) from None


def check_failovers(
    backends: Mapping[str, Backend], source: str, known: Callable[[str, str, Sequence[str]], None]
) -> None:
    """Whether each backend's failover is another one, and leads to an end.

    :param backends: by name, in the order of the file
    :param known: raises for a key, a name and the names that there are, where it is none of them
    :raises ConfigError: there is no such backend, or it leads back
    """
    for number, (name, backend) in enumerate(backends.items()):
        key = f"$.backends[{number}].failover"
        seen, policy = [name], backend.policy
        while policy.failover is not None:
            if policy is backend.policy:
                known(key, policy.failover, list(backends))
            elif policy.failover not in backends:
                break  # its own turn comes, and says so
            if policy.failover in seen:
                way = " → ".join([*seen, policy.failover])
                raise ConfigError(source, key, f"leads back to where it came from: {way}")
            seen.append(policy.failover)
            policy = backends[policy.failover].policy
