"""The table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["number", "render", "render_scenario", "table"]


def number(value: float) -> str:
    """Three figures that count, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: the first to the left, the others to the right; a line under the head."""
    width = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells = [row[0].ljust(width[0]), *(cell.rjust(size) for cell, size in zip(row[1:], width[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
        if index == 0:
            lines.append("  ".join("─" * size for size in width))
    return "\n".join(lines)


def render_scenario(name: str, scenario: Mapping[str, Any]) -> str:
    """One scenario of a summary."""
    lines = [f"{name}: {scenario['title']}"]
    if scenario["error"]:
        lines.append(f"  FAILED: {scenario['error']}")
    contenders = scenario["contenders"]
    metrics = scenario["metrics"]
    if contenders:
        rows = [["", *(f"{metric['label']}, {metric['unit']}" for metric in metrics)]]
        for who, found in contenders.items():
            rows.append([who, *(number(found["values"][metric["key"]]["median"]) for metric in metrics)])
        for peer, ratios in scenario["ratios"].items():
            cells = [f"{number(ratios[m['key']]['median'])} ×" if m["key"] in ratios else "–" for m in metrics]
            rows.append([f"ours / {peer}", *cells])
        lines += [f"  {line}" for line in table(rows).splitlines()]
    processes = [(who, role, use) for who, found in contenders.items() for role, use in found["processes"].items()]
    if processes:
        unit = processes[0][2]["cpu_unit"]
        rows = [["process", *([f"CPU, {unit}"] if unit else []), "peak memory, MB"]]
        for who, role, use in processes:
            label = role if role == who else f"{who}: {role}"
            rows.append([label, *([number(use["cpu"])] if unit else []), number(use["peak_megabytes"])])
        lines += ["", *(f"  {line}" for line in table(rows).splitlines())]
    for peer, why in scenario["absent"].items():
        lines.append(f"  not measured: {peer} ({why})")
    return "\n".join(lines)


def render(summary: Mapping[str, Any]) -> str:
    """All of a summary."""
    machine = summary["machine"]
    options = summary["options"]
    head = (
        f"medians of {options['rounds']} rounds in turn, {options['seconds']:g} s or {options['megabytes']} MB each; "
        f"{machine['cores']} cores, Python {machine['python']}, {machine['openssl']}"
    )
    environment = "".join(f"; {name}={value}" for name, value in machine["environment"].items())
    return "\n\n".join(
        [head + environment, *(render_scenario(name, found) for name, found in summary["scenarios"].items())]
    )
