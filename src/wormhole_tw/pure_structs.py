"""What :mod:`wormhole_tw.structs` is on PyPy: the part of msgspec that is used here, in Python, with its messages.

Records are classes with annotations. :mod:`wormhole_tw.pure_convert` makes them of tables and messages, and
``tests/test_structs.py`` compares both with msgspec.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar, get_type_hints

__all__ = [
    "NODEFAULT",
    "DecodeError",
    "Meta",
    "MsgspecError",
    "Struct",
    "ValidationError",
    "field",
    "fields",
    "hints_of",
    "replace",
]


class MsgspecError(Exception):
    """Whatever is wrong with what is converted."""


class DecodeError(MsgspecError):
    """What should be msgpack is not."""


class ValidationError(DecodeError):
    """A value of the wrong type, out of bounds, or missing; the text says where."""


class _NoDefault:
    def __repr__(self) -> str:
        return "NODEFAULT"


NODEFAULT: Any = _NoDefault()
"""A field without a default."""


class Meta:
    """Constraints of a type: ``Annotated[int, Meta(ge=0)]``."""

    __slots__ = ("ge", "gt", "le", "lt", "max_length", "min_length", "pattern")

    def __init__(
        self,
        *,
        gt: float | None = None,
        ge: float | None = None,
        lt: float | None = None,
        le: float | None = None,
        pattern: str | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self.gt = gt
        self.ge = ge
        self.lt = lt
        self.le = le
        self.pattern = pattern
        self.min_length = min_length
        self.max_length = max_length


class Field:
    """One field of a record: its name, type and default (or what makes one)."""

    __slots__ = ("_factory", "_owner", "default", "encode_name", "name")

    def __init__(self, name: str, default: Any, factory: Any, owner: type) -> None:
        self.name = self.encode_name = name
        self.default = default
        self._factory = factory
        self._owner = owner

    @property
    def default_factory(self) -> Any:
        return self._factory

    @property
    def type(self) -> Any:
        return hints_of(self._owner)[self.name]

    @property
    def required(self) -> bool:
        return self.default is NODEFAULT and self._factory is NODEFAULT

    def is_default(self, value: Any) -> bool:
        """Whether a value may be left out: it is the default, or empty as that is. What a factory makes is not."""
        if self.default is not NODEFAULT:
            return bool(value == self.default)
        return self._factory in (list, dict, set) and not value

    def make(self) -> Any:
        """A default of this field's own."""
        return self.default if self._factory is NODEFAULT else self._factory()


class _Default:
    __slots__ = ("default", "factory")

    def __init__(self, default: Any, factory: Any) -> None:
        self.default = default
        self.factory = factory


def field(*, default: Any = NODEFAULT, default_factory: Any = NODEFAULT) -> Any:
    """A field's default, or what makes one."""
    return _Default(default, default_factory)


class _StructType(type):
    __struct_entries__: tuple[Field, ...]
    __struct_fields__: tuple[str, ...]
    __struct_config__: SimpleNamespace

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        frozen: bool = False,
        kw_only: bool = False,
        forbid_unknown_fields: bool = False,
        omit_defaults: bool = False,
    ) -> _StructType:
        made = super().__new__(cls, name, bases, namespace)
        known: dict[str, Field] = {
            entry.name: entry for base in reversed(bases) for entry in getattr(base, "__struct_entries__", ())
        }
        for key, hint in namespace.get("__annotations__", {}).items():
            if "ClassVar" not in str(hint):
                known[key] = _field_of(key, namespace.get(key, NODEFAULT), made)
        made.__struct_entries__ = tuple(known.values())
        made.__struct_fields__ = tuple(known)
        made.__struct_config__ = SimpleNamespace(
            frozen=frozen, kw_only=kw_only, forbid_unknown_fields=forbid_unknown_fields, omit_defaults=omit_defaults
        )
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_options: bool) -> None:
        super().__init__(name, bases, namespace)


def _field_of(name: str, default: Any, owner: type) -> Field:
    if isinstance(default, _Default):
        return Field(name, default.default, default.factory, owner)
    if isinstance(default, (list, dict, set)):
        return Field(name, NODEFAULT, type(default), owner)  # an empty one, and each record its own
    return Field(name, default, NODEFAULT, owner)


class Struct(metaclass=_StructType):
    """A record with the fields that its class is annotated with."""

    __struct_entries__: ClassVar[tuple[Field, ...]]
    __struct_fields__: ClassVar[tuple[str, ...]]
    __struct_config__: ClassVar[SimpleNamespace]

    def __init__(self, *args: Any, **values: Any) -> None:
        kind = type(self)
        entries = kind.__struct_entries__
        if args:
            if kind.__struct_config__.kw_only or len(args) > len(entries):
                raise TypeError("Extra positional arguments provided")
            for entry, value in zip(entries, args, strict=False):
                if entry.name in values:
                    raise TypeError(f"Argument '{entry.name}' given by name and position")
                values[entry.name] = value
        put = object.__setattr__
        for entry in entries:
            if entry.name in values:
                put(self, entry.name, values.pop(entry.name))
            elif entry.required:
                raise TypeError(f"Missing required argument '{entry.name}'")
            else:
                put(self, entry.name, entry.make())
        if values:
            raise TypeError(f"Unexpected keyword argument '{next(iter(values))}'")

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self).__struct_config__.frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, entry.name) == getattr(other, entry.name) for entry in self.__struct_entries__)

    def __hash__(self) -> int:
        if not type(self).__struct_config__.frozen:
            raise TypeError(f"unhashable type: '{type(self).__name__}'")
        return hash((type(self), *(getattr(self, entry.name) for entry in self.__struct_entries__)))

    def __repr__(self) -> str:
        values = ", ".join(f"{entry.name}={getattr(self, entry.name)!r}" for entry in self.__struct_entries__)
        return f"{type(self).__name__}({values})"


def fields(kind: Any) -> tuple[Field, ...]:
    """The fields of a record or its class."""
    found: tuple[Field, ...] = kind.__struct_entries__
    return found


def replace(record: Any, /, **changes: Any) -> Any:
    """A copy with other values; unchecked, as making a record is."""
    values = {entry.name: getattr(record, entry.name) for entry in record.__struct_entries__}
    return type(record)(**{**values, **changes})


@lru_cache(maxsize=256)
def hints_of(kind: type) -> dict[str, Any]:
    """The types of a record's fields, or a dataclass's."""
    return get_type_hints(kind, include_extras=True)
