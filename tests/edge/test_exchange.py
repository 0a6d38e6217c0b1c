"""Requests that go well, as conversations between a visitor and an origin."""

from __future__ import annotations

import pytest

from tests.edge.house import House, Visitor
from wormhole_tw.edge.facts import ConnectionFacts
from wormhole_tw.edge.states import MOVES, State

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_request_and_its_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    stream = house.stream
    [(head, body, _)] = stream.requests()
    assert (head.method, head.target, body) == (b"GET", b"/", b"")
    fields = dict(head.headers)
    assert fields[b"host"] == b"app.test"
    assert fields[b"x-forwarded-for"] == b"192.0.2.7"
    stream.deliver(OK)
    [(answer, body)] = visitor.answers()
    assert (answer.status_code, body) == (200, b"ok")
    assert house.done[0].status == 200
    assert house.done[0].sent == 2


def test_a_kept_stream_takes_the_next_request(house: House) -> None:
    visitor, other = house.visitor(), house.visitor()
    for each in (visitor, other, visitor):
        each.says(GET)
        house.stream.read()
        house.stream.deliver(OK)
        assert len(each.answers()) == 1
    assert len(house.streams) == 1
    assert len(house.stream.requests()) == 3


def test_two_at_once_get_a_stream_each(house: House) -> None:
    visitor, other = house.visitor(), house.visitor()
    visitor.says(GET)
    other.says(GET)
    first, second = house.streams
    second.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")
    first.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    assert visitor.answers()[0][1] == b"one"
    assert other.answers()[0][1] == b"two"


def test_pipelined_answers_come_in_order_and_one_at_a_time(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"".join(b"GET /%d HTTP/1.1\r\nHost: app.test\r\n\r\n" % number for number in range(8)))
    for number in range(8):
        [*_, (head, _, _)] = house.stream.requests()
        assert head.target == b"/%d" % number
        assert len(house.stream.requests()) == number + 1
        house.pass_time(number % 3)
        house.stream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    assert [body for _, body in visitor.answers()] == [b"%d" % number for number in range(8)]


def test_pipelined_errors_of_our_own_keep_their_place(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET + GET.replace(b"app.test", b"nobody.test") * 20 + GET)
    house.stream.deliver(OK)
    house.stream.deliver(OK)
    assert [head.status_code for head, _ in visitor.answers()] == [200, *[404] * 20, 200]


def test_a_pipeliner_who_goes_on_is_paused(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    for _ in range(100):
        visitor.says(GET * 100)
    assert visitor.paused
    house.stream.deliver(OK)
    assert len(house.stream.requests()) == 2


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_streams_while_it_comes(house: House, chunked: bool) -> None:
    visitor = house.visitor()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 10"
    visitor.says(b"POST /up HTTP/1.1\r\nHost: app.test\r\n" + framing + b"\r\n\r\n")
    stream = house.stream
    assert stream.read().endswith(b"\r\n\r\n")
    visitor.says(b"5\r\nhello\r\n" if chunked else b"hello")
    assert b"hello" in stream.read()
    visitor.says(b"5\r\nworld\r\n0\r\nX-Sum: 7\r\n\r\n" if chunked else b"world")
    [(_, body, trailers)] = stream.requests()
    assert body == b"helloworld"
    assert (b"x-sum", b"7") in trailers or not chunked
    stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_an_answer_streams_while_it_comes_with_trailers(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    stream = house.stream
    stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"chunked" in visitor.hears()
    stream.deliver(b"6\r\ndata:1\r\n")
    assert visitor.hears() == b"6\r\ndata:1\r\n"
    stream.deliver(b"0\r\nX-Sum: 7\r\nConnection: x\r\n\r\n")
    assert visitor.hears() == b"0\r\nX-Sum: 7\r\n\r\n"
    visitor.says(GET)
    assert len(stream.requests()) == 2


def test_head_and_a_small_body_leave_in_one_write(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = Visitor.write
    # of the class: a connection takes its transport's write when it is made
    monkeypatch.setattr(Visitor, "write", lambda visitor, data: (writes.append(data), write(visitor, data))[1])
    visitor = house.visitor()
    for number in (1, 2, 3, 4):  # the later ones are heads that came before
        visitor.says(GET)
        house.stream.read()
        house.stream.deliver(OK)
        assert len(writes) == number


def test_an_answer_that_the_end_of_the_connection_ends(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    stream = house.stream
    stream.deliver(b"HTTP/1.0 200 OK\r\n\r\nsome")
    stream.deliver(b"thing")
    stream.end_reading()
    assert visitor.answers()[0][1] == b"something"
    visitor.says(GET)
    assert len(house.streams) == 2


def test_an_echo_while_the_upload_runs(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream = house.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    visitor.hears()
    for number in range(20):
        visitor.says(b"2\r\n%02d\r\n" % number)
        assert stream.read() == b"2\r\n%02d\r\n" % number
        stream.deliver(b"2\r\n%02d\r\n" % number)
        assert visitor.hears() == b"2\r\n%02d\r\n" % number
    visitor.says(b"0\r\n\r\n")
    stream.read()
    stream.deliver(b"0\r\n\r\n")
    visitor.hears()
    visitor.says(GET)
    assert len(house.streams) == 1


@pytest.mark.parametrize(
    "body", [b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: 0\r\n\r\n"], ids=["chunked", "length"]
)
def test_an_empty_body_that_comes_with_its_head(house: House, body: bytes) -> None:
    visitor = house.visitor()
    for number in range(2):
        visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\n" + body)
        assert house.stream.read().endswith(b"0\r\n\r\n" if b"chunked" in body else b"\r\n\r\n")
        house.stream.deliver(OK)
        assert visitor.answers()[-1][0].status_code == 200
        assert len(house.streams) == 1, number
    visitor.says(GET)
    assert len(house.stream.requests()) == 3


def test_interim_answers_pass(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
    assert b"HTTP/1.1 103" in visitor.hears()
    house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200


def test_an_options_that_goes_no_further_is_answered_here(house: House) -> None:
    visitor = house.visitor()
    ask = b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\nMax-Forwards: %s\r\n\r\n"
    visitor.says(ask % b"0")
    head, body = visitor.answers()[0]
    assert (head.status_code, bytes(body)) == (200, b"")
    assert house.streams == []
    visitor.says(ask % b"2")
    assert b"\r\nMax-Forwards: 1\r\n" in house.stream.read()
    house.stream.deliver(OK)
    assert visitor.answers()[-1][0].status_code == 200
    visitor.says(ask % b"no")
    assert visitor.answers()[-1][0].status_code == 400


def test_expect_goes_to_the_origin_and_its_100_comes_back(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    stream = house.stream
    assert b"Expect: 100-continue" in stream.read()
    assert visitor.hears() == b""
    stream.deliver(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert visitor.hears().startswith(b"HTTP/1.1 100")
    visitor.says(b"body")
    assert stream.requests()[0][1] == b"body"
    stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    visitor.says(GET)
    assert len(stream.requests()) == 2


def test_expect_that_the_origin_refuses_needs_no_body(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    stream = house.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    [(answer, _)] = visitor.answers([b"PUT"])
    assert answer.status_code == 417
    assert (b"connection", b"close") in answer.headers
    assert stream.aborted
    assert visitor.write_closed


@pytest.mark.parametrize(
    ("method", "answer", "used_again"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", False),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', True),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 99\r\n\r\n', False),
    ],
)
def test_answers_that_have_no_body(house: House, method: bytes, answer: bytes, used_again: bool) -> None:
    visitor = house.visitor()
    for number in range(2):
        visitor.says(method + b" / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert len(house.streams) == (1 if used_again else number + 1)
        assert len(house.stream.requests()) == (number + 1 if used_again else 1)
        house.stream.deliver(answer)
        assert visitor.answers([method])[0][1] == b""


def test_an_early_refusal_arrives_whole_and_the_rest_is_read_and_dropped(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
    stream = house.stream
    stream.read()
    stream.deliver(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
    [(answer, body)] = visitor.answers([b"POST"])
    assert (answer.status_code, body) == (413, b"large")
    assert (b"connection", b"close") in answer.headers
    assert stream.disconnected
    for _ in range(100):
        visitor.says(b"x" * 65536)
    assert not visitor.disconnected
    assert not visitor.paused
    assert visitor.write_closed
    visitor.end_reading()
    assert visitor.disconnected


def test_who_never_stops_sending_after_the_answer_is_cut_off(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 100000000\r\n\r\n")
    assert visitor.answers([b"POST"])[0][0].status_code == 404
    for _ in range(257):
        visitor.says(b"x" * 65536)
    assert visitor.disconnected


def test_a_small_body_after_an_error_of_our_own_costs_no_connection(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 5\r\n\r\nhel")
    assert visitor.answers([b"POST"])[0][0].status_code == 404
    visitor.says(b"lo" + GET)
    assert len(house.stream.requests()) == 1


def test_http_1_0(house: House) -> None:
    visitor = house.visitor()
    visitor.says(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
    house.stream.read()
    house.stream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    heard = visitor.hears()
    assert heard.endswith(b"\r\n\r\nhi")
    assert b"chunked" not in heard
    assert visitor.write_closed


def test_the_catalog_that_a_request_began_with_is_its_own(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.catalogs.swap(type(house.catalogs.current)())
    house.stream.deliver(OK)
    assert visitor.answers()[0][0].status_code == 200
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 404


def test_paths_are_forwarded_as_they_are_routed(house: House) -> None:
    docs = house.agent("docs", instance=9)
    visitor = house.visitor()
    visitor.says(b"GET /a/../%64ocs/%7ex?q=%2e HTTP/1.1\r\nHost: APP.test.:8443\r\n\r\n")
    [(head, _, _)] = docs.streams[-1].requests()
    assert head.target == b"/docs/~x?q=%2e"
    docs.streams[-1].deliver(OK)
    visitor.says(b"GET /docsx HTTP/1.1\r\nHost: a.wild.test\r\n\r\n")
    assert len(house.stream.requests()) == 1


def test_an_upgrade_becomes_a_relay(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    stream = house.stream
    assert stream.open.dedicated
    assert stream.open.visitor is not None
    assert stream.open.visitor.address == "192.0.2.7"
    assert b"Upgrade: websocket" in stream.read()
    visitor.says(b"too early")
    assert stream.read() == b""
    stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
    heard = visitor.hears()
    assert heard.startswith(b"HTTP/1.1 101")
    assert heard.endswith(b"\r\n\r\nfirst")
    assert stream.read() == b"too early"
    visitor.says(b"\x00ping")
    assert stream.read() == b"\x00ping"
    stream.deliver(b"\x00pong")
    assert visitor.hears() == b"\x00pong"
    visitor.end_reading()
    assert stream.write_closed
    stream.deliver(b"last")
    assert visitor.hears() == b"last"
    stream.end_reading()
    assert stream.disconnected
    assert visitor.disconnected
    assert house.done[0].status == 101
    assert house.context.pool.idle == 0


def test_an_upgraded_origin_may_end_first(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.deliver(b"bye")
    house.stream.end_reading()
    assert visitor.hears().endswith(b"bye")
    assert visitor.write_closed
    visitor.says(b"still")
    assert house.stream.read().endswith(b"still")
    visitor.end_reading()
    assert visitor.disconnected
    assert house.stream.disconnected


def test_what_a_visitor_said_before_it_left_arrives(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    house.stream.read()
    visitor.says(b"last words")
    visitor.lose()
    assert not house.stream.aborted
    assert house.stream.take_all() == b"last words"


def test_a_refused_upgrade_is_an_ordinary_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET)
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"
    # the dedicated stream is not used again
    assert len(house.streams) == 2
    assert not house.streams[1].open.dedicated
    house.streams[1].deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_a_101_that_nobody_asked_for_is_a_bad_answer(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert visitor.answers()[0][0].status_code == 502


def test_an_agent_that_asks_for_it_gets_streams_of_one_visitor_each(build) -> None:  # type: ignore[no-untyped-def]
    house = build(per_visitor=True)
    visitor, other = house.visitor(), house.visitor()
    for each in (visitor, other, visitor):
        each.says(GET)
        stream = house.streams[0] if each is visitor else house.streams[1]
        assert stream.open.dedicated
        assert stream.open.visitor.server_name == "app.test"
        stream.deliver(OK)
        assert len(each.answers()) == 1
    assert len(house.streams) == 2
    visitor.lose()
    house.streams[0].take_all()
    assert house.streams[0].disconnected
    assert not house.streams[1].disconnected


def test_the_hook_sees_every_exchange_once(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK)
    visitor.says(GET.replace(b"app", b"nobody"))
    visitor.says(GET)
    visitor.lose()
    assert [(each.status, each.reason) for each in house.done] == [
        (200, ""),
        (404, "unknown-host"),
        (0, "visitor-gone"),
    ]
    assert house.context.counters.requests == 3
    assert house.context.counters.answers[2] == 1


def test_the_table_of_moves_is_whole() -> None:
    assert set(MOVES) == set(State)
    for state, moves in MOVES.items():
        assert (State.DONE in moves) == (state is not State.DONE)


def test_facts_of_a_plain_connection() -> None:
    facts = ConnectionFacts(address="2001:db8::1", port=5, local_port=80)
    assert not facts.secure
    assert facts.visitor("app.test").tls is None
    assert facts.forwarding.scheme == "http"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_stream_that_had_a_body_on_get_takes_no_other_request(house: House, method: str, framing: str) -> None:
    """A service that does not read the body takes it for a request, and answers that, too."""
    visitor = house.visitor()
    body = "a" * 5 if "Length" in framing else "5\r\naaaaa\r\n0\r\n\r\n"
    visitor.says(f"{method} / HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n{body}")
    stream = house.stream
    stream.read()
    stream.deliver(OK if method == "GET" else b"HTTP/1.1 204 No Content\r\n\r\n")
    assert visitor.answers([method.encode()])[0][0].status_code in (200, 204)
    assert stream.disconnected or stream.disconnecting
    house.visitor().says(GET)
    assert len(house.streams) == 2
