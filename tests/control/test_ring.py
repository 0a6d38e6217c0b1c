"""Consistent hashing."""

from __future__ import annotations

from collections import Counter

from wormhole_tw.control.ring import Ring, point_of

PLACES = {b"place-%d" % number: 1.0 for number in range(10)}


def first(ring: Ring, key: bytes) -> bytes:
    return next(ring.walk(key))


def keys(count: int) -> list[bytes]:
    return [b"key-%d" % number for number in range(count)]


def test_every_place_is_met_once() -> None:
    ring = Ring(PLACES)
    for key in keys(20):
        assert sorted(ring.walk(key)) == sorted(PLACES)


def test_an_empty_ring_has_no_place() -> None:
    assert list(Ring({}).walk(b"key")) == []


def test_shares_are_about_even_and_weights_are_kept() -> None:
    seen = Counter(first(Ring(PLACES), key) for key in keys(3000))
    assert all(150 < seen[place] < 600 for place in PLACES)
    ring = Ring({b"one": 3.0, b"other": 1.0})
    seen = Counter(first(ring, key) for key in keys(3000))
    assert 2.2 < seen[b"one"] / seen[b"other"] < 4.0


def test_a_place_that_goes_moves_its_own_keys_alone() -> None:
    before, gone = Ring(PLACES), b"place-3"
    after = Ring({place: weight for place, weight in PLACES.items() if place != gone})
    for key in keys(2000):
        was, now = first(before, key), first(after, key)
        assert was in (now, gone)
        # and it goes where the walk would have gone on
        if was == gone:
            assert now == next(place for place in before.walk(key) if place != gone)


def test_a_point_is_the_same_everywhere() -> None:
    assert point_of(b"wormhole") == 0xADB620585DBBB08E


def test_weights_beyond_reason_take_no_more_memory() -> None:
    assert [len(Ring({b"one": weight})._points) for weight in (1e-9, 1.0, 1e9)] == [1, 100, 1000]


def test_many_places_have_fewer_points_each_and_not_all_keys_move_when_a_step_is_crossed() -> None:
    rings = {count: Ring({b"place-%d" % number: 1.0 for number in range(count)}) for count in (50, 51, 201, 801, 1000)}
    assert [len(ring._points) // count for count, ring in rings.items()] == [100, 40, 16, 8, 8]
    moved = sum(first(rings[50], key) != first(rings[51], key) for key in keys(1000))
    assert moved < 700  # had the points nothing to do with each other, it would be all of them
