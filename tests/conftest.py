"""Fixtures and hooks for every test; what they do is in ``_harness.py``."""

from __future__ import annotations

import gc
import inspect
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import STDLibLogObserver, globalLogBeginner

from tests import _harness, _lanes, _support, _transports

settings.register_profile("ordinary", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("ordinary"), derandomize=True, print_blob=True)
settings.register_profile("full", settings.get_profile("ordinary"), max_examples=2000)
settings.load_profile("full" if _support.FULL else "ci" if _support.IN_CI else "ordinary")


def _the_reactor() -> Any:
    # Late: pytest-twisted installs the reactor when pytest is configured, after this file may have been read.
    from twisted.internet import reactor

    return reactor


def pytest_addoption(parser: pytest.Parser) -> None:
    _transports.add_option(parser)
    _lanes.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as a shell starts what runs beside; programs that the tests start would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _transports.choose(config)
    config.addinivalue_line("markers", "deadline(seconds): how long a test may take, 30 s unless told")
    config.addinivalue_line("markers", "background(reason): the test may leave the reactor busy (module-wide fixtures)")
    config.addinivalue_line("markers", "requires_program(*names): skip without these programs; in CI, fail")
    try:
        # Without this every event of the session is kept in Twisted's start-up buffer, with what its failures hold.
        globalLogBeginner.beginLoggingTo([STDLibLogObserver("twisted")], discardBuffer=True, redirectStandardIO=False)
    except Exception as error:  # a second session in this process has begun already
        config.issue_config_time_warning(pytest.PytestWarning(f"logging had begun: {error}"), 2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    passed_by = _lanes.passes_by(config, collection_path) or _transports.passes_by(config, collection_path)
    return True if passed_by else None  # None: whatever others say


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if _support.FULL or item.get_closest_marker("full") is None]
    if config.getoption("--transports") == "twisted":
        kept = [item for item in kept if _transports.touches_sockets(item)]
    kept = [item for item in kept if _lanes.chosen(config, item)]
    if len(kept) < len(items):
        staying = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in staying])
    items[:] = kept


def pytest_collection_finish() -> None:
    # The collection after each test then looks at what that test made, not at every imported module and report again.
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()


def pytest_runtest_logfinish() -> None:
    if hasattr(gc, "freeze"):
        gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires_program"):
        for name in marker.args:
            _support.require_program(name)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return _harness.run_test_function(pyfuncitem, _the_reactor())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Async fixtures have the default deadline, each way."""
    original = fixturedef.func
    if not (inspect.iscoroutinefunction(original) or inspect.isasyncgenfunction(original)):
        return (yield)
    if not hasattr(original, "_pytest_twisted_mark"):
        pytest.fail(f"{fixturedef.argname}: use pytest_twisted.async_fixture or async_yield_fixture", pytrace=False)
    fixturedef.func = _harness.deadlined(original, _harness.DEFAULT_DEADLINE, _the_reactor())
    try:
        return (yield)
    finally:
        fixturedef.func = original


@pytest.fixture(scope="session")
def reactor() -> Any:
    """The running reactor."""
    return _the_reactor()


@pytest.fixture
def logged_failures(leaves_nothing: tuple[_harness.LoggedFailures, _harness.LogLines]) -> _harness.LoggedFailures:
    """Failures logged so far; ``flush(SomeError)`` takes the expected ones, what is left at the end fails the test."""
    return leaves_nothing[0]


@pytest.fixture
def log_lines(leaves_nothing: tuple[_harness.LoggedFailures, _harness.LogLines]) -> _harness.LogLines:
    """What twisted.logger said: ``"text" in log_lines``, ``log_lines.text``, ``await log_lines.wait_for("text")``."""
    return leaves_nothing[1]


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[tuple[_harness.LoggedFailures, _harness.LogLines]]:
    """Fail a test that leaves delayed calls, sockets, logged failures or unhandled errors of Deferreds."""
    failures, lines = _harness.LoggedFailures(), _harness.LogLines()
    check = _harness.LeakCheck(_the_reactor())
    with _harness.observed(failures, lines):
        yield failures, lines
        complaints: list[str] = []
        left = check.leftovers()
        if request.node.get_closest_marker("background") is None:
            complaints += left
        gc.collect()
        complaints += _harness.failure_report(failures)
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
