"""One form of a path, one form of a host name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import HttpError
from wormhole_tw.http.targets import normalise_host, normalise_target, reduce_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", None),
        (b"*", b"*", None),
        (b"/a/b.html", b"/a/b.html", None),
        (b"/a?", b"/a", b""),
        (b"/a?b=c?d&%7e=%zz/../x", b"/a", b"b=c?d&%7e=%zz/../x"),
        (b"/a/./b", b"/a/b", None),
        (b"/a/../b", b"/b", None),
        (b"/a/b/..", b"/a/", None),
        (b"/a/.", b"/a/", None),
        (b"/.", b"/", None),
        (b"/a/../", b"/", None),
        (b"/.well-known/x", b"/.well-known/x", None),
        (b"/...", b"/...", None),
        (b"/..a/b..", b"/..a/b..", None),
        (b"//", b"//", None),
        (b"//a//b", b"//a//b", None),
        (b"/a//../b", b"/a/b", None),
        (b"/a%2Fb", b"/a%2Fb", None),
        (b"/a%2fb", b"/a%2Fb", None),
        (b"/%7Euser/%41", b"/~user/A", None),
        (b"/a/%2e%2E/b", b"/b", None),
        (b"/a/.%2e/b", b"/b", None),
        (b"/%252e%252e/", b"/%252e%252e/", None),
        (b"/%c3%a9", b"/%C3%A9", None),
        (b"/a%20b", b"/a%20b", None),
        (b'/with_"quotes"', b'/with_"quotes"', None),
    ],
)
def test_paths(target, path, query):
    assert normalise_target(target) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"/..",
        b"/../a",
        b"/a/../..",
        b"/%2e%2e/a",
        b"/a/../../b",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/a%2",
        b"/%+1",
        b"a",
        b"",
        b"*a",
    ],
)
def test_paths_that_are_refused(target):
    with pytest.raises(HttpError) as caught:
        normalise_target(target)
    assert (caught.value.status, caught.value.reason) == (400, "bad-target")


@given(st.text("/.%2eEaZ~Ff5?", max_size=30).map(lambda text: b"/" + text.encode()))
def test_a_form_that_is_canonical_stays(target):
    try:
        path, query = normalise_target(target)
    except HttpError:
        return
    assert normalise_target(path) == (path, None)
    assert b"/../" not in path + b"/"
    assert b"/./" not in path + b"/"
    assert query == (target.partition(b"?")[2] if b"?" in target else None)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/a?b", (b"/a?b", None)),
        (b"OPTIONS", b"*", (b"*", None)),
        (b"GET", b"http://a.test", (b"/", b"a.test")),
        (b"OPTIONS", b"http://a.test", (b"*", b"a.test")),
        (b"OPTIONS", b"http://a.test/", (b"/", b"a.test")),
        (b"GET", b"HTTPS://a.test:8443/x?y", (b"/x?y", b"a.test:8443")),
        (b"GET", b"http://a.test?y", (b"/?y", b"a.test")),
    ],
)
def test_forms_of_target(method, target, expected):
    assert reduce_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"*"),
        (b"GET", b"/a#b"),
        (b"GET", b"http://"),
        (b"GET", b"http:///a"),
        (b"GET", b"http://a.test/#x"),
        (b"GET", b"ftp://a.test/"),
        (b"GET", b"a.test:443"),
        (b"GET", b"http:/a"),
    ],
)
def test_targets_that_are_refused(method, target):
    with pytest.raises(HttpError) as caught:
        reduce_target(method, target)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"a.test", ("a.test", None)),
        (b"A.Test.", ("a.test", None)),
        (b"a.test:8443", ("a.test", 8443)),
        (b"a_b-c.test", ("a_b-c.test", None)),
        (b"localhost.:1", ("localhost", 1)),
        (b"127.0.0.1:080", ("127.0.0.1", 80)),
        (b"[::1]", ("[::1]", None)),
        (b"[2001:DB8:0::1]:443", ("[2001:db8::1]", 443)),
        (b"xn--bcher-kva.test", ("xn--bcher-kva.test", None)),
        (b"a" * 63 + b".test", ("a" * 63 + ".test", None)),
    ],
)
def test_hosts(authority, expected):
    assert normalise_host(authority) == expected


@pytest.mark.parametrize(
    "authority",
    [
        b"", b".", b"..", b"a..b", b".a", b"-a.test", b"a-.test", b"a.test:", b"a.test:0", b"a.test:65536", b"a.test:x",
        b"a.test:-1", b"user@a.test", b"a.test/x", b"a.test, b.test", b"a b", b"a%2etest", b"b\xc3\xbccher.test",
        b"a=b", b"[::1", b"::1", b"[::g]", b"[1:2]", b"[::1]x", b"[fe80::1%25eth0]", b"1.2.3", b"256.1.1.1",
        b"1.2.3.4.5", b"a.1", b"a" * 64 + b".test", b".".join([b"a" * 49] * 6), b"a" * 300, b"a.test\n",
    ],
)  # fmt: skip
def test_hosts_that_are_refused(authority):
    with pytest.raises(HttpError) as caught:
        normalise_host(authority)
    assert (caught.value.status, caught.value.reason) == (400, "bad-host")
