"""What is changed on the way to an origin on the web, and back."""

from __future__ import annotations

from wormhole_tw.http.events import Fields, Framing, RequestHead
from wormhole_tw.http.grammar import MAX_LEARNED_NAMES
from wormhole_tw.http.rewriting import PrefixSwap
from wormhole_tw.http.translation import MAX_PASSES, Translation

BASE = Translation(b"https", b"pages.example", b"pages.example", b"/base", b"index.html")
VISITORS = Translation(b"http", b"10.0.0.1:8080", None)
FIELDS: Fields = [(b"X-Forwarded-Host", b"app.example.test")]


def head(target: bytes = b"/x", *, common: bool = False) -> RequestHead:
    return RequestHead(
        b"POST", target, b"app.example.test", (1, 1), FIELDS, Framing.LENGTH, 3, True, b"websocket", common=common
    )


def test_a_request_goes_by_the_origins_name_and_under_its_base() -> None:
    sent = BASE.request(head(b"/x/?y=/"))
    assert (sent.target, sent.authority) == (b"/base/x/index.html?y=/", b"pages.example")
    assert BASE.request(head(b"/x?y")).target == b"/base/x?y"
    assert BASE.request(head(b"/")).target == b"/base/index.html"
    assert BASE.request(head(b"*")).target == b"*"
    # all else stays
    assert (sent.method, sent.fields, sent.framing, sent.length) == (b"POST", FIELDS, Framing.LENGTH, 3)
    assert (sent.expect_continue, sent.upgrade, sent.common) == (True, b"websocket", False)


def test_or_by_the_visitors() -> None:
    sent = VISITORS.request(head(b"/x/"))
    assert (sent.target, sent.authority) == (b"/x/", b"app.example.test")


def test_one_that_is_shared_is_translated_once() -> None:
    shared = head(common=True)
    sent = BASE.request(shared)
    assert sent.common
    assert BASE.request(shared) is sent
    assert BASE.request(head(common=True)) is not sent


def answered(translation: Translation, fields: Fields, asked: bytes, routed: bytes) -> Fields:
    return translation.answer(fields, b"https", b"app.example.test", asked, head(routed))


def test_an_answer_speaks_of_the_visitors_urls() -> None:
    fields: Fields = [(b"Location", b"https://pages.example/base/y"), (b"Set-Cookie", b"a=b; Path=/base")]
    assert answered(BASE, fields, b"/x?q", b"/x?q") == [
        (b"Location", b"https://app.example.test/y"),
        (b"Set-Cookie", b"a=b; Path=/"),
    ]
    # below the prefix that its route takes away
    assert answered(BASE, fields, b"/blog/x", b"/x") == [
        (b"Location", b"https://app.example.test/blog/y"),
        (b"Set-Cookie", b"a=b; Path=/blog"),
    ]


def test_a_prefix_that_a_route_has_replaced_comes_back_wherever_it_was_asked_for() -> None:
    plain = Translation(b"https", b"pages.example", b"pages.example")
    docs = PrefixSwap("/docs", "/handbook")

    def location(said: bytes, asked: bytes, sent: bytes) -> bytes:
        fields: Fields = [(b"Location", said)]
        answer = plain.answer(fields, b"https", b"app.example.test", asked, head(sent), docs)
        return answer[0][1]

    # a folder of a static host, asked for without its slash: nothing but the route knows what "/docs" is there
    assert location(b"/handbook/", b"/docs", b"/handbook") == b"/docs/"
    assert (
        location(b"https://pages.example/handbook/?q", b"/docs?q", b"/handbook?q")
        == b"https://app.example.test/docs/?q"
    )
    assert location(b"/handbook/b", b"/docs/a", b"/handbook/a") == b"/docs/b"
    assert location(b"/other", b"/docs", b"/handbook") == b"https://pages.example/other"
    # somebody behind the route has asked for something else
    assert location(b"/y", b"/docs/a", b"/elsewhere") == b"/y"
    assert location(b"/v2/y", b"/docs/a", b"/v2/a") == b"/docs/y"


def test_an_origin_that_is_asked_by_the_visitors_name_may_say_that_one_too() -> None:
    fields: Fields = [
        (b"Location", b"https://app.example.test/y"),
        (b"Link", b"<http://10.0.0.1:8080/z>"),
        (b"Strict-Transport-Security", b"max-age=1"),
    ]
    assert answered(VISITORS, fields, b"/x", b"/x") == [
        (b"Location", b"https://app.example.test/y"),
        (b"Link", b"<https://app.example.test/z>"),
        (b"Strict-Transport-Security", b"max-age=1"),
    ]


def test_most_answers_stay_as_they_are() -> None:
    location = (b"LoCation", b"https://pages.example/y")
    for number in range(MAX_LEARNED_NAMES + 1):
        fields: Fields = [(b"Content-Type", b"text/html"), (b"X-Name-%d" % number, b"x"), (b"X" * 100, b"y")]
        assert not BASE.touches(fields)
        assert BASE.touches([*fields, location])
    assert not Translation(b"https", b"pages.example", b"pages.example", rewrite=False).touches([location])


def test_a_request_that_came_by_us_too_often() -> None:
    def passed(times: int) -> RequestHead:
        via = [(b"via", b"1.1 wormhole, 2.0 wormhole")] * (times // 2) + [(b"Via", b"1.1 wormhole")] * (times % 2)
        return RequestHead(b"GET", b"/", b"app.example.test", (1, 1), [*FIELDS, (b"Vib", b"wormhole"), *via])

    assert not BASE.circles(passed(MAX_PASSES))
    assert BASE.circles(passed(MAX_PASSES + 1))


def test_the_attack_a_path_that_widens_a_cookie_or_ends_a_link() -> None:
    cookie: Fields = [(b"Set-Cookie", b"a=b; Path=/; Secure")]
    # "/:tenant/*rest" with the tenant taken away: the browser keeps the cookie for the path that it asked for
    asked = b"/x;Domain=example.test/y"
    assert answered(BASE, cookie, asked, b"/y") == [(b"Set-Cookie", b"a=b; Secure")]
    link: Fields = [(b"Link", b"</base/n>; rel=next")]
    assert answered(BASE, link, b"/x>;rel=preload,<z/y", b"/y") == [(b"Link", b"</x%3E;rel=preload,%3Cz/n>; rel=next")]
    assert answered(BASE, link, b"/a'b\"c\\/y", b"/y") == [(b"Link", b"</a%27b%22c%5C/n>; rel=next")]
