"""The pool of kept streams, seen from outside."""

from __future__ import annotations

from collections.abc import Callable

from tests.edge.house import House

Build = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(house: House, count: int = 1) -> None:
    """That many requests at once, and their answers."""
    visitors = [house.visitor() for _ in range(count)]
    for visitor in visitors:
        visitor.says(GET)
    for stream in house.streams:
        if stream.read():
            stream.deliver(OK)
    for visitor in visitors:
        assert visitor.answers()[0][1] == b"ok"
        visitor.lose()


def test_idle_streams_are_counted_and_are_no_load(house: House) -> None:
    ask(house, 3)
    assert house.context.pool.idle == 3
    upstream = house.context.dispatch.pick("app")
    assert upstream is not None
    assert (house.sessions[0].load, upstream.load, upstream.idle) == (3, 0, 3)
    visitor = house.visitor()
    visitor.says(GET)
    assert upstream.load == 1


def test_an_idle_stream_has_its_time(house: House) -> None:
    ask(house)
    house.pass_time(3.5)
    ask(house)
    house.pass_time(3.5)
    assert house.context.pool.idle == 1
    house.pass_time(1)
    assert house.context.pool.idle == 0
    assert house.streams[0].disconnected
    assert len(house.streams) == 1


def test_the_last_one_used_is_the_first_one_taken(house: House) -> None:
    ask(house, 3)
    for _ in range(10):
        house.pass_time(1)
        ask(house)
    assert house.context.pool.idle == 1


def test_there_are_not_too_many(build: Build) -> None:
    house = build(idle_streams=2)
    ask(house, 5)
    assert house.context.pool.idle == 2
    assert sum(stream.disconnected for stream in house.streams) == 3
    none = build(idle_streams=0)
    ask(none)
    assert none.context.pool.idle == 0


def test_an_agent_that_leaves_loses_its_idle_streams_at_once(house: House) -> None:
    ask(house, 2)
    busy = house.visitor()
    busy.says(GET)
    house.sessions[0].leave()
    assert house.context.pool.idle == 0
    assert house.sessions[0].load == 1
    [stream] = [stream for stream in house.streams if not stream.disconnected]
    stream.deliver(OK)
    assert busy.answers()[0][1] == b"ok"
    stream.take_all()
    assert house.sessions[0].load == 0


def test_an_agent_that_dies_leaves_nothing(house: House) -> None:
    ask(house, 2)
    house.sessions[0].die()
    assert house.context.pool.open == 0


def test_an_origin_that_closes_or_speaks_unasked_is_not_kept(house: House) -> None:
    ask(house, 2)
    house.streams[0].end_reading()
    house.streams[1].deliver(b"HTTP/1.1 408 Too Late\r\n\r\n")
    assert house.context.pool.idle == 0
    assert house.streams[1].aborted
    ask(house)
    assert len(house.streams) == 3


def test_an_answer_with_too_much_behind_it_ends_the_stream(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert [body for _, body in visitor.answers()] == [b"ok"]
    assert house.context.pool.idle == 0
    visitor.says(GET)
    assert visitor.hears() == b""


def test_connection_close_is_heard(house: House) -> None:
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    [(head, _)] = visitor.answers()
    assert b"connection" not in dict(head.headers)
    assert house.context.pool.idle == 0


def test_a_pool_that_drains_keeps_nothing(house: House) -> None:
    ask(house, 2)
    house.context.pool.drain()
    assert house.context.pool.idle == 0
    ask(house)
    assert house.context.pool.idle == 0
