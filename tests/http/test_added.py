"""Fields that an answer gets besides."""

from __future__ import annotations

from wormhole_tw.http.added import add_fields
from wormhole_tw.http.events import ResponseHead
from wormhole_tw.http.memo import MAX_HEADS

DEFAULTS = ((b"X-Frame-Options", b"DENY"), (b"Referrer-Policy", b"origin"))
BESIDES = ((b"Content-Security-Policy", b"frame-ancestors 'none'"),)


def test_what_is_not_there_is_added_and_what_is_stays() -> None:
    fields = [(b"x-frame-options", b"SAMEORIGIN"), (b"content-security-policy", b"default-src 'self'")]
    head = ResponseHead(200, b"OK", fields)
    add_fields(head, DEFAULTS, BESIDES)
    assert head.fields == [*fields, (b"Referrer-Policy", b"origin"), *BESIDES]
    assert len(fields) == 2


def test_an_answer_without_fields() -> None:
    head = ResponseHead(204, b"", [])
    add_fields(head, DEFAULTS, ())
    assert head.fields == list(DEFAULTS)


def test_fields_that_are_shared_are_added_to_once() -> None:
    shared = [(b"ETag", b'"x"')]
    found = []
    for defaults, besides in ((DEFAULTS, BESIDES), (DEFAULTS, ()), ((), BESIDES), (DEFAULTS, BESIDES)):
        head = ResponseHead(200, b"OK", shared, common=True)
        add_fields(head, defaults, besides)
        assert head.fields == [*shared, *defaults, *besides]
        found.append(head.fields)
    assert found[0] is found[3]
    assert shared == [(b"ETag", b'"x"')]


def test_another_list_at_the_same_place_is_not_taken_for_it() -> None:
    for number in range(2 * MAX_HEADS):
        fields = [(b"N", b"%d" % number)]
        head = ResponseHead(200, b"OK", fields, common=True)
        add_fields(head, DEFAULTS, ())
        assert head.fields[0] == (b"N", b"%d" % number)
        del fields, head
