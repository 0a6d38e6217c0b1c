"""Every recorded request, malformed or not, through the whole path: no origin ever gets what strict h11 refuses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import h11
import pytest

from tests._support import require_corpus, sized
from tests.edge.house import House

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOSTS = re.compile(rb"localhost:8080|__HOST__|example\.com", re.IGNORECASE)


def with_a_host(data: bytes) -> bytes:
    """The request for our site, where it names a host at all."""
    data = HOSTS.sub(b"app.test", data)
    if re.search(rb"(?i)\nhost", data):
        return data
    line, newline, rest = data.partition(b"\n")
    return line + newline + b"Host: app.test\r\n" + rest if newline else data


def cases(name: str) -> Iterator[tuple[str, list[bytes]]]:
    for line in require_corpus("corpora", name).read_text().splitlines():
        case: dict[str, Any] = json.loads(line)
        if case.get("type", "request") != "request":
            continue
        if "steps" in case:
            steps = [HOSTS.sub(b"app.test", base64.b64decode(step["b64"])) for step in case["steps"]]
        elif "template_b64" in case:
            head = base64.b64decode(case["template_b64"])
            for mark, value in ((b"__METHOD__", b"POST"), (b"__ENDPOINT__", b"/"), (b"__RANDOM__", b"1")):
                head = head.replace(mark, value)
            # both readings of the body: a length that ends it at once, and a chunk with a request behind it
            head = head.replace(b"__REPLACE_CL__", b"5")
            steps = [with_a_host(head) + b"\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"]
        elif "head_b64" in case:
            steps = [with_a_host(base64.b64decode(case["head_b64"])) + b"\r\n0\r\n\r\n"]
        else:
            steps = [with_a_host(base64.b64decode(case["b64"]))]
        yield case["id"], steps


def judge(got: bytes) -> int:
    """How many whole requests strict h11 sees in what an origin got.

    :raises h11.RemoteProtocolError: it refuses them
    """
    connection, count = h11.Connection(h11.SERVER), 0
    connection.receive_data(got)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.EndOfMessage):
            count += 1
            if connection.their_state is h11.MIGHT_SWITCH_PROTOCOL or connection.our_state is h11.MUST_CLOSE:
                return count
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return count
            connection.start_next_cycle()
        elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return count


@pytest.mark.parametrize(
    "name",
    [
        "http11probe.jsonl",
        "gunicorn_requests.jsonl",
        "llhttp_vectors.jsonl",
        "http_desync_guardian.jsonl",
        "smuggler_te_gadgets.jsonl",
    ],
)
@pytest.mark.parametrize("piece", [1 << 20, 1])
def test_no_origin_gets_an_ambiguous_request(name: str, piece: int) -> None:
    ambiguous, answered = [], 0
    # That all is the same however it is cut, the codec's own tests tell of any octets: here a part of the two that have
    # long requests is enough.
    step = sized(4, 1) if piece == 1 and name in ("http11probe.jsonl", "gunicorn_requests.jsonl") else 1
    for identity, steps in islice(cases(name), 0, None, step):
        house = House()
        visitor = house.visitor()
        for step in steps:
            for start in range(0, len(step), piece):
                visitor.says(step[start : start + piece])
        while True:
            news = [stream for stream in house.streams if not stream.disconnected and stream.read()]
            if not news:
                break
            for stream in news:
                stream.deliver(OK)
        # whoever is in the middle of something gets nothing more
        visitor.end_reading()
        for stream in house.streams:
            stream.read()
            try:
                answered += judge(stream.got)
            except h11.RemoteProtocolError as error:
                ambiguous.append((identity, str(error), stream.got))
        house.close()
    assert ambiguous == []
    assert answered > 0
