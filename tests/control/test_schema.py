from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control._sample import sample
from wormhole_tw import structs
from wormhole_tw.control.schema import check_table, closest, place
from wormhole_tw.control.tables import EdgeFile
from wormhole_tw.errors import ConfigError


class Inner(structs.Struct, forbid_unknown_fields=True):
    size: int | str = 0


class Outer(structs.Struct, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({}, "f: $.name: missing"),
        ({"name": 1}, "f: $.name: expected a string, got a whole number"),
        ({"name": "x", "inner": {"size": []}}, "f: $.inner.size: expected a whole number or a string, got a list"),
        ({"name": "x", "inner": {"sice": 1}}, "f: $.inner.sice: unknown key; did you mean size?"),
        ({"name": "x", "inner": 1}, "f: $.inner: expected a table, got a whole number"),
    ],
)
def test_errors_have_the_path_of_the_key_and_the_words_of_the_file(raw: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_table(raw, Outer, "f")
    assert str(caught.value) == text


def test_what_is_right_is_converted() -> None:
    assert check_table({"name": "x", "inner": {"size": 5}}, Outer, "f") == Outer("x", Inner(5))


def test_the_closest_word() -> None:
    assert closest("bakend", ["backend", "path"]) == "backend"
    assert closest("BACKEND", ["backend"]) == "backend"
    assert closest("x", ["backend"]) is None


def test_values_are_placed_and_the_original_stays() -> None:
    raw: dict[str, Any] = {"edge": {"name": "a", "state": "s"}, "limits": 5}
    assert place(raw, {"edge.name": "b", "tls.mode": "dev", "sites": []}) == {
        "edge": {"name": "b", "state": "s"},
        "tls": {"mode": "dev"},
        "limits": 5,
        "sites": [],
    }
    assert place(raw, {"limits.head": 1}) == raw
    assert raw == {"edge": {"name": "a", "state": "s"}, "limits": 5}


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(datetime.date(2026, 1, 1))
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(
    st.sampled_from(["edge", "tls", "limits", "backends", "sites", "edge.listeners", "sites.0.routes.0", "x"]), VALUES
)
def test_any_value_anywhere_is_taken_or_refused_by_a_config_error(dotted: str, value: object) -> None:
    errors: list[ConfigError] = []
    try:
        check_table(sample(**{dotted: value}), EdgeFile, "f")
    except ConfigError as error:
        errors.append(error)
    assert all(error.key.startswith("$.") and error.reason for error in errors)
