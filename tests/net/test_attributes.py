"""What an instance's attributes take."""

from __future__ import annotations

import sys

import pytest

from wormhole_tw.net.attributes import know_attributes

LATE = tuple(f"late_{number}" for number in range(8))


def last_of_many(known: tuple[str, ...]) -> object:
    class Plain:
        def __init__(self) -> None:
            self.first = 1
            self.second = 2

    know_attributes(Plain, *known)
    many = [Plain() for _ in range(100)]
    for one in many:
        for name in LATE:
            setattr(one, name, 0)
    assert not known or vars(many[0]) == {"first": 1, "second": 2, **dict.fromkeys(LATE, 0)}
    return many[-1]


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11),
    reason="tables are kept so by CPython 3.11",
)
def test_late_attributes_have_room_where_they_are_known() -> None:
    known, unknown = last_of_many(("first", "second", *LATE)), last_of_many(())
    assert sys.getsizeof(vars(known)) * 1.5 < sys.getsizeof(vars(unknown))


def test_nobody_has_an_attribute_for_being_known() -> None:
    class Plain:
        pass

    know_attributes(Plain, "one", "two")
    assert vars(Plain()) == {}
    assert not hasattr(Plain(), "one")
