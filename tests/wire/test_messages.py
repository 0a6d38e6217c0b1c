"""Messages: what is left out, what is ignored, what is refused, and that no error shows a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.links import HELLO
from wormhole_tw import structs
from wormhole_tw.errors import MisuseError, TunnelProtocolError
from wormhole_tw.wire.codes import GoawayCode, ResetCode
from wormhole_tw.wire.messages import (
    MAX_MESSAGE,
    Goaway,
    Hello,
    Limits,
    Message,
    Open,
    Opened,
    Release,
    Reset,
    Service,
    Status,
    Timers,
    TlsFacts,
    Visitor,
    Welcome,
    clip,
    decode,
    encode,
)

pack = structs.msgpack.encode

ALL: list[Message] = [
    HELLO,
    structs.replace(
        HELLO,
        slot=3,
        previous="draining",
        host="h",
        software="s",
        release=Release(id="r1", branch="main", vcs_revision_message="é" * 1024),
        services=[Service(), Service(name="ssh", kinds=["tcp"])],
        options=["visitor_per_stream"],
        hostname="app.example.test",
    ),
    Welcome(session="s", urls=["https://a/"], limits=Limits(max_streams=1), timers=Timers(drain=0.5), granted=["x"]),
    Status(ready=False, reason="starting"),
    Open(kind="tcp", dedicated=True, visitor=Visitor(address="::1", port=1, tls=TlsFacts(version="TLSv1.3"))),
    Open(kind="http", backend="app", hops=1),
    Opened(),
    Opened(address="127.0.0.1:80"),
    Reset(code=ResetCode.REFUSED, message="no", delivered=False),
    Goaway(code=GoawayCode.NORMAL, message="bye", last_stream_id=2**32 - 1, retry_after=1.5),
]


@pytest.mark.parametrize("message", ALL, ids=lambda m: type(m).__name__)
def test_round_trip(message: Message) -> None:
    assert decode(type(message), encode(message)) == message  # type: ignore[type-var]


def test_defaults_are_left_out_and_unknown_fields_ignored() -> None:
    assert encode(Opened()) == b"\x80"
    assert decode(Reset, pack({"code": 1, "new": [{"deep": None}], "b": b"x"})) == Reset(code=1)


@pytest.mark.parametrize(
    ("cls", "fields", "where"),
    [
        (Hello, {}, "role"),
        (Hello, {"role": "visitor"}, "$.role"),
        (Hello, {"role": "agent", "versions": []}, "$.versions"),
        (Hello, {"role": "agent", "versions": [1], "token": "s3cret\n"}, "$.token"),
        (Hello, {"role": "agent", "versions": [1], "token": "s3crét"}, "$.token"),
        (Hello, {"role": "agent", "versions": [1], "token": 5}, "$.token"),
        (Welcome, {"session": ""}, "$.session"),
        (Welcome, {"session": "s", "limits": {"max_data": 0}}, "$.limits.max_data"),
        (Welcome, {"session": "s", "initial_credit": 2**31}, "$.initial_credit"),
        (Welcome, {"session": "s", "urls": ["x" * 2000]}, "$.urls[0]"),
        (Status, {}, "ready"),
        (Open, {"kind": ""}, "$.kind"),
        (Open, {"kind": "tcp", "visitor": {"address": "1", "port": 65536}}, "$.visitor.port"),
        (Reset, {"code": -1}, "$.code"),
        (Goaway, {"code": 0, "retry_after": -1}, "$.retry_after"),
        (Goaway, {"code": 0, "retry_after": float("nan")}, "$.retry_after"),
    ],
)
def test_out_of_range_names_the_field(cls: type[Hello], fields: dict[str, object], where: str) -> None:
    with pytest.raises(TunnelProtocolError) as caught:
        decode(cls, pack(fields))
    assert caught.value.code == GoawayCode.PROTOCOL_ERROR
    assert caught.value.message == f"{cls.__name__.upper()} is not valid at {where}"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", pack([]), pack(1), pack({"code": 0}) + b"\0", b"\x81\xa4code", b"\x81\xa4\xff\xff\xff\xff\x00"]
    + [b"\x82\xa4code\x00\xa1x" + octet * 16000 for octet in (b"\x91", b"\x81", b"\xd9")],
    ids=repr,
)
def test_what_is_no_map_of_ours(payload: bytes) -> None:
    payload = payload[:MAX_MESSAGE]
    with pytest.raises(TunnelProtocolError):
        decode(Reset, payload)


def test_a_token_is_nowhere_in_errors_or_repr() -> None:
    secret = "wh_verysecret"
    bad = {"role": secret, "versions": [1], "token": secret + "\n", "instance": bytes(16), "generation": 1}
    with pytest.raises(TunnelProtocolError) as caught:
        decode(Hello, pack(bad))
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert secret not in repr(structs.replace(HELLO, token=secret))


def test_our_own_mistakes_are_ours() -> None:
    with pytest.raises(MisuseError, match=r"HELLO is not valid at \$.slot"):
        encode(structs.replace(HELLO, slot=-1))
    with pytest.raises(MisuseError, match="limit is 16384"):
        encode(Welcome(session="s", urls=["x" * 1024] * 20))


def test_clip() -> None:
    assert clip("short") == "short"
    assert clip("x" * 1024) == "x" * 1024
    assert clip("x" * 1025) == "x" * 1023 + "…"
    assert len(clip("abcdef", 3)) == 3


@given(st.binary(max_size=300), st.sampled_from([type(message) for message in ALL]))
def test_random_payloads_raise_only_the_protocol_error(payload: bytes, cls: type[Hello]) -> None:
    try:
        decode(cls, payload)
    except TunnelProtocolError:
        pass


def test_codes_that_drain() -> None:
    assert [code.name for code in GoawayCode if code.drains] == ["NORMAL", "REPLACED", "IDS_EXHAUSTED"]
