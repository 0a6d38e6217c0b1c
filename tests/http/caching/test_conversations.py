"""Whole conversations by the rules alone: a page that changes, visitors, and a cache between them that is all rules.

Whatever happens in whatever order, nobody gets a page that was out of date for longer than the page itself allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tests.http.caching.said import NOW, STANDARD, answer, at, request
from wormhole_tw.http.caching import (
    Question,
    Stored,
    Verdict,
    conditional,
    confirmed,
    freshen,
    judge,
    may_ask,
    question,
    select,
    serve,
    storable,
)
from wormhole_tw.http.events import ResponseHead


@dataclass
class Entry:
    stored: Stored
    body: bytes


class Page:
    """A page of some version, and the cache in front of it.

    :ivar control: what it says in Cache-Control
    :ivar asked: how often it was asked itself
    """

    def __init__(self, control: str) -> None:
        self.control = control
        self.now = NOW
        self.changes = [NOW]
        self.asked = 0
        self.entries: list[Entry] = []

    @property
    def version(self) -> int:
        return len(self.changes)

    def _answer(self, fields: list[tuple[bytes, bytes]]) -> tuple[ResponseHead, bytes]:
        """The origin: conditions are judged by its own version."""
        self.asked += 1
        tag = f'"{self.version}"'
        body = b"%d" % self.version
        met = any(name == b"If-None-Match" and tag.encode() in value.split(b", ") for name, value in fields)
        said = (f"Cache-Control: {self.control}", f"ETag: {tag}", f"Date: {at(self.now - NOW)}", "Vary: Foo")
        return answer(*said, status=304 if met else 200, length=len(body)), body

    def ask(self, *said: str) -> tuple[int, bool]:
        """The version that a visitor gets, and whether the origin had no part in it."""
        head = request(*said)
        asks = question(head)
        before = self.asked
        body = self._from_cache(asks) if may_ask(head, asks, STANDARD) else self._answer(head.fields)[1]
        return int(body), self.asked == before

    def _from_cache(self, asks: Question) -> bytes:
        kept = select(asks, self.entries)
        if kept is not None and judge(asks, kept.stored, STANDARD, self.now) is not Verdict.REVALIDATE:
            return self._serve(asks, kept)
        asked_about = [entry.stored for entry in self.entries]
        head, body = self._answer(conditional([], asked_about))
        if head.status == 304:
            stored = confirmed(head.fields, asked_about)
            assert stored is not None
            kept = next(entry for entry in self.entries if entry.stored is stored)
            renewed = freshen(stored, head, asks, STANDARD, self.now, self.now)
            if renewed is None:
                self.entries.remove(kept)
            else:
                kept.stored = renewed
            return kept.body
        made = storable(asks, head, STANDARD, self.now, self.now)
        if isinstance(made, Stored):
            self.entries = [entry for entry in self.entries if entry.stored.vary != made.vary]
            self.entries.append(Entry(made, body))
        return body

    def _serve(self, asks: Question, kept: Entry) -> bytes:
        made = serve(asks, kept.stored, len(kept.body), self.now)
        assert made is not None
        assert made.head.status == 200
        return kept.body[made.start : made.end]

    def out_of_date(self, version: int) -> float:
        """Seconds since a version was the current one."""
        return 0.0 if version == self.version else self.now - self.changes[version]


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 8)),
        st.tuples(st.just("change"), st.none()),
        st.tuples(
            st.just("ask"),
            st.tuples(
                st.sampled_from(["", "no-cache", "max-age=3", "min-fresh=4", "max-stale=6", "max-stale", "no-store"]),
                st.sampled_from(["", "Foo: 1", "Foo: 2", "Cookie: a=b", "Authorization: x"]),
            ),
        ),
    ),
    max_size=25,
)
_CONTROLS = st.sampled_from(
    [
        "max-age=10",
        "s-maxage=10",
        "max-age=10, must-revalidate",
        "max-age=10, stale-while-revalidate=5",
        "max-age=10, immutable, public",
        "no-cache",
        "max-age=0",
        "private, max-age=10",
        "no-store, max-age=10",
        "max-age=1, s-maxage=10, public",
    ]
)


@given(_CONTROLS, _STEPS)
def test_nobody_gets_what_is_out_of_date_for_longer_than_the_page_allows(
    control: str, steps: list[tuple[str, object]]
) -> None:
    page = Page(control)
    allowed = 0 if control.startswith(("no-", "private", "max-age=0")) else 10
    allowed += 5 if "stale-while" in control else 0
    for kind, what in steps:
        if kind == "wait":
            page.now += what  # type: ignore[operator]
        elif kind == "change":
            page.changes.append(page.now)
        else:
            wanted, shown = what  # type: ignore[misc]
            said = [f"Cache-Control: {wanted}"] if wanted else []
            version, kept = page.ask(*said, *([shown] if shown else []))
            late = page.out_of_date(version)
            if wanted in ("no-cache", "no-store") or control in (
                "no-store, max-age=10",
                "no-cache",
                "private, max-age=10",
            ):
                assert not kept
            if not kept:
                assert late == 0
            elif wanted == "max-age=3" and "immutable" not in control:
                assert late <= 3
            elif wanted == "min-fresh=4":
                assert late <= 10 - 4
            elif wanted.startswith("max-stale") and "must" not in control and "s-maxage" not in control:
                assert late <= allowed + (6 if wanted == "max-stale=6" else 1e9)
            else:
                assert late < allowed
    assert all(entry.stored.received <= page.now for entry in page.entries)


def test_a_conversation() -> None:
    page = Page("max-age=10")
    assert page.ask() == (1, False)
    page.changes.append(page.now)
    assert page.ask() == (1, True)
    page.now += 10
    assert page.ask() == (2, False)
    page.now += 10
    assert page.ask() == (2, False)
    assert page.ask() == (2, True)
    assert page.asked == 3
    [entry] = page.entries
    assert (entry.body, entry.stored.received) == (b"2", page.now)
