"""What was worked out for a head, kept for the next one that is the same octet for octet.

A client on a kept connection says the same again and again, and so does a service: a poller's requests differ in
nothing, a busy service's answers in the second of their ``Date``.  A verdict on octets depends on nothing but the
octets (and the limits), so it is looked up; and what is derived from a head that came before (``head.common``) is kept
beside it.  Memos are bounded and emptied when they are full: a visitor whose heads never repeat costs a miss each.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["MAX_HEAD", "MAX_HEADS", "remember"]

MAX_HEADS = 512
"""Entries of one memo: some seconds of a busy edge."""

MAX_HEAD = 2048
"""Octets of a head that is kept; with its parsed form about 8 KB, so that a full memo is 4 MB at most."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def remember(memo: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Put a value into a memo, which is emptied before where it is full."""
    if len(memo) >= MAX_HEADS:
        memo.clear()
    memo[key] = value
