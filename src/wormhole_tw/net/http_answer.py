"""The head of an HTTP answer, read with a limit: what a proxy says to CONNECT, or a server to an Upgrade."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MAX_ANSWER", "AnswerHead", "AnswerReader"]

MAX_ANSWER = 16 * 1024
"""Octets of a head, interim ones before it counted too: what browsers and proxies allow."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: ([^\r\n]*))?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHOWN = 100
_SWITCHING = 101


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """A final answer's head, or that of a 101.

    :ivar status: 101, or 200 to 999
    :ivar fields: name in lower case → value; the values of several fields of one name are joined by commas
    """

    status: int
    reason: str
    fields: dict[str, str]

    def __str__(self) -> str:
        """``403 Forbidden``, fit for a log: printable ASCII, at most a line."""
        reason = "".join(char for char in self.reason if " " <= char <= "~")[:_SHOWN].strip()
        return f"{self.status} {reason}" if reason else str(self.status)


class AnswerReader:
    """Reads one head (RFC 9112 §4); interim answers but 101 are passed over.

    :ivar rest: what came behind the head, once that is whole
    """

    __slots__ = ("_data", "_passed", "rest")

    def __init__(self) -> None:
        self._data = b""
        self._passed = 0
        self.rest = b""

    def feed(self, data: bytes) -> AnswerHead | None:
        """Take what came; gives the head once it is whole.

        :raises ValueError: it is no HTTP, or the head is too long; one sentence that repeats nothing of it
        """
        self._data += data
        while True:
            if not self._data.startswith(b"HTTP/1."[: len(self._data)]):
                raise ValueError("it is not HTTP/1")
            end = self._data.find(b"\r\n\r\n")
            size, gap = end, 4
            bare = self._data.find(b"\n\n")
            if bare >= 0 and (end < 0 or bare < end):
                size, gap = bare, 2  # RFC 9112 §2.2: a single LF may end a line
            if size < 0 or size + self._passed > MAX_ANSWER:
                if len(self._data) + self._passed > MAX_ANSWER:
                    raise ValueError(f"its head is longer than {MAX_ANSWER} octets")
                return None
            head = _parse(self._data[:size])
            self._data = self._data[size + gap :]
            self._passed += size + gap
            if head.status >= 200 or head.status == _SWITCHING:
                self.rest, self._data = self._data, b""
                return head
            if not self._data:
                return None


def _parse(head: bytes) -> AnswerHead:
    first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise ValueError("its status line is not valid")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:
            raise ValueError("a header field is not valid")
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return AnswerHead(int(status[1]), (status[2] or b"").decode("latin-1"), fields)
