"""Records on PyPy and records on CPython: the same tables and messages, through both, with the same outcome."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.control._sample import sample
from wormhole_tw import pure_convert, pure_structs, structs
from wormhole_tw.control import schema, tables
from wormhole_tw.errors import ConfigError, MisuseError, TunnelProtocolError
from wormhole_tw.wire import messages

needs_both = pytest.mark.skipif(sys.implementation.name == "pypy", reason="compares with msgspec, which PyPy lacks")

REBUILT = ("wormhole_tw.control", "wormhole_tw.wire")


def _descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def _rebuilt(*names: str) -> list[ModuleType]:
    """Modules of the package once more, with the records of PyPy."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(REBUILT)}
    sys.modules["wormhole_tw.structs"] = both = ModuleType("wormhole_tw.structs")
    vars(both).update(vars(pure_structs) | vars(pure_convert))
    parents = {name: vars(sys.modules["wormhole_tw"]).get(name.rpartition(".")[2]) for name in REBUILT}
    try:
        made = [importlib.import_module(name) for name in names]
        for kind in _descendants(pure_structs.Struct):
            # annotations are texts until they are asked for, and mean what stands in the module then
            assert all(field.type is not None for field in pure_structs.fields(kind))
        return made
    finally:
        for name in list(sys.modules):
            if name.startswith(REBUILT):
                del sys.modules[name]
        sys.modules["wormhole_tw.structs"] = structs
        sys.modules.update(before)
        for name, module in parents.items():
            setattr(sys.modules["wormhole_tw"], name.rpartition(".")[2], module)


PURE_MESSAGES, PURE_SCHEMA, PURE_TABLES = _rebuilt(
    "wormhole_tw.wire.messages", "wormhole_tw.control.schema", "wormhole_tw.control.tables"
)

KINDS = ["Hello", "Welcome", "Status", "Open", "Opened", "Reset", "Goaway"]

GOOD: dict[str, dict[str, Any]] = {
    "Hello": {
        "role": "agent",
        "versions": [1, 2],
        "token": "wh_x",
        "instance": bytes(16),
        "slot": 3,
        "generation": 7,
        "previous": "draining",
        "release": {"id": "r1", "vcs_revision_message": "é"},
        "services": [{}, {"name": "ssh", "kinds": ["tcp"]}],
        "hostname": "app.example.test",
    },
    "Welcome": {"session": "s", "urls": ["https://a/"], "limits": {"max_streams": 1}, "timers": {"drain": 1}},
    "Status": {"ready": False, "reason": "starting"},
    "Open": {"kind": "tcp", "dedicated": True, "visitor": {"address": "::1", "port": 1, "tls": {"version": "x"}}},
    "Opened": {"address": "127.0.0.1:80"},
    "Reset": {"code": 1, "message": "no", "delivered": False},
    "Goaway": {"code": 0, "message": "bye", "last_stream_id": 2**32 - 1, "retry_after": 1.5},
}

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, 16384, 65535, 65536, 2**31 - 1, 2**31])
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def plain(value: Any) -> Any:
    """A record, however it was made, as what it holds; NaN is itself."""
    if hasattr(type(value), "__struct_fields__"):
        return {entry.name: plain(getattr(value, entry.name)) for entry in _fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return repr(value) if isinstance(value, float) else value


def _fields(value: Any) -> tuple[Any, ...]:
    return (pure_structs if isinstance(value, pure_structs.Struct) else structs).fields(value)


def decoded(module: Any, kind: str, payload: bytes) -> Any:
    try:
        return plain(module.decode(getattr(module, kind), payload))
    except TunnelProtocolError as error:
        return error.code, str(error)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a message where something else could stand."""
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*path, index))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = put(copied[path[0]], path[1:], other)
    return copied


@needs_both
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_message_is_the_same_through_both(kind: str) -> None:
    payload = pure_convert.msgpack.encode(GOOD[kind])
    theirs = decoded(messages, kind, payload)
    assert isinstance(theirs, dict), theirs
    assert decoded(PURE_MESSAGES, kind, payload) == theirs
    # and one reads what the other wrote
    for writer, reader in ((messages, PURE_MESSAGES), (PURE_MESSAGES, messages)):
        written = writer.encode(writer.decode(getattr(writer, kind), payload))  # type: ignore[attr-defined]
        assert decoded(reader, kind, written) == theirs
    assert len(PURE_MESSAGES.encode(PURE_MESSAGES.decode(getattr(PURE_MESSAGES, kind), payload))) == len(
        messages.encode(messages.decode(getattr(messages, kind), payload))
    )


@needs_both
@settings(max_examples=300)
@given(st.data())
def test_a_message_with_something_else_in_one_place(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    where = data.draw(st.sampled_from(list(places(GOOD[kind]))))
    payload = pure_convert.msgpack.encode(put(GOOD[kind], where, data.draw(VALUES)))
    assert decoded(PURE_MESSAGES, kind, payload) == decoded(messages, kind, payload)


@needs_both
@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.binary(max_size=40), st.integers(0, 200), st.integers(0, 255))
def test_octets_that_are_no_message(kind: str, noise: bytes, at: int, octet: int) -> None:
    payload = bytearray(pure_convert.msgpack.encode(GOOD[kind]))
    payload[at % len(payload)] = octet
    for broken in (noise, bytes(payload), bytes(payload[: at % len(payload)])):
        ours, theirs = decoded(PURE_MESSAGES, kind, broken), decoded(messages, kind, broken)
        # what is no msgpack has no place to name; what is, has the same
        assert type(ours) is type(theirs), (ours, theirs, broken)
        assert ours == theirs or (isinstance(ours, tuple) and ours[0] == theirs[0]), (ours, theirs, broken)


@needs_both
@settings(max_examples=200)
@given(
    st.sampled_from(["edge", "tls", "limits", "backends", "sites", "edge.listeners", "limits.head", "tls.mode", "x"])
    | st.sampled_from(["sites.0.routes.0", "sites.0.limits", "sites.0.error_pages", "sites.0.security", "access_log"])
    | st.sampled_from(["backends.0.balance", "backends.0.balance.weights", "backends.0.retries", "backends.0.health"]),
    VALUES,
)
def test_a_table_is_taken_or_refused_in_the_same_words(dotted: str, value: Any) -> None:
    raw = sample(**{dotted: value})
    outcomes = []
    for checker, kind in ((schema, tables), (PURE_SCHEMA, PURE_TABLES)):
        try:
            outcomes.append(plain(checker.check_table(raw, kind.EdgeFile, "f")))  # type: ignore[attr-defined]
        except ConfigError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


# the records themselves


class Point(pure_structs.Struct, frozen=True):
    x: int
    y: Annotated[int, pure_structs.Meta(gt=0, lt=10)] = 1
    tags: list[str] = []


class Loose(pure_structs.Struct, kw_only=True, forbid_unknown_fields=True):
    a: int | str = 0
    b: dict[str, float] | None = None
    c: Any = None


def test_records_are_values() -> None:
    point = Point(1)
    assert (point.x, point.y, point.tags) == (1, 1, [])
    assert point == Point(1, 1, [])
    assert point != Point(2)
    assert point != (1, 1, [])
    assert point.tags is not Point(1).tags
    assert repr(point) == "Point(x=1, y=1, tags=[])"
    assert pure_structs.replace(point, x=5) == Point(5)
    assert point.__struct_fields__ == ("x", "y", "tags")
    with pytest.raises(AttributeError, match="immutable type: 'Point'"):
        point.x = 2  # type: ignore[misc]
    hash(Pair(1))
    loose = Loose(a="x")
    loose.a = 5
    assert loose.a == 5
    with pytest.raises(TypeError, match="unhashable"):
        hash(loose)


class Pair(pure_structs.Struct, frozen=True):
    x: int


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Point(), "Missing required argument 'x'"),
        (lambda: Point(1, 2, [], 4), "Extra positional arguments provided"),
        (lambda: Loose(1), "Extra positional arguments provided"),
        (lambda: Point(1, x=1), "Argument 'x' given by name and position"),
        (lambda: Point(1, z=1), "Unexpected keyword argument 'z'"),
    ],
)
def test_records_take_their_fields_and_no_others(make: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ({"x": "1"}, Point, "Expected `int`, got `str` - at `$.x`"),
        ({"x": True}, Point, "Expected `int`, got `bool` - at `$.x`"),
        ({"x": 1, "y": 0}, Point, "Expected `int` > 0 - at `$.y`"),
        ({"x": 1, "y": 10}, Point, "Expected `int` < 10 - at `$.y`"),
        ({"x": 1, "tags": ["a", 1]}, Point, "Expected `str`, got `int` - at `$.tags[1]`"),
        ({}, Point, "Object missing required field `x`"),
        ([], Point, "Expected `object`, got `array`"),
        ({"d": 1}, Loose, "Object contains unknown field `d`"),
        ({"a": 1.5}, Loose, "Expected `int | str`, got `float` - at `$.a`"),
        ({"b": {"k": "v"}}, Loose, "Expected `float`, got `str` - at `$.b[...]`"),
        ({"b": []}, Loose, "Expected `object | null`, got `array` - at `$.b`"),
        ({"a": None}, Loose, "Expected `int | str`, got `null` - at `$.a`"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value: Any, kind: Any, text: str) -> None:
    with pytest.raises(pure_structs.ValidationError) as caught:
        pure_convert.convert(value, kind)
    assert str(caught.value) == text


@dataclasses.dataclass
class Order:
    names: tuple[str, ...]
    shown: tuple[str, int] = ("", 0)
    later: dict[str, Pair] = dataclasses.field(default_factory=dict)


def test_dataclasses_and_tuples_too() -> None:
    for convert in (pure_convert.convert, structs.convert):
        assert convert({"names": ["a", "b"], "shown": ["x", 2], "more": 1}, Order) == Order(("a", "b"), ("x", 2))
    for value, text in (
        ({}, "Object missing required field `names`"),
        ({"names": 1}, "Expected `array`, got `int` - at `$.names`"),
        ({"names": [1]}, "Expected `str`, got `int` - at `$.names[0]`"),
        ({"names": [], "shown": ["x"]}, "Expected `array` of length 2"),
        ([], "Expected `object`, got `array`"),
    ):
        for convert, error in (
            (pure_convert.convert, pure_structs.ValidationError),
            (structs.convert, structs.ValidationError),
        ):
            with pytest.raises(error) as caught:
                convert(value, Order)
            assert str(caught.value).startswith(text), convert
    assert pure_convert.convert({"names": [], "later": {"k": {"x": 1}}}, Order).later == {"k": Pair(1)}


def test_what_is_right_is_taken() -> None:
    made = pure_convert.convert({"a": "s", "b": {"k": 1}, "c": [object]}, Loose)
    assert (made.a, made.b, made.c) == ("s", {"k": 1.0}, [object])
    assert pure_convert.convert(Pair(3), Pair) == Pair(3)


def test_a_message_that_is_too_long_or_out_of_range_is_our_own_mistake() -> None:
    with pytest.raises(MisuseError):
        PURE_MESSAGES.encode(PURE_MESSAGES.Goaway(code=-1))
