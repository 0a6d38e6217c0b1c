"""Where inputs begin: small messages of every kind that a reader knows, in ``seeds/TARGET/``."""

from __future__ import annotations

import json
from pathlib import Path

from tests._support import ROOT

__all__ = ["SEEDS", "seeds_of"]

SEEDS = Path(__file__).parent / "seeds"


def seeds_of(target: str) -> list[bytes]:
    """The files of a target, and for the tunnel the vectors of its specification besides."""
    found = [path.read_bytes() for path in sorted((SEEDS / target).iterdir())]
    if target in ("frames", "session"):
        found += _vectors()
    return found


def _vectors() -> list[bytes]:
    found = []
    for path in sorted((ROOT / "tests" / "vectors").glob("wire-*.json")):
        found += _hexes(json.loads(path.read_text()))
    return found


def _hexes(node: object) -> list[bytes]:
    if isinstance(node, dict):
        return [data for value in node.values() for data in _hexes(value)]
    if isinstance(node, list):
        return [data for value in node for data in _hexes(value)]
    if isinstance(node, str) and len(node) >= 16:
        try:
            return [bytes.fromhex(node)]
        except ValueError:
            return []
    return []
