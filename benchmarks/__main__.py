"""Edge and agent beside the programs that people know, in turn, on this machine.

What counts are the ratios. docs/performance.md tells how to read them.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from . import bounds, report, svg
from .helpers import raise_descriptor_limit
from .model import Options, Scenario
from .peers.registry import NEEDS
from .processes import which
from .runner import Measured, measure, summary
from .scenarios import SCENARIOS

__all__ = ["main"]

_ALL = Options()

QUICK = Options(rounds=1, seconds=1.0, megabytes=100, agents=100, visitors=100, streams=2000)
"""To see that everything runs. Its figures say nothing."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").splitlines()[0],
        epilog=f"Peers, where they are on PATH: {', '.join(NEEDS)}. make bench-deps installs what Debian has.",
    )
    add = parser.add_argument
    add("--list", action="store_true", help="name the scenarios and the peers, and end")
    add("--only", nargs="+", metavar="NAME", default=[], help="these scenarios, * and ? allowed (default: all)")
    add(
        "--peers",
        nargs="+",
        metavar="PEER",
        default=[],
        choices=list(NEEDS),
        help="these peers (default: all; with --check those that a bound names)",
    )
    add("--rounds", type=int, help=f"of every contender, in turn (default: {_ALL.rounds})")
    add("--seconds", type=float, help=f"of one run (default: {_ALL.seconds:g})")
    add("--megabytes", type=int, help=f"of one bulk transfer (default: {_ALL.megabytes})")
    add("--agents", type=int, help=f"that are idle (default: {_ALL.agents})")
    add("--visitors", type=int, help=f"that are idle (default: {_ALL.visitors})")
    add("--streams", type=int, help=f"that are idle (default: {_ALL.streams})")
    add("--warm-up", type=float, help="seconds of each contender before the rounds, uncounted, for a JIT (default: 0)")
    add("--quick", action="store_true", help="one short round, to see that everything runs; its figures say nothing")
    add("--json", type=Path, metavar="FILE", help="write all figures of all rounds")
    add("--svg", type=Path, metavar="FILE", help="write a chart")
    add("--from", type=Path, metavar="FILE", dest="source", help="measure nothing: read what --json wrote")
    add("--check", action="store_true", help="measure what the bounds need and compare; status 1 if one is missed")
    add("--strict", action="store_true", help="with --check: status 1 also if one could not be measured")
    add("--bounds", type=Path, metavar="FILE", default=bounds.FILE, help="the bounds (default: benchmarks/bounds.toml)")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    given = {name: getattr(arguments, name) for name in Options.__dataclass_fields__}
    options = replace(
        QUICK if arguments.quick else _ALL, **{name: value for name, value in given.items() if value is not None}
    )
    for name in Options.__dataclass_fields__:
        if getattr(options, name) <= 0 and not (name == "warm_up" and options.warm_up == 0):
            raise SystemExit(f"--{name.replace('_', '-')} must be more than 0")
    return options


def _chosen(patterns: Sequence[str], needed: Sequence[str] | None) -> list[Scenario]:
    """The scenarios that the patterns name, in the order of the report.

    :raises SystemExit: a pattern names none
    """
    for pattern in patterns:
        if not fnmatch.filter(SCENARIOS, pattern):
            raise SystemExit(f"there is no scenario {pattern}; --list names them")
    return [
        scenario
        for name, scenario in SCENARIOS.items()
        if (not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns))
        and (needed is None or name in needed)
    ]


def _list() -> None:
    width = max(map(len, SCENARIOS))
    for name, scenario in SCENARIOS.items():
        print(f"{name:{width}}  {scenario.title}; {', '.join(scenario.peers) or 'no peers'}")
    print()
    for peer, needs in NEEDS.items():
        missing = [program for program in needs if which(program) is None]
        print(f"{peer:{width}}  {'not on PATH: ' + ', '.join(missing) if missing else 'here'}")


def _measure(
    scenarios: Sequence[Scenario], options: Options, peers: Callable[[Scenario], Sequence[str] | None]
) -> tuple[dict[str, Any], int]:
    """All that was measured, and the exit status: of a signal where one came, with the scenarios until then."""
    begin = time.monotonic()
    measured: list[Measured] = []
    status = 0
    try:
        for number, scenario in enumerate(scenarios, 1):

            def say(line: str, head: str = f"[{number}/{len(scenarios)} {scenario.name}]") -> None:
                elapsed = time.monotonic() - begin
                print(f"{int(elapsed // 60):3}:{int(elapsed % 60):02} {head} {line}", file=sys.stderr, flush=True)

            say(scenario.title)
            measured.append(measure(scenario, options, wanted=peers(scenario), say=say))
    except _Interrupted as signalled:
        print("interrupted; what was started is ended", file=sys.stderr, flush=True)
        status = 128 + signalled.number
    return summary(measured, options), status


class _Interrupted(BaseException):
    """A signal asks for the end. On its way out everything that was started is ended."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(number)


def _check_writable(path: Path | None) -> None:
    """Find out now, and not when all was measured.

    :raises SystemExit: a file cannot be written there
    """
    if path is not None:
        try:
            path.open("a").close()
        except OSError as error:
            raise SystemExit(f"{path}: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; give the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        _list()
        return 0
    options = _options(arguments)
    limits = bounds.load(arguments.bounds) if arguments.check else []
    scenarios = _chosen(arguments.only, [bound.scenario for bound in limits] if arguments.check else None)

    def peers(scenario: Scenario) -> Sequence[str] | None:
        if arguments.peers or not arguments.check:
            return arguments.peers or None
        return [bound.peer for bound in limits if bound.scenario == scenario.name]

    _check_writable(arguments.json)
    _check_writable(arguments.svg)
    if arguments.source is not None:
        found, status = json.loads(arguments.source.read_text()), 0
    else:
        raise_descriptor_limit()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        found, status = _measure(scenarios, options, peers)
    status = status or int(any(scenario["error"] for scenario in found["scenarios"].values()))
    print(report.render(found))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.svg is not None:
        arguments.svg.write_text(svg.chart(found))
    if arguments.check:
        judged = [bound for bound in limits if not arguments.only or bound.scenario in found["scenarios"]]
        verdicts = [bounds.judge(bound, found) for bound in judged]
        print(f"\n{bounds.render(verdicts)}")
        outcomes = {verdict.outcome for verdict in verdicts}
        wrong = {bounds.Outcome.MISSED, *([bounds.Outcome.NOT_MEASURED] if arguments.strict else [])}
        status = max(status, int(bool(outcomes & wrong)))
    return status


if __name__ == "__main__":
    sys.exit(main())
