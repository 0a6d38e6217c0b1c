from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control import tokens


def test_a_generated_token_is_valid_new_and_says_what_it_is() -> None:
    one, other = tokens.generate(), tokens.generate()
    assert one != other
    assert one.startswith("wh_")
    assert len(one) == 46  # 256 bits in base64
    assert tokens.valid_token(one)


def test_its_line_leads_back_to_its_digest() -> None:
    token = tokens.generate()
    line = tokens.digest_line(token)
    assert line == "sha256:" + hashlib.sha256(token.encode()).hexdigest()
    assert tokens.parse_digest(line) == tokens.digest(token)
    assert tokens.parse_digest(line.upper()) == tokens.digest(token)
    assert token not in line


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("", False),
        ("x", True),
        (" a token may hold a space ", True),
        ("x" * 512, True),
        ("x" * 513, False),
        ("line\n", False),
        ("tab\t", False),
        ("\x7f", False),
        ("é", False),
    ],
)
def test_what_can_be_a_token(text: str, valid: bool) -> None:
    assert tokens.valid_token(text) is valid


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "md5:" + "a" * 64, "a" * 64, "sha256:" + "g" * 64],
)
def test_what_is_no_digest_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits") as caught:
        tokens.parse_digest(text)
    assert "aaaa" not in str(caught.value)


def test_a_token_in_place_of_its_digest_is_recognised_and_not_repeated() -> None:
    token = tokens.generate()
    with pytest.raises(ValueError, match="a token itself") as caught:
        tokens.parse_digest(token)
    assert token not in str(caught.value)


def test_digests_are_compared() -> None:
    assert tokens.same_digest(tokens.digest("a"), tokens.digest("a"))
    assert not tokens.same_digest(tokens.digest("a"), tokens.digest("b"))


@given(st.text())
def test_any_text_has_a_digest_and_a_judgement(text: str) -> None:
    assert len(tokens.digest(text)) == 32
    if tokens.valid_token(text):
        assert text.isascii()
        assert text.isprintable()
