"""A request as the cache reads it, and which requests it has a part in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.http.caching.said import STANDARD, asked, request
from wormhole_tw.http import memo
from wormhole_tw.http.caching import CachePolicy, may_ask, question


def test_lines_of_one_name_are_one_value() -> None:
    read = asked("Accept: a", "aCCept: b", "Cookie: x=1", "cookie: y=2")
    assert read.fields == {b"accept": b"a, b", b"cookie": b"x=1; y=2"}
    assert not read.head
    assert asked(method="HEAD").head


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("Accept: */*", True),
        ("Pragma: no-cache", True),
        ("Cache-Control: ,", True),
        ("Cache-Control: max-age=0", False),
        ("Range: bytes=0-1", False),
        ("If-None-Match: *", False),
        ("If-Modified-Since: x", False),
        ("If-Range: x", False),
        ("If-Match: *", False),
        ("If-Unmodified-Since: x", False),
    ],
)
def test_a_plain_one_asks_for_nothing_special(line: str, plain: bool) -> None:
    assert asked(line).plain is plain
    assert asked(line).whole is (plain or line.startswith("Cache-Control"))


def test_who_is_known_is_personal() -> None:
    assert not asked("Cookie: a=b").personal
    assert asked("Authorization: Basic x").personal
    assert asked(personal=True).personal


def test_a_head_that_comes_again_is_read_once() -> None:
    head = request("Accept: a", common=True)
    assert question(head) is question(head)
    assert question(head, personal=True).personal
    assert not question(head).personal
    assert question(replace(head)) is not question(head), "its octets may be the same, but it is another"
    single = request("Accept: a")
    assert question(single) is not question(single)


def test_the_memo_is_bounded() -> None:
    heads = [request(f"X-Number: {number}", common=True) for number in range(memo.MAX_HEADS + 10)]
    for number, head in enumerate(heads):
        assert question(head).fields == {b"x-number": b"%d" % number}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_reads_may_be_asked_of_the_cache(method: str) -> None:
    head = request("Accept: a", method=method)
    assert may_ask(head, question(head), STANDARD)
    head = request("Cache-Control: max-age=0", "If-None-Match: *", "Range: bytes=0-1", method=method)
    assert may_ask(head, question(head), STANDARD)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "get", "QUERY"])
def test_other_methods_pass(method: str) -> None:
    head = request(method=method)
    assert not may_ask(head, question(head), STANDARD)


def test_a_body_an_upgrade_or_an_expectation_pass() -> None:
    head = request(body=3)
    assert not may_ask(head, question(head), STANDARD)
    head = replace(request(), upgrade=b"websocket")
    assert not may_ask(head, question(head), STANDARD)
    head = replace(request(), expect_continue=True)
    assert not may_ask(head, question(head), STANDARD)


@pytest.mark.parametrize("line", ["If-Match: *", "If-Unmodified-Since: x"])
def test_conditions_for_the_origin_pass(line: str) -> None:
    head = request(line)
    assert not may_ask(head, question(head), STANDARD)


def test_no_store_passes_unless_it_is_ignored() -> None:
    head = request("Cache-Control: no-store")
    assert not may_ask(head, question(head), STANDARD)
    assert may_ask(head, question(head), CachePolicy(ignore_request=frozenset({b"no-store"})))


def test_only_if_cached_may_be_ignored() -> None:
    wanting = asked("Cache-Control: only-if-cached")
    assert wanting.only_if_cached(STANDARD)
    assert not wanting.only_if_cached(CachePolicy(ignore_request=frozenset({b"only-if-cached"})))
    assert not asked().only_if_cached(STANDARD)


def test_the_seconds_of_a_directive() -> None:
    said = asked("Cache-Control: max-age=5, max-stale, min-fresh=x")
    assert said.delta(b"max-age") == 5
    assert said.delta(b"max-stale") is None
    assert said.delta(b"min-fresh") is None
    assert said.delta(b"s-maxage") is None
