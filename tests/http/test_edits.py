"""Changes to fields, and the fields that are nobody's to change."""

from __future__ import annotations

import pytest

from wormhole_tw.http.edits import FieldEdits, edit_answer, edit_request, edit_trailers, may_change
from wormhole_tw.http.events import Fields, RequestHead, ResponseHead

FIELDS: Fields = [(b"Server", b"x"), (b"X-A", b"1"), (b"x-a", b"2"), (b"ETag", b"e")]
EDITS = FieldEdits(frozenset({b"server", b"x-a"}), ((b"X-A", b"3"), (b"X-B", b"4")))
EDITED = [(b"ETag", b"e"), (b"X-A", b"3"), (b"X-B", b"4")]

OF_THE_EDGE = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
    "date",
    "Content-Length",
    "transfer_encoding",
    "x-wormhole-error",
]
OF_REQUESTS = [
    "forwarded",
    "x-forwarded-for",
    "X-Forwarded-Proto",
    "x-forwarded-host",
    "x_forwarded_for",
    "x-real-ip",
    "client-cert",
    "max-forwards",
    "x_forwarded_prefix",
]
OF_ANYBODY = [
    "authorization",
    "cookie",
    "set-cookie",
    "cache-control",
    "content-type",
    "content-security-policy",
    "x-frame-options",
    "location",
    "x-forwarded-prefix",
    "x-anything",
    "strict-transport-security",
    "user-agent",
]


@pytest.mark.parametrize("name", OF_THE_EDGE)
def test_what_frames_a_message_is_nobodys(name: str) -> None:
    assert not may_change(name.encode(), of_request=True)
    assert not may_change(name.encode(), of_request=False)


@pytest.mark.parametrize("name", OF_REQUESTS)
def test_who_the_visitor_is_is_nobodys(name: str) -> None:
    assert not may_change(name.encode(), of_request=True)


@pytest.mark.parametrize("name", OF_ANYBODY)
def test_the_others_are_the_operators(name: str) -> None:
    assert may_change(name.encode(), of_request=True)
    assert may_change(name.encode(), of_request=False)


def test_fields_are_changed() -> None:
    fields = list(FIELDS)
    assert EDITS.of(fields) == EDITED
    assert fields == FIELDS
    assert FieldEdits(lines=((b"X-A", b"3"),)).of(fields) == [*FIELDS, (b"X-A", b"3")]
    assert not FieldEdits()
    assert EDITS


def test_one_change_and_then_another() -> None:
    other = FieldEdits(frozenset({b"x-b", b"etag"}), ((b"X-C", b"5"),))
    assert EDITS.then(other).of(FIELDS) == other.of(EDITS.of(FIELDS)) == [(b"X-A", b"3"), (b"X-C", b"5")]


def test_a_shared_answer_stays_as_it_is() -> None:
    own, shared = ResponseHead(200, b"OK", list(FIELDS)), ResponseHead(200, b"OK", list(FIELDS), common=True)
    again = ResponseHead(200, b"OK", shared.fields, common=True)
    before = shared.fields
    for head in (own, shared, again):
        edit_answer(head, EDITS)
        assert head.fields == EDITED
    assert before == FIELDS
    assert again.fields is shared.fields
    assert own.fields is not shared.fields


def test_a_shared_request_stays_as_it_is() -> None:
    head = RequestHead(b"GET", b"/", b"x", (1, 1), list(FIELDS))
    changed = edit_request(head, EDITS)
    assert (changed.fields, head.fields) == (EDITED, FIELDS)
    shared = RequestHead(b"GET", b"/", b"x", (1, 1), list(FIELDS), common=True)
    assert edit_request(shared, EDITS) is edit_request(shared, EDITS)
    assert edit_request(shared, EDITS) is not edit_request(shared, FieldEdits(lines=EDITS.lines))
    assert shared.fields == FIELDS


def test_a_look_alike_goes_with_what_a_service_takes_it_for() -> None:
    fields: Fields = [(b"X_A", b"0"), (b"x_a", b"1"), (b"X-A", b"2"), (b"X_Ab", b"3")]
    for common in (False, True):
        head = RequestHead(b"GET", b"/", b"x", (1, 1), list(fields), common=common)
        assert edit_request(head, EDITS).fields == [(b"X_Ab", b"3"), *EDITS.lines]
    # an answer's X_A is another field to every browser
    assert EDITS.of(fields) == [(b"X_A", b"0"), (b"x_a", b"1"), (b"X_Ab", b"3"), *EDITS.lines]


def test_trailers_bring_back_nothing() -> None:
    assert edit_trailers([(b"X-A", b"1"), (b"x_a", b"2"), (b"X-Sum", b"7")], EDITS) == [(b"X-Sum", b"7")]
    assert edit_trailers([(b"X-A", b"1")], None) == [(b"X-A", b"1")]
