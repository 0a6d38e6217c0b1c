"""Names, lists and methods."""

from __future__ import annotations

import pytest

from wormhole_tw.http import grammar
from wormhole_tw.http.grammar import is_token, judged_fields, kind_of, list_members
from wormhole_tw.http.methods import is_idempotent, is_safe


@pytest.mark.parametrize("name", [b"Host", b"host", b"HOST", b"hOsT"])
def test_a_name_has_one_kind_in_any_spelling(name):
    assert kind_of(name) == grammar.HOST
    assert kind_of(name) == grammar.HOST


def test_the_memo_of_names_is_bounded():
    for number in range(3 * grammar.MAX_LEARNED_NAMES):
        assert kind_of(b"x-%d" % number) == grammar.PLAIN
        assert len(grammar._memo) <= grammar.MAX_LEARNED_NAMES
    long_name = b"x" * 1000
    assert kind_of(long_name) == grammar.PLAIN
    assert long_name not in grammar._memo


def test_judged_fields_keep_their_order():
    fields = [(b"Upgrade", b"a"), (b"X", b"b"), (b"host", b"c"), (b"Y" * 100, b"d"), (b"Upgrade", b"e")]
    assert judged_fields(fields) == [
        (grammar.UPGRADE, fields[0]),
        (grammar.HOST, fields[2]),
        (grammar.UPGRADE, fields[4]),
    ]


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", ()),
        (b"close", (b"close",)),
        (b" Close ,\tUPGRADE,, ", (b"close", b"upgrade")),
        (b"x" * 70 + b",y", (b"x" * 70, b"y")),
    ],
)
def test_lists(value, members):
    assert list_members(value) == members


@pytest.mark.parametrize(("value", "expected"), [(b"GET", True), (b"a-b!", True), (b"", False), (b"a b", False)])
def test_tokens(value, expected):
    assert is_token(value) is expected


@pytest.mark.parametrize(
    ("method", "safe", "idempotent"),
    [
        (b"GET", True, True),
        (b"HEAD", True, True),
        (b"OPTIONS", True, True),
        (b"PUT", False, True),
        (b"DELETE", False, True),
        (b"POST", False, False),
        (b"PATCH", False, False),
        (b"get", False, False),
        (b"INVENTED", False, False),
    ],
)
def test_what_may_be_sent_again(method, safe, idempotent):
    assert is_safe(method) is safe
    assert is_idempotent(method) is idempotent
