"""The table of results: what became of every recording, by class, and the figures that may not fall."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.conformance.origin import JudgingOrigin, Received
from tests.conformance.probe import as_expected
from tests.conformance.recordings import PROBE, Recorded
from tests.conformance.visitors import Talk

__all__ = ["BOUNDS", "Table", "Verdicts", "below"]

BOUNDS: dict[str, dict[str, int]] = tomllib.loads((Path(__file__).parent / "bounds.toml").read_text())
"""Line → column → the figure that was reached.  "cases" is exact, "ambiguous" a maximum, every other a minimum; what is
neither refused nor ambiguous is canonical, and needs no bound."""

REFUSALS = frozenset({*range(400, 500), 501, 505})
"""What refuses a request; 502 and 504 blame the origin for it."""


class Verdicts:
    """What became of some conversations.

    :ivar refused: nothing whole reached the origin, and the visitor was told so or the connection ended
    :ivar canonical: what reached the origin can be read in one way only (or nobody but the name's owner would get it)
    :ivar ambiguous: with the octets that the origin objects to
    :ivar cut: refused for not being whole (408): the recording stops before its end
    :ivar unmet: Http11Probe expects something else
    """

    def __init__(self, results: Iterable[tuple[Recorded, str, Talk]], origin: JudgingOrigin) -> None:
        self.cases: dict[str, Recorded] = {}
        self.talks: dict[str, Talk] = {}
        self.received: dict[str, list[Received]] = {}
        self.refused: set[str] = set()
        self.canonical: set[str] = set()
        self.ambiguous: dict[str, list[object]] = {}
        self.cut: set[str] = set()
        self.unmet: set[str] = set()
        by_visitor = origin.by_visitor()
        broken = {whose: octets for whose, _, octets in origin.broken}
        for case, source, talk in results:
            name = case.id
            received = by_visitor.get(source, [])
            self.cases[name], self.talks[name], self.received[name] = case, talk, received
            faults: list[object] = [found.faults for found in received if found.faults]
            if source in broken:
                faults.append(broken[source])
            if faults:
                self.ambiguous[name] = faults
            elif received or (talk.status == 404 and b"unknown-host" in talk.raw):
                self.canonical.add(name)
            elif talk.status == 408:
                self.cut.add(name)
            elif talk.status in REFUSALS or (talk.closed and not talk.raw):
                self.refused.add(name)
            if case.group == PROBE and not as_expected(case, talk, received):
                self.unmet.add(name)
        self.unattributed = by_visitor.get("", [])

    def of(self, group: str, *, bad: bool | None = None, good: bool | None = None) -> set[str]:
        return {
            name
            for name, case in self.cases.items()
            if case.group == group and bad in (None, case.bad) and good in (None, case.good)
        }

    def lines(self) -> dict[str, dict[str, int]]:
        """The lines of the table."""
        out: dict[str, dict[str, int]] = {}
        for group in dict.fromkeys(case.group for case in self.cases.values()):
            bad, good = self.of(group, bad=True), self.of(group, good=True)
            if bad:
                out[f"{group}, not valid"] = {
                    "cases": len(bad),
                    "refused": len(bad & (self.refused | self.cut)),
                    "canonical": len(bad & self.canonical),
                    "ambiguous": len(bad & set(self.ambiguous)),
                }
            if good:
                out[f"{group}, valid"] = {
                    "cases": len(good),
                    "accepted": len(good & (self.canonical | self.cut)),
                    "ambiguous": len(good & set(self.ambiguous)),
                }
            rest = self.of(group) - bad - good
            if rest:
                out[f"{group}, neither"] = {"cases": len(rest), "ambiguous": len(rest & set(self.ambiguous))}
        probe = self.of(PROBE)
        must = {name for name in probe if self.cases[name].facts["level"] == "Must"}
        scored = {name for name in probe if self.cases[name].facts["scored"]}
        should = {name for name in probe if self.cases[name].facts["level"] == "Should"}
        for name, chosen in (
            ("http11probe, MUST", must),
            ("http11probe, scored MUST and SHOULD", scored & (must | should)),
            ("http11probe, all", probe),
        ):
            out[name] = {"cases": len(chosen), "met": len(chosen - self.unmet)}
        return out


class Table:
    """Gathers lines of several programs; printed at the end of the run."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Mapping[str, int]]] = {}

    def add(self, program: str, lines: Mapping[str, Mapping[str, int]]) -> None:
        for name, columns in lines.items():
            self._lines.setdefault(name, {})[program] = columns

    def rendered(self) -> list[str]:
        """The table as lines of text."""
        programs = list(dict.fromkeys(program for columns in self._lines.values() for program in columns))
        rows: list[Sequence[str]] = [("", "cases", "", *programs)]
        for name, by_program in self._lines.items():
            known = next(iter(by_program.values()))
            for number, column in enumerate([column for column in known if column != "cases"]):
                figures = [str(by_program[p][column]) if p in by_program else "" for p in programs]
                rows.append(("" if number else name, "" if number else str(known["cases"]), column, *figures))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.ljust(width) if i in (0, 2) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


def below(lines: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which figures are worse than their bounds, or have none."""
    complaints = []
    for name, columns in lines.items():
        bounds = BOUNDS.get(name, {})
        for column, value in columns.items():
            if column == "canonical":
                continue
            bound = bounds.get(column)
            if bound is None:
                complaints.append(f"{name}: {column} = {value} has no bound")
            elif value != bound if column == "cases" else value > bound if column == "ambiguous" else value < bound:
                complaints.append(f"{name}: {column} = {value}, and was {bound}")
    return complaints
