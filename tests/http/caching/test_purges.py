"""Which answers a purge covers, and the lines of a journal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import MisuseError
from wormhole_tw.http.caching.purges import (
    EVERY_SITE,
    HEADER,
    Purge,
    Purges,
    encode_purge,
    read_journal,
    write_journal,
)

NOW = 1_790_000_000.0
HOST = b"app.example.test"


def covers(
    purges: Purges, target: bytes = b"/docs/a?b", site: str = "app", tags: tuple[bytes, ...] = (), born: int = 0
) -> bool:
    return purges.covers(site, HOST, target, tags, born)


def test_nothing_is_covered_where_nothing_was_purged() -> None:
    assert not covers(Purges())
    assert len(Purges()) == 0


@pytest.mark.parametrize(
    ("kind", "value", "covered", "others"),
    [
        ("url", b"/docs/a?b", [b"/docs/a?b"], [b"/docs/a", b"/docs/a?b&c", b"/docs/A?b"]),
        ("url", HOST + b"/docs/a", [b"/docs/a"], [b"/docs/a?b", b"/docs/ab"]),
        ("url", b"www.example.test/docs/a", [], [b"/docs/a"]),
        ("prefix", b"/docs/", [b"/docs/", b"/docs/a?b"], [b"/docs", b"/doc", b"/"]),
        ("prefix", HOST + b"/docs", [b"/docs", b"/docs/", b"/docsets"], [b"/doc", b"/"]),
        ("prefix", b"www.example.test/", [], [b"/"]),
        ("site", b"", [b"/", b"/docs/a"], []),
    ],
)
def test_a_purge_covers_what_it_says(kind: str, value: bytes, covered: list[bytes], others: list[bytes]) -> None:
    purges = Purges()
    purges.add(kind, "app", value, NOW)
    assert [target for target in covered if not covers(purges, target)] == []
    assert [target for target in others if covers(purges, target)] == []
    assert not any(covers(purges, target, site="docs") for target in covered)


def test_a_tag_covers_every_answer_that_has_it() -> None:
    purges = Purges()
    purges.add("tag", "app", b"article-7", NOW)
    assert covers(purges, tags=(b"front", b"article-7"))
    assert not covers(purges, tags=(b"article-70",))
    assert not covers(purges)


def test_every_site_is_every_site() -> None:
    purges = Purges()
    purges.add("tag", EVERY_SITE, b"article-7", NOW)
    assert covers(purges, site="docs", tags=(b"article-7",))
    purges.add("url", EVERY_SITE, HOST + b"/x", NOW)
    assert covers(purges, b"/x", site="anything")


def test_what_was_born_since_is_not_covered() -> None:
    purges = Purges()
    for number, kind in enumerate(("url", "prefix", "tag", "site")):
        before = purges.clock
        purge = purges.add(kind, "app", b"" if kind == "site" else b"/x", NOW + number)
        assert purge.clock == purges.clock > before
        assert covers(purges, b"/x", tags=(b"/x",), born=before)
        assert not covers(purges, b"/x", tags=(b"/x",), born=purges.clock)


def test_the_clock_is_the_time_and_never_goes_back() -> None:
    purges = Purges()
    assert purges.add("site", "a", b"", NOW).clock == int(NOW * 1_000_000)
    assert purges.add("site", "b", b"", NOW - 9).clock == int(NOW * 1_000_000) + 1
    purges.note(Purge(5, "site", "c"))
    assert purges.clock == int(NOW * 1_000_000) + 1


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("dream", b"/x", "nothing is purged by dream; there are url, prefix, tag, site"),
        ("url", b"", "a purge by url has to say which"),
        ("site", b"/x", "a purge by site has no value"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, value: bytes, message: str) -> None:
    purges = Purges()
    with pytest.raises(MisuseError, match=message):
        purges.add(kind, "app", value, NOW)
    assert purges.clock == 0


def test_a_newer_one_of_the_same_counts_and_an_older_one_changes_nothing() -> None:
    purges = Purges()
    for clock in (5, 9, 7):
        purges.note(Purge(clock, "prefix", "app", b"/x"))
    assert list(purges.records()) == [Purge(9, "prefix", "app", b"/x")]
    purges.note(Purge(20, "site", "app"))
    purges.note(Purge(11, "prefix", "app", b"/x"))
    assert (list(purges.records()), len(purges)) == ([Purge(20, "site", "app")], 0)


def test_what_is_settled_is_forgotten_and_the_clock_stays() -> None:
    purges = Purges()
    for number, value in enumerate((b"/one", b"/two", b"/three")):
        purges.note(Purge(number + 1, "url", "app", value))
    purges.note(Purge(4, "site", "docs"))
    purges.forget(2)
    assert [covers(purges, value) for value in (b"/one", b"/two", b"/three")] == [False, False, True]
    assert covers(purges, site="docs")
    purges.forget(4)
    assert (list(purges.records()), purges.clock, len(purges)) == ([], 4, 0)


def test_past_the_bound_more_is_void_and_never_less() -> None:
    purges = Purges(most=100)
    for number in range(1000):
        purges.add("url", "app", b"/%d" % number, NOW + number)
        purges.add("url", "docs", b"/x", NOW + number)
        assert len(purges) <= 100
    assert all(covers(purges, b"/%d" % number) for number in range(1000))
    assert covers(purges, b"/never purged")
    assert not covers(purges, b"/never purged", born=purges.clock - 10_000_000)
    assert not covers(purges, b"/never purged", site="docs")


def test_a_journal_says_what_was_purged() -> None:
    purges = Purges()
    purges.note(Purge(3, "url", "app", b"/\xfc?\n\"'"))
    purges.note(Purge(4, "prefix", "app", b"/y"))
    purges.note(Purge(5, "site", "docs"))
    purges.forget(3)
    data = write_journal(purges)
    again = Purges()
    records, whole = read_journal(data)
    assert whole == len(data)
    for record in records:
        again.note(record)
    assert again.clock == 5
    assert covers(again, b"/y")
    assert covers(again, site="docs")
    purges.forget(5)
    (clock,) = read_journal(write_journal(purges))[0]
    again = Purges()
    again.note(clock)
    assert again.clock == 5
    assert not any(covers(again, site=site) for site in ("app", "docs"))
    assert write_journal(again) == write_journal(purges)


@given(st.builds(Purge, st.integers(0, 2**62), st.sampled_from(["url", "tag"]), st.text(), st.binary()))
def test_a_line_is_read_as_it_was_written(purge: Purge) -> None:
    line = encode_purge(purge)
    assert line.count(b"\n") == 1
    assert read_journal(line, begun=True) == ([purge], len(line))
    for cut in range(len(line)):
        assert read_journal(HEADER + line + line[:cut]) == ([purge], len(HEADER + line))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as a journal"),
        (HEADER[:-1], "does not begin as a journal"),
        (HEADER.replace(b"1", b"2"), "does not begin as a journal"),
        (HEADER + b"\n", "a line of it is damaged"),
        (HEADER + b"\0" * 20 + b"\n", "a line of it is damaged"),
        (HEADER + encode_purge(Purge(1, "dream", "app", b"/")), "a purge by dream, which this version does not know"),
    ],
)
def test_what_is_no_journal_is_told(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_journal(data)


@given(st.data())
def test_a_changed_octet_is_seen(data: st.DataObject) -> None:
    text = HEADER + b"".join(encode_purge(Purge(n, "url", "app", b"/%d" % n)) for n in range(3))
    place = data.draw(st.integers(0, len(text) - 1))
    changed = bytearray(text)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        records, whole = read_journal(bytes(changed))
    except ValueError:
        return
    # nothing but the end of the last line can pass for one that was not finished
    assert (len(records), whole) == (2, text[:-1].rfind(b"\n") + 1)
