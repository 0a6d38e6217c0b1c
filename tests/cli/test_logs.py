"""The log: one event, one line."""

from __future__ import annotations

import io
import json

import pytest
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from wormhole_tw.cli import agent_options
from wormhole_tw.cli.logs import format_line, log_observer, parse_level
from wormhole_tw.cli.process import choose_log_format
from wormhole_tw.errors import LinkLost


def logged(level: str = "info") -> tuple[Logger, Logger, io.StringIO]:
    out = io.StringIO()
    publisher = LogPublisher(log_observer(out, level))
    return Logger("wormhole_tw.agent.service", observer=publisher), Logger("twisted.x", observer=publisher), out


def test_a_line() -> None:
    event = {
        "log_time": 1700000000.0429,
        "log_level": LogLevel.warn,
        "log_namespace": "wormhole_tw.agent.connector",
        "log_format": "lost {edge}",
        "edge": "edge-1",
    }
    assert format_line(event) == "2023-11-14T22:13:20.042Z warn agent.connector: lost edge-1\n"


def test_an_event_of_somebody_else() -> None:
    assert format_line({"log_time": 0.0, "log_format": "x"}) == "1970-01-01T00:00:00.000Z info -: x\n"


def test_no_peer_writes_lines_of_its_own() -> None:
    ours, _, out = logged()
    ours.info("the edge says {reason}", reason="no\n2026-01-01 info all is well\r\x1b[2J\u2028x")
    text = out.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("says no\\n2026-01-01 info all is well\\r\\x1b[2J\\u2028x\n")


def test_a_line_has_an_end() -> None:
    ours, _, out = logged()
    ours.info("{data}", data="x" * 100_000)
    assert len(out.getvalue()) < 10_000


def test_levels() -> None:
    ours, theirs, out = logged()
    ours.debug("a")
    ours.info("b")
    theirs.info("c")
    theirs.warn("d")
    assert [line.split(": ")[1] for line in out.getvalue().splitlines()] == ["b", "d"]
    ours, theirs, out = logged("debug")
    ours.debug("a")
    theirs.info("c")
    assert len(out.getvalue().splitlines()) == 2
    ours, _, out = logged("error")
    ours.warn("a")
    assert out.getvalue() == ""


def test_the_old_way_of_logging_is_twisted_s_talk() -> None:
    from twisted.python.log import LogPublisher as LegacyPublisher

    out = io.StringIO()
    observer = log_observer(out)
    legacy = LegacyPublisher(observerPublisher=LogPublisher(observer))
    legacy.msg("Site starting on 9190")
    assert out.getvalue() == ""


def test_an_error_of_the_world_is_a_sentence_and_a_bug_has_its_traceback() -> None:
    ours, _, out = logged()
    try:
        raise LinkLost("the peer left")
    except LinkLost:
        ours.failure("no link", Failure())
    assert out.getvalue().endswith("no link: the peer left\n")
    ours, _, out = logged()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        ours.failure("a bug")
    head, *rest = out.getvalue().splitlines()
    assert head.endswith("a bug")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_a_closed_log_does_no_harm() -> None:
    ours, _, out = logged()
    out.close()
    ours.info("nobody reads this")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", "debug"),
        (" WARN ", "warn"),
        ("warning", "warn"),
        ("critical", "error"),
        ("loud", "info"),
        (None, "info"),
    ],
)
def test_an_unknown_level_is_info(text: str | None, level: str) -> None:
    assert parse_level(text) == level


def test_json() -> None:
    out = io.StringIO()
    ours = Logger("wormhole_tw.edge.service", observer=LogPublisher(log_observer(out, "info", "json")))
    ours.info("the edge says {reason}", reason='a "line"\nof its own\u2028')
    ours.failure("no", failure=Failure(LinkLost("gone")))
    ours.failure("bug", failure=Failure(ValueError("x" * 10_000)))
    said, lost, bug = map(json.loads, out.getvalue().splitlines())
    assert said.pop("time").endswith("Z")
    assert said == {"level": "info", "where": "edge.service", "text": 'the edge says a "line"\nof its own\u2028'}
    assert "gone" in lost["text"]
    assert "traceback" not in lost
    assert "ValueError" in bug["traceback"]
    assert len(bug["traceback"]) < 10_000


def test_the_formats() -> None:
    choose_log_format("json")
    choose_log_format(None)
    with pytest.raises(SystemExit, match="--log-format: expected one of text, json"):
        choose_log_format("xml")


@pytest.mark.parametrize(
    ("level", "counts_as", "told"),
    [("debug", "debug", False), ("WARNING", "warn", False), ("loud", "info", True), ("7", "info", True)],
)
def test_an_unknown_level_is_info_and_worth_a_line(
    level: str, counts_as: str, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(agent_options, "choose_log_level", lambda name: chosen.append(parse_level(name)))
    environ = {"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "e", "FLY_LOG_LEVEL": level}
    agent_options.config_from(environ, {})
    assert chosen == [counts_as]
    assert (f"FLY_LOG_LEVEL: there is no level {level}, so it is info" in caplog.text) is told
