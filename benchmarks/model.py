"""What is measured: metrics, readings and scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .world import World

__all__ = [
    "CPU_A_GB",
    "CPU_A_HANDSHAKE",
    "CPU_A_REQUEST",
    "DOWNLOAD",
    "MEAN",
    "P50",
    "P99",
    "RATE",
    "RESUMED",
    "Metric",
    "Options",
    "ProcessUse",
    "Reading",
    "Runner",
    "Runners",
    "Scenario",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a reading.

    :ivar key: its name in a reading, in JSON and in ``bounds.toml``
    :ivar label: what it is called in a table
    :ivar unit: of the value
    :ivar more_is_better: otherwise less is
    """

    key: str
    label: str
    unit: str
    more_is_better: bool = False


RATE = Metric("rate", "requests", "a second", more_is_better=True)
DOWNLOAD = Metric("rate", "throughput", "MB/s", more_is_better=True)
MEAN = Metric("mean", "mean", "ms")
P50 = Metric("p50", "p50", "ms")
P99 = Metric("p99", "p99", "ms")
CPU_A_REQUEST = Metric("cpu", "CPU a request", "µs")
CPU_A_GB = Metric("cpu", "CPU a GB", "s")
CPU_A_HANDSHAKE = Metric("cpu", "CPU a handshake", "µs")
RESUMED = Metric("resumed", "resumed", "of all", more_is_better=True)


class ProcessUse(NamedTuple):
    """Seconds of CPU a unit of work (a request, a GB …), and octets of memory at the most."""

    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One run of one contender.

    :ivar values: metric key → value
    :ivar processes: role → what that process used
    """

    values: Mapping[str, float]
    processes: Mapping[str, ProcessUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: of each contender, in each round.

    :ivar warm_up: seconds for which each contender is run before the rounds, uncounted: a JIT compiler learns in them
    """

    rounds: int = 5
    seconds: float = 5.0
    megabytes: int = 1000
    agents: int = 1000
    visitors: int = 1000
    streams: int = 10_000
    warm_up: float = 0.0


Runner = Callable[[], Reading]
"""Measures one contender once."""

Runners = Mapping[str, Runner]
"""Contender → runner, ours first. All are up and ready; they are asked in turn."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A thing to measure.

    :ivar name: for ``--only``, JSON and ``bounds.toml``
    :ivar title: for people
    :ivar metrics: the first one is the one to draw
    :ivar peers: those that it is compared with, where they are installed
    :ivar cpu_unit: of what ``ProcessUse.cpu`` is reported in, and its factor over seconds; empty where it says nothing
    :ivar prepare: starts the contenders and gives their runners
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    prepare: Callable[[World], Runners]
    peers: tuple[str, ...] = ()
    cpu_unit: tuple[str, float] = ("", 1.0)
