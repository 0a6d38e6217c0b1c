"""The harness itself: a leaking, failing or hung test does not pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger

from tests import _harness, _support

CONFTEST = "from tests.conftest import *\n"

CASES = """
import time
import pytest
import pytest_twisted
from hypothesis import given, strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from tests import _harness

_harness.DEFAULT_DEADLINE = 0.5


def test_delayed_call(reactor):
    reactor.callLater(60, print)


def test_short_delayed_call(reactor):
    reactor.callLater(0.1, print)


async def test_port(reactor):
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")


async def test_paused_connection(reactor):
    came = Deferred()

    class Paused(Protocol):
        def connectionMade(self):
            self.transport.pauseProducing()
            came.callback(None)

    port = reactor.listenTCP(0, Factory.forProtocol(Paused), interface="127.0.0.1")
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Protocol())
    client.transport.pauseProducing()
    await came
    await port.stopListening()


@pytest.mark.background("shown")
def test_background(reactor):
    test_background.call = reactor.callLater(60, print)


def test_logged_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("it broke")


def test_operators_line():
    Logger().error("a limit was passed")


def test_unhandled_error():
    fail(ValueError("lost"))


@pytest.mark.deadline(0.2)
async def test_hung():
    await Deferred()


@pytest.mark.deadline(0.2)
async def test_swallows_cancellation():
    try:
        await Deferred()
    except Exception:
        await Deferred()


@pytest.mark.deadline(0.2)
def test_blocks():
    time.sleep(50)


@pytest_twisted.async_yield_fixture
async def ends_never():
    yield 1
    await Deferred()


def test_hung_fixture(ends_never):
    assert ends_never == 1


@pytest.fixture
async def unknown():
    pass


def test_unknown_fixture(unknown):
    pass


def test_returns_a_deferred():
    return Deferred()


seen = []


@pytest.mark.parametrize("base", [1, 2])
@given(n=st.integers(0, 9))
async def test_examples_in_coroutines(reactor, base, n):
    await deferLater(reactor, 0)
    seen.append((base, n))


@pytest.mark.parametrize("base", [1, 2])
@given(n=st.integers(0, 9))
def test_examples(base, n):
    seen.append((base, n))


@given(n=st.integers())
async def test_wrong_example(reactor, n):
    await deferLater(reactor, 0)
    assert n < 1000


def test_examples_ran():
    assert len(seen) >= 20


@pytest.mark.requires_program("no-such-program")
def test_program():
    pass


@pytest.mark.full
def test_big():
    pass
"""


def run_cases(folder: Path, *arguments: str, **environment: str) -> tuple[dict[str, set[str]], str]:
    """Run the cases in a pytest of their own: the outcomes of each, and everything that was printed."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  full: full sizes\n")
    (folder / "test_cases.py").write_text(CASES)
    variables = _support.program_environment(**environment)
    variables["PYTHONPATH"] = str(_support.ROOT)
    if "CI" not in environment:
        variables.pop("CI", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "test_cases.py", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    outcomes: dict[str, set[str]] = {}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) test_cases\.py::(\w+)", done.stdout, re.MULTILINE):
        outcomes.setdefault(name, set()).add(outcome)
    return outcomes, done.stdout


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], str]:
    return run_cases(tmp_path_factory.mktemp("ordinary"))


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("test_delayed_call", "PASSED ERROR"),
        ("test_short_delayed_call", "PASSED ERROR"),
        ("test_port", "PASSED ERROR"),
        ("test_paused_connection", "PASSED ERROR"),
        ("test_background", "PASSED"),
        ("test_logged_failure", "PASSED ERROR"),
        ("test_operators_line", "PASSED"),
        ("test_unhandled_error", "PASSED ERROR"),
        ("test_hung", "FAILED"),
        ("test_swallows_cancellation", "FAILED"),
        ("test_blocks", "FAILED"),
        ("test_hung_fixture", "PASSED ERROR"),
        ("test_unknown_fixture", "ERROR"),
        ("test_returns_a_deferred", "FAILED"),
        ("test_examples_in_coroutines", "PASSED"),
        ("test_examples", "PASSED"),
        ("test_wrong_example", "FAILED"),
        ("test_examples_ran", "PASSED"),
    ],
)
def test_the_outcome_of(name: str, outcomes: str, ordinary: tuple[dict[str, set[str]], str]) -> None:
    found, text = ordinary
    assert found.get(name) == set(outcomes.split()), text


def test_what_is_said(ordinary: tuple[dict[str, set[str]], str]) -> None:
    text = ordinary[1]
    assert text.count("left a delayed call: <DelayedCall") == 2
    assert re.search(r"left in the reactor: <.*Factory.* on \d+>", text)
    assert "it broke\nTraceback" in text
    assert "builtins.ValueError: lost" in text
    assert re.search(r"the deadline of 0\.2 s passed, waiting at .*test_cases\.py:\d+ in test_hung", text)
    assert "blocked for 0.2 s without returning to the reactor" in text
    assert "needs the program no-such-program" in text
    assert "1 deselected" in text


@pytest.mark.deadline(240)
def test_in_ci_programs_must_be_there_and_full_sizes_run_when_asked_for(tmp_path: Path) -> None:
    outcomes, text = run_cases(tmp_path, "-k", "program or big", CI="true", WORMHOLE_FULL="1")
    assert outcomes["test_program"] == {"ERROR"}, text
    assert "the program no-such-program is missing here, and CI must have it" in text
    assert outcomes["test_big"] == {"PASSED"}


async def test_expected_failures_are_flushed(logged_failures: _harness.LoggedFailures) -> None:
    fail(ValueError("expected"))
    Logger().critical("no failure in it")
    assert [str(failure.value) for failure in logged_failures.flush(ValueError)] == ["expected"]
    assert logged_failures.flush() == []


async def test_log_lines(log_lines: _harness.LogLines, caplog: pytest.LogCaptureFixture) -> None:
    log = Logger("some.place")
    waiting = log_lines.wait_for("number 2")
    log.info("number {n}", n=1)
    log.warn("number {n}", n=2)
    assert (await waiting)["n"] == 2
    assert (await log_lines.wait_for("number 1"))["n"] == 1
    assert log_lines.lines == ["some.place info number 1", "some.place warn number 2"]
    assert "number 2" in log_lines
    assert "number 3" not in log_lines
    assert "number 2" in caplog.text


async def test_a_closing_connection_has_time_to_go(reactor) -> None:
    lost: Deferred[None] = Deferred()

    class Server(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            lost.callback(None)

    port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Protocol())
    assert client.transport is not None
    client.transport.loseConnection()
    await port.stopListening()
    await lost


def test_a_finished_coroutine_leaves_no_timer() -> None:
    async def seven() -> int:
        return 7

    clock = MemoryReactorClock()
    results: list[int] = []
    _harness.with_deadline(seven(), 30, clock).addCallback(results.append)
    assert results == [7]
    assert clock.getDelayedCalls() == []
