"""What a service is told of who was let in, and what visitors cannot say themselves."""

from __future__ import annotations

from wormhole_tw.http.events import Fields, RequestHead
from wormhole_tw.http.identity import alike, cookie_names, cookies_named, tell


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/", b"app.test", (1, 1), list(fields), common=True)


def told(before: RequestHead, **options: object) -> Fields:
    after = tell(before, **options)  # type: ignore[arg-type]
    assert after is not before
    assert not after.common
    return after.fields


def test_what_visitors_say_in_any_spelling_is_gone() -> None:
    before = head((b"X-User", b"root"), (b"x_user", b"root"), (b"X-Users", b"all"), (b"Authorization", b"Basic x"))
    fields = told(before, names={b"x-user", b"authorization"}, lines=[(b"X-User", b"ann")])
    assert fields == [(b"X-Users", b"all"), (b"X-User", b"ann")]
    assert len(before.fields) == 4
    # as many services read them: in each of these spellings it is the same
    before = head((b"X_User", b"root"), (b"X-User", b"root"), (b"x.user", b"root"), (b"xuser", b"no"))
    for told_in in (b"X-User", b"X_User", b"x.user"):
        assert told(before, names={alike(told_in)}) == [(b"xuser", b"no")]


def test_cookies_that_stay_here() -> None:
    before = head((b"Cookie", b"a=1; mine=x; b=2"), (b"cookie", b"mine=y"), (b"Cookie", b" mine =z;c=3"))
    assert told(before, cookies=(b"mine",)) == [(b"Cookie", b"a=1; b=2"), (b"Cookie", b"c=3")]
    assert told(before, prefix=b"mi") == [(b"Cookie", b"a=1; b=2"), (b"Cookie", b"c=3")]
    assert told(before) == before.fields


def test_all_cookies_of_a_name() -> None:
    before = head((b"Cookie", b'a=1; mine=x; mine; mine="q"'), (b"Accept", b"mine=no"), (b"cookie", b"mine=y=="))
    assert cookie_names(before, b"mi") == [b"mine", b"mine", b"mine"]
    assert cookies_named(before, b"mine") == [b"x", b'"q"', b"y=="]
