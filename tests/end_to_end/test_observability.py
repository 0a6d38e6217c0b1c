"""What running programs tell of themselves: the access log, metrics, readiness, names of requests, logs as JSON."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import TWISTD, free_port, wait_until

SECRETS = [f"hidden-{number}" for number in range(11)]


class Watched:
    """An edge with an admin listener and an access log, an agent, and a service that shows what it was asked."""

    def __init__(self, house: House, origin: Origin) -> None:
        self.house = house
        self.admin = free_port()
        self.log = house.folder / "access.log"
        self.hold = threading.Event()
        origin.routes.update(
            {
                "/show": lambda call: call.answer(bytes(call.headers)),
                "/cookie": lambda call: call.answer(SECRETS[0].encode(), headers={"Set-Cookie": SECRETS[1]}),
                "/slow": self._slow,
            }
        )
        house.config["edge"]["admin"] = f"tcp:{self.admin}:interface=127.0.0.1"
        house.config["access_log"] = {"path": "access.log"}
        house.config["sites"][1]["error_pages"] = {"5xx": "<p>Soon again. {request_id}</p>"}
        house.write()
        argv = [*TWISTD, "-n", "wormhole-edge", "--config", "edge.toml", "--log-format", "json"]
        self.edge = house._edge = house.programs.start("edge", argv, cwd=house.folder)
        self.edge.wait_for("serves https on")
        self.agent = house.launch_agent("agent", origin.port, "--log-format", "json")
        self.edge.wait_for("is ready")

    def _slow(self, call: Call) -> None:
        self.hold.wait(20)
        call.answer(b"at last")

    def ask_admin(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self) -> dict[tuple[str, str], float]:
        """(name, values of the labels in the order of their names) → value."""
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(self.ask_admin("/metrics")[1]):
            for sample in family.samples:
                found[sample.name, " ".join(value for _, value in sorted(sample.labels.items()))] = sample.value
        return found

    def lines(self, number: int, file: Path | None = None) -> list[dict[str, object]]:
        """The lines of the access log, once there are so many."""
        file = file or self.log
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= number)
        return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def watched(tmp_path: Path, origin: Origin) -> Iterator[Watched]:
    with open_house(tmp_path) as house:
        yield Watched(house, origin)


def test_an_edge_that_is_watched(watched: Watched) -> None:
    house, edge = watched.house, watched.edge
    with house.visitor() as visitor:
        shown = visitor.ask(
            "GET",
            f"/show?token={SECRETS[2]}",
            headers={
                "Cookie": f"session={SECRETS[3]}",
                "Authorization": f"Bearer {SECRETS[4]}",
                "X-Api-Key": SECRETS[5],
                "X-Request-Id": SECRETS[6],
                "Referer": f"https://{SECRETS[7]}@app.example.test/?{SECRETS[8]}",
                "User-Agent": "a test",
            },
        )
        given = [line.split(": ")[1] for line in shown.body.decode().splitlines() if line.startswith("X-Request-Id")]
        visitor.ask("POST", f"/cookie?{SECRETS[9]}", body=SECRETS[10].encode())
        refused = visitor.ask("GET", "/nothing", headers={"Host": "nobody.test", "Accept": "application/json"})
    away = house.get("/", "other.example.test")
    page = json.loads(refused.body)
    assert refused.status in (404, 421)
    assert page["request_id"] == refused.headers["X-Request-Id"]
    assert away.status == 503
    assert away.body.decode() == f"<p>Soon again. {away.headers['X-Request-Id']}</p>"
    assert away.headers["Content-Type"] == "text/html; charset=utf-8"

    # the access log
    lines = watched.lines(4)
    assert [line["request_id"] for line in lines] == [
        *given,
        lines[1]["request_id"],
        page["request_id"],
        away.headers["X-Request-Id"],
    ]
    first, posted, _, no_agent = lines
    assert (first["method"], first["path"], first["status"], first["site"], first["backend"]) == (
        "GET",
        "/show",
        200,
        "app",
        "app",
    )
    assert (first["tls"], first["http"], first["host"]) == ("TLSv1.3", "1.1", f"{APP}:{house.port}")
    assert (first["sent"], posted["received"]) == (len(shown.body), len(SECRETS[10]))
    assert str(first["session"]) in edge.output
    assert (no_agent["reason"], no_agent["session"], no_agent["site"]) == ("no-agent", "", "other")

    # nothing that is secret stands anywhere
    edge_output, agent_output = edge.output, watched.agent.output
    text = watched.log.read_text() + edge_output + agent_output
    for secret in [*SECRETS, *house.tokens.values()]:
        assert secret not in text

    # a rotation
    moved = watched.log.rename(house.folder / "access.log.1")
    edge.send(signal.SIGUSR1)
    wait_until(watched.log.exists)
    house.get("/show")
    (line,) = watched.lines(1)
    assert line["path"] == "/show"
    assert len(watched.lines(4, moved)) == 4

    # metrics
    samples = watched.samples()
    assert samples["wormhole_requests_total", "app GET app 2xx"] == 2
    assert samples["wormhole_requests_total", "app POST app 2xx"] == 1
    assert samples["wormhole_requests_total", "other GET other 5xx"] == 1
    assert samples["wormhole_request_body_bytes_total", "app app"] == len(SECRETS[10])
    assert samples["wormhole_request_duration_seconds_count", "app app"] == 3
    assert samples["wormhole_failed_requests_total", "no-agent"] == 1
    assert samples["wormhole_agents", "app ready"] == 1
    assert samples["wormhole_access_log_lines_total", ""] == 5
    assert samples["process_open_fds", ""] > 5
    assert not any(secret in str(samples) for secret in SECRETS)

    # both programs' logs are JSON, a line each
    for output in (edge_output, agent_output):
        for text in output.splitlines():
            assert set(json.loads(text)) == {"time", "level", "where", "text"}


def test_readiness_while_an_edge_drains(watched: Watched) -> None:
    house, edge = watched.house, watched.edge
    assert watched.ask_admin("/readyz") == (200, "ok\n")
    with house.visitor() as visitor:
        visitor.request("GET", "/slow")
        wait_until(lambda: watched.samples()["wormhole_upstream_connections", "busy"] == 1)
        edge.send(signal.SIGTERM)
        edge.wait_for("SIGTERM")
        wait_until(lambda: watched.ask_admin("/readyz")[0] == 503)
        assert watched.ask_admin("/readyz?verbose")[1] == "not ready\nthe edge is shutting down\n"
        assert watched.ask_admin("/healthz") == (200, "ok\n")
        watched.hold.set()
        assert visitor.getresponse().read() == b"at last"
    assert edge.wait() == 0
    # what was answered last is written, too
    assert [line["path"] for line in watched.lines(1)] == ["/slow"]


def test_a_check_names_what_is_wrong_with_a_page(house: House) -> None:
    house.config["sites"][0]["error_pages"] = {"404": "missing.html"}
    house.write()
    edge = house.launch_edge()
    assert edge.wait() == 1
    assert "edge.toml: $.sites[0].error_pages.404: the page missing.html cannot be read" in edge.output
