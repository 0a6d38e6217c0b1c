"""What is said to proxies, as conversations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.errors import ProxyRefused
from wormhole_tw.net.proxy_dialogues import ConnectDialogue, Dialogue, Socks5Dialogue
from wormhole_tw.net.proxy_settings import parse_proxy

SECRET = "s3cret-of-this-test"


def connect(url: str = "http://proxy:3128", host: str = "edge.example") -> ConnectDialogue:
    return ConnectDialogue(parse_proxy(url, "HTTPS_PROXY"), host, 443)


def socks(url: str = "socks5h://proxy:1080", host: str = "edge.example") -> Socks5Dialogue:
    return Socks5Dialogue(parse_proxy(url, "ALL_PROXY"), host, 443)


def refusal(dialogue: Dialogue, *answers: bytes) -> ProxyRefused:
    dialogue.begin()
    for answer in answers[:-1]:
        dialogue.feed(answer)
    with pytest.raises(ProxyRefused) as raised:
        dialogue.feed(answers[-1])
    assert SECRET not in str(raised.value)
    return raised.value


def test_connect() -> None:
    dialogue = connect()
    assert (
        dialogue.begin()
        == b"CONNECT edge.example:443 HTTP/1.1\r\nHost: edge.example:443\r\nUser-Agent: wormhole-tw\r\n\r\n"
    )
    assert dialogue.feed(b"HTTP/1.1 200 Connection established\r\n") == (b"", False)
    assert dialogue.feed(b"\r\nfirst words") == (b"", True)
    assert dialogue.rest == b"first words"


def test_connect_to_an_address_with_credentials() -> None:
    said = connect("http://us%C3%A9r:p%3Ass@proxy:3128", "2001:db8::1").begin()
    assert said == (
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nUser-Agent: wormhole-tw\r\n"
        b"Proxy-Authorization: Basic dXPDqXI6cDpzcw==\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("url", "answer", "sentence"),
    [
        (
            "http://proxy:3128",
            b'407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"',
            "the proxy http://proxy:3128 wants a user and a password (407): write USER:PASSWORD@ before the host in "
            "HTTPS_PROXY",
        ),
        (
            f"http://user:{SECRET}@proxy:3128",
            b"407 No",
            "the proxy http://proxy:3128 does not accept the user and password of HTTPS_PROXY (407)",
        ),
        (
            f"http://user:{SECRET}@proxy:3128",
            b"407 No\r\nProxy-Authenticate: Negotiate",
            "the proxy http://proxy:3128 wants Negotiate authentication (407); user and password (Basic) is spoken "
            "here",
        ),
        (
            f"http://user:{SECRET}@proxy:3128",
            b"401 Unauthorized",
            "the proxy http://proxy:3128 does not accept the user and password of HTTPS_PROXY (401)",
        ),
        (
            "http://proxy:3128",
            b"403 Filtered",
            "the proxy http://proxy:3128 refuses a connection to edge.example:443: 403 Filtered",
        ),
        (
            "http://proxy:3128",
            b"405 Method Not Allowed",
            "the proxy http://proxy:3128 refuses a connection to edge.example:443: 405 Method Not Allowed "
            "(is it a proxy?)",
        ),
        (
            "http://proxy:3128",
            b"101 Switching",
            "the proxy http://proxy:3128 refuses a connection to edge.example:443: 101 Switching",
        ),
    ],
)
def test_connect_refused(url: str, answer: bytes, sentence: str) -> None:
    error = refusal(connect(url), b"HTTP/1.1 " + answer + b"\r\n\r\n")
    assert str(error) == sentence
    assert error.status == int(answer[:3])
    assert error.credentials is (answer[:3] in (b"401", b"407"))


def test_connect_to_what_is_no_proxy() -> None:
    error = refusal(connect(), b"SSH-2.0-OpenSSH\r\n")
    assert str(error) == "what answers at http://proxy:3128 is not an HTTP proxy: it is not HTTP/1"
    assert error.status is None


REQUEST = b"\x05\x01\x00\x03\x0cedge.example\x01\xbb"


def test_socks_without_credentials() -> None:
    dialogue = socks()
    assert dialogue.begin() == b"\x05\x01\x00"
    assert dialogue.feed(b"\x05") == (b"", False)
    assert dialogue.feed(b"\x00") == (REQUEST, False)
    assert dialogue.feed(b"\x05\x00\x00\x01") == (b"", False)
    assert dialogue.feed(b"\x00\x00\x00\x00\x00") == (b"", False)
    assert dialogue.feed(b"\x00first") == (b"", True)
    assert dialogue.rest == b"first"


def test_socks_with_credentials() -> None:
    dialogue = socks("socks5h://user:pass@proxy:1080")
    assert dialogue.begin() == b"\x05\x02\x00\x02"
    assert dialogue.feed(b"\x05\x02") == (b"\x01\x04user\x04pass", False)
    assert dialogue.feed(b"\x01") == (b"", False)
    assert dialogue.feed(b"\x00") == (REQUEST, False)
    assert dialogue.feed(b"\x05\x00\x00\x03\x04name\x00\x00") == (b"", True)


def test_socks_answers_in_one_piece() -> None:
    dialogue = socks("socks5h://user:pass@proxy:1080", "192.0.2.1")
    dialogue.begin()
    say, stands = dialogue.feed(b"\x05\x02\x01\x00\x05\x00\x00\x04" + bytes(18) + b"rest")
    assert say == b"\x01\x04user\x04pass\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"
    assert stands
    assert dialogue.rest == b"rest"


def test_socks_with_an_address_of_six() -> None:
    dialogue = socks(host="2001:db8::1")
    dialogue.begin()
    say, _ = dialogue.feed(b"\x05\x00")
    assert say == b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x01\xbb"


@pytest.mark.parametrize(
    ("url", "answers", "sentence"),
    [
        (
            "socks5://proxy:1080",
            [b"\x05\xff"],
            "the proxy socks5://proxy:1080 wants a user and a password: write USER:PASSWORD@ before the host in "
            "ALL_PROXY",
        ),
        (
            f"socks5://user:{SECRET}@proxy:1080",
            [b"\x05\xff"],
            "the proxy socks5://proxy:1080 takes neither user and password nor nobody: see its rules",
        ),
        (
            f"socks5://user:{SECRET}@proxy:1080",
            [b"\x05\x02", b"\x01\x01"],
            "the proxy socks5://proxy:1080 does not accept the user and password of ALL_PROXY",
        ),
        (
            "socks5://proxy:1080",
            [b"\x05\x00", b"\x05\x02"],
            "the proxy socks5://proxy:1080 does not connect to edge.example:443: its rules do not allow it",
        ),
        (
            "socks5://proxy:1080",
            [b"\x05\x00", b"\x05\x63"],
            "the proxy socks5://proxy:1080 does not connect to edge.example:443: code 99",
        ),
        ("socks5://proxy:1080", [b"HTTP/1.1 400"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        ("socks5://proxy:1080", [b"\x04"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        ("socks5://proxy:1080", [b"\x05\x02"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        ("socks5://u:p@proxy:1080", [b"\x05\x02\x05"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        ("socks5://u:p@proxy:1080", [b"\x05\x02\x05\x00"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        ("socks5://proxy:1080", [b"\x05\x00", b"\x04"], "what answers at socks5://proxy:1080 is not a SOCKS5 proxy"),
        (
            "socks5://proxy:1080",
            [b"\x05\x00", b"\x05\x00\x00\x09\x00"],
            "what answers at socks5://proxy:1080 is not a SOCKS5 proxy",
        ),
    ],
)
def test_socks_refused(url: str, answers: list[bytes], sentence: str) -> None:
    error = refusal(socks(url), *answers)
    assert str(error) == sentence
    assert error.credentials is ("user and" in sentence)


def test_a_proxy_that_closes_or_is_silent() -> None:
    for dialogue in connect(), socks():
        dialogue.begin()
        assert (
            str(dialogue.closed())
            == f"the proxy {dialogue.proxy} closed the connection without an answer; is it a proxy?"
        )
        assert str(dialogue.late(2.5)) == f"the proxy {dialogue.proxy} did not answer within 2.5 s"
        assert dialogue.closed().status is dialogue.late(1.0).status is None


def test_a_socks_proxy_that_closes_or_is_silent_when_it_has_to_connect() -> None:
    dialogue = socks()
    dialogue.begin()
    dialogue.feed(b"\x05\x00")  # it is one
    no = "the proxy socks5h://proxy:1080 does not connect to edge.example:443"
    for error, sentence, status in (
        (dialogue.closed(), f"{no}: it closed the connection instead", 1),
        (dialogue.late(10.0), f"{no}: no answer within 10 s", 6),
    ):
        assert (str(error), error.status) == (sentence, status)


@given(st.lists(st.binary(max_size=64), max_size=8), st.booleans(), st.booleans())
def test_whatever_a_proxy_says_is_an_answer_or_a_refusal(pieces: list[bytes], http: bool, credentials: bool) -> None:
    user = f"user:{SECRET}@" if credentials else ""
    dialogue: Dialogue = connect(f"http://{user}proxy") if http else socks(f"socks5h://{user}proxy")
    dialogue.begin()
    said = [b"HTTP/1.1 " + pieces[0], *pieces[1:]] if http and pieces else pieces
    refused = ""
    for piece in said:
        try:
            if dialogue.feed(piece)[1]:
                return
        except ProxyRefused as error:
            refused = str(error)
            break
    assert refused.isprintable()
    assert SECRET not in refused
