"""What is remembered beside the answers, and how much of it."""

from __future__ import annotations

import pytest

from wormhole_tw.edge.caching import notes
from wormhole_tw.edge.caching.notes import UNSTORABLE, Unstorable, Voids


def test_a_key_whose_answer_could_not_be_kept_is_remembered_for_a_while() -> None:
    now = 0.0
    unstorable = Unstorable(lambda: now)
    assert b"a" not in unstorable
    unstorable.add(b"a")
    assert b"a" in unstorable
    assert b"b" not in unstorable
    now = UNSTORABLE
    assert b"a" not in unstorable
    unstorable.add(b"a")
    unstorable.discard(b"a")
    assert b"a" not in unstorable


def test_the_oldest_notes_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MOST_NOTES", 3)
    unstorable, voids = Unstorable(lambda: 0.0), Voids()
    for number in range(5):
        unstorable.add(b"%d" % number)
        voids.add("site", "host", b"/%d" % number, 10.0)
    assert [number for number in range(5) if b"%d" % number in unstorable] == [2, 3, 4]
    assert [number for number in range(5) if voids.covers("site", "host", b"/%d" % number, 5.0)] == [2, 3, 4]
    assert len(voids) == 3


def test_what_was_asked_for_before_is_void() -> None:
    voids = Voids()
    assert not voids.covers("site", "host", b"/", 5.0)
    voids.add("site", "host", b"/", 10.0)
    assert voids.covers("site", "host", b"/", 5.0)
    assert voids.covers("site", "host", b"/", 10.0)
    assert not voids.covers("site", "host", b"/", 10.5)
    assert not voids.covers("other", "host", b"/", 5.0)
    assert not voids.covers("site", "other", b"/", 5.0)
    assert not voids.covers("site", "host", b"/x", 5.0)
