"""Vary: which of several stored answers is for a request (RFC 9111 §4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.caching.said import asked, at, kept
from wormhole_tw.http.caching import Stored, normalised, select, selected_by

FRESH = "Cache-Control: max-age=60"


@dataclass
class Entry:
    stored: Stored


def variant(vary: str, *request: str, date: str = at(0)) -> Entry:
    return Entry(kept(FRESH, f"Vary: {vary}", f"Date: {date}", by=asked(*request)))


@pytest.mark.parametrize(
    ("vary", "stored", "presented", "matches"),
    [
        ("", [], ["Foo: 1"], True),
        ("Foo", ["Foo: 1"], ["Foo: 1"], True),
        ("Foo", ["Foo: 1"], ["fOO: 1", "Other: 2"], True),
        ("Foo", ["Foo: 1"], ["Foo: 2"], False),
        ("Foo", ["Foo: 1"], [], False),
        ("Foo", [], ["Foo: 1"], False),
        ("Foo", [], [], True),
        ("Foo", ["Foo:"], [], False),
        ("Foo, Bar", ["Foo: 1", "Bar: 2"], ["Bar: 2", "Foo: 1"], True),
        ("Foo, Bar", ["Foo: 1", "Bar: 2"], ["Bar: 3", "Foo: 1"], False),
        ("Foo, Bar", ["Foo: 1"], ["Foo: 1"], True),
        ("Foo", ["Foo: 1, 2"], ["Foo: 1", "Foo: 2"], True),
        ("Foo", ["Foo: 1,2"], ["Foo:  1 ,\t2 "], True),
        ("Foo", ["Foo: 1,2"], ["Foo: 2,1"], False),
        ("Foo", ["Foo: a"], ["Foo: A"], False),
        ("Foo", ['Foo: "1, 2"'], ['Foo: "1,2"'], False),
        ("Cookie", ["Cookie: a=1, 2"], ["Cookie: a=1,2"], False),
        ("Cookie", ["Cookie: a=1; b=2"], ["Cookie: a=1", "Cookie: b=2"], True),
        ("Accept-Language", ["Accept-Language: en, de"], ["Accept-Language: De , eN"], True),
        ("Accept-Language", ["Accept-Language: en, de"], ["Accept-Language: de;q=1.0, en; q=1"], True),
        ("Accept-Language", ["Accept-Language: en, de"], ["Accept-Language: de;q=0.9, en"], False),
        ("Accept-Language", ["Accept-Language: de;q=0.50, en"], ["Accept-Language: en, de;q=0.5"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip, br"], ["Accept-Encoding: br,gzip"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip"], ["Accept-Encoding: br"], False),
        ("Accept-Encoding", ["Accept-Encoding: gzip;x=1"], ["Accept-Encoding: gzip; x=1"], False),
        ("Accept-Encoding", ["Accept-Encoding: gzip;x=1"], ["Accept-Encoding: gzip;x=1"], True),
    ],
)
def test_a_request_and_a_variant(vary: str, stored: list[str], presented: list[str], matches: bool) -> None:
    entry = variant(vary, *stored)
    assert selected_by(asked(*presented), entry.stored) is matches
    assert (select(asked(*presented), [entry]) is entry) is matches


def test_the_newest_of_those_that_match() -> None:
    old = variant("Foo", "Foo: 1", date=at(-50))
    new = variant("Bar", date=at(-10))
    other = variant("Foo", "Foo: 2", date=at(0))
    assert select(asked("Foo: 1"), [old, new, other]) is new
    assert select(asked("Foo: 1"), [new, other, old]) is new
    assert select(asked("Foo: 1", "Bar: x"), [new, other, old]) is old
    assert select(asked("Foo: 3", "Bar: x"), [new, other, old]) is None
    assert select(asked(), []) is None


def test_of_equally_old_ones_the_last() -> None:
    one, two = variant(""), variant("")
    assert select(asked(), [one, two]) is two


@given(st.sampled_from([b"accept-language", b"accept", b"cookie", b"foo"]), st.text('ab,;=q01. \t"', max_size=300))
def test_a_normal_form_is_its_own(name: bytes, text: str) -> None:
    value = text.encode().strip(b" \t")
    normal = normalised(name, value)
    assert normal is not None
    assert normalised(name, normal) == normal


def test_a_long_value_is_normalised_too() -> None:
    tags = [f"x{number:03d}" for number in range(200)]
    assert normalised(b"accept-language", ",".join(reversed(tags)).encode()) == ",".join(tags).encode()
