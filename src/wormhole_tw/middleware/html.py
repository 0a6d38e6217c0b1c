"""Where the head of an HTML page ends, found while the page passes.

Not a parser, but as much of one as it takes not to be misled: comments, quoted attributes and elements whose content is
text (scripts, styles) may say ``</head>`` and mean nothing by it.  A page that leaves the end tag out, as HTML allows,
has its head end where its ``<body>`` begins.
"""

from __future__ import annotations

import re
from enum import Enum

__all__ = ["HeadEnd"]


class _In(Enum):
    PAGE = 0
    TAG = 1
    VALUE = 2
    """behind an ``=`` in a tag"""
    QUOTED = 3
    UNQUOTED = 4
    COMMENT = 5
    DECLARATION = 6
    """``<!`` or ``<?``, which end with the next ``>``"""
    TEXT = 7
    """in an element whose content is text"""
    DONE = 8


_TEXT_ELEMENTS = (b"script", b"style", b"title", b"textarea", b"noscript", b"template", b"iframe", b"xmp", b"noembed")
"""Whose content is text to a browser that runs scripts, or (template) stands for nothing yet."""

_OPENING = re.compile(
    rb"<(?:(?P<comment>!--)|(?P<end>/head(?=[\s/>]))|(?P<body>body(?=[\s/>]))"
    rb"|(?P<text>" + b"|".join(_TEXT_ELEMENTS) + rb")(?=[\s/>])|(?P<declaration>[!?])|(?P<tag>/?[a-zA-Z]))",
    re.I,
)

_WANTED = (b"<!--", b"</head", b"<body", *(b"<" + name for name in _TEXT_ELEMENTS))
"""What has to be known whole."""

_LONGEST = max(map(len, _WANTED)) + 1
"""Octets after which it is known what a ``<`` begins."""

_IN_TAG = re.compile(rb"[=>]")
_SPACE = re.compile(rb"\s*")
_VALUE_END = re.compile(rb"[\s>]")
_COMMENT_END = re.compile(rb"--!?>")

_TEXT_END = {name: re.compile(rb"</" + name + rb"(?=[\s/>])", re.I) for name in _TEXT_ELEMENTS}
_TEXT_END[b"template"] = re.compile(rb"(?P<end></template(?=[\s/>]))|(?P<begin><template(?=[\s/>]))", re.I)
_TEXT_END[b"script"] = re.compile(
    rb"(?P<end></script(?=[\s/>]))|(?P<begin><script(?=[\s/>]))|(?P<hide><!--)|(?P<show>-->)", re.I
)

_TEXT_PARTS: dict[bytes, tuple[bytes, ...]] = {name: (b"</" + name,) for name in _TEXT_ELEMENTS}
"""What of it has to be known whole."""
_TEXT_PARTS[b"template"] = (b"</template", b"<template")
_TEXT_PARTS[b"script"] = (b"</script", b"<script", b"<!--", b"-->")


class HeadEnd:
    """Puts octets before the end of a page's head.

    :param insert: what to put there
    :ivar found: it stands there
    """

    __slots__ = ("_deep", "_element", "_fresh", "_held", "_hidden", "_in", "_insert", "_quote", "found")

    def __init__(self, insert: bytes) -> None:
        self._insert = insert
        self._held = b""
        self._in = _In.PAGE
        self._quote = b""
        self._element = b""
        self._deep = 0  # of the same in one another, of which the inner ones' ends are not its end
        self._hidden = False  # in a comment of a script
        self._fresh = False  # nothing but the beginning of a comment was there
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """A piece of the page.

        :returns: as much of it as can go on, with the insertion in it where it belongs there; a few octets, at most a
            tag's name, may wait for the next piece
        """
        if self._in is _In.DONE:
            return data
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            if self._in is _In.PAGE:
                found = data.find(b"<", at)
                if found < 0:
                    return data
                match = _OPENING.match(data, found)
                if len(data) - found < _LONGEST and _may_grow(data[found:]):
                    self._held = data[found:]
                    return data[:found]
                if match is None:
                    at = found + 1
                elif match["end"] is not None or match["body"] is not None:
                    self._in = _In.DONE
                    self.found = True
                    return data[:found] + self._insert + data[found:]
                else:
                    at = self._enter(match)
            else:
                keep = 0
                at, keep = self._skip(data, at)
                if keep:
                    self._held = data[-keep:]
                    return data[:-keep]
        return data

    def finish(self) -> bytes:
        """What still waited."""
        held, self._held = self._held, b""
        return held

    def _enter(self, match: re.Match[bytes]) -> int:
        """Something begins that means nothing here.

        :returns: where to go on
        """
        if match["comment"] is not None:
            self._in = _In.COMMENT
            self._fresh = True
            return match.end() - 2  # <!--> is a comment, and its own end
        if match["declaration"] is not None:
            self._in = _In.DECLARATION
        else:
            self._in = _In.TAG
            text = match["text"]
            self._element = b"" if text is None else text.lower()
        return match.end()

    def _skip(self, data: bytes, at: int) -> tuple[int, int]:
        """Go over it.

        :returns: where to go on, and how many octets at the end have to wait for more
        """
        where = self._in
        if where is _In.TAG:
            return self._until(_IN_TAG, data, at)
        if where is _In.VALUE:
            match = _SPACE.match(data, at)
            assert match is not None
            at = match.end()
            if at < len(data):
                first = data[at : at + 1]
                if first in (b'"', b"'"):
                    self._quote = first
                    self._in = _In.QUOTED
                    at += 1
                else:
                    self._in = _In.UNQUOTED
            return at, 0
        if where is _In.QUOTED:
            found = data.find(self._quote, at)
            if found < 0:
                return len(data), 0
            self._in = _In.TAG
            return found + 1, 0
        if where is _In.UNQUOTED:
            return self._until(_VALUE_END, data, at)
        if where is _In.DECLARATION:
            found = data.find(b">", at)
            if found < 0:
                return len(data), 0
            self._in = _In.PAGE
            return found + 1, 0
        if where is _In.COMMENT:
            match = _COMMENT_END.search(data, at)
            if match is not None and self._fresh and match.start() == at and match[0] == b"--!>":
                match = _COMMENT_END.search(data, at + 2)  # <!--!> is no end of what it begins
            if match is None:
                self._fresh = self._fresh and len(data) - at <= 3
                return len(data), min(3, len(data) - at)
            self._in = _In.PAGE
            return match.end(), 0
        return self._skip_text(data, at)

    def _until(self, pattern: re.Pattern[bytes], data: bytes, at: int) -> tuple[int, int]:
        match = pattern.search(data, at)
        if match is None:
            return len(data), 0
        if match[0] == b">":
            self._in = _In.TEXT if self._element else _In.PAGE
        else:
            self._in = _In.VALUE if match[0] == b"=" else _In.TAG
        return match.end(), 0

    def _skip_text(self, data: bytes, at: int) -> tuple[int, int]:
        element = self._element
        match = _TEXT_END[element].search(data, at)
        if match is None:
            parts = _TEXT_PARTS[element]
            for keep in range(min(len(parts[0]), len(data) - at), 0, -1):
                end = data[-keep:].lower()
                if any(part.startswith(end) for part in parts):
                    return len(data), keep
            return len(data), 0
        kind = match.lastgroup
        if kind == "hide":
            self._hidden = True
            return match.end() - 2, 0  # as a comment of the page: its end may begin with its own dashes
        if kind == "show":
            self._hidden, self._deep = False, 0
        elif kind == "begin":
            # a script in a script counts where that hides it (HTML, §13.2.5.27), and only once
            if element == b"template" or self._hidden:
                self._deep = self._deep + 1 if element == b"template" else 1
        elif self._deep:
            self._deep -= 1
        else:
            self._element, self._hidden = b"", False
            self._in = _In.TAG
        return match.end(), 0


def _may_grow(begun: bytes) -> bool:
    """Whether a ``<`` and what has come behind it may become one of those that matter."""
    lower = begun.lower()
    return any(wanted.startswith(lower) for wanted in _WANTED)
