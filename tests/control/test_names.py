from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.control.names import normalise_hostname, normalise_prefix
from wormhole_tw.errors import HttpError
from wormhole_tw.http.targets import normalise_host, normalise_target


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("feature_1.example.com", "feature_1.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.example", "1.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
    ],
)
def test_host_names_in_one_form(text: str, name: str) -> None:
    assert normalise_hostname(text) == name
    assert normalise_hostname(name) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (".", "empty"),
        ("bücher.example", "xn--"),
        ("https://example.com", "no scheme"),
        ("example.com/path", "no path"),
        ("example.com:443", "the port is the listener's"),
        ("[::1]:443", "the port is the listener's"),
        ("fe80::1%eth0", "without a zone"),
        ("example..com", "empty label"),
        ("example.com..", "empty label"),
        (".example.com", "empty label"),
        ("-a.example", "letters, digits"),
        ("a-.example", "letters, digits"),
        ("a b.example", "letters, digits"),
        ("user@example.com", "letters, digits"),
        ("a" * 64 + ".example", "label longer than 63"),
        (".".join(["a" * 60] * 5), "longer than 253"),
        ("*.example.com", "no wildcard here"),
        ("a*.example.com", "whole left-most label"),
        ("300.1.1.1", "read as an IP address"),
        ("010.0.0.1", "read as an IP address"),
        ("example.1", "read as an IP address"),
    ],
)
def test_what_is_no_host_name(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        normalise_hostname(text)


@pytest.mark.parametrize("text", ["*.example.com", "*.Example.com.", "*.localhost"])
def test_wildcards_for_one_label(text: str) -> None:
    assert normalise_hostname(text, wildcard=True) == text.lower().removesuffix(".")


@pytest.mark.parametrize("text", ["*", "*.", "*.*.example.com", "a.*.example.com", "*a.example.com", "**.example.com"])
def test_other_stars_are_no_wildcards(text: str) -> None:
    with pytest.raises(ValueError, match="whole left-most label"):
        normalise_hostname(text, wildcard=True)


@given(st.text(st.sampled_from("aA1-_.*[]:0xé "), max_size=20))
def test_a_name_in_its_form_is_the_form_that_requests_are_looked_up_in(text: str) -> None:
    with contextlib.suppress(ValueError):
        name = normalise_hostname(text)
        authority = f"[{name}]" if ":" in name else name
        assert normalise_host(authority.encode()) == (authority, None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", "/"),
        ("/docs", "/docs"),
        ("/docs/", "/docs/"),
        ("/a//b", "/a//b"),
        ("/a%2fb", "/a%2Fb"),
        ("/%7Euser", "/~user"),
        ("/caf\u00e9 noir", "/caf%C3%A9%20noir"),
        ("/100%25", "/100%25"),
        ("/.well-known", "/.well-known"),
        ("/a;b=c,d@e:f", "/a;b=c,d@e:f"),
    ],
)
def test_prefixes_in_the_form_of_requests(text: str, path: str) -> None:
    assert normalise_prefix(text) == path
    assert normalise_prefix(path) == path
    assert normalise_target(path.encode()) == (path.encode(), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'begins with "/"'),
        ("docs", 'begins with "/"'),
        ("/a?b", "no query"),
        ("/a#b", "no fragment"),
        ("/a\n", "control character"),
        ("/a\x7f", "control character"),
        ("/\ud800", "control character"),
        ("/50%", "percent sign"),
        ("/%zz", "percent sign"),
        ("/a/../b", '"." and ".."'),
        ("/a/%2e%2E/b", '"." and ".."'),
        ("/.", '"." and ".."'),
        ("/a|b", "write %7C"),
    ],
)
def test_what_is_no_prefix(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        normalise_prefix(text)


@given(st.text(st.sampled_from("/a.%2eEfF~ é|"), max_size=12))
def test_a_prefix_in_its_form_stays_as_a_request_for_it_would(text: str) -> None:
    with contextlib.suppress(ValueError, HttpError):
        path = normalise_prefix("/" + text)
        assert normalise_target(path.encode()) == (path.encode(), None)
