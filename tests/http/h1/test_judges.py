"""h11 as the independent judge: of everything that our codecs say, and beside them of what they accept."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st

from wormhole_tw.http.events import Body, End, Framing, InformationalHead, RequestHead, ResponseHead
from wormhole_tw.http.forwarding import VisitorFacts, answer_towards_visitor, request_towards_origin
from wormhole_tw.http.h1 import H1ClientCodec, H1ServerCodec

from .talk import said, told

TOKENS = st.text("abcXYZ019-_!~", min_size=1, max_size=8).map(lambda text: b"x-" + text.encode())
VALUES = st.binary(max_size=12).map(
    lambda value: bytes(octet for octet in value if octet > 32 and octet != 127) + b"." if value else b""
)
FIELDS = st.lists(st.tuples(TOKENS, VALUES), max_size=6)
BODIES = st.lists(st.binary(min_size=1, max_size=2000), max_size=4)
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"INVENTED"])
TARGETS = st.text("abc/.?&=%~:@,;[]|\\\"'<>", max_size=20).map(lambda text: b"/" + text.encode())
FRAMINGS = st.sampled_from([Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE])


def events_of(connection):
    """Every event that h11 has, bodies joined; it raises for anything that it does not take."""
    out = []
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return out
        out.append(event)
        if isinstance(event, h11.EndOfMessage):
            return out


def judged(fields):
    return [(name.lower(), value) for name, value in fields]


def own(fields):
    """The fields that went in: each of them begins with x-."""
    return [(name, value) for name, value in judged(fields) if name.startswith(b"x-")]


@given(
    METHODS, st.sampled_from([b"1.0", b"1.1"]), st.booleans(), st.sampled_from([200, 204, 304, 404]), FRAMINGS, FIELDS,
    BODIES, st.booleans(),
)  # fmt: skip
def test_h11_reads_our_answers_as_we_meant_them(method, version, keep, status, framing, fields, bodies, keep_answer):
    whole = b"".join(bodies)
    connection = b"keep-alive" if keep else b"close"
    request = method + b" / HTTP/" + version + b"\r\nHost: a.test\r\nConnection: " + connection + b"\r\n\r\n"
    codec = H1ServerCodec()
    told(codec, request)
    if version == b"1.1":
        codec.send(1, InformationalHead(103, fields))
    length = len(whole) if framing is Framing.LENGTH else None
    codec.send(1, ResponseHead(status, b"Why not", fields, framing=framing, length=length, keep_alive=keep_answer))
    for body in bodies:
        codec.send(1, Body(body))
    codec.send(1, End())
    output = said(codec)

    visitor = h11.Connection(h11.CLIENT)
    visitor.send(
        h11.Request(
            method=method, target=b"/", http_version=version, headers=[("Host", "a"), ("Connection", connection)]
        )
        if version == b"1.1"
        else h11.Request(method=method, target=b"/", headers=[("Host", "a"), ("Connection", connection)])
    )
    visitor.send(h11.EndOfMessage())
    visitor.receive_data(output)
    if codec.should_close:
        visitor.receive_data(b"")
    events = events_of(visitor)
    if version == b"1.1":
        interim = events.pop(0)
        assert isinstance(interim, h11.InformationalResponse)
        assert own(interim.headers) == judged(fields)
    head, *middle, end = events
    assert isinstance(head, h11.Response)
    assert head.status_code == status
    assert own(head.headers) == judged(fields)
    assert isinstance(end, h11.EndOfMessage)
    empty = method == b"HEAD" or status in (204, 304)
    assert b"".join(event.data for event in middle) == (b"" if empty else whole)
    names = [name for name, _ in judged(head.headers)]
    assert len([name for name in names if name in (b"content-length", b"transfer-encoding")]) <= 1
    assert (visitor.their_state is h11.MUST_CLOSE or visitor.their_state is h11.CLOSED) is codec.should_close


@given(METHODS, TARGETS, st.sampled_from([Framing.NONE, Framing.LENGTH, Framing.CHUNKED]), FIELDS, BODIES)
def test_h11_reads_our_requests_as_we_meant_them(method, target, framing, fields, bodies):
    if framing is Framing.NONE:
        bodies = []
    whole = b"".join(bodies)
    length = len(whole) if framing is Framing.LENGTH else None
    head = RequestHead(method, target, b"a.test", (1, 1), [(b"Host", b"a.test"), *fields], framing, length)
    codec = H1ClientCodec()
    forwarded = request_towards_origin(head, target, VisitorFacts("2001:db8::1"))
    for _ in range(2):
        stream = codec.new_stream()
        codec.send(stream, forwarded)
        for body in bodies:
            codec.send(stream, Body(body))
        codec.send(stream, End())
        origin = h11.Connection(h11.SERVER)
        origin.receive_data(said(codec))
        request, *middle, end = events_of(origin)
        assert (request.method, request.target) == (method, target)
        assert isinstance(end, h11.EndOfMessage)
        assert b"".join(event.data for event in middle) == whole
        headers = judged(request.headers)
        assert [value for name, value in headers if name == b"host"] == [b"a.test"]
        assert dict(headers)[b"x-forwarded-for"] == b"2001:db8::1"
        assert origin.trailing_data == (b"", False)
        told(codec, b"HTTP/1.1 204 No Content\r\n\r\n")


@given(METHODS, TARGETS, FIELDS, BODIES, st.booleans())
def test_requests_of_h11_arrive_as_it_meant_them(method, target, fields, bodies, chunked):
    whole = b"".join(bodies)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(whole)))
    visitor = h11.Connection(h11.CLIENT)
    headers = [("Host", "a.test"), framing, *fields]
    data = visitor.send(h11.Request(method=method, target=target, headers=headers))
    for body in bodies:
        data += visitor.send(h11.Data(data=body))
    data += visitor.send(h11.EndOfMessage())
    codec = H1ServerCodec()
    events = [event for _, event in codec.receive_data(data, 0.0)]
    head = events[0]
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, judged(head.fields[1:])) == (method, target, judged(fields))
    assert b"".join(event.data for event in events if isinstance(event, Body)) == whole
    assert events[-1] == End()


@given(st.sampled_from([200, 404, 500]), FIELDS, BODIES, st.sampled_from(["length", "chunked"]))
def test_answers_of_h11_pass_through_us_unchanged(status, fields, bodies, framing):
    whole = b"".join(bodies)
    origin = h11.Connection(h11.SERVER)
    origin.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    events_of(origin)
    line = ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(len(whole)))
    data = origin.send(h11.Response(status_code=status, headers=[line, *fields], reason=b"Yes"))
    for body in bodies:
        data += origin.send(h11.Data(data=body))
    data += origin.send(h11.EndOfMessage())
    client = H1ClientCodec()
    stream = client.new_stream()
    client.send(stream, RequestHead(b"GET", b"/", b"a", (1, 1), []))
    client.send(stream, End())
    server = H1ServerCodec()
    told(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _, event in client.receive_data(data, 0.0):
        server.send(
            1, answer_towards_visitor(event, lambda: (b"Date", b"now")) if isinstance(event, ResponseHead) else event
        )
    visitor = h11.Connection(h11.CLIENT)
    visitor.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    visitor.send(h11.EndOfMessage())
    visitor.receive_data(said(server))
    head, *middle, end = events_of(visitor)
    assert (head.status_code, head.reason, own(head.headers)) == (status, b"Yes", judged(fields))
    assert b"".join(event.data for event in middle) == whole
    assert isinstance(end, h11.EndOfMessage)
    assert client.reusable
