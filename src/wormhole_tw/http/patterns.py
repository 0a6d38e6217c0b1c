"""Paths with names in them: ``/users/:id/*rest``, to take a path apart and to put another together.

``:name`` stands for one segment that is not empty, ``*name`` for all that is left, perhaps nothing, and ends a pattern.
Values are what stood in the canonical path, escapes and all, so that ``%2F`` never becomes a slash.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import Enum

__all__ = ["REST", "Part", "PathPattern", "Template"]

REST = "rest"
"""What a prefix calls all that is below it."""

_NAME = re.compile(r"[:*]([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)

_UNSAFE_IN_PATH = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@%/-]", re.DOTALL)
_UNSAFE_IN_QUERY = re.compile(r"[^A-Za-z0-9._~!$'()*,:@%/-]", re.DOTALL)


class PathPattern:
    """A pattern for whole paths.

    :param text: it, canonical but for the names
    :ivar head: what every path begins with that it takes; ends in ``/``, or is all of it where there is no name
    :ivar names: in order
    :raises ValueError: a name that is none, stands twice or not alone in its segment, or something behind ``*rest``
    """

    __slots__ = ("_regex", "head", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        segments = text.split("/")[1:]
        names: list[str] = []
        regex = ""
        head: str | None = None
        for index, segment in enumerate(segments):
            if segment[:1] not in (":", "*") and _NAME.search(segment) is None:
                regex += "/" + re.escape(segment)
                continue
            match = _NAME.fullmatch(segment)
            if match is None:
                raise ValueError(
                    f"{segment!r}: a name is : or * with letters, digits and underscores, for a whole segment; exact"
                    " and path take a colon as it is"
                )
            if match[1] in names:
                raise ValueError(f"two times {match[1]}")
            names.append(match[1])
            if head is None:
                head = "/".join(["", *segments[:index], ""])
            if segment[0] == "*":
                if index < len(segments) - 1:
                    raise ValueError(f"{segment} takes all that is left: nothing can stand behind it")
                regex += "/(.*)"
            else:
                regex += "/([^/]+)"
        self.head = text if head is None else head
        self.names = tuple(names)
        # one name a segment, and one for the rest: there is one way to match, and so nothing to go back to
        self._regex = re.compile(regex, re.DOTALL)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"PathPattern({self.text!r})"

    def same_paths(self, other: PathPattern) -> bool:
        """Whether both take the same paths, by whatever names."""
        return self._regex.pattern == other._regex.pattern

    def match(self, path: str) -> dict[str, str] | None:
        """What the names stand for in a canonical path, or None where it is another."""
        match = self._regex.fullmatch(path)
        return None if match is None else dict(zip(self.names, match.groups(), strict=True))


class Part(Enum):
    """Where in a URL a text is put together, and so what has to be escaped in values."""

    FORWARDED = "forwarded"
    """a path that goes on to a service: what came as path is good as path"""
    PATH = "path"
    """a path for browsers, which read some octets in ways of their own (``\\``)"""
    QUERY = "query"
    """a query or fragment: what separates its members is escaped"""


class Template:
    """A text with names in it, for which values are put.

    :param text: it; ``:name`` and ``*name`` mean the same
    :param known: the names that there are values for
    :raises ValueError: another name
    """

    __slots__ = ("_pieces", "names", "part", "text")

    def __init__(self, text: str, known: Collection[str], part: Part) -> None:
        self.text = text
        self.part = part
        # literal, name, literal, name, …, literal
        self._pieces = tuple(_NAME.split(text))
        self.names = self._pieces[1::2]
        for name in self.names:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise ValueError(
                    f"there is no value for {name} (there is {there}); a colon or asterisk as such is %3A, %2A"
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and (other.text, other.part) == (self.text, self.part)

    def __hash__(self) -> int:
        return hash((self.text, self.part))

    def __repr__(self) -> str:
        return f"Template({self.text!r}, {self.part})"

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with values in place of names."""
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces[0]
        filled = list(pieces)
        for index in range(1, len(pieces), 2):
            value = values[pieces[index]]
            if self.part is Part.PATH:
                value = _UNSAFE_IN_PATH.sub(_escape, value)
            elif self.part is Part.QUERY:
                value = _UNSAFE_IN_QUERY.sub(_escape, value)
            filled[index] = value
        return "".join(filled)


def _escape(match: re.Match[str]) -> str:
    # paths are read as Latin-1: a character is an octet
    return f"%{ord(match[0]):02X}"
