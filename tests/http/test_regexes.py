"""Expressions in bounded time: the same verdicts as the standard library's, and no pattern that hangs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.regexes import MAX_PATTERN, MAX_POSITIONS, MAX_STATES, MAX_TEXT, Regex


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r".*(iPhone|Android).*", [b"an iPhone of mine", b"Android"], [b"phone", b"iPhone\n"]),
        (r"\d{2,3}", [b"12", b"123"], [b"1", b"1234", b"ab"]),
        (r"\d{2}", [b"12"], [b"1", b"123"]),
        (r"a{2,}", [b"aa", b"aaaaa"], [b"a"]),
        (r"a{0}", [b""], [b"a"]),
        (r"[^a-c]+", [b"xyz", b"\xe9"], [b"xa", b""]),
        (r"[]a]+", [b"]a"], [b"b"]),
        (r"[a-]+", [b"a-"], [b"b"]),
        (r"[\d.]+", [b"1.2"], [b"a"]),
        (r"(?i)aB[c-d]", [b"Abc", b"aBD"], [b"ab"]),
        (r"^/api$", [b"/api"], [b"/api/"]),
        (r"a\$|b\^", [b"a$", b"b^"], [b"a"]),
        (r"", [b""], [b"a"]),
        (r"a|", [b"a", b""], [b"b"]),
        (r"(|a)+", [b"", b"aa"], [b"b"]),
        (r"(?:ab)+?c", [b"ababc"], [b"c"]),
        (r"\x41\t\n\v\f\r", [b"A\t\n\v\f\r"], [b"A"]),
        (r"\D\W\S", [b"a a"], [b"1 a", b"aaa", b"a  "]),
        (r"[^\d\D]", [], [b"", b"a"]),
    ],
)
def test_what_it_describes(pattern: str, yes: list[bytes], no: list[bytes]) -> None:
    regex = Regex(pattern)
    for _ in range(2):  # with an empty table, and with a full one
        assert [text for text in yes if not regex.matches(text)] == []
        assert [text for text in no if regex.matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "a ( without its )"),
        (")", "a ) without its ("),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("*a", "nothing before it to repeat"),
        ("a|+", "nothing before it to repeat"),
        ("{2}", "nothing before it to repeat"),
        ("a**", "a repeat of a repeat"),
        ("a{2", "{ is for"),
        ("a{,2}", "{ is for"),
        ("a{2,x}", "{ is for"),
        ("a{123456789}", "{ is for"),
        ("a{3,2}", "wants more than it allows"),
        ("a^b", "in the middle"),
        ("a$b", "in the middle"),
        ("(?=a)", "(? is only for"),
        ("a(?P<n>b)", "(? is only for"),
        ("(a)\\1", "\\1 is not there"),
        ("\\b", "\\b is not there"),
        ("\\xzz", "two hex digits"),
        ("[b-a]", "from one character up"),
        ("[\\d-z]", "from one character up"),
        ("é", "not ASCII"),
        ("a" * (MAX_PATTERN + 1), "longer than"),
        ("(a{100}){100}", "too much of it"),
        ("(){99999999}", "too much of it"),
        ("(" * 51 + ")" * 51, "more than 50 groups"),
    ],
)
def test_what_there_is_not(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Regex(pattern)


_ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\d", "-"])
_PATTERNS = st.recursive(
    _ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        )
    ),
    max_leaves=8,
)


@given(pattern=_PATTERNS, texts=st.lists(st.text(alphabet="abc1-", max_size=6).map(str.encode), max_size=8))
def test_the_same_as_the_standard_library(pattern: str, texts: list[bytes]) -> None:
    try:
        regex = Regex(pattern)
    except ValueError as error:
        assert "too much of it" in str(error)  # noqa: PT017 - what else there is not, these have not
        return
    judge = re.compile(pattern.encode())
    for text in texts:
        assert regex.matches(text) is (judge.fullmatch(text) is not None)


def test_what_makes_others_go_back_is_read_once() -> None:
    """An engine that backtracks takes longer than the world is old for each of these."""
    for pattern in ("(a+)+b", "(a|a)*b", "(a*)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)x", "(a?){64}a{64}b"):
        assert not Regex(pattern).matches(b"a" * MAX_TEXT)


def test_its_tables_are_bounded() -> None:
    regex = Regex(".*a.{12}x")
    text = b"".join(b"%d" % (number * number) for number in range(400)).replace(b"1", b"a")[:MAX_TEXT]
    assert len(text) == MAX_TEXT
    for start in range(0, MAX_TEXT, 7):
        regex.matches(text[start:] + text[:start])
        assert len(regex._kept) <= MAX_STATES
    assert regex.matches(text[: MAX_TEXT - 14] + b"a" + b"b" * 12 + b"x")
    assert not regex.matches(b"a" + b"b" * MAX_TEXT + b"x")  # too long
    assert MAX_POSITIONS > 100


def test_equal_where_they_say_the_same() -> None:
    assert Regex("a") == Regex("a") != Regex("b")
    assert Regex("a") != "a"
    assert len({Regex("a"), Regex("a")}) == 1
    assert repr(Regex("a")) == "Regex('a')"
