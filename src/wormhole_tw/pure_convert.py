"""Values of plain types, and msgpack, as records of :mod:`wormhole_tw.pure_structs`: types and constraints are checked.

No text becomes a number, ``True`` is no integer, an integer is a ``float`` too; what is wrong, and where, is said in
msgspec's words.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import operator
import re
import types
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from wormhole_tw.pure_structs import DecodeError, Meta, Struct, ValidationError, hints_of

__all__ = ["convert", "msgpack"]

_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (bytes, "bytes"),
    (list, "array"),
    (tuple, "array"),
    (dict, "object"),
    (datetime.datetime, "datetime"),
    (datetime.date, "date"),
    (datetime.time, "time"),
)

_ORDER = ("bool", "int", "float", "str", "bytes", "array", "object", "null")

_CHECKS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}


def _name_of(value: object) -> str:
    if value is None:
        return "null"
    return next((name for kind, name in _NAMES if isinstance(value, kind)), type(value).__name__)


def _at(path: str) -> str:
    return "" if path == "$" else f" - at `{path}`"


def _wrong(kind: Any, value: object, path: str) -> ValidationError:
    return ValidationError(f"Expected `{_shown(kind)}`, got `{_name_of(value)}`{_at(path)}")


def _shown(kind: Any) -> str:
    """A type in msgspec's words; of several, in its order."""
    found = set(map(_plain_name, _options(kind)))
    return " | ".join(name for name in _ORDER if name in found)


def _plain_name(kind: Any) -> str:
    if kind is type(None):
        return "null"
    origin = get_origin(kind)
    if origin in (list, tuple):
        return "array"
    if (
        origin is dict
        or dataclasses.is_dataclass(kind)
        or (isinstance(kind, type) and issubclass(kind, (Struct, dict)))
    ):
        return "object"
    if origin is Literal:
        return _name_of(get_args(kind)[0])
    return _CHECKS[kind]


def _options(kind: Any) -> Iterator[Any]:
    """A type's alternatives, without their constraints."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _options(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for option in get_args(kind):
            yield from _options(option)
    else:
        yield kind


def convert(value: Any, kind: Any, *, _path: str = "$") -> Any:
    """A value of plain types as one of ``kind``.

    :raises ValidationError: it is none
    """
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *notes = get_args(kind)
        made = convert(value, inner, _path=_path)
        for note in notes:
            if isinstance(note, Meta):
                _constrain(made, note, _path)
        return made
    if origin in (Union, types.UnionType):
        return _one_of(value, kind, _path)
    if origin is Literal:
        return _literal(value, kind, _path)
    if origin is list:
        if not isinstance(value, (list, tuple)):
            raise _wrong(kind, value, _path)
        (item,) = get_args(kind)
        return [convert(each, item, _path=f"{_path}[{index}]") for index, each in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, _path)
        of_key, of_value = get_args(kind)
        return {
            convert(key, of_key, _path=f"key in `{_path}"): convert(each, of_value, _path=f"{_path}[...]")
            for key, each in value.items()
        }
    if origin is tuple:
        return _tuple(value, kind, _path)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _record(value, kind, _path)
    if dataclasses.is_dataclass(kind):
        return _dataclass(value, kind, _path)
    return _scalar(value, kind, _path)


def _tuple(value: Any, kind: Any, path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(kind, value, path)
    kinds = get_args(kind)
    if len(kinds) == 2 and kinds[1] is ...:
        kinds = kinds[:1] * len(value)
    elif len(kinds) != len(value):
        raise ValidationError(f"Expected `array` of length {len(kinds)}{_at(path)}")
    return tuple(
        convert(each, item, _path=f"{path}[{index}]")
        for index, (each, item) in enumerate(zip(value, kinds, strict=True))
    )


def _dataclass(value: Any, kind: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, path)
    hints = hints_of(kind)
    values = {name: convert(each, hints[name], _path=f"{path}.{name}") for name, each in value.items() if name in hints}
    for entry in dataclasses.fields(kind):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in values:
            raise ValidationError(f"Object missing required field `{entry.name}`{_at(path)}")
    return kind(**values)


def _scalar(value: Any, kind: Any, path: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer() and math.isfinite(value):
        return int(value)
    if type(value) is not kind:
        raise _wrong(kind, value, path)
    if kind is str and not value.isascii():
        _see_that_it_is_text(value, path)
    return value


def _see_that_it_is_text(value: str, path: str) -> None:
    """Octets of a message that are no UTF-8 came as surrogates: they matter only where somebody reads them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DecodeError(f"Invalid UTF-8 encoded string{_at(path)}") from None


def _one_of(value: Any, kind: Any, path: str) -> Any:
    if value is None and type(None) in get_args(kind):
        return None
    name = _name_of(value)
    plain = [option for option in get_args(kind) if option is not type(None)]
    for option in plain:
        names = [_plain_name(each) for each in _options(option)]
        if name in names:
            return convert(value, option, _path=path)
    if name == "int":
        for option in plain:
            if "float" in [_plain_name(each) for each in _options(option)]:
                return convert(value, option, _path=path)
    raise _wrong(kind, value, path)


def _literal(value: Any, kind: Any, path: str) -> Any:
    choices = get_args(kind)
    if type(value) is not type(choices[0]):
        raise _wrong(kind, value, path)
    if value not in choices:
        raise ValidationError(f"Invalid enum value {value!r}{_at(path)}")
    return value


def _record(value: Any, kind: type[Struct], path: str) -> Any:
    if not isinstance(value, Mapping):
        if isinstance(value, kind):
            return value
        raise _wrong(kind, value, path)
    hints = hints_of(kind)
    values: dict[str, Any] = {}
    for name, each in value.items():
        if not isinstance(name, str):
            raise ValidationError(f"Expected `str`{_at(f'key in `{path}')}" if path != "$" else "Expected `str`")
        if name in hints:
            values[name] = convert(each, hints[name], _path=f"{path}.{name}")
        elif kind.__struct_config__.forbid_unknown_fields:
            raise ValidationError(f"Object contains unknown field `{name}`{_at(path)}")
    for entry in kind.__struct_entries__:
        if entry.required and entry.name not in values:
            raise ValidationError(f"Object missing required field `{entry.name}`{_at(path)}")
    return kind(**values)


def _constrain(value: Any, meta: Meta, path: str) -> None:
    at = _at(path)
    name = _name_of(value)
    for sign, bound, good in (
        (">=", meta.ge, operator.ge),
        (">", meta.gt, operator.gt),
        ("<=", meta.le, operator.le),
        ("<", meta.lt, operator.lt),
    ):
        if bound is not None and not good(value, bound):
            shown = float(bound) if name == "float" else bound
            raise ValidationError(f"Expected `{name}` {sign} {shown}{at}")
    if meta.min_length is not None and len(value) < meta.min_length:
        raise ValidationError(f"Expected `{name}` of length >= {meta.min_length}{at}")
    if meta.max_length is not None and len(value) > meta.max_length:
        raise ValidationError(f"Expected `{name}` of length <= {meta.max_length}{at}")
    if meta.pattern is not None and re.search(meta.pattern, value) is None:
        raise ValidationError(f"Expected `str` matching regex {meta.pattern!r}{at}")


# msgpack


class _Encoder:
    """Records, lists, maps and plain values as msgpack; a record with ``omit_defaults`` without what equals them."""

    def encode(self, value: Any) -> bytes:
        import msgpack as library

        packed: bytes = library.packb(_plain(value), use_bin_type=True)
        return packed


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        omits = type(value).__struct_config__.omit_defaults
        out = {}
        for entry in value.__struct_entries__:
            each = getattr(value, entry.name)
            if not (omits and entry.is_default(each)):
                out[entry.name] = _plain(each)
        return out
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


class _Decoder:
    """msgpack of one type."""

    def __init__(self, kind: Any = Any) -> None:
        self._kind = kind

    def decode(self, data: bytes) -> Any:
        """
        :raises DecodeError: it is no msgpack
        :raises ValidationError: it is none of this type
        """
        return convert(_unpack(data), self._kind)


def _unpack(data: bytes) -> Any:
    import msgpack as library  # only where msgspec is not: setup.cfg

    try:
        return library.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogateescape")
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - the library has many, and all say the same
        raise DecodeError(f"MessagePack data is malformed: {error}") from None


def _decode(data: bytes, type: Any = Any) -> Any:
    return _Decoder(type).decode(data)


msgpack = SimpleNamespace(Decoder=_Decoder, Encoder=_Encoder, decode=_decode, encode=_Encoder().encode)
"""As ``msgspec.msgpack``."""
