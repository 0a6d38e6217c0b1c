"""Dictionaries of Structured Fields (RFC 9651 §4.2), which targeted cache fields are (RFC 9213 §2.1).

Read strictly: a fault anywhere makes the whole field invalid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["InvalidDictionary", "read_dictionary"]

_KEY = re.compile(rb"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]*))?")
_STRING = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_TOKEN = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_OCTETS = re.compile(rb":[A-Za-z0-9+/=]*:")
_TRUTH = re.compile(rb"\?[01]")
_DATE = re.compile(rb"@-?[0-9]{1,15}(?![0-9.])")
_DISPLAY = re.compile(rb'%"((?:[ !#$&-~]|%[0-9a-f]{2})*)"')
_SPACES = re.compile(rb" *")
_OPTIONAL = re.compile(rb"[ \t]*")

_MOST_DIGITS = 15
_MOST_BEFORE_POINT = 12
_MOST_BEHIND_POINT = 3

_Bare = int | bool | bytes | str | None


class InvalidDictionary(ValueError):
    """It is none: as if the field were not there."""


class _Reader:
    __slots__ = ("at", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def take(self, form: re.Pattern[bytes]) -> re.Match[bytes] | None:
        match = form.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def skip(self, octet: bytes) -> bool:
        if self.text.startswith(octet, self.at):
            self.at += len(octet)
            return True
        return False

    def ended(self) -> bool:
        return self.at >= len(self.text)

    def key(self) -> bytes:
        match = self.take(_KEY)
        if match is None:
            raise InvalidDictionary("a key is expected")
        return match[0]

    def parameters(self) -> None:
        while self.skip(b";"):
            self.take(_SPACES)
            self.key()
            if self.skip(b"="):
                self.bare()

    def bare(self) -> _Bare:
        """An integer, True or False, text (``bytes``), a token (``str``), or None for what is none of these."""
        number = self.take(_NUMBER)
        if number is not None:
            return _number(number)
        string = self.take(_STRING)
        if string is not None:
            return re.sub(rb"\\(.)", rb"\1", string[1])
        token = self.take(_TOKEN)
        if token is not None:
            return token[0].decode("ascii")
        truth = self.take(_TRUTH)
        if truth is not None:
            return truth[0] == b"?1"
        if self.take(_OCTETS) or self.take(_DATE) or self.take(_DISPLAY):
            return None
        raise InvalidDictionary("a value is expected")

    def value(self) -> _Bare:
        if self.skip(b"("):
            self.inner_list()
            return None
        found = self.bare()
        self.parameters()
        return found

    def inner_list(self) -> None:
        while True:
            self.take(_SPACES)
            if self.skip(b")"):
                break
            self.bare()
            self.parameters()
            if self.text[self.at : self.at + 1] not in (b" ", b")"):
                raise InvalidDictionary("a list is not closed")
        self.parameters()


def _number(match: re.Match[bytes]) -> int | None:
    whole, fraction = match[2], match[3]
    if fraction is None:
        if len(whole) > _MOST_DIGITS:
            raise InvalidDictionary("a number is too long")
        return int(match[1] + whole)
    if len(whole) > _MOST_BEFORE_POINT or not 1 <= len(fraction) <= _MOST_BEHIND_POINT:
        raise InvalidDictionary("a decimal is too long, or ends at its point")
    return None


def read_dictionary(lines: Iterable[bytes]) -> dict[bytes, _Bare]:
    """Key → value: an integer, a boolean, ``bytes`` for a string, ``str`` for a token, None for any other kind.

    Parameters are dropped.  Of two members of one key the last counts (RFC 9651 §4.2.2).

    :raises InvalidDictionary: the field as a whole is to be ignored
    """
    reader = _Reader(b", ".join(lines).strip(b" "))
    found: dict[bytes, _Bare] = {}
    while not reader.ended():
        key = reader.key()
        if reader.skip(b"="):
            value = reader.value()
        else:
            value = True
            reader.parameters()
        found.pop(key, None)
        found[key] = value
        reader.take(_OPTIONAL)
        if reader.ended():
            break
        if not reader.skip(b","):
            raise InvalidDictionary("a comma is expected")
        reader.take(_OPTIONAL)
        if reader.ended():
            raise InvalidDictionary("it ends with a comma")
    return found
