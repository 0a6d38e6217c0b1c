"""Heads that come again: the same verdict and the same octets, from what was kept, for this visitor and no other."""

from __future__ import annotations

import pytest

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import VisitorFacts, answer_towards_visitor, request_towards_origin
from wormhole_tw.http.h1.answers import parse_response
from wormhole_tw.http.h1.limits import H1Limits
from wormhole_tw.http.h1.requests import parse_request
from wormhole_tw.http.h1.writer import common_request_head, common_response_head, request_head, response_head
from wormhole_tw.http.memo import MAX_HEAD, MAX_HEADS, remember

GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nX-A: 1\r\n\r\n"

DATE = (b"Date", b"Mon, 23 Nov 2026 04:20:00 GMT")


def now() -> tuple[bytes, bytes]:
    return DATE


def answer(head: bytes, limits: H1Limits, method: bytes = b"GET", upgrade: bytes | None = None) -> ResponseHead:
    found = parse_response(head, limits, method=method, upgrade=upgrade)
    assert isinstance(found, ResponseHead)
    return found


def test_a_memo_is_emptied_when_it_is_full() -> None:
    memo: dict[int, str] = {}
    for number in range(MAX_HEADS):
        remember(memo, number, "x")
    assert len(memo) == MAX_HEADS
    remember(memo, -1, "y")
    assert memo == {-1: "y"}


def test_a_request_that_comes_again_is_the_same_head() -> None:
    limits = H1Limits()
    first = parse_request(GET, limits)
    assert not first.common
    assert parse_request(bytes(bytearray(GET)), limits) is first
    assert first.common
    assert first == parse_request(GET, H1Limits())  # as if it were new


def test_limits_of_another_edge_judge_for_themselves() -> None:
    parse_request(GET, H1Limits())
    with pytest.raises(HttpError) as refused:
        parse_request(GET, H1Limits(fields=2))
    assert refused.value.status == 431


def test_a_refused_head_is_refused_again() -> None:
    limits = H1Limits()
    for _ in range(3):
        with pytest.raises(HttpError):
            parse_request(b"GET / HTTP/1.1\r\n\r\n", limits)
        with pytest.raises(HttpError):
            parse_response(b"HTTP/1.1 20 no\r\n\r\n", limits, method=b"GET", upgrade=None)
    assert not limits.requests
    assert not limits.answers


def test_long_heads_are_not_kept() -> None:
    limits = H1Limits()
    long_request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: %s\r\n\r\n" % (b"x" * MAX_HEAD)
    long_answer = b"HTTP/1.1 200 OK\r\nX: %s\r\n\r\n" % (b"x" * MAX_HEAD)
    for _ in range(3):
        assert not parse_request(long_request, limits).common
        assert not answer(long_answer, limits).common
    assert not limits.requests
    assert not limits.answers


def test_an_answer_to_head_is_not_one_to_get() -> None:
    limits = H1Limits()
    to_get, to_head = answer(OK, limits), answer(OK, limits, b"HEAD")
    assert to_get.framing is not to_head.framing
    assert answer(OK, limits) is to_get
    assert answer(OK, limits, b"POST") is to_get
    assert answer(OK, limits, b"HEAD") is to_head


def test_an_answer_to_an_upgrade_and_interim_ones_are_judged_each_time() -> None:
    limits = H1Limits()
    switched = b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for _ in range(2):
        assert answer(switched, limits, upgrade=b"websocket").status == 101
        with pytest.raises(HttpError):
            answer(switched, limits)
        interim = parse_response(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", limits, method=b"GET", upgrade=None)
        assert isinstance(interim, InformationalHead)
    assert not limits.answers


def common_request() -> RequestHead:
    limits = H1Limits()
    parse_request(GET, limits)
    return parse_request(GET, limits)


def test_what_goes_on_is_kept_for_each_visitor_by_itself() -> None:
    head = common_request()
    one, other = VisitorFacts("192.0.2.1"), VisitorFacts("192.0.2.2")
    first = request_towards_origin(head, b"/a", one)
    assert first.common
    assert (b"X-Forwarded-For", b"192.0.2.1") in first.fields
    assert not any(name == b"X-Gone" for name, _ in first.fields)
    assert request_towards_origin(head, b"/a", one) is first
    assert request_towards_origin(head, b"/a", VisitorFacts("192.0.2.1")) == first
    second = request_towards_origin(head, b"/a", other)
    assert (b"X-Forwarded-For", b"192.0.2.2") in second.fields
    passed_on = request_towards_origin(head, b"/a", VisitorFacts("192.0.2.1", trusted=True, hops=("192.0.2.9",)))
    assert (b"X-Forwarded-For", b"192.0.2.1, 192.0.2.9") in passed_on.fields
    fresh = request_towards_origin(parse_request(GET, H1Limits()), b"/a", one)
    assert fresh == first
    assert not fresh.common


def test_another_target_is_never_mistaken() -> None:
    head = common_request()
    facts = VisitorFacts("192.0.2.1")
    request_towards_origin(head, b"/a", facts)
    assert request_towards_origin(head, b"/b", facts).target == b"/b"
    assert request_towards_origin(head, b"/a", facts).target == b"/a"


def test_a_head_with_the_id_of_one_that_is_gone_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import wormhole_tw.http.forwarding as forwarding
    import wormhole_tw.http.h1.writer as writer

    for module in (forwarding, writer):
        monkeypatch.setattr(module, "id", lambda _: 7, raising=False)
    facts = VisitorFacts("192.0.2.1")
    limits = H1Limits()
    for path in (b"/a", b"/b", b"/a"):
        raw = GET.replace(b"/a", path, 1)
        parse_request(raw, limits)
        onward = request_towards_origin(parse_request(raw, limits), path, facts)
        assert onward.target == path
        assert common_request_head(onward).startswith(b"GET %s HTTP/1.1\r\n" % path)
    for value in (b"1", b"2", b"1"):
        raw = OK.replace(b"X-A: 1", b"X-A: " + value)
        answer(raw, limits)
        towards = answer_towards_visitor(answer(raw, limits), now)
        assert (b"X-A", value) in towards.fields
        assert b"X-A: %s\r\n" % value in common_response_head(towards, b"")


def test_answers_go_on_with_fields_of_their_own_and_a_state_of_their_own() -> None:
    limits = H1Limits()
    fresh = answer_towards_visitor(answer(OK, limits), now)
    assert not fresh.common
    first, second = answer_towards_visitor(answer(OK, limits), now), answer_towards_visitor(answer(OK, limits), now)
    assert first == second == fresh
    assert first.common
    assert first.fields is second.fields
    first.keep_alive = False
    assert second.keep_alive
    assert (b"X-A", b"1") in first.fields


def test_heads_are_written_as_they_would_be_anew() -> None:
    head = request_towards_origin(common_request(), b"/a", VisitorFacts("192.0.2.1"))
    assert common_request_head(head) == request_head(head)
    assert common_request_head(head) is common_request_head(head)
    limits = H1Limits()
    answer(OK, limits)
    towards = answer_towards_visitor(answer(OK, limits), now)
    for extra in (b"Content-Length: 3\r\n", b"Content-Length: 3\r\nConnection: close\r\n"):
        assert common_response_head(towards, extra) == response_head(200, b"OK", towards.fields, extra)
        assert common_response_head(towards, extra) is common_response_head(towards, extra)
