"""A Flask application under the agent's supervisor mode, behind a real edge; and its health check."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.end_to_end.house import Answer, House
from tests.end_to_end.programs import Program, free_port

if not os.environ.get("CI"):
    pytest.importorskip("flask", reason="flask is not installed")

SHOP = """
import os, signal, sys, time
from pathlib import Path
import flask

app = flask.Flask(__name__)
here = Path(os.environ["HERE"])

@app.get("/")
def front():
    return flask.jsonify(pid=os.getpid(), token=os.environ.get("FLY_TOKEN"), name=os.environ.get("NAME"))

@app.get("/healthz")
def healthz():
    return "ill" if ill() else "well", 503 if ill() else 200

def ill():
    return (here / (os.environ.get("NAME", "app") + ".ill")).exists()

@app.post("/slow")
def slow():
    print("entered", flush=True)
    while not (here / "open").exists():
        time.sleep(0.01)
    return "finished " + flask.request.get_data(as_text=True)

@app.post("/crash")
def crash():
    os._exit(4)

if "STATUS" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(os.environ["STATUS"])))
app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
"""


@pytest.fixture
def shop(house: House) -> Iterator[House]:
    """A house with an edge, and the application's file."""
    (house.folder / "shop.py").write_text(SHOP)
    house.config["limits"]["waiting_time"] = 0.5  # nobody comes back here within the time that a visitor waits
    house.write()
    house.start_edge()
    yield house
    (house.folder / "open").touch()


def supervise(house: House, name: str = "app", *options: str, **env: str) -> Program:
    """An agent with the application."""
    port = free_port()
    variables = {"HERE": str(house.folder), "NAME": name, "FLY_PORT": str(port), "FLY_LOCAL_ENDPOINT": "", **env}
    agent = house.launch_agent(name, port, *options, "--", sys.executable, "shop.py", env=variables)
    house.wait_ready(agent)
    return agent


def asking(house: House, path: str, answers: list[Answer | Exception]) -> threading.Thread:
    def ask() -> None:
        try:
            with house.visitor() as visitor:
                answers.append(visitor.ask("POST", path, b"the order"))
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_sigterm_drains_both(shop: House) -> None:
    agent = supervise(shop, STATUS="5")
    answer = shop.get("/")
    assert answer.status == 200
    assert b'"token":null' in answer.body
    answers: list[Answer | Exception] = []
    asked = asking(shop, "/slow", answers)
    agent.wait_for("^entered$")
    agent.send(signal.SIGTERM)
    agent.wait_for("finishing what runs")
    late = shop.get("/", timeout=15)  # nothing new comes, and the application is still there for what runs
    assert (late.status, late.reason) == (503, "no-agent")
    assert not answers
    (shop.folder / "open").touch()
    asked.join(15)
    (finished,) = answers
    assert isinstance(finished, Answer)
    assert (finished.status, finished.body) == (200, b"finished the order")
    assert agent.wait(10) == 5  # the application's
    assert agent.output.index("finishing what runs") < agent.output.index("ended with status 5")


def test_a_crash_ends_the_agent_with_its_status(shop: House) -> None:
    agent = supervise(shop)
    with shop.visitor() as visitor:
        answer = visitor.ask("POST", "/crash", b"x")
    assert answer.status == 502
    assert agent.wait() == 4
    assert "ended with status 4; the agent ends too" in agent.output
    assert (shop.get("/").status, shop.get("/").reason) == (503, "no-agent")


CHECK = ("--health-check", "/healthz", "--health-interval", "0.1", "--health-rise", "1", "--health-fall", "2")


def test_a_failing_health_check_takes_it_out_and_back(shop: House) -> None:
    agent = supervise(shop, "app", *CHECK)
    assert shop.get("/").status == 200
    answers: list[Answer | Exception] = []
    asked = asking(shop, "/slow", answers)
    agent.wait_for("^entered$")
    mark = shop.edge.mark()
    (shop.folder / "app.ill").touch()
    agent.wait_for("fails its health check and gets no new requests: GET /healthz is answered with status 503")
    shop.edge.wait_for("is not ready: the service fails its health check", after=mark)
    answer = shop.get("/")
    assert (answer.status, answer.reason) == (503, "no-agent")
    (shop.folder / "open").touch()  # what runs goes on
    asked.join(15)
    (finished,) = answers
    assert isinstance(finished, Answer)
    assert finished.status == 200
    mark = shop.edge.mark()
    (shop.folder / "app.ill").unlink()
    agent.wait_for("passes its health check again")
    shop.edge.wait_for("of backend app is ready", after=mark)
    assert shop.get("/").status == 200
    assert agent.stop() == 128 + signal.SIGTERM  # Flask's server has no handler: it ends by the signal


@pytest.mark.full
def test_the_replica_that_is_well_serves_alone(shop: House) -> None:
    one, two = (supervise(shop, name, *CHECK) for name in ("one", "two"))
    mark = shop.edge.mark()
    (shop.folder / "one.ill").touch()
    shop.edge.wait_for("is not ready: the service fails its health check", after=mark)
    answers = [shop.get("/") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert all(b'"name":"two"' in answer.body for answer in answers)
    mark = shop.edge.mark()
    (shop.folder / "one.ill").unlink()
    shop.edge.wait_for("of backend app is ready", after=mark)
    names = {shop.get("/").body.split(b'"name":')[1][:5] for _ in range(60)}
    assert names == {b'"one"', b'"two"'}
    for agent in (one, two):
        agent.send(signal.SIGTERM)
    assert [agent.wait() for agent in (one, two)] == [143, 143]
