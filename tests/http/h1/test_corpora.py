"""Other people's malformed messages, in the codecs alone: refused, or passed on so that an origin reads one thing.

The whole edge meets the same recordings over TLS in ``tests/conformance``; here the figures are per codec and fast.
Every bound is what was reached: it may rise, not fall.
"""

from __future__ import annotations

import base64
import json

import h11
import pytest

from tests._support import require_corpus
from tests.conformance.recordings import probe_cases
from wormhole_tw.http.events import Body, End, Failed, RequestHead
from wormhole_tw.http.forwarding import VisitorFacts, request_towards_origin, trailers_onwards
from wormhole_tw.http.h1 import H1ClientCodec, H1ServerCodec
from wormhole_tw.http.targets import normalise_target

from .talk import OK, ask, said

VISITOR = VisitorFacts("192.0.2.1")


def cases(name):
    with require_corpus("corpora", name).open() as lines:
        return [json.loads(line) for line in lines]


class StrictOrigin:
    """h11 behind a client codec: takes each request that the edge would send, and raises for what it cannot take."""

    def __init__(self):
        self.requests = []
        self._client = H1ClientCodec()
        self._stream = 0

    def take(self, event):
        client = self._client
        if isinstance(event, RequestHead):
            client = self._client = H1ClientCodec()
            path, query = normalise_target(event.target)
            target = path if query is None else path + b"?" + query
            self._stream = client.new_stream()
            client.send(self._stream, request_towards_origin(event, target, VISITOR))
            self.body = b""
            self.sent = b""
        elif isinstance(event, Body):
            self.body += event.data
            client.send(self._stream, event)
        elif isinstance(event, End):
            client.send(self._stream, End(trailers_onwards(event.trailers)))
            self.sent += said(client)
            self._judge()

    def _judge(self):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(self.sent)
        request = connection.next_event()
        assert isinstance(request, h11.Request)
        body = b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                break
            assert isinstance(event, h11.Data), event
            body += event.data
        assert body == self.body
        assert connection.trailing_data == (b"", False)
        names = [name for name, _ in request.headers]
        assert names.count(b"host") <= 1
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        assert not any(b"_" in name and name.replace(b"_", b"-") in names for name in names)
        self.requests.append(request)


def visit(data):
    """What comes of these bytes: the requests that the origin got, then a status, or None where all was good."""
    codec, origin = H1ServerCodec(), StrictOrigin()
    events = codec.receive_data(data, 0.0)
    while True:
        for _, event in events:
            if isinstance(event, Failed):
                return len(origin.requests), event.error.status
            try:
                origin.take(event)
            except Exception as error:
                if getattr(error, "status", None) == 400:
                    return len(origin.requests), 400
                raise
        if not events or not isinstance(events[-1][1], End):
            break
        stream = events[-1][0]
        codec.send(stream, OK)
        codec.send(stream, End())
        if not codec.has_held:
            break
        events = codec.receive_data(b"", 0.0)
    if not codec.idle and not codec.should_close:
        # a part is missing: a timeout ends it
        return len(origin.requests), 408
    return len(origin.requests), None


def refused(data):
    return visit(data)[1] is not None


def with_host(data):
    """The same request with a Host, where the recording has none."""
    line, separator, rest = data.partition(b"\r\n")
    if not separator or b"\nhost:" in data.lower():
        return data
    return line + b"\r\nHost: a.test\r\n" + rest


def test_http11probe():
    """Why there are 70 that must be refused, and not 100, stands in ``tests/conformance/test_requests.py``."""
    bad, refusals, missed = 0, 0, []
    valid, accepted, lost = 0, 0, []
    for case in probe_cases():
        data = b"".join(case.steps)
        if case.bad:
            bad += 1
            if refused(data):
                refusals += 1
            else:
                missed.append(case.id)
        elif case.good:
            valid += 1
            if visit(data) == (1, None):
                accepted += 1
            else:
                lost.append(case.id)
        else:
            visit(data)
    print(f"http11probe: refused {refusals} of {bad}, accepted {accepted} of {valid}")
    assert bad == 70
    assert valid == 28
    # Any token is a method: the service answers 405 or 501.  Nothing at all is no request.  And look-alikes of framing
    # fields are dropped, which is as good.
    assert missed == ["COMP-UNKNOWN-METHOD", "MAL-EMPTY-REQUEST", "NORM-UNDERSCORE-CL", "NORM-UNDERSCORE-TE"]
    assert lost == []


def test_gunicorn():
    ours = {"gunicorn-invalid-006", "gunicorn-invalid-007", "gunicorn-invalid-008"}  # limits that gunicorn sets lower
    ours |= {"gunicorn-invalid-041"}  # two Content-Types: not ambiguous for a proxy
    invalid = [case for case in cases("gunicorn_requests.jsonl") if case["expected"] == "reject" and not case["cfg"]]
    passed = {case["id"] for case in invalid if not refused(base64.b64decode(case["b64"]))}
    print(f"gunicorn: refused {len(invalid) - len(passed)} of {len(invalid)}")
    assert len(invalid) >= 50
    assert passed <= ours


GUNICORN_STRICTER = {
    "gunicorn-valid-002": "Host with =",
    "gunicorn-valid-003": "Host with =",
    "gunicorn-valid-005": "fragment in the target",
    "gunicorn-valid-008": "fragment in the target",
    "gunicorn-valid-009": "fragment, and the coding identity",
    "gunicorn-valid-025": "two codings",
    "gunicorn-valid-025_line": "two codings",
    "gunicorn-valid-027": "octets over 127 in the target",
    "gunicorn-valid-029": "the coding identity",
    "gunicorn-valid-030": "the coding identity",
    "gunicorn-valid-099": "the recording stops within the body",
    "gunicorn-valid-rfc9112_smuggle_gzip_chunked_01": "two codings",
    "gunicorn-valid-rfc9112_smuggle_te_identity_chunked_01": "the coding identity",
    "gunicorn-valid-rfc9112_target_absolute_userinfo_01": "user information in the target",
    "gunicorn-valid-rfc9112_target_authority_connect_01": "CONNECT",
    "gunicorn-valid-rfc9112_target_authority_ipv6_01": "CONNECT",
}


def test_gunicorn_valid():
    valid = [case for case in cases("gunicorn_requests.jsonl") if case["expected"] == "accept" and not case["cfg"]]
    lost = {case["id"] for case in valid if refused(every_host(base64.b64decode(case["b64"])))}
    print(f"gunicorn: accepted {len(valid) - len(lost)} of {len(valid)}")
    assert len(valid) >= 50
    assert lost <= set(GUNICORN_STRICTER)


def every_host(data):
    """A Host for each of the pipelined requests of a recording."""
    starts = (b"GET /second", b"GET /first", b"POST /two_chunks_mult_zero_end")
    for start in starts:
        at = data.find(start)
        if at > 0:
            return with_host(data[:at]) + with_host(data[at:])
    return with_host(data)


LLHTTP_STRICTER = {
    "llhttp-request-connection-01": "the second request has no Host",
    "llhttp-request-connection-04": "two blank lines before a request",
    "llhttp-request-method-01": "CONNECT",
    "llhttp-request-method-02": "CONNECT",
    "llhttp-request-method-03": "CONNECT",
    "llhttp-request-method-04": "* with a method other than OPTIONS",
    "llhttp-request-method-11": "ICE/1.0",
    "llhttp-request-method-12": "RTSP/1.0",
    "llhttp-request-method-13": "RTSP/1.0",
    "llhttp-request-method-14": "* with a method other than OPTIONS",
    "llhttp-request-pipelining-00": "the second request has no Host",
    "llhttp-request-sample-02": "Host with =",
    "llhttp-request-sample-03": "Host with =",
    "llhttp-request-sample-08": "begins with a blank line, where our Host went",
    "llhttp-request-sample-09": "HTTP/0.9",
    "llhttp-request-sample-14": "begins with a blank line, where our Host went",
    "llhttp-request-transfer-encoding-19": "two codings",
    "llhttp-request-transfer-encoding-20": "two codings",
    "llhttp-request-uri-07": "fragment in the target",
    "llhttp-request-uri-08": "CONNECT",
    "llhttp-request-uri-09": "user information in the target",
}


def test_llhttp_requests():
    wanted = [case for case in cases("llhttp_vectors.jsonl") if case["type"] == "request"]
    bad = [case for case in wanted if case["expected"] == "reject"]
    passed = {case["id"] for case in bad if not refused(with_host(base64.b64decode(case["b64"])))}
    good = [case for case in wanted if case["expected"] == "accept" and case["meta"] == {"type": "request"}]
    # most recordings stop before the blank line: one that could still become whole is not refused
    lost = {
        case["id"] for case in good if visit(with_host(base64.b64decode(case["b64"])) + b"\r\n")[1] not in (None, 408)
    }
    print(f"llhttp: refused {len(bad) - len(passed)} of {len(bad)}, accepted {len(good) - len(lost)} of {len(good)}")
    # what follows a request that closes is not read at all
    assert passed <= {"llhttp-request-connection-02"}
    assert lost <= set(LLHTTP_STRICTER)


def test_llhttp_answers():
    """None that llhttp refuses is believed."""
    wanted = [case for case in cases("llhttp_vectors.jsonl") if case["type"] == "response"]
    believed = set()
    for case in wanted:
        # most recordings stop before the blank line
        for rest in (b"", b"\r\n"):
            codec = H1ClientCodec()
            ask(codec)
            events = codec.receive_data(base64.b64decode(case["b64"]) + rest, 0.0)
            events += codec.receive_eof(0.0)
            if not any(isinstance(event, Failed) for _, event in events):
                believed.add(case["id"])
    bad = {case["id"] for case in wanted if case["expected"] == "reject"}
    print(f"llhttp answers: believed {len(believed)} of {len(wanted)}")
    assert len(wanted) >= 70
    # what follows an answer that closes is not read at all
    assert believed & bad <= {"llhttp-response-connection-05", "llhttp-response-connection-07"}


@pytest.mark.parametrize("body", [b"", b"0\r\n\r\n"])
def test_http_desync_guardian(body):
    severe = [case for case in cases("http_desync_guardian.jsonl") if case["tier"] == "Severe"]
    compliant = [case for case in cases("http_desync_guardian.jsonl") if case["tier"] == "Compliant"]
    passed = set()
    for case in cases("http_desync_guardian.jsonl"):
        data = with_host(base64.b64decode(case["head_b64"])) + b"\r\n" + body
        if visit(data)[1] is None and case in severe:
            passed.add(case["id"])
    print(f"desync guardian: refused {len(severe) - len(passed)} of {len(severe)} severe ones")
    assert len(severe) >= 50
    assert len(compliant) >= 20
    assert passed == set()


def test_smuggler():
    """Each gadget with a body that both framings read differently: refused, or one request."""
    gadgets = cases("smuggler_te_gadgets.jsonl")
    outcomes = []
    for case in gadgets:
        head = base64.b64decode(case["template_b64"])
        for name, value in (
            (b"__METHOD__", b"POST"),
            (b"__ENDPOINT__", b"/"),
            (b"__RANDOM__", b"1"),
            (b"__HOST__", b"a.test"),
            (b"__REPLACE_CL__", b"5"),
        ):
            head = head.replace(name, value)
        requests, status = visit(head + b"\r\n" + b"0\r\n\r\n")
        outcomes.append(status)
        assert requests <= 1, case["id"]
    print(f"smuggler: refused {sum(status is not None for status in outcomes)} of {len(gadgets)}")
    assert sum(status is not None for status in outcomes) >= 110
