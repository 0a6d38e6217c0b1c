"""The health check of the private service: what passes, what fails, and what the edge is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.agent._edge import FakeEdge, until
from tests.agent._services import Connection, LocalServer
from tests.agent.conftest import AgentMaker
from wormhole_tw.agent import events
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.health import MAX_BODY, MAX_HEAD, HealthWatch
from wormhole_tw.agent.health_settings import HealthCheck, parse_statuses
from wormhole_tw.agent.local import LocalService
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import CertificateMap, ServerTls

QUICK = {"interval": 0.02, "timeout": 5.0, "rise": 1, "fall": 1}
"""For tests that wait for what a check finds, and not for its times."""


class Web(LocalServer):
    """A service that answers every request in the same way.

    :ivar answer: what it sends; None: nothing
    :ivar requests: the requests, whole
    """

    answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    closes = True
    most_open = 0

    @property
    def requests(self) -> list[bytes]:
        return [bytes(connection.received) for connection in self.connections if connection.received]

    def heard(self, connection: Connection, data: bytes) -> None:
        self.most_open = max(self.most_open, self.open)
        if connection.received.endswith(b"\r\n\r\n") and self.answer is not None:
            connection.transport.write(self.answer)
            if self.closes:
                connection.transport.loseConnection()


@pytest_twisted.async_yield_fixture
async def web(reactor: Any) -> AsyncIterator[Web]:
    service = Web(reactor)
    await service.listen()
    yield service
    await service.close()


class Watched:
    """A watch of a service, and what it said."""

    def __init__(self, reactor: Any, local: LocalService, check: HealthCheck) -> None:
        self.changes: list[tuple[bool, str]] = []
        self.watch = HealthWatch(reactor, local, self._changed, check, lambda: 0.5)
        self._reactor = reactor

    def _changed(self) -> None:
        self.changes.append((self.watch.ready, self.watch.reason))

    async def change(self, count: int = 1) -> tuple[bool, str]:
        """The change number ``count``."""
        await until(self._reactor, lambda: len(self.changes) >= count)
        return self.changes[count - 1]


WatchMaker = Callable[..., Watched]


@pytest_twisted.async_yield_fixture
async def watch(reactor: Any) -> AsyncIterator[WatchMaker]:
    """Starts a watch of a target."""
    watches: list[Watched] = []

    def make(local: Any, *, settings: dict[str, Any] | None = None, **check: Any) -> Watched:
        config = AgentConfig(token="t", edges=["e"], local=local, **(settings or {}))
        watched = Watched(reactor, LocalService(reactor, config), HealthCheck(**{**QUICK, **check}))
        watched.watch.start()
        watches.append(watched)
        return watched

    yield make
    for watched in watches:
        watched.watch.stop()
        watched.watch.stop()


# what is asked, and what passes


async def test_a_get_with_a_host(web: Web, watch: WatchMaker) -> None:
    watched = watch(web.target, path="/healthz?full=1")
    assert await watched.change() == (True, "")
    head = web.requests[0].decode("ascii").split("\r\n")
    assert head[0] == "GET /healthz?full=1 HTTP/1.1"
    assert f"Host: {web.target}" in head
    assert "Connection: close" in head
    assert head[-2:] == ["", ""]


async def test_another_host(web: Web, watch: WatchMaker) -> None:
    await watch(web.target, path="/", host="shop.example").change()
    assert b"\r\nHost: shop.example\r\n" in web.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
        b"HTTP/1.1 200\n\n",
        b"HTTP/1.1 399 \r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (4 * MAX_BODY),
    ],
)
async def test_answers_that_pass(web: Web, watch: WatchMaker, answer: bytes) -> None:
    web.answer = answer
    assert await watch(web.target, path="/").change() == (True, "")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 500 Oops\r\n\r\n", "GET / is answered with status 500"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "GET / is answered with status 404"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "GET / is answered with status 101"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "GET /: what answers does not speak HTTP/1"),
        (b"HTTP/1.1 abc\r\n", "GET /: what answers does not speak HTTP/1"),
        (b"HTTP/2 200\r\n", "GET /: what answers does not speak HTTP/1"),
        (b"HTTP/1.1 20", "GET /: the connection was closed without an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "GET /: the connection was closed without an answer"),
        (b"", "GET /: the connection was closed without an answer"),
        (b"HTTP/1.1 200 " + b"x" * MAX_HEAD, "GET /: its answer has no end of interim answers"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "GET /: its answer has no end of interim answers"),
    ],
)
async def test_answers_that_fail(web: Web, watch: WatchMaker, log_lines: Any, answer: bytes, sentence: str) -> None:
    web.answer = answer
    watched = watch(web.target, path="/")
    await log_lines.wait_for(f"{web.target} does not pass its health check yet: {sentence}")
    assert not watched.watch.ready
    assert watched.watch.reason == "the service has not passed its health check yet"
    before = len(web.connections)
    await until(web.reactor, lambda: len(web.connections) > before + 2)
    assert len(log_lines.matching("does not pass its health check yet")) == 1  # once, and not at every check
    web.answer = Web.answer
    assert await watched.change() == (True, "")


async def test_statuses_that_were_asked_for(web: Web, watch: WatchMaker) -> None:
    web.answer = b"HTTP/1.1 401 Unauthorized\r\n\r\n"
    assert await watch(web.target, path="/", statuses=parse_statuses("200,401")).change() == (True, "")


async def test_no_answer_in_time(web: Web, watch: WatchMaker, log_lines: Any) -> None:
    web.answer = None
    watched = watch(web.target, path="/", timeout=0.05)
    await log_lines.wait_for("GET /: no answer within 0.05 s")
    assert not watched.watch.ready


async def test_one_check_at_a_time(web: Web, watch: WatchMaker, log_lines: Any, reactor: Any) -> None:
    """A service that answers nothing gets no second question beside the first."""
    web.answer = None
    watch(web.target, path="/", timeout=0.03, interval=0.01)
    await until(reactor, lambda: len(web.requests) >= 4)
    assert web.most_open <= 2  # one that we have left, of which it has not heard yet


async def test_a_service_that_keeps_its_connections_open(web: Web, watch: WatchMaker, reactor: Any) -> None:
    web.closes = False
    watched = watch(web.target, path="/")
    assert await watched.change() == (True, "")
    await until(reactor, lambda: len(web.requests) >= 4)
    assert web.most_open <= 2
    assert watched.changes == [(True, "")]
    watched.watch.stop()
    await until(reactor, lambda: web.open == 0)


async def test_a_connection_is_enough(local: LocalServer, watch: WatchMaker, log_lines: Any) -> None:
    watched = watch(local.target)
    assert await watched.change() == (True, "")
    await local.stop_listening()
    assert await watched.change(2) == (False, "the service fails its health check")
    assert "fails its health check and gets no new requests: the private service refuses connections" in log_lines
    assert all(connection.received == b"" for connection in local.connections)
    await local.listen()
    assert await watched.change(3) == (True, "")


# ways to the service


async def test_over_tls(reactor: Any, tmp_path: Path, watch: WatchMaker, log_lines: Any) -> None:
    ca = DevCa(tmp_path / "ca")
    service = Web(reactor, ServerTls(CertificateMap([ca.certificate_for(["localhost"])]), [b"http/1.1"]))
    await service.listen()
    try:
        target = f"https://localhost:{service.number}"
        stranger = watch(target, path="/")
        await log_lines.wait_for(f"{target}: ")  # what is wrong with its certificate
        assert not stranger.watch.ready
        assert "does not pass its health check yet" not in log_lines  # once is enough
        assert await watch(target, path="/", settings={"local_ca_file": str(ca.ca_path)}).change() == (True, "")
        assert f"\r\nHost: localhost:{service.number}\r\n".encode() in service.requests[0]
        stranger.watch.stop()
    finally:
        await service.close()


async def test_over_a_unix_socket(reactor: Any, tmp_path: Path, watch: WatchMaker) -> None:
    service = Web(reactor)
    await service.listen(tmp_path / "s")
    try:
        watched = watch(f"unix:{tmp_path}/s", path="/")
        assert await watched.change() == (True, "")
        assert b"\r\nHost: localhost\r\n" in service.requests[0]
        watched.watch.stop()
    finally:
        await service.close()


async def test_over_an_endpoint(reactor: Any, web: Web, watch: WatchMaker) -> None:
    assert await watch(f"tcp:host=127.0.0.1:port={web.number}", path="/").change() == (True, "")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", web.number)
    assert await watch(endpoint, path="/").change() == (True, "")


async def test_behind_a_header(web: Web, watch: WatchMaker, reactor: Any) -> None:
    watched = watch(web.target, path="/", interval=60.0)
    assert await watched.change() == (True, "")
    watched.watch.begin_with(b"PROXY UNKNOWN\r\n")  # what the edge asked for, after the first check
    await until(reactor, lambda: len(web.requests) == 2)
    assert web.requests[1].startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n")
    watched.watch.begin_with(b"PROXY UNKNOWN\r\n")
    assert len(web.requests) == 2


# how many, and when


class Steps:
    """A watch on a clock of its own, and a service of which the test says how it is."""

    def __init__(self, random: Callable[[], float] = lambda: 0.5, **check: Any) -> None:
        self.clock = Clock()
        self.well = True
        self.checks: list[float] = []
        self.changes: list[tuple[float, bool]] = []
        self.authority = self.description = "a service"
        self.watch = HealthWatch(self.clock, cast(Any, self), self._changed, HealthCheck(**check), random)

    def _changed(self) -> None:
        self.changes.append((round(self.clock.seconds(), 3), self.watch.ready))

    def connect(self, factory: Any, header: bytes) -> Any:
        self.checks.append(round(self.clock.seconds(), 3))
        if not self.well:
            return fail(ConnectionRefusedError())
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        return succeed(protocol)

    def explain(self, failure: Any) -> tuple[int, str]:
        return 0, "it refuses"

    def go(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and (due := min(call.getTime() for call in calls)) <= end:
            self.clock.advance(due - self.clock.seconds())
        self.clock.advance(end - self.clock.seconds())


def test_rise_and_fall() -> None:
    steps = Steps(interval=5.0, rise=3, fall=2)
    steps.watch.start()
    steps.go(0.5)
    assert steps.changes == [(0.4, True)]  # a service that starts is asked again at once
    assert steps.checks == [0.0, 0.2, 0.4]
    steps.well = False
    steps.go(6)
    assert steps.watch.ready  # once is no fall
    steps.well = True
    steps.go(5)
    steps.well = False
    steps.go(10)
    assert [ready for _, ready in steps.changes] == [True, False]
    assert steps.changes[1][0] == 20.4
    steps.well = True
    steps.go(10)
    assert not steps.watch.ready
    steps.well = False
    steps.go(5)
    steps.well = True
    steps.go(10)
    assert not steps.watch.ready  # three in a row, and not three in all
    steps.go(5)
    assert steps.changes[2] == (50.4, True)
    assert steps.checks[3:] == [5.4, 10.4, 15.4, 20.4, 25.4, 30.4, 35.4, 40.4, 45.4, 50.4]
    steps.watch.stop()
    assert not steps.clock.getDelayedCalls()


def test_a_service_that_is_not_there_yet_is_not_hammered() -> None:
    steps = Steps(interval=5.0)
    steps.well = False
    steps.watch.start()
    steps.go(60)
    waits = [after - before for before, after in zip(steps.checks, steps.checks[1:], strict=False)]
    assert waits[0] == 0.2
    assert 10 < len(waits) < 25
    assert waits[-1] == pytest.approx(5.0)
    steps.watch.stop()


@pytest.mark.parametrize(("random", "wait"), [(0.0, 9.0), (0.5, 10.0), (0.999, 11.0)])
def test_jitter(random: float, wait: float) -> None:
    steps = Steps(lambda: random, interval=10.0, rise=1)
    steps.watch.start()
    steps.go(12)
    assert steps.checks[1] == pytest.approx(wait, abs=0.02)
    steps.watch.stop()


def test_who_is_told_may_stop_it() -> None:
    steps = Steps(rise=1)
    steps.watch._changed = steps.watch.stop
    steps.watch.start()
    assert not steps.clock.getDelayedCalls()


def test_it_starts_again_from_nothing() -> None:
    steps = Steps(rise=1, fall=1)
    steps.watch.start()
    assert steps.watch.ready
    steps.watch.stop()
    steps.well = False
    steps.watch.start()
    assert not steps.watch.ready
    assert steps.watch.reason == "the service has not passed its health check yet"
    steps.watch.stop()


# through the agent


async def test_the_edge_is_told(edge: FakeEdge, web: Web, make_agent: AgentMaker, reactor: Any, tmp_path: Path) -> None:
    web.answer = b"HTTP/1.1 503 Starting\r\n\r\n"
    ready_file = tmp_path / "ready"
    agent = make_agent(local=web.target, health=HealthCheck(path="/", **QUICK), ready_file=str(ready_file))
    told: list[type[events.AgentEvent]] = []
    agent.on_event(lambda event: told.append(type(event)))
    link = await edge.link()
    await until(reactor, lambda: link.reason == "the service has not passed its health check yet")
    assert link.ready is False
    web.answer = Web.answer
    await until(reactor, lambda: link.ready)
    assert ready_file.exists()
    web.answer = b"HTTP/1.1 500 Oops\r\n\r\n"
    await until(reactor, lambda: not link.ready)
    assert not ready_file.exists()
    assert link.reason == "the service fails its health check"
    web.answer = Web.answer
    await until(reactor, lambda: link.ready)
    await until(reactor, lambda: told.count(events.Ready) == 2)
    assert [kind for kind in told if kind is not events.Connected] == [
        events.ServiceReached,
        events.Ready,
        events.NotReady,
        events.Ready,
    ]
    assert agent.ready


# settings


def read(**variables: str) -> HealthCheck | None:
    environ = {"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "e", **variables}
    return AgentConfig.from_environment(environ, folder=None).health


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert read() is None


def test_the_variables() -> None:
    assert read(FLY_HEALTH_CHECK="tcp") == HealthCheck()
    assert read(FLY_HEALTH_CHECK="TCP", FLY_HEALTH_FALL="4") == HealthCheck(fall=4)
    assert read(
        FLY_HEALTH_CHECK="/up?x=1",
        FLY_HEALTH_INTERVAL="10",
        FLY_HEALTH_TIMEOUT="0.5",
        FLY_HEALTH_RISE="1",
        FLY_HEALTH_FALL="5",
        FLY_HEALTH_STATUS="200, 204,301-302",
        FLY_HEALTH_HOST="shop.example:80",
    ) == HealthCheck(
        path="/up?x=1",
        interval=10,
        timeout=0.5,
        rise=1,
        fall=5,
        statuses=((200, 200), (204, 204), (301, 302)),
        host="shop.example:80",
    )


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"FLY_HEALTH_CHECK": "healthz"}, "FLY_HEALTH_CHECK: give tcp, or a path as /healthz"),
        ({"FLY_HEALTH_CHECK": "/a b"}, "FLY_HEALTH_CHECK: give tcp, or a path"),
        ({"FLY_HEALTH_CHECK": "/a\r\nX: y"}, "FLY_HEALTH_CHECK: give tcp, or a path"),
        ({"FLY_HEALTH_CHECK": "/a#b"}, "FLY_HEALTH_CHECK: give tcp, or a path"),
        ({"FLY_HEALTH_CHECK": "/" + "x" * 2048}, "FLY_HEALTH_CHECK: give tcp, or a path"),
        ({"FLY_HEALTH_CHECK": "http://x/"}, "FLY_HEALTH_CHECK: give tcp, or a path"),
        ({"FLY_HEALTH_INTERVAL": "5"}, "FLY_HEALTH_INTERVAL: there is no health check: set FLY_HEALTH_CHECK"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_INTERVAL": "0"}, "FLY_HEALTH_INTERVAL: 0.0 is out of range"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_INTERVAL": "often"}, "FLY_HEALTH_INTERVAL: 'often' is no number"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_TIMEOUT": "nan"}, "FLY_HEALTH_TIMEOUT: nan is out of range"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_RISE": "0"}, "FLY_HEALTH_RISE: 0 is out of range"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_FALL": "1.5"}, "FLY_HEALTH_FALL: '1.5' is no whole number"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_FALL": "9" * 5000}, "FLY_HEALTH_FALL: '9999"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_STATUS": "ok"}, "FLY_HEALTH_STATUS: give statuses from 200 to 599"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_STATUS": "399-200"}, "FLY_HEALTH_STATUS: give statuses"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_STATUS": "200,"}, "FLY_HEALTH_STATUS: give statuses"),
        ({"FLY_HEALTH_CHECK": "/", "FLY_HEALTH_HOST": "a b"}, "FLY_HEALTH_HOST: give a host name"),
        ({"FLY_HEALTH_CHECK": "tcp", "FLY_HEALTH_HOST": "a"}, "FLY_HEALTH_HOST: it is for a check by HTTP"),
        ({"FLY_HEALTH_CHECK": "tcp", "FLY_HEALTH_STATUS": "200"}, "FLY_HEALTH_STATUS: it is for a check by HTTP"),
    ],
)
def test_errors_name_the_variable(variables: dict[str, str], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**variables)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


def test_an_option_is_named_as_one() -> None:
    environ = {"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "e"}
    with pytest.raises(ConfigError, match="--health-check: give tcp"):
        AgentConfig.from_environment(environ, {"health-check": "nonsense"}, folder=None)


def test_a_library_is_told_the_field() -> None:
    with pytest.raises(ConfigError, match=r"health\.statuses: no status is given"):
        HealthCheck(path="/", statuses=())
