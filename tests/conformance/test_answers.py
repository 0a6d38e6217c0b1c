"""An origin that answers wrongly on purpose: its answer is refused or visibly cut, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from tests.conformance.origin import JudgingOrigin, Received, Script
from tests.conformance.recordings import HOST, recorded_answers
from tests.conformance.table import Table, below
from tests.conformance.visitors import Dial, Talk, answers_in, as_many, converse, source_address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def saying(data: bytes, *, then_close: bool) -> Script:
    """Answer with these octets."""

    def script(call: object, found: Received) -> bool:
        call.say(data)  # type: ignore[attr-defined]
        return not then_close

    return script


def get(path: bytes, *, method: bytes = b"GET", close: bool = True, more: bytes = b"") -> bytes:
    end = b"Connection: close\r\n" if close else b""
    return b"%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n" % (method, path, HOST, end, more)


@pytest.fixture
def scripted(origin: JudgingOrigin) -> Callable[[bytes, Script], bytes]:
    """Gives a script a path."""

    def give(name: bytes, script: Script) -> bytes:
        origin.scripts[b"/scripted/" + name] = script
        return b"/scripted/" + name

    return give


def whole(talk: Talk) -> bool:
    """The visitor got one answer of the origin's, and believes in its end."""
    return len(talk.answers) == 1 and not talk.broken and talk.status != 502


# What must not be believed, by RFC 9112 §4 to §7 and RFC 9110 §5, §15.
BAD_HEADS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "a hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "a length of 20 digits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks in two lines": b"HTTP/1.1 200 OK\r\n" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "another coding and chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks in disguise": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "white space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
    "a bare LF": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 2\r\n\r\nok",
    "a bare CR": b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 2\r\n\r\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nX: y\0\r\nContent-Length: 2\r\n\r\nok",
    "a control character": b"HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 2\r\n\r\nok",
    "a line without a colon": b"HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 2\r\n\r\nok",
    "an empty name": b"HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 2\r\n\r\nok",
    "a name that is no token": b"HTTP/1.1 200 OK\r\nX[: y\r\nContent-Length: 2\r\n\r\nok",
    "lines that end in LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "white space before the fields": b"HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 2\r\n\r\nok",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status under 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "http in small letters": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"ok",
    "ICY": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a blank line first": b"\r\n" + OK,
    "another protocol, not asked for": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an interim answer with a length": b"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\nok" + OK,
    "an interim answer with chunks": b"HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + OK,
    "interim answers without an end": b"HTTP/1.1 102 Processing\r\n\r\n" * 5000 + OK,
    "101 fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"Content-Length: 2\r\n\r\nok",
    "40 KB in a field": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "a head without an end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
}

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
BAD_BODIES = {
    "a size that is none": CHUNKED + b"x\r\nok\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "a size with a sign": CHUNKED + b"+2\r\nok\r\n0\r\n\r\n",
    "a size with 0x": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "a size of 17 digits": CHUNKED + b"00000000000000002\r\nok\r\n0\r\n\r\n",
    "a size that overflows": CHUNKED + b"FFFFFFFFFFFFFFFF1\r\nok\r\n0\r\n\r\n",
    "a size and spaces": CHUNKED + b"2  \r\nok\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nok\r\n0\r\n\r\n",
    "a chunk that is too long": CHUNKED + b"2\r\nok!\r\n0\r\n\r\n",
    "a chunk that is too short": CHUNKED + b"3\r\nok\r\n0\r\n\r\n",
    "a chunk that ends in LF": CHUNKED + b"2\r\nok\n0\r\n\r\n",
    "a size that ends in LF": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "a size that ends in CR": CHUNKED + b"2\rok\r\n0\r\n\r\n",
    "an extension without an end": CHUNKED + b"2;a=" + b"b" * 100000 + b"\r\nok\r\n0\r\n\r\n",
    "an extension with a bare CR": CHUNKED + b"2;a\rb\r\nok\r\n0\r\n\r\n",
    "many extensions": CHUNKED + b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000 + b"0\r\n\r\n",
    "a length in the trailers": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that is no field": CHUNKED + b"0\r\nnothing\r\n\r\n",
    "trailers without an end": CHUNKED + b"0\r\n" + b"X: y\r\n" * 3000,
    "no last chunk": CHUNKED,
    "no end after the last chunk": CHUNKED + b"0\r\n",
    "less than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
}


@pytest.fixture(scope="module")
def ours(dial: Dial, origin: JudgingOrigin, table: Table) -> dict[str, Talk]:
    """Each of those asked for once."""
    scripts = {**BAD_HEADS, **BAD_BODIES}
    for number, data in enumerate(scripts.values()):
        origin.scripts[b"/bad/%d" % number] = saying(data, then_close=True)

    def one(number: int) -> Talk:
        return converse(dial, source_address(10000 + number), [get(b"/bad/%d" % number)])

    talks = dict(zip(scripts, as_many(one, range(len(scripts))), strict=True))
    refused = sum(not whole(talk) for talk in talks.values())
    lines = {"answers of ours, not valid": {"cases": len(scripts), "refused": refused}}
    table.add("edge", lines)
    assert below(lines) == []
    return talks


def test_heads_that_are_not_believed(ours: dict[str, Talk]) -> None:
    assert {name: ours[name].raw[:80] for name in BAD_HEADS if ours[name].status != 502} == {}
    for name in BAD_HEADS:
        answer = ours[name].answers[0]
        assert answer.value(b"x-wormhole-error") in (b"bad-answer", b"service-failed"), name
        assert len(ours[name].answers) == 1, name


def test_bodies_that_are_not_believed_are_cut(ours: dict[str, Talk]) -> None:
    """The head was good and has gone out, or was dropped with the rest; so the visitor sees that it did not get all of
    it."""
    for name in BAD_BODIES:
        talk = ours[name]
        assert talk.broken or talk.status == 502 or not talk.raw, name
        assert not talk.raw.endswith(b"0\r\n\r\n"), name


def test_recorded_answers(dial: Dial, origin: JudgingOrigin, table: Table) -> None:
    cases = list(recorded_answers())
    for case in cases:
        origin.scripts[b"/recorded/" + case.id.encode()] = saying(case.steps[0], then_close=True)

    def one(number: int) -> Talk:
        return converse(dial, source_address(11000 + number), [get(b"/recorded/" + cases[number].id.encode())])

    talks = as_many(one, range(len(cases)))
    bad = [(case, talk) for case, talk in zip(cases, talks, strict=True) if case.bad]
    believed = {case.id.removesuffix("+end") for case, talk in bad if whole(talk)}
    lines = {"llhttp answers, not valid": {"cases": len(bad), "refused": sum(not whole(talk) for _, talk in bad)}}
    table.add("edge", lines)
    assert below(lines) == []
    # what follows an answer that closes is not read
    assert believed <= {"llhttp-response-connection-05", "llhttp-response-connection-07"}
    for case, talk in zip(cases, talks, strict=True):
        assert len(talk.answers) <= 1, case.id
        assert talk.closed, case.id


def test_what_an_origin_sends_unasked_answers_nobody(dial: Dial, scripted: Callable[[bytes, Script], bytes]) -> None:
    """A second answer behind the first, a body where none can be: neither is ever given to the next request."""
    paths = [
        (b"GET", scripted(b"two", saying(OK + EVIL, then_close=False))),
        (b"GET", scripted(b"longer", saying(OK + b"!!", then_close=False))),
        (b"HEAD", scripted(b"head", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + EVIL, then_close=False))),
        (b"HEAD", scripted(b"head2", saying(b"HTTP/1.1 200 OK\r\n\r\n" + EVIL, then_close=False))),
        (b"GET", scripted(b"304", saying(b"HTTP/1.1 304 Not\r\nContent-Length: 40\r\n\r\n" + EVIL, then_close=False))),
        (b"GET", scripted(b"204", saying(b"HTTP/1.1 204 No\r\n\r\n" + EVIL, then_close=False))),
    ]
    for number, (method, path) in enumerate(paths):
        for turn in range(5):
            body = b"%d-%d" % (number, turn)
            second = get(b"/", method=b"POST", more=b"Content-Length: %d\r\n" % len(body)) + body
            talk = converse(dial, source_address(12000 + number), [get(path, method=method, close=False) + second])
            answers, broken = answers_in(talk.raw, [method, b"POST"])
            assert not broken
            assert len(answers) == 2, path
            assert answers[1].body == body, path
            assert b"evil" not in talk.raw


def test_a_late_body_answers_nobody(dial: Dial, scripted: Callable[[bytes, Script], bytes]) -> None:
    """The body of an answer to HEAD comes while the next request waits for its own answer."""
    go = threading.Event()

    def late(call: object, found: Received) -> bool:
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n")  # type: ignore[attr-defined]
        go.wait(10)
        with contextlib.suppress(OSError):
            call.say(EVIL)  # type: ignore[attr-defined]
        return True

    def slow(call: object, found: Received) -> bool:
        go.set()
        call.request.settimeout(0.3)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            call.request.recv(1, socket.MSG_PEEK)  # type: ignore[attr-defined]
        call.request.settimeout(60)  # type: ignore[attr-defined]
        call.say(OK)  # type: ignore[attr-defined]
        return True

    first, second = scripted(b"late", late), scripted(b"slow", slow)
    steps = [get(first, method=b"HEAD", close=False) + get(second)]
    talk = converse(dial, source_address(12100), steps)
    answers, broken = answers_in(talk.raw, [b"HEAD", b"GET"])
    assert not broken
    assert [answer.body for answer in answers] == [b"", b"ok"]


def test_an_answer_is_not_split(dial: Dial, scripted: Callable[[bytes, Script], bytes]) -> None:
    """What an application reflects into a field stays in that field, or nothing of it goes out."""
    for number, end in enumerate((b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b"\x0b", b"\xc4\x8a", b"%0d%0a")):
        data = b"HTTP/1.1 302 Found\r\nLocation: /?x=%sSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n" % end
        path = scripted(b"split%d" % number, saying(data, then_close=True))
        talk = converse(dial, source_address(12200 + number), [get(path)])
        assert len(talk.answers) == 1, end
        if end not in (b"\r\n", b"\r\n\r\n"):  # those are two fields, and whole, for anybody
            assert talk.status == 502 or talk.answers[0].value(b"set-cookie") is None, end


def test_interim_answers_pass_and_are_no_answers(dial: Dial, scripted: Callable[[bytes, Script], bytes]) -> None:
    many = b"HTTP/1.1 102 Processing\r\n\r\n" * 100 + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    path = scripted(b"interim", saying(many, then_close=False))
    talk = converse(dial, source_address(12300), [get(path)])
    assert [(a.status, a.body, len(a.interim)) for a in talk.answers] == [(200, b"ok", 101)]
    # RFC 9110 §15.2: HTTP/1.0 knows none
    old = b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path, HOST)
    assert [len(a.interim) for a in converse(dial, source_address(12301), [old]).answers] == [0]


def test_what_is_of_one_connection_does_not_pass(dial: Dial, scripted: Callable[[bytes, Script], bytes]) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=99\r\nX-Mine: a\r\nX-Other: b\r\n"
        b"Proxy-Connection: x\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
    )
    talk = converse(dial, source_address(12400), [get(scripted(b"hop", saying(data, then_close=False)))])
    names = {name for name, _ in talk.answers[0].fields}
    assert not names & {b"keep-alive", b"x-mine", b"proxy-connection", b"upgrade"}
    assert b"x-other" in names
    assert talk.answers[0].value(b"connection") == b"close"
