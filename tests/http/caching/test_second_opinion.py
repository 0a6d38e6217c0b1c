"""The same questions put to hishel, another implementation of RFC 9111: where the two differ, a section decides.

``decided_by`` names the sections; every difference that a run finds has to be one of them, and each of them is shown
by an example, so that none stands there for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import _support
from tests.http.caching.said import NOW, STANDARD, answer, asked, at, request
from wormhole_tw.http.caching import Stored, Verdict, judge, question, selected_by, storable

try:
    import hishel
    from hishel._core import _spec as rules
except ImportError:
    hishel = None  # type: ignore[assignment]


@pytest.fixture(scope="module", autouse=True)
def theirs() -> Iterator[None]:
    """hishel looks at the clock of the machine: it gets one that stands still, and is moved by hand."""
    if hishel is None:
        _support.missing("hishel")
    real = rules.time
    rules.time = CLOCK
    yield
    rules.time = real


CLOCK = SimpleNamespace(now=NOW, time=lambda: CLOCK.now)


@dataclass(frozen=True)
class Case:
    """An answer, what it was asked for with, and who asks for it some seconds later.

    :ivar control: directives of the answer
    :ivar fields: other fields of it; ``Date`` is always there
    """

    control: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    date: int = 0
    status: int = 200
    first: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    seconds: int = 0

    def says(self, *names: str) -> bool:
        return any(directive.partition("=")[0] in names for directive in self.control)

    def has(self, *names: str) -> bool:
        return any(line.partition(":")[0] in names for line in self.fields)

    def lines(self) -> tuple[str, ...]:
        control = (f"Cache-Control: {', '.join(self.control)}",) if self.control else ()
        return (f"Date: {at(self.date)}", *control, *self.fields)


Opinion = tuple[bool, bool]
"""Whether the answer is stored, and whether the later request gets it without the origin being asked."""


def ours(case: Case) -> Opinion:
    stored = storable(asked(*case.first), answer(*case.lines(), status=case.status), STANDARD, NOW, NOW)
    if not isinstance(stored, Stored):
        return False, False
    later = question(request(*case.later))
    fresh = judge(later, stored, STANDARD, NOW + case.seconds) is Verdict.FRESH
    return True, fresh and selected_by(later, stored)


def hishels(case: Case) -> Opinion:
    def spoken(lines: tuple[str, ...]) -> hishel.Headers:
        found: dict[str, str | list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            found[name] = value
        return hishel.Headers(found)

    options = hishel.CacheOptions(shared=True, supported_methods=["GET"], allow_stale=False)
    first = hishel.Request("GET", "https://a.test/", spoken(case.first))
    CLOCK.now = NOW
    stored = hishel.CacheMiss(options, first).next(hishel.Response(case.status, spoken(case.lines())))
    if not isinstance(stored, hishel.StoreAndUse):
        return False, False
    CLOCK.now = NOW + case.seconds
    entry = hishel.Entry(uuid4(), first, stored.response)
    later = hishel.Request("GET", "https://a.test/", spoken(case.later))
    return True, isinstance(hishel.IdleClient(options).next(later, [entry]), hishel.FromCache)


def decided_by(case: Case, mine: Opinion, other: Opinion) -> list[str]:
    """The sections by which two opinions may differ in this case."""
    found = []
    guessed = not case.says("max-age", "s-maxage") and not case.has("Expires")
    if mine < other:
        if case.has("Vary") and "Vary: *" in case.fields:
            found.append("§4.1: nothing selects an answer that varies by everything, so it is not stored")
        if case.has("Set-Cookie"):
            found.append("§7.3: what sets a cookie is of one visitor")
        if case.says("must-understand") and case.status == 599:
            found.append("§5.2.2.3: its status is not understood")
        if case.has("Age"):
            found.append("§4.2.3: others had it before, and say for how long")
        if case.date > 0:
            found.append("§4.2.3: what a cache has for a while is as old as that, whatever Date says")
        if guessed:
            found.append("§4.2.2: it is guessed from Date, not from now; not for who has cookies, nor for any status")
        if any(line.startswith(("Cache-Control: max-age", "Cache-Control: min-fresh")) for line in case.later):
            found.append("§5.2.1: what the request wants of age and freshness counts")
        if (
            mine == (False, False)
            and other == (True, False)
            and not (case.has("ETag", "Last-Modified") and not guessed)
        ):
            found.append("§3: what is not fresh and can never be validated may be stored, but for nothing")
    else:
        if case.says("must-understand") and case.says("no-store") and case.status != 599:
            found.append("§5.2.2.3: a status that is understood lets no-store be ignored")
        if case.first != case.later:
            found.append("§4.1: white space and lines that say the same are the same")
    return found


_CONTROL = [
    "max-age=0", "max-age=30", "max-age=100", "s-maxage=0", "s-maxage=50", "public", "private", "no-store", "no-cache",
    "must-revalidate", "proxy-revalidate", "must-understand", "immutable", 'no-cache="x-a"', 'private="x-a"', "foo=bar",
]  # fmt: skip
_FIELDS = [
    "Expires: 0", f"Expires: {at(-50)}", f"Expires: {at(40)}", f"Expires: {at(200)}", f"Last-Modified: {at(-10000)}",
    f"Last-Modified: {at(-100)}", 'ETag: "a"', "Vary: Foo", "Vary: *", "Age: 10", "Age: 90", "Set-Cookie: a=b",
]  # fmt: skip
_SELECTING = ["Foo: 1", "Foo: 1, 2", "Foo: 1,2"]
_WANTED = ["Cache-Control: no-cache", "Cache-Control: max-age=10", "Cache-Control: min-fresh=20", "Cache-Control: foo"]


def _name(line: str) -> str:
    return line.partition(":")[0].partition("=")[0]


_CASES = st.builds(
    Case,
    control=st.lists(st.sampled_from(_CONTROL), max_size=4, unique_by=_name).map(tuple),
    fields=st.lists(st.sampled_from(_FIELDS), max_size=4, unique_by=_name).map(tuple),
    date=st.sampled_from([0, 0, -20, 20]),
    status=st.sampled_from([200, 204, 302, 404, 500, 599]),
    first=st.lists(st.sampled_from([*_SELECTING, "Authorization: x", "Cookie: a=b"]), max_size=3, unique_by=_name).map(
        tuple
    ),
    later=st.lists(st.sampled_from([*_SELECTING, *_WANTED]), max_size=2, unique_by=_name).map(tuple),
    seconds=st.integers(0, 150),
)


@given(_CASES)
def test_two_opinions(case: Case) -> None:
    mine, other = ours(case), hishels(case)
    assert mine == other or decided_by(case, mine, other), (mine, other)


LASTING = Case(control=("max-age=100",), seconds=50)


def test_the_common_case() -> None:
    for case, opinion in (
        (LASTING, (True, True)),
        (replace(LASTING, seconds=100, fields=('ETag: "a"',)), (True, False)),
        (replace(LASTING, control=("max-age=100", "private")), (False, False)),
        (replace(LASTING, first=("Authorization: x",)), (False, False)),
        (replace(LASTING, first=("Authorization: x",), control=("max-age=100", "public")), (True, True)),
        (replace(LASTING, fields=("Vary: Foo",), first=("Foo: 1",), later=("Foo: 2",)), (True, False)),
        (Case(fields=(f"Expires: {at(40)}",), seconds=39), (True, True)),
    ):
        assert ours(case) == hishels(case) == opinion, case


@pytest.mark.parametrize(
    ("case", "mine", "other", "section"),
    [
        (replace(LASTING, fields=("Vary: *",)), (False, False), (True, False), "§4.1: nothing"),
        (replace(LASTING, fields=("Set-Cookie: a=b",)), (False, False), (True, True), "§7.3"),
        (
            replace(LASTING, control=("max-age=100", "must-understand"), status=599),
            (False, False),
            (True, True),
            "§5.2.2.3: its",
        ),
        (replace(LASTING, fields=("Age: 90",)), (True, False), (True, True), "§4.2.3: others"),
        (replace(LASTING, date=20, seconds=110), (True, False), (True, True), "§4.2.3: what"),
        (
            Case(fields=(f"Last-Modified: {at(-10000)}",), first=("Cookie: a=b",)),
            (False, False),
            (True, True),
            "§4.2.2",
        ),
        (replace(LASTING, later=("Cache-Control: max-age=10",)), (True, False), (True, True), "§5.2.1"),
        (replace(LASTING, later=("Cache-Control: min-fresh=80",)), (True, False), (True, True), "§5.2.1"),
        (Case(), (False, False), (True, False), "§3"),
        (
            replace(LASTING, control=("max-age=100", "must-understand", "no-store")),
            (True, True),
            (False, False),
            "§5.2.2.3: a",
        ),
        (
            replace(LASTING, fields=("Vary: Foo",), first=("Foo: 1, 2",), later=("Foo: 1,2",)),
            (True, True),
            (True, False),
            "§4.1: white",
        ),
    ],
)
def test_where_they_differ(case: Case, mine: Opinion, other: Opinion, section: str) -> None:
    assert (ours(case), hishels(case)) == (mine, other)
    assert any(reason.startswith(section) for reason in decided_by(case, mine, other))
