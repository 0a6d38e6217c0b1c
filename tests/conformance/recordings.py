"""Other people's requests and answers, ready to be sent: our host name in them, and a class for the table.

The recordings stand beside the checkout (``tests._support.require_corpus``); nothing of them is in the tree.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests._support import require_corpus

__all__ = ["ANSWERS", "CORPORA", "HOST", "PROBE", "Recorded", "probe_cases", "recorded_answers", "recorded_requests"]

HOST = b"app.example.test"
PROBE = "http11probe"

_HOSTS = re.compile(rb"localhost:8080|__HOST__|example\.com(?!:443)", re.IGNORECASE)

_PLAIN_HOST = re.compile(rb"(?im)^(host:[ \t]*)[a-z0-9.-]+(?::\d+)?(?=\r?$)")
"""A Host with nothing amiss but that it is not ours."""

_FILLED = (
    (b"__METHOD__", b"POST"),
    (b"__ENDPOINT__", b"/"),
    (b"__RANDOM__", b"1"),
    # both readings of the body: a length that ends it at once, and a chunk with a request behind it
    (b"__REPLACE_CL__", b"5"),
)
_LOST = {
    "MAL-NON-ASCII-HEADER-NAME": (b"X-T??st", "X-T\u00ebst".encode()),
    "MAL-NON-ASCII-URL": (b"/caf??", "/caf\u00e9".encode()),
    "MAL-URL-OVERLONG-UTF8": (b"/??", b"/\xc0\xaf"),
}
"""Octets that were question marks already where these were published, and what their descriptions say they are."""

_HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"


@dataclass(frozen=True)
class Recorded:
    """One conversation's first half.

    :ivar group: the line of the table that it counts in
    :ivar bad: it must be refused, or brought to one form (else it is valid, or nobody says)
    :ivar good: it must be accepted
    :ivar steps: what is sent
    :ivar delays: seconds to wait before each step
    :ivar facts: the recording itself
    """

    id: str
    group: str
    bad: bool
    good: bool
    steps: tuple[bytes, ...]
    delays: tuple[float, ...]
    facts: dict[str, Any]

    @property
    def method(self) -> bytes:
        """Of the first request, as far as it matters for reading its answer."""
        return b"HEAD" if b"".join(self.steps).startswith(b"HEAD ") else b"GET"


def _lines(name: str) -> Iterator[dict[str, Any]]:
    with require_corpus("corpora", f"{name}.jsonl").open() as lines:
        for line in lines:
            yield json.loads(line)


def _recorded(
    case: dict[str, Any], group: str, steps: list[bytes], *, bad: bool, good: bool, delays: list[float] | None = None
) -> Recorded:
    return Recorded(case["id"], group, bad, good, tuple(steps), tuple(delays or [0.0] * len(steps)), case)


def _with_host(data: bytes) -> bytes:
    """The request for our site, with a Host where it has none."""
    data = _PLAIN_HOST.sub(rb"\1" + HOST, _HOSTS.sub(HOST, data))
    if re.search(rb"(?i)\nhost", data):
        return data
    line, newline, rest = data.partition(b"\n")
    return line + newline + b"Host: " + HOST + b"\r\n" + rest if newline else data


def probe_cases() -> Iterator[Recorded]:
    """Http11Probe: whole conversations, with what is expected of a server."""
    for case in _lines(PROBE):
        expected = case["expected"]
        good = expected.startswith(("2xx", "Range2xx"))
        # the host name is an octet or two longer or shorter, nothing counts that
        lost, meant = _LOST.get(case["id"], (b"", b""))
        steps = [
            base64.b64decode(step["b64"]).replace(lost, meant) if lost else base64.b64decode(step["b64"])
            for step in case["steps"]
        ]
        steps = [_HOSTS.sub(HOST, step) for step in steps]
        delays = [step["delay_ms"] / 1000 for step in case["steps"]]
        bad = bool(re.search("40|Reject", expected)) and not re.search("2xx|200|Allow", expected)
        yield _recorded(case, PROBE, steps, bad=bad, good=good, delays=delays)


def gunicorn_cases() -> Iterator[Recorded]:
    """gunicorn's own: valid and not valid ones, without those that want one of its options."""
    for case in _lines("gunicorn_requests"):
        if not case["cfg"]:
            bad = case["expected"] == "reject"
            steps = [_each_with_host(base64.b64decode(case["b64"]))]
            yield _recorded(case, "gunicorn", steps, bad=bad, good=not bad)


def _each_with_host(data: bytes) -> bytes:
    """A Host for each of the pipelined requests of a recording."""
    for start in (b"GET /second", b"GET /first", b"POST /two_chunks_mult_zero_end"):
        at = data.find(start)
        if at > 0:
            return _with_host(data[:at]) + _with_host(data[at:])
    return _with_host(data)


def llhttp_cases() -> Iterator[Recorded]:
    """Node's parser: its requests in strict mode."""
    for case in _lines("llhttp_vectors"):
        if case["type"] == "request":
            bad = case["expected"] == "reject"
            data = _with_host(base64.b64decode(case["b64"]))
            # most recordings of valid ones stop before the blank line
            steps = [data] if bad else [data, b"\r\n"]
            yield _recorded(case, "llhttp", steps, bad=bad, good=not bad and case["meta"] == {"type": "request"})


def guardian_cases() -> Iterator[Recorded]:
    """Heads of AWS' desync guardian, each with an end of chunks behind it and a request behind that."""
    for case in _lines("http_desync_guardian"):
        data = _with_host(base64.b64decode(case["head_b64"])) + b"\r\n"
        for mark, body in (("", b""), ("+chunks", b"0\r\n\r\n")):
            tier = case["tier"]
            changed = {**case, "id": case["id"] + mark}
            # a compliant head is not whole without its body, which nobody recorded: it may not be judged as accepted
            yield _recorded(changed, f"desync guardian: {tier}", [data + body], bad=tier == "Severe", good=False)


def smuggler_cases() -> Iterator[Recorded]:
    """defparam's gadgets: a Transfer-Encoding in disguise beside a Content-Length."""
    for case in _lines("smuggler_te_gadgets"):
        head = base64.b64decode(case["template_b64"])
        for mark, value in _FILLED:
            head = head.replace(mark, value)
        # A length that is exact, for those who read it, and a request behind the last chunk for those who read chunks.
        steps = [_with_host(head) + b"\r\n0\r\n\r\n" + _HIDDEN]
        yield _recorded(case, "smuggler", steps, bad=True, good=False)


CORPORA = {
    PROBE: probe_cases,
    "gunicorn": gunicorn_cases,
    "llhttp": llhttp_cases,
    "desync guardian": guardian_cases,
    "smuggler": smuggler_cases,
}


def recorded_requests() -> list[Recorded]:
    """All of them."""
    return [case for cases in CORPORA.values() for case in cases()]


ANSWERS = "llhttp answers"


def recorded_answers() -> Iterator[Recorded]:
    """Node's answers, as an origin may send them: as they are, and with the blank line that most of them lack."""
    for case in _lines("llhttp_vectors"):
        if case["type"] == "response":
            data = base64.b64decode(case["b64"])
            bad = case["expected"] == "reject"
            yield _recorded(case, ANSWERS, [data], bad=bad, good=False)
            changed = {**case, "id": case["id"] + "+end"}
            yield _recorded(changed, ANSWERS, [data + b"\r\n"], bad=bad, good=False)
