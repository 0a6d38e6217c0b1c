"""Types of answers."""

from __future__ import annotations

import pytest

from wormhole_tw.http.coding import CODINGS, DEFAULT_TYPES, SMALLEST, CodingRules, MediaTypes


@pytest.mark.parametrize(
    "kind",
    [
        b"text/html",
        b"text/html; charset=utf-8",
        b"Text/HTML ;charset=utf-8",
        b"text/event-stream",
        b"application/json",
        b"application/problem+json",
        b"application/vnd.api.v2+json; profile=x",
        b"image/svg+xml",
        b"application/wasm",
        b"text/x",
    ],
)
def test_text_is_taken(kind: bytes) -> None:
    assert CodingRules().types.take(kind)


@pytest.mark.parametrize(
    "kind",
    [
        b"image/png",
        b"video/mp4",
        b"font/woff2",
        b"application/zip",
        b"application/octet-stream",
        b"multipart/byteranges; boundary=x",
        b"application/grpc",
        b"application/grpc+json",
        b"application/grpc-web-text",
        b"application/json+zip",
        b"text/",
        b"text",
        b"json",
        b"+json",
        b"",
        b";",
    ],
)
def test_the_rest_is_not(kind: bytes) -> None:
    assert not CodingRules().types.take(kind)


def test_types_as_they_are_written() -> None:
    types = MediaTypes.of(["Application/X-Thing", "model/*", "+cbor"])
    assert all(map(types.take, (b"application/x-thing", b"model/stl", b"application/senml+cbor")))
    assert not any(map(types.take, (b"text/html", b"application/x", b"application/x-thingy", b"application/cbor")))


def test_grpc_is_not_taken_though_it_is_named() -> None:
    assert not MediaTypes.of(["application/*", "application/grpc"]).take(b"application/grpc+proto")


@pytest.mark.parametrize("text", ["", "*", "*/*", "text", "text/", "/html", "text/html; charset=utf-8", "+", "té/xt"])
def test_what_is_no_type_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no media type"):
        MediaTypes.of([text])


def test_what_says_the_same_is_equal() -> None:
    assert CodingRules() == CodingRules(CODINGS, MediaTypes.of(reversed(DEFAULT_TYPES)), SMALLEST)
    assert hash(CodingRules()) == hash(CodingRules())
    assert repr(CodingRules().said) == repr(CodingRules(types=MediaTypes.of(reversed(DEFAULT_TYPES))).said)
    others = (CodingRules((b"br",)), CodingRules(types=MediaTypes.of(["+xml"])), CodingRules(smallest=1))
    assert len({repr(rules.said) for rules in (CodingRules(), *others)}) == 4
