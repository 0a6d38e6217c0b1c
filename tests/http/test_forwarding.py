"""Which fields go on, which stay, which are added."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wormhole_tw.errors import HttpError
from wormhole_tw.http import forwarding
from wormhole_tw.http.events import Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import (
    VisitorFacts,
    answer_towards_visitor,
    at_authority,
    ends_here,
    interim_towards_visitor,
    names_visitor,
    request_towards_origin,
    trailers_onwards,
)

DATE = (b"Date", b"Mon, 23 Nov 2026 04:20:00 GMT")


def now():
    return DATE


VISITOR = VisitorFacts("192.0.2.7", "https", 8443)
PROXY = VisitorFacts("192.0.2.7", "https", 8443, trusted=True)
OURS = [
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"X-Forwarded-Host", b"a.test:8443"),
    (b"X-Forwarded-Port", b"8443"),
    (b"X-Forwarded-Proto", b"https"),
    (b"Forwarded", b'for=192.0.2.7;host="a.test:8443";proto=https'),
    (b"Via", b"1.1 wormhole"),
]


def forwarded(*fields, facts=VISITOR, **changes):
    head = RequestHead(b"GET", b"/", b"a.test:8443", (1, 1), [(b"Host", b"a.test:8443"), *fields], **changes)
    return request_towards_origin(head, b"/x", facts)


def test_the_head_that_goes_on():
    head = forwarded((b"Accept", b"*/*"), framing=Framing.LENGTH, length=3, expect_continue=True, upgrade=None)
    assert head == RequestHead(
        b"GET",
        b"/x",
        b"a.test:8443",
        (1, 1),
        [(b"Accept", b"*/*"), *OURS],
        Framing.LENGTH,
        3,
        expect_continue=True,
    )


@pytest.mark.parametrize(
    "name",
    [
        b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authorization", b"Proxy-Authenticate", b"Upgrade",
        b"HTTP2-Settings", b"Transfer-Encoding", b"Content-Length", b"Expect", b"TE", b"keep-alive", b"HOST",
        b"X-Forwarded-For", b"x-forwarded-proto", b"X-Forwarded-Anything", b"Forwarded", b"X-Real-IP",
        b"True-Client-IP",
        b"X_Forwarded_For", b"X-Forwarded_Proto", b"x_real_ip", b"Content_Length", b"Transfer_Encoding",
        b"Proxy_Authorization", b"Content_Type",
    ],
)  # fmt: skip
def test_fields_of_the_connection_and_forgeries_stay(name):
    assert forwarded((name, b"6.6.6.6")).fields == OURS


@pytest.mark.parametrize("name", [b"X-Request-Id", b"x-request-ID", b"X_Request_Id"])
@pytest.mark.parametrize("facts", [VISITOR, PROXY])
def test_a_visitors_name_for_its_request_stays(name, facts):
    assert forwarded((name, b"theirs"), facts=facts).fields == OURS


@pytest.mark.parametrize("name", [b"User_Agent", b"X-Custom", b"Trailer", b"Authorization", b"Cookie", b"x" * 100])
def test_other_fields_go_on(name):
    assert forwarded((name, b"v")).fields == [(name, b"v"), *OURS]


def test_connection_takes_the_fields_it_names_along():
    fields = [
        (b"Connection", b"X-One, close"),
        (b"X-One", b"1"),
        (b"connection", b"x-two"),
        (b"X-Two", b"2"),
        (b"X", b"3"),
    ]
    assert forwarded(*fields).fields == [(b"X", b"3"), *OURS]


@pytest.mark.parametrize("name", [b"Authorization", b"Cookie", b"Via", b"Content-Type", b"Cache-Control", b"Origin"])
def test_connection_cannot_name_what_services_trust(name):
    assert forwarded((b"Connection", name), (name, b"v")).fields == [(name, b"v"), *OURS]


@pytest.mark.parametrize("name", [b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"Forwarded"])
@pytest.mark.parametrize("facts", [VISITOR, PROXY])
def test_connection_cannot_name_host_or_forwarding_fields(name, facts):
    head = forwarded((b"Connection", name), facts=facts)
    assert head.authority == b"a.test:8443"
    assert head.fields == OURS


def test_te_passes_only_as_trailers():
    assert forwarded((b"TE", b"trailers, deflate;q=0.5")).fields == [*OURS, (b"TE", b"trailers")]
    assert forwarded((b"TE", b"trailers"), (b"TE", b"gzip")).fields == [*OURS, (b"TE", b"trailers")]


FAMILY = [(b"X-Forwarded-Prefix", b"/app"), (b"x-forwarded-client-cert", b"Hash=1"), (b"X-Forwarded-Ssl", b"on")]
FORGED = [
    (b"X-Forwarded-For", b"198.51.100.1"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"evil.test"),
    (b"X-Forwarded-Port", b"1"),
    (b"Forwarded", b"for=198.51.100.1"),
    (b"X-Real-IP", b"198.51.100.1"),
    (b"CF-Connecting-IP", b"198.51.100.1"),
    (b"Client-Cert", b":AAAA:"),
    (b"client-cert-chain", b":AAAA:"),
    (b"CLIENT_CERT", b":AAAA:"),
    (b"Client_Cert-Chain", b":AAAA:"),
]


def test_the_family_passes_from_a_trusted_peer_and_what_is_ours_from_nobody():
    assert forwarded(*FORGED, *FAMILY, (b"X", b"y"), facts=PROXY).fields == [*FAMILY, (b"X", b"y"), *OURS]
    assert forwarded(*FORGED, *FAMILY, (b"X", b"y")).fields == [(b"X", b"y"), *OURS]


def test_fields_in_which_a_visitors_own_word_counts_for_nothing():
    assert all(names_visitor(name) for name, _ in FORGED + FAMILY)
    assert not any(names_visitor(name) for name in (b"X", b"Cookie", b"Authorization", b"Connection", b"Host"))


CERTIFICATE = ((b"Client-Cert", b":b3du:"), (b"Client-Cert-Chain", b":aXNzdWVy:"))


@pytest.mark.parametrize("trusted", [False, True])
def test_the_certificate_of_a_visitor(trusted):
    """RFC 9440: what the edge writes, and nobody else; not in trailers either."""
    facts = replace(PROXY if trusted else VISITOR, certificate=CERTIFICATE)
    assert forwarded(*FORGED, (b"Connection", b"Client-Cert"), facts=facts).fields == [*OURS, *CERTIFICATE]
    assert trailers_onwards([(b"Client-Cert", b":AAAA:"), (b"X", b"y")]) == [(b"X", b"y")]


def test_the_way_of_a_request_through_proxies():
    facts = VisitorFacts("2001:db8::7", "http", 80, True, ("198.51.100.1", "2001:db8::1"), b"shop.test:81")
    assert forwarded(facts=facts).fields == [
        (b"X-Forwarded-For", b"2001:db8::7, 198.51.100.1, 2001:db8::1"),
        (b"X-Forwarded-Host", b"shop.test:81"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Forwarded-Proto", b"http"),
        (
            b"Forwarded",
            b'for="[2001:db8::7]";host="shop.test:81";proto=http, for=198.51.100.1, for="[2001:db8::1]"',
        ),
        (b"Via", b"1.1 wormhole"),
    ]


def test_a_trusted_peer_s_look_alikes_are_dropped_too():
    assert forwarded((b"X_Forwarded_For", b"6.6.6.6"), facts=PROXY).fields == OURS


def test_ipv6_is_quoted_in_forwarded_only():
    head = RequestHead(b"GET", b"/", b"a.test", (1, 0), [(b"Via", b"1.0 other")])
    fields = request_towards_origin(head, b"/", VisitorFacts("2001:db8::7", "http", 80)).fields
    assert fields == [
        (b"Via", b"1.0 other"),
        (b"X-Forwarded-For", b"2001:db8::7"),
        (b"X-Forwarded-Host", b"a.test"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Forwarded-Proto", b"http"),
        (b"Forwarded", b'for="[2001:db8::7]";host=a.test;proto=http'),
        (b"Via", b"1.0 wormhole"),
    ]


def test_an_upgrade_is_carried_as_a_fact():
    head = forwarded((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), upgrade=b"websocket")
    assert head.upgrade == b"websocket"
    assert head.fields == OURS


def test_an_answer_s_fields():
    fields = [
        (b"Connection", b"close, X-Hop, Set-Cookie"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Hop", b"1"),
        (b"Set-Cookie", b"a=b"),
        (b"Upgrade", b"h2c"),
        (b"X-Forwarded-For", b"kept: it is not the visitor's"),
        (b"ETag", b'"x"'),
    ]
    head = ResponseHead(200, b"OK", fields, (1, 0), Framing.CLOSE, None, keep_alive=False)
    assert answer_towards_visitor(head, now) == ResponseHead(
        200,
        b"OK",
        [
            (b"Set-Cookie", b"a=b"),
            (b"X-Forwarded-For", b"kept: it is not the visitor's"),
            (b"ETag", b'"x"'),
            (b"Via", b"1.0 wormhole"),
            DATE,
        ],
        (1, 0),
        Framing.CLOSE,
        None,
        keep_alive=True,
    )
    assert head.fields is fields
    assert len(fields) == 7


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize(
    ("status", "own", "added"),
    [
        (200, None, True),
        (404, None, True),
        (204, None, True),
        (101, None, False),
        (200, b"Date", False),
        (200, b"dATE", False),
    ],
)
def test_an_answer_without_date_gets_one(status, own, added, common):
    """RFC 9110 §6.6.1: whoever passes an answer on and has a clock."""
    given = [(b"X-Dat", b"1"), *([(own, b"Thu, 01 Jan 1970 00:00:00 GMT")] if own else [])]
    head = ResponseHead(status, b"", list(given), common=common)
    for moment in (DATE, DATE, (b"Date", b"Mon, 23 Nov 2026 04:20:01 GMT")):
        fields = answer_towards_visitor(head, lambda moment=moment: moment).fields
        assert fields == [*given, (b"Via", b"1.1 wormhole"), *([moment] if added else [])]
    assert head.fields == given


@pytest.mark.parametrize(("status", "kept"), [(101, True), (426, True), (200, False)])
def test_upgrade_of_an_answer(status, kept):
    head = ResponseHead(status, b"", [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")])
    assert ((b"Upgrade", b"websocket") in answer_towards_visitor(head, now).fields) is kept


def test_an_answer_s_connection_that_names_nothing():
    fields = [(b"Connection", b"close"), (b"X", b"y")]
    assert answer_towards_visitor(ResponseHead(200, b"", fields), now).fields[:1] == [(b"X", b"y")]
    fields = [(b"Connection", b"set-cookie"), (b"X", b"y")]
    assert answer_towards_visitor(ResponseHead(200, b"", fields), now).fields[:1] == [(b"X", b"y")]


def test_what_cgi_would_take_for_its_proxy_is_dropped():
    assert forwarded((b"Proxy", b"http://evil.test"), (b"pROXY", b"x")).fields == OURS


def options(*values, method=b"OPTIONS"):
    return RequestHead(method, b"/", b"a.test", (1, 1), [(b"Max-Forwards", value) for value in values])


def test_an_options_goes_one_hop_less_far():
    fields = request_towards_origin(options(b"010"), b"/", VisitorFacts("192.0.2.1")).fields
    assert [line for line in fields if line[0] == b"Max-Forwards"] == [(b"Max-Forwards", b"9")]
    assert not ends_here(options(b"1"))
    assert not ends_here(options())
    assert ends_here(options(b"0"))
    plain = request_towards_origin(options(), b"/", VisitorFacts("192.0.2.1")).fields
    assert b"Max-Forwards" not in dict(plain)


@pytest.mark.parametrize("values", [(b"1", b"1"), (b"-1",), (b"",), (b"x",), (b"1" * 10,)])
def test_max_forwards_is_one_number(values):
    with pytest.raises(HttpError) as caught:
        ends_here(options(*values))
    assert caught.value.status == 400


def test_max_forwards_of_other_methods_means_nothing_here():
    fields = request_towards_origin(options(b"0", method=b"GET"), b"/", VisitorFacts("192.0.2.1")).fields
    assert dict(fields)[b"Max-Forwards"] == b"0"


def test_an_interim_answer_s_fields():
    head = InformationalHead(103, [(b"Link", b"</a>"), (b"Upgrade", b"x"), (b"Connection", b"upgrade")])
    assert interim_towards_visitor(head) == InformationalHead(103, [(b"Link", b"</a>")])


def test_trailers():
    trailers = [
        (b"Grpc-Status", b"0"),
        (b"ETag", b'"x"'),
        (b"Content-Length", b"5"),
        (b"Set-Cookie", b"a=b"),
        (b"X-Forwarded-For", b"6.6.6.6"),
        (b"x_forwarded_for", b"6.6.6.6"),
    ]
    assert trailers_onwards(trailers) == trailers[:2]


def test_the_memo_of_names_is_bounded():
    for number in range(2 * forwarding.MAX_LEARNED_NAMES + 10):
        forwarding._judge(b"x-%d" % number)
        assert len(forwarding._memo) <= forwarding.MAX_LEARNED_NAMES


def test_another_spelling_of_the_host_is_told_wherever_it_stands():
    head = RequestHead(b"GET", b"/", b"App.Example.test.:443", (1, 1), [(b"X", b"App.Example.test.:443")])
    onward = at_authority(request_towards_origin(head, b"/", VISITOR), VISITOR, b"app.example.test")
    fields = dict(onward.fields)
    assert onward.authority == b"app.example.test"
    assert fields[b"X-Forwarded-Host"] == b"app.example.test"
    assert fields[b"Forwarded"] == b"for=192.0.2.7;host=app.example.test;proto=https"
    assert fields[b"X"] == b"App.Example.test.:443"


def test_the_host_that_a_trusted_proxy_told_stays():
    facts = replace(PROXY, host=b"shop.example.test")
    head = RequestHead(b"GET", b"/", b"INNER.example.test", (1, 1), [])
    onward = at_authority(request_towards_origin(head, b"/", facts), facts, b"inner.example.test")
    assert onward.authority == b"inner.example.test"
    assert dict(onward.fields)[b"X-Forwarded-Host"] == b"shop.example.test"
