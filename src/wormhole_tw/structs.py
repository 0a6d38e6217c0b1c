"""Typed records, and how they come out of TOML tables and msgpack: msgspec's, or the same in Python where it is not.

msgspec is a C extension of CPython. PyPy, on which the edge needs less than half of the CPU, has
:mod:`wormhole_tw.pure_structs` and :mod:`wormhole_tw.pure_convert` in its place: the part of msgspec that is used
here, with its messages. Both are held to the same behaviour by ``tests/test_structs.py``. Everybody takes these names
from here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = [
    "NODEFAULT",
    "Meta",
    "MsgspecError",
    "Struct",
    "ValidationError",
    "convert",
    "field",
    "fields",
    "msgpack",
    "replace",
]

if TYPE_CHECKING or sys.implementation.name != "pypy":
    from msgspec import NODEFAULT, Meta, MsgspecError, Struct, ValidationError, convert, field, msgpack
    from msgspec.structs import fields, replace
else:
    from wormhole_tw.pure_convert import convert, msgpack
    from wormhole_tw.pure_structs import (
        NODEFAULT,
        Meta,
        MsgspecError,
        Struct,
        ValidationError,
        field,
        fields,
        replace,
    )
