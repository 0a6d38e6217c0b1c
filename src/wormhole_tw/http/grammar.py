"""Small pieces of RFC 9110's grammar, and the classification of field names that everything here shares.

A name is classified once by its lower-case form; names as they are spelt on the wire are then looked up in a bounded
memo, because a few hundred spellings make up all traffic.
"""

from __future__ import annotations

import re
from functools import lru_cache

from wormhole_tw.http.events import Fields

__all__ = [
    "CONNECTION",
    "CONTENT_LENGTH",
    "CR",
    "EXPECT",
    "FORBIDDEN_TRAILERS",
    "HASH",
    "HOST",
    "LF",
    "MAX_LEARNED_LENGTH",
    "MAX_LEARNED_NAMES",
    "NUL",
    "PLAIN",
    "SPACE",
    "TAB",
    "TE_TRAILERS",
    "TOKEN",
    "TRANSFER_ENCODING",
    "UPGRADE",
    "is_token",
    "judged_fields",
    "kind_of",
    "list_members",
]

NUL, TAB, LF, CR, SPACE, HASH = b"\0\t\n\r #"
"""Octets as numbers: whether one of them is in others costs Python a seventh of what a string of one octet does."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110 §5.6.2"""

_TOKEN = re.compile(TOKEN)

MAX_LEARNED_NAMES = 2048
"""Spellings that the memo holds.  At most 64 octets each, so a visitor who invents names costs 300 KB at most."""

MAX_LEARNED_LENGTH = 64


FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"www-authenticate",
    }
)
"""Framing, routing, authentication and control never stand in trailers: such lines are dropped (RFC 9110 §6.5.1)."""

TE_TRAILERS = (b"TE", b"trailers")
"""The only form in which TE goes to an origin (RFC 9110 §10.1.4)."""


PLAIN = 0
HOST = 1
CONTENT_LENGTH = 2
TRANSFER_ENCODING = 3
CONNECTION = 4
UPGRADE = 5
EXPECT = 6
"""The names that the codecs judge; everything else is PLAIN.  Plain numbers, for they are looked up for every field."""

_JUDGED = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
}

_memo: dict[bytes, int] = {}


def kind_of(name: bytes) -> int:
    """The kind of a field by its name, in any spelling."""
    kind = _memo.get(name)
    if kind is None:
        kind = _JUDGED.get(name.lower(), PLAIN)
        if len(name) <= MAX_LEARNED_LENGTH:
            if len(_memo) >= MAX_LEARNED_NAMES:
                _memo.clear()
            _memo[name] = kind
    return kind


def judged_fields(fields: Fields) -> list[tuple[int, tuple[bytes, bytes]]]:
    """The lines whose names the codecs judge, with their kinds, in order."""
    learned = _memo.get
    return [(kind, line) for line in fields if learned(line[0], -1) and (kind := kind_of(line[0]))]


def is_token(value: bytes) -> bool:
    """Whether the value is one token."""
    return _TOKEN.fullmatch(value) is not None


def list_members(value: bytes) -> tuple[bytes, ...]:
    """The members of a comma-separated list of tokens, lower-case; empty ones are skipped (RFC 9110 §5.6.1)."""
    return _common_members(value) if len(value) <= MAX_LEARNED_LENGTH else _members(value)


def _members(value: bytes) -> tuple[bytes, ...]:
    return tuple([member for part in value.lower().split(b",") if (member := part.strip(b" \t"))])


_common_members = lru_cache(maxsize=256)(_members)
