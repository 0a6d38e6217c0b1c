"""What comes again on a connection goes a shorter way: each is answered octet for octet as one who asks anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.house import House, Visitor
from tests.edge.test_security import SECURITY
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend
from wormhole_tw.edge.states import MOVES, State
from wormhole_tw.http.edits import FieldEdits

Build = Callable[..., House]

DATED = b"Date: Mon, 23 Nov 2026 11:00:0%d GMT\r\n"
EDITS = FieldEdits(frozenset({b"server"}), ((b"X-Of-Route", b"yes"),))


def get(*lines: str, method: str = "GET", version: str = "1.1") -> str:
    return "\r\n".join([f"{method} /page HTTP/{version}", "Host: app.test", *lines, "", ""])


def said(status: str = "200 OK", *lines: bytes, body: bytes = b"ok") -> bytes:
    head = b"HTTP/1.1 %s\r\nServer: it\r\n%sContent-Length: %d\r\n\r\n" % (status.encode(), b"".join(lines), len(body))
    return head + body


def answered(house: House, visitor: Visitor, request: str, answer: bytes) -> bytes:
    visitor.says(request)
    house.stream.read()
    house.stream.deliver(answer)
    return visitor.hears()


@pytest.fixture(
    params=[{}, {"security": SECURITY}, {"response_edits": EDITS}, {"security": SECURITY, "response_edits": EDITS}]
)
def changing(request: Any, build: Build) -> House:
    """A house whose routes want this or that of every answer."""
    house = build()
    first, *others = house.catalogs.current.sites
    routes = tuple(replace(route, **request.param) for route in first.routes)
    security = request.param.get("security")
    sites = [replace(first, routes=routes, security=security), *others]
    house.catalogs.swap(Catalog(sites, [Backend("app"), Backend("docs")], own_names=["edge.test"]))
    return house


@pytest.mark.parametrize(
    "request_",
    [
        get(),
        get("Connection: close"),
        get("Connection: keep-alive", version="1.0"),
        get(version="1.0"),
        get(method="HEAD"),
        get("X-Field: a", "Cookie: b=c"),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable", "204 No Content"])
def test_who_asks_again_hears_what_one_who_asks_anew_hears(changing: House, request_: str, status: str) -> None:
    kept = changing.visitor()
    answers = [
        said(status),
        said(status),
        said(status, body=b"longer"),
        said(status, DATED % 1),
        said(status, DATED % 1),
    ]
    bodiless = status.startswith("204") or request_.startswith("HEAD")
    for number, answer in enumerate([*answers, said(status, DATED % 2), *answers]):
        whole = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if bodiless else answer
        if number == 8:
            changing.pass_time(2)  # the edge's own Date is another
        anew = answered(changing, changing.visitor(), request_, whole)
        again = answered(changing, kept, request_, whole)
        assert again == anew
        assert b"HTTP/1.1 " + status.encode() in again
        assert again.count(b"\r\nDate: ") == 1
        if kept.disconnected or kept.write_closed:
            kept = changing.visitor()


def test_the_second_of_our_own_date_is_that_of_the_answer(house: House) -> None:
    visitor = house.visitor()
    dates = set()
    for _ in range(8):
        answer = answered(house, visitor, get(), said())
        dates.add(answer.partition(b"\r\nDate: ")[2].partition(b"\r\n")[0])
        house.pass_time(0.5)
    assert len(dates) >= 4


def test_a_stop_closes_behind_an_answer_that_came_before(house: House) -> None:
    visitor = house.visitor()
    for _ in range(4):
        assert b"Connection: close" not in answered(house, visitor, get(), said())
    visitor.says(get())
    house.context.drain()
    house.stream.read()
    house.stream.deliver(said())
    assert b"\r\nConnection: close\r\n" in visitor.hears()
    assert visitor.write_closed


def test_the_last_of_a_connections_requests_is_told_so(build: Build) -> None:
    house = build(requests_per_connection=5)
    visitor = house.visitor()
    closes = [b"\r\nConnection: close\r\n" in answered(house, visitor, get(), said()) for _ in range(5)]
    assert closes == [False] * 4 + [True]


def test_a_next_request_that_came_meanwhile_is_answered_behind_it(house: House) -> None:
    visitor = house.visitor()
    for _ in range(3):
        answered(house, visitor, get(), said())
    visitor.says(get())
    visitor.says(get() + get())
    heard = b""
    for body in (b"a1", b"b2", b"c3"):
        house.stream.read()
        house.stream.deliver(said(body=body))
        heard += visitor.hears()
    assert [heard.count(b"\r\n\r\n" + body) for body in (b"a1", b"b2", b"c3")] == [1, 1, 1]
    assert heard.index(b"a1") < heard.index(b"b2") < heard.index(b"c3")


def test_a_visitor_who_takes_nothing_is_not_read_and_its_answer_comes_when_it_does(house: House) -> None:
    visitor = house.visitor(capacity=64)
    for _ in range(3):
        answered(house, visitor, get(), said())
    visitor.says(get())
    house.stream.read()
    house.stream.deliver(said())
    assert visitor.producer_paused
    visitor.says(get())
    assert house.stream.read() == b""  # its turn comes when the answer before has room
    assert visitor.hears().endswith(b"ok")
    assert b"GET /page" in house.stream.read()
    house.stream.deliver(said(body=b"two"))
    assert visitor.hears().endswith(b"two")


def test_a_time_between_requests_begins_with_each_answer(build: Build) -> None:
    house = build(keep_alive=20)
    visitor = house.visitor()
    for _ in range(5):
        answered(house, visitor, get(), said())
        house.pass_time(19)
        assert not visitor.write_closed
    house.pass_time(3)
    assert visitor.write_closed


def test_moves_that_are_made_without_the_table_stand_in_it() -> None:
    for state, then in ((State.NEW, State.SENDING), (State.SENDING, State.ANSWERING), (State.ANSWERING, State.DONE)):
        assert then in MOVES[state]
