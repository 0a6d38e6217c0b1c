"""The vectors, the page that shows them, and the code say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.wire.links import Link, frames, joined, of
from wormhole_tw import structs
from wormhole_tw.wire import messages
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.events import LinkFailed, StreamWasReset
from wormhole_tw.wire.floods import FLOOD_LIMITS, Flood
from wormhole_tw.wire.frames import END, PREFACE, FrameParser, FrameType, encode_frame, encode_window
from wormhole_tw.wire.messages import Goaway, Hello, Limits, Open, Reset, Timers, Welcome, decode, encode
from wormhole_tw.wire.session import Session, SessionConfig, SessionState, Side
from wormhole_tw.wire.states import SESSION_TABLE, Verdict
from wormhole_tw.wire.streams import STREAM_TABLE, StreamInput, StreamState

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/vectors/wire-session.json").read_text())
INVALID = json.loads((ROOT / "tests/vectors/wire-invalid.json").read_text())
PAGE = (ROOT / "docs/protocol.md").read_text()
VALID = VECTORS["session"] + VECTORS["more"]

CLASSES: dict[str, Any] = {
    name.upper(): getattr(messages, name)
    for name in ("Hello", "Welcome", "Status", "Open", "Opened", "Reset", "Goaway")
}


def octets_of(value: str | list[Any]) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value)
    return b"".join(
        bytes.fromhex(part) if isinstance(part, str) else bytes.fromhex(part["octet"]) * part["times"] for part in value
    )


def message_of(meaning: dict[str, Any]) -> Any:
    fields = dict(meaning["fields"])
    if "instance" in fields:
        fields["instance"] = bytes.fromhex(fields["instance"])
    return structs.convert(fields, CLASSES[meaning["type"]])


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VALID, ids=named)
def test_a_vector_means_what_it_says(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    meaning = vector["meaning"]
    if meaning["type"] == "preface":
        assert data == PREFACE
        return
    parser = FrameParser(expect_preface=False)
    [(kind, stream, payload)] = parser.feed(data)
    assert stream == meaning["stream"]
    assert bool(kind & END) is meaning["end"]
    number = kind & 0x7F
    if meaning["type"] is None:
        assert number == meaning["number"]
        return
    assert FrameType(number).name == meaning["type"]
    if "fields" in meaning:
        message = message_of(meaning)
        assert decode(type(message), payload) == message
        again = encode(message)
    elif "data" in meaning:
        again = meaning["data"].encode()
    elif "increment" in meaning:
        again = payload
        assert encode_window(stream, meaning["increment"]) == data
    else:
        again = bytes.fromhex(meaning["opaque"])
    assert (encode_frame(kind, stream, again) == data) is vector["reencodes"]


def test_the_page_shows_the_vectors_and_nothing_else() -> None:
    examples = PAGE[PAGE.index("## Examples") :]
    shown = []
    for block in re.findall(r"```text\n(.*?)```", examples, re.DOTALL):
        shown.append("".join(re.sub("#.*", "", block).split()))
    assert shown == [vector["hex"] for vector in VALID]
    fields = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", examples, re.DOTALL)]
    assert fields == [vector["meaning"]["fields"] for vector in VALID if "fields" in vector["meaning"]]


def test_two_sessions_say_the_session_of_the_page() -> None:
    hello, welcome, opened, refusal = (
        message_of(next(v for v in VALID if v["name"] == name)["meaning"])
        for name in ("hello", "welcome", "open-tcp", "reset-refused")
    )
    link = Link(SessionConfig(max_streams=1024))
    agent, edge = link.dialler, link.acceptor
    said: list[tuple[str, bytes]] = []

    def flush() -> None:
        for source, target, direction in (
            (agent, edge, "dialler to acceptor"),
            (edge, agent, "acceptor to dialler"),
        ):
            if data := joined(source.data_to_send(1 << 20)):
                said.append((direction, data))
                assert of(LinkFailed, target.receive_data(data, 0.0)) == []

    agent.hello(hello, 0.0)
    flush()
    edge.welcome(welcome, 0.0)
    flush()
    agent.set_status(True)
    flush()
    edge.open(Open(kind="http"), 0.0)
    edge.send(1, b"GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n")
    flush()
    agent.accept(1)
    agent.send(1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    flush()
    agent.send(1, b"hi")
    agent.end(1)
    flush()
    edge._outbox.grant(1, 32768)
    flush()
    edge.end(1)
    flush()
    edge.open(opened, 0.0)
    flush()
    agent.reset(3, refusal.code, refusal.message, delivered=False)
    flush()
    edge.handle_timer(5.0)
    flush()
    flush()
    agent.goaway(GoawayCode.NORMAL, "shutting down", 0.0)
    flush()
    for direction in ("dialler to acceptor", "acceptor to dialler"):
        ours = b"".join(data for way, data in said if way == direction)
        page = bytes.fromhex("".join(v["hex"] for v in VECTORS["session"] if v["direction"] == direction))
        if direction == "dialler to acceptor":
            assert ours == page
        else:
            # a session fills timers in, here a map of nothing but defaults
            [first, *rest], [shown, *others] = frames(ours), frames(page)
            assert decode(Welcome, first[2]) == decode(Welcome, shown[2]) == welcome
            assert rest == others


def receiver(vector: dict[str, Any]) -> Session:
    if vector["state"] == "start":
        assert vector["receiver"] == "acceptor"
        return Session(Side.ACCEPTOR, config=SessionConfig(), now=0.0)
    if vector["state"] == "hello said":
        session = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
        session.hello(message_of(next(v for v in VALID if v["name"] == "hello")["meaning"]), 0.0)
        session.data_to_send(1 << 20)
        return session
    link = Link().greet()
    return link.acceptor if vector["receiver"] == "acceptor" else link.dialler


@pytest.mark.parametrize("vector", INVALID["cases"], ids=named)
@pytest.mark.parametrize("step", [1 << 20, 1])
def test_what_must_be_refused(vector: dict[str, Any], step: int) -> None:
    session = receiver(vector)
    data = octets_of(vector["hex"])
    events = []
    for start in range(0, len(data), step):
        events += session.receive_data(data[start : start + step], 0.0)
    parser = FrameParser(expect_preface=False)
    sent = parser.feed(joined(session.data_to_send(1 << 20)))
    expect = vector["expect"]
    failed = of(LinkFailed, events)
    if "link" in expect:
        assert [GoawayCode(event.error.code).name for event in failed] == [expect["link"]]
        codes = [decode(Goaway, payload).code for kind, _, payload in sent if kind == FrameType.GOAWAY]
        assert codes == ([GoawayCode[expect["link"]]] if expect.get("goaway", True) else [])
        assert session.over
        return
    assert failed == []
    assert session.state.stands
    replies = [
        [stream, ResetCode(reset.code).name, reset.delivered]
        for stream, reset in [(s, decode(Reset, p)) for kind, s, p in sent if kind == FrameType.RESET]
    ]
    assert replies == ([expect["reset"]] if "reset" in expect else [])
    assert session.state in (SessionState.OPEN, SessionState.DRAINING)
    assert len(of(StreamWasReset, events)) <= 1


# The page's tables against the code.


def rows(heading: str, *, skip: int = 0) -> list[list[str]]:
    """The rows of a table: the first behind this text."""
    text = PAGE[PAGE.index(heading) :]
    found = []
    for line in text.splitlines():
        if line.startswith("|"):
            found.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif found:
            break
    return found[2:]


def test_types_and_codes() -> None:
    assert [(int(row[0]), row[1]) for row in rows("| type | name | payload")] == [(t.value, t.name) for t in FrameType]
    goaway = rows("| GOAWAY | name")
    assert [(int(row[0]), row[1], row[2] == "yes") for row in goaway] == [
        (c.value, c.name, c.drains) for c in GoawayCode
    ]
    assert [(int(row[0]), row[1]) for row in rows("| RESET | name")] == [(c.value, c.name) for c in ResetCode]


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("### HELLO", Hello),
        ("### WELCOME", Welcome),
        ("| `limits` |", Limits),
        ("| `timers` |", Timers),
        ("### STATUS", messages.Status),
        ("### OPEN\n", Open),
        ("| `visitor` |", messages.Visitor),
        ("### OPENED", messages.Opened),
        ("### RESET", Reset),
        ("### GOAWAY", Goaway),
        ("Each entry of `services`", messages.Service),
    ],
)
def test_fields_and_defaults(heading: str, cls: Any) -> None:
    said = {row[0]: row[2] for row in rows(heading)}
    fields = {field.name: field for field in structs.fields(cls)}
    assert list(said) == list(fields)
    words = {"": "empty", None: "nil", True: "true", False: "false"}
    for name, field in fields.items():
        if field.required:
            assert said[name] == "required"
        elif field.default is not structs.NODEFAULT and not isinstance(field.default, structs.Struct):
            default = field.default
            named_so = default is None or (isinstance(default, bool | str) and not default) or default is True
            spelled = words[default] if named_so else str(default)
            assert said[name] == spelled, name


def test_release_fields() -> None:
    text = PAGE[PAGE.index("`release`, every field") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", text)) - {"release"} == {f.name for f in structs.fields(messages.Release)}


def test_states_of_a_stream() -> None:
    spelled = {"error": None, "no": None}
    came = [StreamInput.OPENED_CAME, StreamInput.DATA_CAME, StreamInput.END_CAME, StreamInput.WINDOW_CAME]
    came += [StreamInput.RESET_CAME]
    done = [StreamInput.ACCEPTED, StreamInput.END_SENT, StreamInput.RESET_QUEUED, StreamInput.RESET_SENT]
    for heading, inputs in (("| state | OPENED |", came), ("| state | send OPENED |", done)):
        table = rows(heading)
        assert [row[0] for row in table] == [state.name for state in StreamState]
        for state, row in zip(StreamState, table, strict=True):
            for given, cell in zip(inputs, row[1:], strict=True):
                same = cell in ("–", "drop")
                after = state if same else spelled[cell] if cell in spelled else StreamState[cell]
                assert STREAM_TABLE[state][given] is after, (state, given)


def test_states_of_a_session() -> None:
    table = rows("| state | HELLO | WELCOME |")
    assert [row[0] for row in table] == [state.name for state in SessionState]
    for state, row in zip(SessionState, table, strict=True):
        columns: list[FrameType | None] = [FrameType.HELLO, FrameType.WELCOME, FrameType.GOAWAY, FrameType.DATA, None]
        for given, cell in zip(columns, row[1:6], strict=True):
            verdict = SESSION_TABLE[state][given]
            if cell == "ignored":
                assert verdict is Verdict.IGNORE
            elif cell == "error" or state is SessionState.START:
                assert verdict is Verdict.ERROR
            else:
                assert verdict is Verdict.TAKE


def test_limits_by_the_second() -> None:
    for kind, limit in FLOOD_LIMITS.items():
        word = {Flood.UNKNOWN: "unknown types", Flood.EMPTY_DATA: "empty DATA"}.get(kind, kind.name)
        [row] = [row for row in rows("## Limits") if word in row[0] and "second" in row[1]]
        assert f"{limit:,} a second" in row[1]
