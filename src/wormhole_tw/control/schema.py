"""From the plain dicts of a TOML file to typed structs, with errors that an operator can act on.

msgspec does the types; this module finds unknown keys first (with the key they probably mean), puts the path of the
key in front, and says it in the file's words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Struct, ValidationError, convert, fields

__all__ = ["check_table", "closest", "place"]

T = TypeVar("T", bound=Struct)

_AT = re.compile(r" - at `(\$[^`]*)`$")
_TYPES = re.compile(r"`([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

#: msgspec's words for types → TOML's.
_WORDS = {
    "object": "a table",
    "array": "a list",
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def closest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that a misspelt one probably means, or None."""
    matches = get_close_matches(word.lower(), list(known), n=1, cutoff=0.7)
    return matches[0] if matches else None


def place(raw: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """Give a copy of ``raw`` with each value put at its dotted key (``edge.state``); missing tables are made.

    A table that is no table stays as it is, so that its own error is reported.
    """
    result = dict(raw)
    for dotted, value in values.items():
        *tables, last = dotted.split(".")
        target = result
        for name in tables:
            inner = target.get(name, {})
            if not isinstance(inner, Mapping):
                break
            target[name] = copy = dict(inner)
            target = copy
        else:
            target[last] = value
    return result


def check_table(raw: Mapping[str, object], kind: type[T], source: str) -> T:
    """Convert a table into a struct.

    :raises ConfigError: an unknown key, a missing one, or a value of the wrong type or out of bounds; values that were
        given are never repeated, for one may be a secret in the wrong place
    """
    _check(raw, kind, "$", source)
    try:
        return convert(raw, kind)
    except ValidationError as error:
        raise _translate(str(error), source) from None


@cache
def _hints(kind: type[Struct]) -> Mapping[str, Any]:
    """The types of a struct's fields by their names; they are text before, and ten thousand sites ask for them."""
    return {field.encode_name: field.type for field in fields(kind)}


def _check(raw: object, kind: Any, path: str, source: str) -> None:
    """Walk over what :func:`convert` would refuse with fewer words: unknown keys, wrong choices, infinities."""
    origin = get_origin(kind)
    if origin in (Annotated, Union, UnionType):
        # of alternatives, the first that is not "null"
        _check(raw, next(option for option in get_args(kind) if option is not NoneType), path, source)
    elif isinstance(kind, type) and issubclass(kind, Struct) and isinstance(raw, Mapping):
        hints = _hints(kind)
        for name, value in raw.items():
            where = f"{path}.{name if _BARE_KEY.fullmatch(name) else repr(name)}"
            if name not in hints:
                guess = closest(name, hints)
                raise ConfigError(source, where, "unknown key" + (f"; did you mean {guess}?" if guess else ""))
            _check(value, hints[name], where, source)
    elif origin is list and isinstance(raw, list):
        for index, value in enumerate(raw):
            _check(value, get_args(kind)[0], f"{path}[{index}]", source)
    elif origin is dict and isinstance(raw, Mapping):
        # a table whose keys the operator makes up: convert() would not say which of them it is
        for name, value in raw.items():
            where = f"{path}.{name if _BARE_KEY.fullmatch(name) else repr(name)}"
            _check(value, get_args(kind)[1], where, source)
            try:
                convert(value, get_args(kind)[1])
            except ValidationError as error:
                raise ConfigError(source, where, _translate(str(error), source).reason) from None
    elif origin is Literal and raw not in get_args(kind):
        choices = ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in sorted(get_args(kind)))
        raise ConfigError(source, path, f"expected one of {choices}")
    elif kind is float and isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(source, path, "expected a finite number")


def _translate(message: str, source: str) -> ConfigError:
    path = "$"
    if match := _AT.search(message):
        path = match[1]
        message = message[: match.start()]
    if missing := _MISSING.fullmatch(message):
        return ConfigError(source, f"{path}.{missing[1]}", "missing")
    return ConfigError(source, path, _TYPES.sub(_say_types, message).replace("Expected", "expected", 1))


def _say_types(match: re.Match[str]) -> str:
    # What may be left out shows as "| null", which nobody can write in TOML.
    return " or ".join(_WORDS.get(word, word) for word in match[1].split(" | ") if word != "null")
