"""What a route asks before a request goes on: an answer, a wait, a refusal, and what becomes of it over reloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests._harness import LoggedFailures
from tests.edge.gates.asked import Asked
from tests.edge.house import House
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend, LocalAnswer, Route, Selection, Site
from wormhole_tw.edge import gates
from wormhole_tw.edge.states import State
from wormhole_tw.errors import HttpError

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = LocalAnswer(401, ((b"WWW-Authenticate", b"Basic"),), None, "not-signed-in", "Say who you are.")


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    """The gates of the tests are found beside the others."""
    folder = str(Path(__file__).parent / "gates")
    gates.__path__.append(folder)
    yield
    gates.__path__.remove(folder)


def gated(house: House, *settings: Asked, name: str = "") -> None:
    """Every request for ``app.test`` is asked by these."""
    route = Route("app", "/", "app", gates=settings or None, name=name)
    house.catalogs.swap(Catalog([Site("app", ("app.test",), (route,))], [Backend("app")]))


@pytest.fixture
def settings(house: House) -> Asked:
    asked = Asked()
    gated(house, asked)
    return asked


def test_who_is_let_on_goes_on(house: House, settings: Asked) -> None:
    visitor = house.visitor()
    for _ in range(2):
        visitor.says(GET)
        house.stream.deliver(OK)
        assert visitor.answers()[0][1] == b"ok"
    [gate] = settings.gates
    assert [exchange.host for exchange in gate.heard] == ["app.test", "app.test"]


def test_an_answer_ends_it_and_the_connection_goes_on(house: House, settings: Asked) -> None:
    settings.gates[0].says = [LocalAnswer(302, ((b"Location", b"/in"),), b"there\n"), LocalAnswer(204, (), b""), NO]
    visitor = house.visitor()
    visitor.says(GET * 3)
    (to, body), (empty, _), (no, page) = visitor.answers()
    assert (to.status_code, dict(to.headers)[b"location"], body) == (302, b"/in", b"there\n")
    assert b"x-wormhole-error" not in dict(to.headers)
    assert empty.status_code == 204
    assert no.status_code == 401
    assert dict(no.headers)[b"www-authenticate"] == b"Basic"
    assert dict(no.headers)[b"x-wormhole-error"] == b"not-signed-in"
    assert b"Say who you are." in page
    assert house.streams == []
    assert [exchange.reason for exchange in house.done] == ["", "", "not-signed-in"]
    assert {exchange.site for exchange in house.done} == {"app"}
    visitor.says(GET)
    house.stream.deliver(OK)
    assert len(visitor.answers()) == 1


def test_an_answer_of_an_error_with_its_own_body_names_its_reason(house: House, settings: Asked) -> None:
    settings.gates[0].says = [LocalAnswer(503, (), b"later", "maintenance")]
    visitor = house.visitor()
    visitor.says(GET)
    [(head, body)] = visitor.answers()
    assert (head.status_code, dict(head.headers)[b"x-wormhole-error"], body) == (503, b"maintenance", b"later")


def test_an_answer_to_an_upload_does_not_wait_for_it(house: House, settings: Asked) -> None:
    settings.gates[0].says = [LocalAnswer(200, (), b"enough")]
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10000000\r\n\r\nsome")
    [(head, _)] = visitor.answers([b"POST"])
    assert dict(head.headers)[b"connection"] == b"close"


def test_the_first_that_says_something_is_the_last_asked(house: House) -> None:
    one, other = Asked("one"), Asked("other")
    gated(house, one, other)
    one.gates[0].says = [None, NO, succeed(NO), None]
    other.gates[0].says = [NO]
    visitor = house.visitor()
    visitor.says(GET * 3)
    assert [head.status_code for head, _ in visitor.answers()] == [401, 401, 401]
    assert len(other.gates[0].heard) == 1


def test_a_gate_that_takes_its_time_holds_the_body(house: House, settings: Asked) -> None:
    first: Deferred[None] = Deferred()
    second: Deferred[None] = Deferred()
    settings.gates[0].says = [first]
    other = Asked("other")
    gated(house, settings, other)
    other.gates[0].says = [second]
    visitor = house.visitor()
    visitor.says(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    while not visitor.paused and sent < 1_000_000:
        visitor.says(b"x" * 10_000)
        sent += 10_000
    assert sent < 300_000
    [exchange] = settings.gates[0].heard
    assert exchange.state is State.CHECKING
    assert house.streams == []
    first.callback(None)
    assert house.streams == []
    second.callback(None)
    got = house.stream.read()
    assert got.endswith(b"x")
    while sent < 1_000_000:
        assert not visitor.paused
        visitor.says(b"x" * 10_000)
        house.stream.read()
        sent += 10_000
    [(_, body, _)] = house.stream.requests()
    assert len(body) == 1_000_000
    house.stream.deliver(OK)
    assert visitor.answers([b"POST"])[0][1] == b"ok"


def test_a_gate_may_answer_after_its_time(house: House, settings: Asked) -> None:
    later: Deferred[LocalAnswer] = Deferred()
    settings.gates[0].says = [later]
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.hears() == b""
    later.callback(NO)
    assert visitor.answers()[0][0].status_code == 401


def test_a_visitor_who_leaves_cancels_it(house: House, settings: Asked) -> None:
    cancelled: list[object] = []
    settings.gates[0].says = [Deferred(cancelled.append)]
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert len(cancelled) == 1
    assert house.done[0].reason == "visitor-gone"


def test_what_is_said_too_late_is_nothing(house: House, settings: Asked) -> None:
    stubborn: Deferred[LocalAnswer] = Deferred(lambda deferred: deferred.callback(NO))
    settings.gates[0].says = [stubborn]
    visitor = house.visitor()
    visitor.says(GET)
    visitor.lose()
    assert stubborn.called
    assert [exchange.status for exchange in house.done] == [0]


def test_a_gate_refuses(house: House, settings: Asked) -> None:
    refusal = HttpError(429, "rate-limited", "Too many requests.")
    settings.gates[0].says = [refusal, fail(refusal)]
    visitor = house.visitor()
    visitor.says(GET * 2)
    answers = visitor.answers()
    assert [head.status_code for head, _ in answers] == [429, 429]
    assert b"Too many requests." in answers[0][1]


def test_a_gate_that_crashes_is_a_500(house: House, settings: Asked, logged_failures: LoggedFailures) -> None:
    for broken in (ZeroDivisionError(), fail(ZeroDivisionError())):
        settings.gates[0].says = [broken]
        visitor = house.visitor()
        visitor.says(GET)
        assert visitor.answers()[0][0].status_code == 500
        assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_a_crash_behind_the_gates_is_a_500(house: House, settings: Asked, logged_failures: LoggedFailures) -> None:
    settings.gates[0].says = [succeed("no answer at all")]
    visitor = house.visitor()
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 500
    assert len(logged_failures.flush(AttributeError)) == 1


def test_the_time_of_a_whole_exchange_counts(build: object, house: House) -> None:
    asked = Asked()
    slow = build(whole=2.0)  # type: ignore[operator]
    gated(slow, asked)
    asked.gates[0].says = [Deferred()]
    visitor = slow.visitor()
    visitor.says(GET)
    slow.pass_time(3)
    assert visitor.answers()[0][0].status_code == 504


def test_a_gate_stays_while_its_settings_do(house: House, settings: Asked) -> None:
    again = Asked()
    gated(house, again)
    assert again.gates == []
    other = Asked("other")
    gated(house, other)
    assert settings.gates[0].closed
    assert not other.gates[0].closed
    named = Asked("other")
    gated(house, named, name="mine")  # another route: its state is its own
    assert other.gates[0].closed
    gated(house)
    assert named.gates[0].closed
    visitor = house.visitor()
    visitor.says(GET)
    house.stream.deliver(OK)
    assert visitor.answers()[0][1] == b"ok"


def test_routes_of_one_path_have_a_gate_each(house: House) -> None:
    one, other = Asked(), Asked()
    routes = (Route("app", "/a", "app", gates=(one,)), Route("app", "/a", "app", gates=(other,)))
    house.catalogs.swap(Catalog([Site("app", ("app.test",), routes)], [Backend("app")]))
    assert len(one.gates) == len(other.gates) == 1


def test_a_selection_is_handed_to_dispatch(house: House) -> None:
    """A route of a branch leads to agents of it alone, and waits for one where it is expected."""
    from wormhole_tw.control.model import Release

    def lead(selection: Selection | None) -> None:
        route = Route("app", "/", "app", selection=selection)
        house.catalogs.swap(Catalog([Site("app", ("app.test",), (route,))], [Backend("app")]))

    canary = house.agent(instance=7, release=Release(branch="canary"))
    house.sessions.append(canary)
    visitor = house.visitor()
    lead(Selection("canary"))
    for _ in range(4):
        visitor.says(GET)
        canary.streams[-1].read()
        canary.streams[-1].deliver(OK)
    assert house.sessions[0].streams == []
    lead(Selection(None, frozenset({"canary"})))
    for _ in range(4):
        visitor.says(GET)
        house.stream.read()
        house.stream.deliver(OK)
    assert len(canary.streams) == 1
    lead(Selection("other"))
    visitor.hears()
    visitor.says(GET)
    assert visitor.answers()[0][0].status_code == 503
    lead(Selection("canary"))
    canary.leave()
    two = house.visitor()
    two.says(GET)
    assert house.context.dispatch.waiting("app") == 1
    lead(None)
    house.sessions[0].leave()
    one = house.visitor()
    one.says(GET)
    assert house.context.dispatch.waiting("app") == 2
    # the first in the queue cannot use it, the second can
    house.sessions.append(house.agent(instance=8))
    assert house.context.dispatch.waiting("app") == 1
    house.sessions[-1].streams[-1].deliver(OK)
    assert one.answers()[0][1] == b"ok"
    assert two.hears() == b""
    house.sessions.append(house.agent(instance=9, release=Release(branch="canary")))
    house.sessions[-1].streams[-1].deliver(OK)
    assert two.answers()[0][1] == b"ok"
