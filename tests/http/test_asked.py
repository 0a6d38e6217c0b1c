"""A request, taken apart for rules."""

from __future__ import annotations

from typing import Any

from wormhole_tw.http.asked import MAX_MEMBERS, Asked
from wormhole_tw.http.events import Fields


def asked(query: bytes | None = None, fields: Fields = [], **others: Any) -> Asked:  # noqa: B006 - never changed
    numbers = iter((0.25, 0.5, 0.75))
    facts: dict[str, Any] = {
        "method": b"GET",
        "scheme": "https",
        "address": "192.0.2.7",
        "chance": lambda: next(numbers),
        "offers": lambda backend, branch: branch == "canary",
    }
    return Asked("app.test", "/a", query, fields=fields, **{**facts, **others})


def test_fields_by_any_spelling() -> None:
    it = asked(fields=[(b"X-A", b"1"), (b"x-a", b"2"), (b"Host", b"x")])
    assert it.field(b"x-a") == [b"1", b"2"]
    assert it.field(b"x-b") == []


def test_members_of_a_query() -> None:
    it = asked(b"a=1&b&&a=%41+x&%62=2&c==")
    assert it.member(b"a") == [b"1", b"A x"]
    assert it.member(b"b") == [b"", b"2"]
    assert it.member(b"c") == [b"="]
    assert it.member(b"d") == []
    assert asked(None).member(b"a") == []
    assert asked(b"").member(b"") == []


def test_cookies() -> None:
    it = asked(fields=[(b"Cookie", b'a=1; b="two"; c ; d=;e=";'), (b"cookie", b"a=3")])
    assert it.cookie(b"a") == [b"1", b"3"]
    assert it.cookie(b"b") == [b"two"]
    assert it.cookie(b"c") == []
    assert it.cookie(b"d") == [b""]
    assert it.cookie(b"e") == [b'"']


def test_no_visitor_makes_it_count_without_end() -> None:
    many = b"&".join(b"a=%d" % number for number in range(MAX_MEMBERS * 3))
    assert len(asked(many).member(b"a")) == MAX_MEMBERS
    assert len(asked(fields=[(b"Cookie", many.replace(b"&", b";"))]).cookie(b"a")) == MAX_MEMBERS


def test_one_draw_for_all_rules() -> None:
    it = asked()
    assert it.luck() == it.luck() == 0.25
    assert it.ticket(b"one") == it.ticket(b"one") == b"8" + b"0" * 15
    assert it.ticket(b"other") == b"c" + b"0" * 15
    assert it.drawn == {b"one": b"8" + b"0" * 15, b"other": b"c" + b"0" * 15}


def test_a_ticket_that_is_there_is_taken() -> None:
    it = asked(fields=[(b"Cookie", b"t=; t=mine")])
    assert it.ticket(b"t") == b"mine"
    assert it.drawn is None


def test_who_is_there() -> None:
    assert asked().offers("app", "canary")
    assert not asked().offers("app", "main")
