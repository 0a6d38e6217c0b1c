"""Many visitors at once over several agents: every answer is its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests._support import sized
from tests.end_to_end.house import APP, OTHER, House, nonce
from tests.end_to_end.origin import Call, Origin

REQUESTS = sized(2000, 20000)
AT_ONCE = 200


def echo(marker: str) -> Callable[[Call], None]:
    """An answer that carries back what only this request brought, and who answered."""

    def answer(call: Call) -> None:
        body = b"".join(call.body())
        call.answer(
            body[::-1], headers={"X-Marker": marker, "X-Nonce": call.headers["X-Nonce"], "X-Path": call.requestline}
        )

    return answer


@pytest.mark.deadline(sized(60, 300))
def test_every_answer_is_its_own(house: House) -> None:
    house.start_edge()
    markers = {"one": APP, "two": APP, "three": APP, "of-another": OTHER}
    with ExitStack() as origins:
        for marker, host in markers.items():
            origin = origins.enter_context(Origin())
            origin.routes["/echo"] = echo(marker)
            house.agent(marker, origin.port, backend="app" if host == APP else "other")

        answered: Counter[str] = Counter()
        wrong: list[str] = []
        lock = threading.Lock()
        together = threading.Barrier(AT_ONCE)

        def visit(number: int) -> None:
            host = OTHER if number % 4 == 3 else APP
            with house.visitor(host, timeout=30) as visitor:
                visitor.connect()
                together.wait(30)
                for turn in range(REQUESTS // AT_ONCE):
                    mine = nonce()
                    # Bodies from none to some that need more than one frame and window.
                    body = mine.encode() * (0, 1, 100, 5000)[(number + turn) % 4]
                    answer = visitor.ask("POST" if body else "GET", f"/echo?{mine}", body or None, {"X-Nonce": mine})
                    marker = answer.headers.get("X-Marker", "")
                    good = (
                        answer.status == 200
                        and answer.headers["X-Nonce"] == mine
                        and mine in answer.headers["X-Path"]
                        and answer.body == body[::-1]
                        and markers.get(marker) == host
                    )
                    with lock:
                        answered[marker] += 1
                        if not good:
                            wrong.append(f"{number}.{turn} of {host}: {answer!r} {dict(answer.headers)}")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(visit, range(AT_ONCE)))
    assert not wrong, wrong[:5]
    assert sum(answered.values()) == REQUESTS
    assert set(answered) == set(markers)
    # Each of the three replicas carries its part: power of two choices leaves none of them aside.
    for marker in ("one", "two", "three"):
        assert answered[marker] > REQUESTS * 3 / 4 / 3 / 4, answered
