"""The harness itself: a leaking, failing or hung test does not pass."""

from __future__ import annotations

import sys

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from tests import _harness, _support

CONFTEST = "from tests.conftest import *\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run tests, given as source, in a pytest of their own."""
    monkeypatch.setenv("PYTHONPATH", str(_support.ROOT))
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  full: full sizes\n")

    def go(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, timeout=60)

    return go


def test_a_delayed_call_left_behind(run) -> None:
    result = run("def test_it(reactor):\n    reactor.callLater(60, print)\ndef test_next(): pass\n")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left a delayed call*"])


def test_a_short_delayed_call_left_behind(run) -> None:
    """Also one that runs out while the harness waits."""
    run("def test_it(reactor):\n    reactor.callLater(0.1, print)\n").assert_outcomes(passed=1, errors=1)


def test_a_port_left_open(run) -> None:
    result = run(
        "from twisted.internet.protocol import Factory\n"
        "async def test_it(reactor):\n    reactor.listenTCP(0, Factory(), interface='127.0.0.1')\n"
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left in the reactor: <*Factory* on *"])


def test_a_paused_connection_left_open(run) -> None:
    """Nothing watches a paused socket, so the reactor's own lists do not show it."""
    result = run(
        """
        from twisted.internet.defer import Deferred
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
        from twisted.internet.protocol import Factory, Protocol

        async def test_it(reactor):
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
        """
    )
    result.assert_outcomes(passed=1, errors=1)


def test_a_logged_failure(run) -> None:
    result = run(
        "from twisted.logger import Logger\n"
        "def test_it():\n    try:\n        1 / 0\n"
        "    except ZeroDivisionError:\n        Logger().failure('it broke')\n"
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*it broke*", "*ZeroDivisionError*"])


def test_an_unhandled_error_in_a_deferred(run) -> None:
    result = run("from twisted.internet.defer import fail\ndef test_it():\n    fail(ValueError('lost'))\n")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError*lost*"])


def test_a_hung_coroutine(run) -> None:
    result = run(
        "import pytest\nfrom twisted.internet.defer import Deferred\n"
        "@pytest.mark.deadline(0.2)\nasync def test_it():\n    await Deferred()\n"
        "async def test_next(): pass\n"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the deadline of 0.2 s passed, waiting at *:5 in test_it*"])


def test_a_coroutine_that_swallows_its_cancellation(run) -> None:
    result = run(
        "import pytest\nfrom twisted.internet.defer import Deferred\n"
        "@pytest.mark.deadline(0.2)\nasync def test_it():\n"
        "    try:\n        await Deferred()\n    except Exception:\n        await Deferred()\n"
    )
    result.assert_outcomes(failed=1)


def test_a_test_that_blocks(run) -> None:
    result = run("import pytest, time\n@pytest.mark.deadline(0.2)\ndef test_it():\n    time.sleep(50)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*blocked for 0.2 s*"])


def test_a_hung_fixture(run) -> None:
    result = run(
        "from tests import _harness\n_harness.DEFAULT_DEADLINE = 0.2\n"
        "import pytest_twisted\nfrom twisted.internet.defer import Deferred\n"
        "@pytest_twisted.async_yield_fixture\nasync def slow():\n    yield 1\n    await Deferred()\n"
        "def test_it(slow):\n    assert slow == 1\n"
    )
    result.assert_outcomes(passed=1, errors=1)


def test_a_fixture_that_pytest_twisted_does_not_know(run) -> None:
    result = run("import pytest\n@pytest.fixture\nasync def it(): pass\ndef test_it(it): pass\n")
    result.assert_outcomes(errors=1)


def test_a_plain_function_that_returns_a_deferred(run) -> None:
    run("from twisted.internet.defer import Deferred\ndef test_it():\n    return Deferred()\n").assert_outcomes(
        failed=1
    )


def test_hypothesis_with_coroutines_and_parameters(run) -> None:
    result = run(
        """
        import pytest
        from hypothesis import given, strategies as st
        from twisted.internet.task import deferLater

        seen = []

        @pytest.mark.parametrize("base", [1, 2])
        @given(n=st.integers(0, 9))
        async def test_coroutine(reactor, base, n):
            await deferLater(reactor, 0)
            seen.append((base, n))

        @pytest.mark.parametrize("base", [1, 2])
        @given(n=st.integers(0, 9))
        def test_plain(base, n):
            seen.append((base, n))

        @given(n=st.integers())
        async def test_wrong(reactor, n):
            await deferLater(reactor, 0)
            assert n < 1000

        def test_all():
            assert len(seen) >= 20
        """
    )
    result.assert_outcomes(passed=5, failed=1)


def test_full_sizes_are_left_out_unless_asked_for(run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import pytest\n@pytest.mark.full\ndef test_big(): pass\ndef test_small(): pass\n"
    monkeypatch.delenv("WORMHOLE_FULL", raising=False)
    run(source).assert_outcomes(passed=1, deselected=1)
    monkeypatch.setenv("WORMHOLE_FULL", "1")
    run(source).assert_outcomes(passed=2)


def test_a_missing_program(run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import pytest\n@pytest.mark.requires_program('no-such-program')\ndef test_it(): pass\n"
    result = run(source, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs the program no-such-program*"])
    monkeypatch.setenv("CI", "true")
    run(source).assert_outcomes(errors=1)


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
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Protocol())
    assert client.transport is not None
    client.transport.loseConnection()
    await port.stopListening()
    await lost
