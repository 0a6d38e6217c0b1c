"""Rule by rule, as ``docs/http.md`` tells them: the status, what closes, what is brought to one form, what passes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

import pytest

from tests._support import ROOT, SRC
from tests.conformance.origin import JudgingOrigin, Received
from tests.conformance.recordings import HOST
from tests.conformance.visitors import Dial, Talk, answers_in, as_many, converse, source_address
from tests.end_to_end.house import House

DOCUMENT = (ROOT / "docs" / "http.md").read_text()
LINE = b"GET / HTTP/1.1\r\n"
WITH_HOST = LINE + b"Host: " + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\nHost: " + HOST + b"\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def sources() -> Iterator[str]:
    return (source_address(20000 + number) for number in count())


REFUSED = [
    # section, status, reason, request
    ("9112 §2.2", 400, "bad-request", b"GET / HTTP/1.1\nHost: a\n\n"),
    ("9112 §2.2", 400, "bad-request", WITH_HOST + b"X: a\rY: b\r\n\r\n"),
    ("9112 §2.2", 400, "bad-request", LINE + b" X: y\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §2.2", 400, "bad-request", b"\r\n\r\n" + WITH_HOST + b"\r\n"),
    ("9112 §2.3", 400, "bad-request", b"GET / HTTP/1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §2.3", 505, "bad-version", b"GET / HTTP/2.0\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §2.3", 505, "bad-version", b"GET / HTTP/1.2\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3", 400, "bad-request", b"GET  / HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3", 400, "bad-request", b"GET\t/ HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3", 501, "method-too-long", b"M" * 33 + b" / HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3", 414, "target-too-long", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-request", b"GET a HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-target", b"GET /a#b HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-host", LINE + b"\r\n"),
    ("9112 §3.2", 400, "bad-host", WITH_HOST + b"Host: " + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-host", LINE + b"Host: a@" + HOST + b"\r\n\r\n"),
    ("9112 §3.2", 400, "bad-host", LINE + b"Host:\r\n\r\n"),
    ("9112 §3.2.4", 400, "bad-target", b"GET * HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9112 §5.1", 400, "bad-request", WITH_HOST + b"X : y\r\n\r\n"),
    ("9112 §5.2", 400, "bad-request", WITH_HOST + b"X: y\r\n z\r\n\r\n"),
    ("9110 §5.1", 400, "bad-request", WITH_HOST + b"X[: y\r\n\r\n"),
    ("9110 §5.4", 431, "too-many-fields", WITH_HOST + b"X: y\r\n" * 100 + b"\r\n"),
    ("9110 §5.4", 431, "head-too-large", WITH_HOST + b"X: " + b"y" * 40000 + b"\r\n\r\n"),
    ("9110 §5.5", 400, "bad-request", WITH_HOST + b"X: \x07\r\n\r\n"),
    ("9110 §7.6.2", 400, "bad-max-forwards", b"OPTIONS / HTTP/1.1\r\nHost: " + HOST + b"\r\nMax-Forwards: x\r\n\r\n"),
    ("9110 §7.8", 400, "bad-upgrade", WITH_HOST + b"Connection: upgrade\r\nUpgrade: a b\r\n\r\n"),
    ("9110 §8.6", 400, "bad-request", POST + b"Content-Length: 1, 1\r\n\r\nx"),
    ("9110 §8.6", 400, "bad-request", POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    ("9110 §8.6", 400, "bad-content-length", POST + b"Content-Length: 1000000000000000000\r\n\r\nx"),
    ("9110 §9.3.6", 501, "connect-refused", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    ("9110 §9.3.8", 501, "trace-refused", b"TRACE / HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("9110 §10.1.1", 417, "bad-expect", WITH_HOST + b"Expect: x\r\n\r\n"),
    ("9112 §6.1", 501, "bad-transfer-encoding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.1", 400, "bad-transfer-encoding", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.3", 400, "bad-request", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("9112 §7.1", 400, "bad-chunk", CHUNKS + b"0x1\r\nx\r\n0\r\n\r\n"),
    ("9112 §7.1", 400, "bad-chunk", CHUNKS + b"1\r\nxy\r\n0\r\n\r\n"),
    ("9112 §7.1.1", 400, "bad-chunk", CHUNKS + b"1;" + b"a" * 9000 + b"\r\nx\r\n0\r\n\r\n"),
    ("9112 §7.1.2", 400, "bad-trailers", CHUNKS + b"0\r\nContent-Length: 5\r\n\r\n"),
    ("9112 §7.1.2", 431, "trailers-too-large", CHUNKS + b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
    ("9112 §8", 408, "request-timeout", WITH_HOST),
    ("9112 §8", 408, "request-timeout", POST + b"Content-Length: 5\r\n\r\nx"),
    ("3986 §2.1", 400, "bad-target", b"GET /%zz HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
    ("3986 §5.2.4", 400, "bad-target", b"GET /../a HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"),
]

STAYS_OPEN = ("3986 §2.1", "3986 §5.2.4", "9110 §7.6.2")
"""Where such a request ends is known: the next one on its connection is answered."""


def test_each_refusal_has_its_status_and_closes(dial: Dial, origin: JudgingOrigin) -> None:
    hidden = b"GET /behind HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"

    def one(number: int) -> Talk:
        _, status, _, data = REFUSED[number]
        return converse(dial, source_address(20500 + number), [data if status == 408 else data + hidden])

    for (section, status, reason, data), talk in zip(REFUSED, as_many(one, range(len(REFUSED))), strict=True):
        about = (section, data[:120])
        more = [200] if section in STAYS_OPEN else []
        assert [answer.status for answer in talk.answers] == [status, *more], about
        assert talk.answers[0].value(b"x-wormhole-error") == reason.encode(), about
        assert talk.answers[0].value(b"connection") == (None if more else b"close"), about
        assert talk.closed, about
    assert [found.target for found in origin.requests].count(b"/behind") == len(STAYS_OPEN)


def test_the_document_tells_each_refusal() -> None:
    for section, status, reason, _ in REFUSED:
        assert section in DOCUMENT, section
        assert f"`{reason}`" in DOCUMENT, reason
        assert re.search(rf"\b{status}\b", DOCUMENT), status


def test_the_document_names_every_reason_of_the_codec() -> None:
    named = set(re.findall(r"`([a-z0-9-]+)`", DOCUMENT))
    for path in [*(SRC / "wormhole_tw" / "http" / "h1").glob("*.py"), SRC / "wormhole_tw" / "http" / "targets.py"]:
        reasons = set(re.findall(r'(?:HttpError|_refuse)\(\s*\d+, "([a-z0-9-]+)"', path.read_text()))
        assert reasons <= named, path.name


def ask(dial: Dial, origin: JudgingOrigin, source: str, data: bytes) -> tuple[Talk, list[Received]]:
    talk = converse(dial, source, [data])
    return talk, origin.by_visitor().get(source, [])


NORMALISED = [
    # request, what the origin has to get
    (b"GET /a/./b/../%7euser/%2f%c3%a9 HTTP/1.1\r\nHost: @\r\n\r\n", (b"GET", b"/a/~user/%2F%C3%A9"), {}),
    (b"GET http://@/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n", (b"GET", b"/x?y"), {b"host": HOST}),
    (b"GET http://@ HTTP/1.1\r\nHost: @\r\n\r\n", (b"GET", b"/"), {}),
    (b"GET / HTTP/1.0\r\nHost: @\r\n\r\n", (b"GET", b"/"), {b"via": b"1.0 wormhole"}),
    (b"POST / HTTP/1.1\r\nHost: @\r\nContent-Length: 0005\r\n\r\nhello", (b"POST", b"/"), {b"content-length": b"5"}),
    (
        b"GET / HTTP/1.1\r\nHost: @\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n",
        (b"GET", b"/"),
        {b"te": b"trailers"},
    ),
    (b"GET / HTTP/1.1\r\nHost: @\r\nTE: gzip\r\n\r\n", (b"GET", b"/"), {b"te": None}),
    (b"GET / HTTP/1.1\r\nHost: @\r\nX:  \t a b \t\r\n\r\n", (b"GET", b"/"), {b"x": b"a b"}),
    (
        b"GET / HTTP/1.1\r\nHost: @\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
        (b"GET", b"/"),
        {b"x-a": None, b"x-b": b"2"},
    ),
    (
        b"GET / HTTP/1.1\r\nHost: @\r\nConnection: host, cookie, authorization, x-forwarded-for\r\n"
        b"Cookie: a\r\nAuthorization: b\r\n\r\n",
        (b"GET", b"/"),
        {b"host": HOST, b"cookie": b"a", b"authorization": b"b"},
    ),
    (
        b"GET / HTTP/1.1\r\nHost: @\r\nProxy: http://evil\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
        b"Proxy-Authorization: y\r\nHTTP2-Settings: z\r\nContent_Length: 9\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n",
        (b"GET", b"/"),
        {
            **dict.fromkeys((b"proxy", b"keep-alive", b"proxy-connection", b"proxy-authorization")),
            **dict.fromkeys((b"http2-settings", b"content_length", b"x_forwarded_for")),
        },
    ),
    (
        b"GET / HTTP/1.1\r\nHost: @\r\nX-Forwarded-Proto: ftp\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\r\n",
        (b"GET", b"/"),
        {b"x-forwarded-proto": b"https", b"x-real-ip": None},
    ),
    (b"OPTIONS * HTTP/1.1\r\nHost: @\r\nMax-Forwards: 2\r\n\r\n", (b"OPTIONS", b"*"), {b"max-forwards": b"1"}),
    (b"GET / HTTP/1.1\r\nHost: @\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", (b"GET", b"/"), {b"upgrade": None}),
    (
        b"GET / HTTP/1.0\r\nHost: @\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        (b"GET", b"/"),
        {b"upgrade": None},
    ),
    (b"GET / HTTP/1.1\r\nHost: @\r\nContent-Length: 2\r\n\r\nok", (b"GET", b"/"), {b"content-length": b"2"}),
]


def test_what_passes_has_one_form(dial: Dial, origin: JudgingOrigin) -> None:
    def one(number: int) -> Talk:
        return converse(dial, source_address(21000 + number), [NORMALISED[number][0].replace(b"@", HOST)])

    talks = as_many(one, range(len(NORMALISED)))
    by_visitor = origin.by_visitor()
    for number, ((data, line, fields), talk) in enumerate(zip(NORMALISED, talks, strict=True)):
        assert talk.status == 200, data
        [found] = by_visitor[source_address(21000 + number)]
        assert (found.method, found.target) == line
        assert found.faults == found.odd == []
        for name, value in fields.items():
            assert found.values(name) == ([] if value is None else [value]), (name, data)
        # what has no body is framed in no way
        framed = found.values(b"content-length") + found.values(b"transfer-encoding")
        assert len(framed) == (b"Content-Length" in data), data


def test_chunks_are_written_anew(dial: Dial, origin: JudgingOrigin, sources: Iterator[str]) -> None:
    body = b'5;a=b\r\nhello\r\n0006;c="d;e"\r\n world\r\n000\r\nX-Sum: 1\r\nAuthorization: evil\r\n\r\n'
    talk, [found] = ask(dial, origin, next(sources), CHUNKS + body)
    assert talk.answers[0].body == found.body == b"hello world"
    assert found.trailers == [(b"x-sum", b"1")]


def test_an_options_of_no_more_hops_ends_here(dial: Dial, origin: JudgingOrigin, sources: Iterator[str]) -> None:
    data = b"OPTIONS / HTTP/1.1\r\nHost: " + HOST + b"\r\nMax-Forwards: 0\r\n\r\n"
    talk, received = ask(dial, origin, next(sources), data)
    assert (talk.status, talk.answers[0].body, received) == (200, b"", [])


def test_a_refused_head_has_no_body(dial: Dial, sources: Iterator[str]) -> None:
    talk = converse(dial, next(sources), [b"HEAD / HTTP/1.1\r\n\r\n"], method=b"HEAD")
    assert (talk.status, talk.broken) == (400, "")
    assert talk.raw.endswith(b"\r\n\r\n")


# RFC 9112 §11.2, and what two readers may make of one body.  Behind each stands a request that must never be answered.
TWO_READINGS = [
    b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"X: X\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding\r\n : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("number", range(12))
def test_two_readings_of_one_body(number: int, dial: Dial, origin: JudgingOrigin, sources: Iterator[str]) -> None:
    data = POST + TWO_READINGS[number] + b"GET /smuggled HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
    talk, received = ask(dial, origin, next(sources), data)
    assert ([answer.status for answer in talk.answers], talk.closed, received) == ([400], True, [])


def test_an_early_refusal_leaves_no_body_behind(dial: Dial, origin: JudgingOrigin, sources: Iterator[str]) -> None:
    """What is left of a body is read and thrown away, or the connection ends; it is never taken for a request."""
    inner = b"GET /inner HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
    for size in (len(inner), 40000, 2_000_000):
        body = (inner * (size // len(inner) + 1))[:size]
        head = b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: %d\r\n\r\n" % size
        source = next(sources)
        talk, received = ask(dial, origin, source, head + body + b"GET /last HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")
        assert [answer.status for answer in talk.answers] in ([404], [404, 200]), size
        assert [found.target for found in received] in ([], [b"/last"])
        assert len(received) == len(talk.answers) - 1


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        (b"GET / HTTP/1.1\r\n", [200, 200]),
        (b"GET / HTTP/1.0\r\n", [200]),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n", [200, 200]),
    ],
)
def test_what_stands_behind_an_upgrade_that_was_not_taken_is_a_request(
    line: bytes, answers: list[int], dial: Dial, origin: JudgingOrigin, sources: Iterator[str]
) -> None:
    behind = b"GET /second HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
    data = line + b"Host: " + HOST + b"\r\n" + UPGRADE + b"\r\n" + behind
    talk, received = ask(dial, origin, next(sources), data)
    assert [answer.status for answer in talk.answers] == answers
    assert len(received) == len(answers)
    assert all(found.faults == [] for found in received)


def test_an_upgrade_that_is_taken_carries_octets(dial: Dial, origin: JudgingOrigin, sources: Iterator[str]) -> None:
    seen: list[bytes] = []

    def switch(call: object, found: Received) -> bool:
        call.say(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")  # type: ignore[attr-defined]
        seen.append(call._waiting + call.request.recv(65536))  # type: ignore[attr-defined]
        call.say(b"raw back")  # type: ignore[attr-defined]
        return False

    origin.scripts[b"/switch"] = switch
    behind = b"GET /second HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
    data = b"GET /switch HTTP/1.1\r\nHost: " + HOST + b"\r\n" + UPGRADE + b"\r\n" + behind
    source = next(sources)
    raw = b""
    with dial(source) as visitor:
        visitor.sendall(data)
        while not raw.endswith(b"raw back"):
            data = visitor.recv(65536)
            assert data, raw
            raw += data
    assert raw.startswith(b"HTTP/1.1 101 ")
    assert b"".join(seen) == behind
    assert len(origin.by_visitor()[source]) == 1


def test_sizes_cost_less_than_a_megabyte_each(dial: Dial, house: House, sources: Iterator[str]) -> None:
    """RFC 9110 §17.5: a head that grows without end is refused while it grows."""
    openings = [
        b"GET /" + b"a" * 100_000,
        WITH_HOST + b"X: " + b"y" * 100_000,
        WITH_HOST + b"X: y\r\n" * 10_000,
        CHUNKS + b"1;a=" + b"b" * 65_536,
    ]
    before = house.edge.peak_memory()
    jobs = [(source, data) for data in openings * 16 for source in [next(sources)]]
    talks = as_many(lambda job: converse(dial, job[0], [job[1]]), jobs)
    statuses = {talk.status for talk in talks}
    assert statuses == {414, 431, 400}
    assert house.edge.peak_memory() - before < len(jobs) * 1_000_000


def test_an_answer_to_old_clients_ends_with_the_connection(dial: Dial, sources: Iterator[str]) -> None:
    talk = converse(dial, next(sources), [b"GET / HTTP/1.0\r\nHost: " + HOST + b"\r\n\r\n"])
    assert talk.answers[0].value(b"connection") == b"close"
    kept = b"GET / HTTP/1.0\r\nHost: " + HOST + b"\r\nConnection: keep-alive\r\n\r\n"
    talk = converse(dial, next(sources), [kept + kept])
    assert [answer.value(b"connection") for answer in talk.answers] == [b"keep-alive", b"keep-alive"]
    assert answers_in(talk.raw, [b"GET", b"GET"])[1] == ""
