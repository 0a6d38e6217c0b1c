"""The chart: a card for each scenario, a bar for each contender, as SVG that needs nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from .report import number

__all__ = ["chart"]

WIDTH = 1080
MARGIN = 24
GAP = 16
CARD = (WIDTH - 2 * MARGIN - GAP) // 2
INSIDE = 18
LABEL = 84
VALUE = 148
ROW = 26
BAR = 14
BARS = CARD - 2 * INSIDE - LABEL - VALUE
TITLE_LETTERS = 60
HEAD = 92

_STYLE = """
  svg { --page: #ffffff; --card: #f6f8fa; --edge: #d8dee4; --text: #1f2328; --soft: #59636e; --track: #e6eaef;
        --ours: #1f6feb; --own: #7fb0f5; --peer: #8c959f; --warn: #bc4c00; background: var(--page);
        font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --card: #151b23; --edge: #3d444d; --text: #f0f6fc; --soft: #9198a1; --track: #262c36;
          --ours: #4493f8; --own: #2a5a9c; --peer: #656c76; --warn: #f0883e; }
  }
  .page { fill: var(--page); } .card { fill: var(--card); stroke: var(--edge); } .track { fill: var(--track); }
  .ours { fill: var(--ours); } .own { fill: var(--own); } .peer { fill: var(--peer); }
  .whisker { stroke: var(--text); stroke-width: 1.2; opacity: .55; fill: none; }
  text { fill: var(--text); font-size: 12px; } .h1 { font-size: 20px; font-weight: 600; }
  .h2 { font-size: 13.5px; font-weight: 600; } .soft { fill: var(--soft); font-size: 11px; }
  .strong { font-weight: 600; } .warn { fill: var(--warn); font-size: 11px; }
"""
# Who reads no CSS variables (rsvg, older viewers) has colours too: each class has its own as an attribute.
_COLOURS = {
    "page": "#ffffff",
    "card": "#f6f8fa",
    "track": "#e6eaef",
    "ours": "#1f6feb",
    "own": "#7fb0f5",
    "peer": "#8c959f",
    "soft": "#59636e",
    "warn": "#bc4c00",
}

_OWN = ("https", "bare", "one-agent")
"""Contenders that are ours in another shape."""


def chart(summary: Mapping[str, Any]) -> str:
    """The first metric of every scenario of a summary: bars of medians, whiskers from the least to the most."""
    columns = [HEAD, HEAD]
    cards = []
    for name, scenario in summary["scenarios"].items():
        column = columns.index(min(columns))
        left = MARGIN + column * (CARD + GAP)
        body, height = _card(name, scenario, left, columns[column])
        cards.append(body)
        columns[column] += height + GAP
    height = max(columns) + MARGIN - GAP
    machine, options = summary["machine"], summary["options"]
    facts = (
        f"medians of {options['rounds']} rounds in turn, lines from the least to the most; "
        f"{machine['cores']} cores, Python {machine['python']}, {machine['openssl'].rsplit(' ', 3)[0]}"
    )
    when = str(summary["when"]).partition("T")[0]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Benchmark of wormhole-tw">',
            f"<style>{_STYLE}</style>",
            _rect("page", 0, 0, WIDTH, height, 0),
            _text("h1", MARGIN, 40, "wormhole-tw beside its peers"),
            _text("soft", MARGIN, 62, facts),
            _text("soft", WIDTH - MARGIN, 40, when, anchor="end"),
            *cards,
            "</svg>",
            "",
        ]
    )


def _card(name: str, scenario: Mapping[str, Any], left: int, top: int) -> tuple[str, int]:
    metric = scenario["metrics"][0]
    key = metric["key"]
    contenders = scenario["contenders"]
    title = textwrap.wrap(scenario["title"], TITLE_LETTERS)
    better = "more is better" if metric["more_is_better"] else "less is better"
    x, y = left + INSIDE, top + 28
    parts = []
    for line in title:
        parts.append(_text("h2", x, y, line))
        y += 18
    parts.append(_text("soft", x, y, f"{metric['label']}, {metric['unit']} · {better}"))
    parts.append(_text("soft", left + CARD - INSIDE, y, name, anchor="end"))
    y += 16
    most = max((found["values"][key]["most"] for found in contenders.values()), default=0) or 1.0
    for who, found in contenders.items():
        value = found["values"][key]
        ratio = scenario["ratios"].get(who, {}).get(key)
        parts += _row(who, value, f"ours {number(ratio['median'])} ×" if ratio else "", x, y, BARS / most)
        y += ROW
    notes = [f"failed: {scenario['error']}"] if scenario["error"] else []
    if scenario["absent"]:
        notes.append("not measured: " + ", ".join(scenario["absent"]))
    for note in notes:
        y += 6
        parts.append(_text("warn" if scenario["error"] else "soft", x, y + 8, textwrap.shorten(note, 80)))
        y += 12
    height = y + 10 - top
    return "\n".join([_rect("card", left, top, CARD, height, 8, edge="#d8dee4"), *parts]), height


def _row(who: str, value: Mapping[str, float], note: str, x: float, y: float, scale: float) -> list[str]:
    kind = "ours" if who == "ours" else "own" if who in _OWN else "peer"
    begin = x + LABEL
    middle = y + ROW / 2
    bar = y + (ROW - BAR) / 2
    parts = [
        _text("strong" if kind == "ours" else "", x, middle + 4, who),
        _rect("track", begin, bar, BARS, BAR, 3),
        _rect(kind, begin, bar, max(value["median"] * scale, 2), BAR, 3),
    ]
    least, most = begin + value["least"] * scale, begin + value["most"] * scale
    if most - least > 2:
        ends = "".join(f"M{at:.1f},{middle - 4:.1f}V{middle + 4:.1f}" for at in (least, most))
        line = f"M{least:.1f},{middle:.1f}H{most:.1f}{ends}"
        parts.append(f'<path class="whisker" stroke="#1f2328" stroke-opacity=".55" fill="none" d="{line}"/>')
    end = begin + BARS
    parts.append(_text("strong" if kind == "ours" else "", end + 58, middle + 4, number(value["median"]), anchor="end"))
    if note:
        parts.append(_text("soft", end + VALUE, middle + 4, note, anchor="end"))
    return parts


def _rect(kind: str, x: float, y: float, width: float, height: float, radius: int, edge: str = "") -> str:
    stroke = f' stroke="{edge}"' if edge else ""
    return (
        f'<rect class="{kind}" fill="{_COLOURS[kind]}"{stroke} x="{x:.1f}" y="{y:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="{radius}"/>'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str = "") -> str:
    where = f' text-anchor="{anchor}"' if anchor else ""
    colour = _COLOURS.get(kind, "#1f2328")
    return f'<text class="{kind}" fill="{colour}" x="{x:.1f}" y="{y:.1f}"{where}>{escape(text)}</text>'
