"""Small pieces of RFC 9110's grammar, and the classification of field names that everything here shares.

A name is classified once by its lower-case form; names as they are spelt on the wire are then looked up in a bounded
memo, because a few hundred spellings make up all traffic.
"""

from __future__ import annotations

import re
from enum import IntEnum

__all__ = ["MAX_LEARNED_LENGTH", "MAX_LEARNED_NAMES", "FieldKind", "is_token", "kind_of", "list_members"]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110 §5.6.2"""

_TOKEN = re.compile(TOKEN)

MAX_LEARNED_NAMES = 2048
"""Spellings that the memo holds.  At most 64 octets each, so a visitor who invents names costs 300 KB at most."""

MAX_LEARNED_LENGTH = 64


class FieldKind(IntEnum):
    """The names that the codecs judge; everything else is PLAIN."""

    PLAIN = 0
    HOST = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    UPGRADE = 5
    EXPECT = 6


_JUDGED = {
    b"host": FieldKind.HOST,
    b"content-length": FieldKind.CONTENT_LENGTH,
    b"transfer-encoding": FieldKind.TRANSFER_ENCODING,
    b"connection": FieldKind.CONNECTION,
    b"upgrade": FieldKind.UPGRADE,
    b"expect": FieldKind.EXPECT,
}

_memo: dict[bytes, FieldKind] = {}


def kind_of(name: bytes) -> FieldKind:
    """The kind of a field by its name, in any spelling."""
    kind = _memo.get(name)
    if kind is None:
        kind = _JUDGED.get(name.lower(), FieldKind.PLAIN)
        if len(name) <= MAX_LEARNED_LENGTH:
            if len(_memo) >= MAX_LEARNED_NAMES:
                _memo.clear()
            _memo[name] = kind
    return kind


def is_token(value: bytes) -> bool:
    """Whether the value is one token."""
    return _TOKEN.fullmatch(value) is not None


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list of tokens, lower-case; empty ones are skipped (RFC 9110 §5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
