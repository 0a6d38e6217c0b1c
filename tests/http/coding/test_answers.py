"""Which answers get a coding, and what their heads say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wormhole_tw.http.coding import CodingRules, asking_for, coded_head, coded_trailers, wanted_coding
from wormhole_tw.http.coding.answers import Wanted
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead
from wormhole_tw.http.memo import MAX_HEADS

RULES = CodingRules()
GZIP = Wanted(b"gzip", False)
NONE = Wanted(b"", False)

HTML = (b"Content-Type", b"text/html; charset=utf-8")
VARY = (b"Vary", b"Accept-Encoding")
CODED = (b"Content-Encoding", b"gzip")


def request(*fields: tuple[bytes, bytes], method: bytes = b"GET", common: bool = False) -> RequestHead:
    return RequestHead(method, b"/", b"app.test", (1, 1), list(fields), common=common)


def answer(*fields: tuple[bytes, bytes], status: int = 200, length: int | None = 5000) -> ResponseHead:
    framing = Framing.CHUNKED if length is None else Framing.LENGTH
    return ResponseHead(status, b"", list(fields), framing=framing, length=length)


def coded(head: ResponseHead, wanted: Wanted = GZIP, asked: RequestHead | None = None) -> tuple[Fields, bool]:
    before = replace(head, fields=list(head.fields))
    after, given = coded_head(head, asked or request(), wanted, RULES)
    assert head == before  # it may be shared
    if given:
        assert after.framing is Framing.CHUNKED
        assert after.length is None
    else:
        assert (after.framing, after.length) == (head.framing, head.length)
    assert (after.status, after.reason, after.version) == (head.status, head.reason, head.version)
    return after.fields, given


def test_a_page() -> None:
    head = answer((b"Server", b"x"), HTML, (b"ETag", b'"abc"'), (b"Accept-Ranges", b"bytes"), (b"Set-Cookie", b"a=b"))
    fields, given = coded(head)
    assert given
    assert fields == [(b"Server", b"x"), HTML, (b"ETag", b'W/"abc"'), (b"Set-Cookie", b"a=b"), CODED, VARY]


def test_a_page_for_who_takes_no_coding_says_that_it_could_have_had_one() -> None:
    tag = (b"ETag", b'"abc"')
    assert coded(answer(HTML, tag), NONE) == ([HTML, tag, VARY], False)


def test_what_else_its_caching_says_is_nothing_to_this() -> None:
    kept = (b"Cache-Control", b"max-age=60")
    assert coded(answer(kept, HTML)) == ([kept, HTML, CODED, VARY], True)


def test_of_a_head_that_is_shared_comes_one_that_is_shared() -> None:
    head = replace(answer(HTML), common=True)
    first, _ = coded_head(head, request(), NONE, RULES)
    assert first.common
    assert first.fields == [HTML, VARY]
    assert coded_head(head, request(), NONE, RULES)[0] is first
    others = [replace(answer(HTML), common=True) for _ in range(MAX_HEADS + 1)]
    made = [coded_head(other, request(), NONE, RULES)[0] for other in others]
    assert len({id(each) for each in made}) == len(others)
    assert coded_head(head, request(), NONE, RULES)[0].fields == [HTML, VARY]


def test_of_any_length_or_none_said() -> None:
    assert coded(answer(HTML, length=1024))[1]
    assert coded(answer(HTML, length=None))[1]
    assert coded(replace(answer(HTML), framing=Framing.CLOSE, length=None))[1]


def test_what_is_small_is_left() -> None:
    for length in (0, 1, 1023):
        head = answer(HTML, length=length)
        assert coded_head(head, request(), GZIP, RULES) == (head, False)
        assert coded_head(head, request(), NONE, RULES)[0] is head
    # but not for who takes nothing else, where there is anything
    assert coded(answer(HTML, length=1), Wanted(b"gzip", True))[1]
    assert not coded(answer(HTML, length=0), Wanted(b"gzip", True))[1]


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"Content-Type", b"image/png"),),
        ((b"Content-Type", b"application/grpc+json"),),
        (HTML, (b"Content-Encoding", b"br")),
        (HTML, (b"content-encoding", b"identity, gzip")),
        (HTML, (b"Cache-Control", b"public, No-Transform")),
        (HTML, (b"Content-Range", b"bytes 0-9/100")),
    ],
)
@pytest.mark.parametrize("wanted", [GZIP, NONE])
def test_what_is_left_as_it_is(fields: tuple[tuple[bytes, bytes], ...], wanted: Wanted) -> None:
    head = answer(*fields)
    assert coded_head(head, request(), wanted, RULES)[0] is head


@pytest.mark.parametrize("status", [101, 204, 205])
def test_statuses_without_a_body(status: int) -> None:
    head = answer(HTML, status=status)
    assert coded_head(head, request(), GZIP, RULES)[0] is head
    bare = replace(answer(HTML), framing=Framing.NONE, length=None)
    assert coded_head(bare, request(), GZIP, RULES)[0] is bare


@pytest.mark.parametrize("status", [206, 416])
def test_parts_are_left_and_vary(status: int) -> None:
    part = (b"Content-Range", b"bytes 0-9/100")
    assert coded(answer(HTML, part, status=status)) == ([HTML, part, VARY], False)
    image = answer((b"Content-Type", b"image/png"), part, status=status)
    assert coded_head(image, request(), GZIP, RULES)[0] is image


@pytest.mark.parametrize("status", [200, 201, 302, 404, 500, 599])
def test_errors_and_others_are_as_good(status: int) -> None:
    assert coded(answer(HTML, status=status))[1]


def test_no_coding_named_is_none() -> None:
    for value in (b"identity", b"Identity", b""):
        assert coded(answer(HTML, (b"Content-Encoding", value))) == ([HTML, CODED, VARY], True)


@pytest.mark.parametrize("length", [5000, None])
def test_a_head_tells_what_a_get_gets(length: int | None) -> None:
    head = ResponseHead(200, b"OK", [HTML, (b"ETag", b'"x"')], framing=Framing.NONE, length=length)
    after, given = coded_head(head, request(method=b"HEAD"), GZIP, RULES)
    assert given
    assert after.fields == [HTML, (b"ETag", b'W/"x"'), CODED, VARY]
    assert (after.framing, after.length) == (Framing.NONE, None)
    small = replace(head, length=10)
    assert coded_head(small, request(method=b"HEAD"), GZIP, RULES)[0] is small


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [VARY]),
        ([(b"Vary", b"Cookie")], [(b"Vary", b"Cookie, Accept-Encoding")]),
        ([(b"vary", b"Origin"), (b"vary", b"Cookie")], [(b"vary", b"Origin"), (b"vary", b"Cookie, Accept-Encoding")]),
        ([(b"Vary", b"accept-encoding, Cookie")], None),
        ([(b"Vary", b"Accept-Encoding"), (b"Vary", b"Cookie")], None),
        ([(b"Vary", b"*")], None),
        ([(b"Vary", b"")], [VARY]),
    ],
)
@pytest.mark.parametrize("wanted", [GZIP, NONE])
def test_vary_names_it_once(before: Fields, after: Fields | None, wanted: Wanted) -> None:
    fields, _ = coded(answer(HTML, *before), wanted)
    assert [line for line in fields if line[0].lower() == b"vary"] == (before if after is None else after)


def test_digests_of_octets_that_are_others_now_go_also_from_trailers() -> None:
    digests = [(name, b"x") for name in (b"Content-Digest", b"Repr-Digest", b"Content-MD5", b"Digest")]
    kept = (b"Unencoded-Digest", b"sha-256=:x:")
    assert coded(answer(HTML, *digests, kept))[0] == [HTML, kept, CODED, VARY]
    assert coded_trailers([*digests, (b"Server-Timing", b"x")]) == [(b"Server-Timing", b"x")]


# 304


def not_modified(*fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(304, b"", list(fields))


def test_a_304_for_the_coded_answer_names_it_as_it_was_named() -> None:
    tag = (b"ETag", b'"abc"')
    asked = request((b"If-None-Match", b'"x", W/"abc"'))
    assert coded(not_modified(tag), GZIP, asked) == ([(b"ETag", b'W/"abc"'), VARY], False)


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        (b'"abc"', GZIP),
        (b'W/"abcd"', GZIP),
        (b'W/"abc", "abc"', GZIP),
        (b"*", GZIP),
        (b'W/"abc"', NONE),
    ],
)
def test_a_304_for_another_is_left(has: bytes, wanted: Wanted) -> None:
    head = not_modified((b"Date", b"x"), (b"ETag", b'"abc"'))
    assert coded_head(head, request((b"If-None-Match", has)), wanted, RULES)[0] is head


def test_a_304_with_a_weak_name_or_none() -> None:
    for fields in ([(b"ETag", b'W/"abc"')], []):
        head = not_modified(*fields)
        assert coded_head(head, request((b"If-None-Match", b'W/"abc"')), GZIP, RULES)[0] is head


def test_a_304_that_tells_its_type_varies_with_it() -> None:
    assert coded(not_modified(HTML)) == ([HTML, VARY], False)
    image = not_modified((b"Content-Type", b"image/png"))
    assert coded_head(image, request(), GZIP, RULES)[0] is image


# what is asked for


def test_one_coding_is_asked_for_in_place_of_all() -> None:
    lines = [(b"Accept", b"*/*"), (b"accept-encoding", b"br"), (b"Accept-Encoding", b"gzip"), (b"Cookie", b"a=b")]
    assert asking_for(lines, b"zstd") == [lines[0], lines[3], (b"Accept-Encoding", b"zstd")]


def test_lines_of_accept_encoding_are_one_list() -> None:
    asked = request((b"accept-encoding", b"br;q=0.5"), (b"Accept-Encoding", b"gzip"), (b"Cache-Control", b"no-cache"))
    assert wanted_coding(asked, RULES) == (b"gzip", False)
    assert wanted_coding(request(), RULES) == (b"", False)


def test_who_takes_nothing_else() -> None:
    assert wanted_coding(request((b"Accept-Encoding", b"gzip, identity;q=0")), RULES) == (b"gzip", True)
    assert wanted_coding(request((b"Accept-Encoding", b"deflate, identity;q=0")), RULES) == (b"", False)


def test_a_request_may_forbid_it() -> None:
    asked = request((b"Cache-Control", b"no-cache, no-transform"), (b"Accept-Encoding", b"gzip"))
    assert wanted_coding(asked, RULES) == (b"", False)


def test_a_request_that_comes_again_is_read_once() -> None:
    asked = request((b"Accept-Encoding", b"gzip"), common=True)
    assert wanted_coding(asked, RULES) is wanted_coding(asked, RULES)
    others = CodingRules((b"br",))
    assert wanted_coding(asked, others) == (b"", False)
    heads = [request((b"Accept-Encoding", b"br"), common=True) for _ in range(MAX_HEADS + 1)]
    assert {wanted_coding(head, others) for head in heads} == {(b"br", False)}
