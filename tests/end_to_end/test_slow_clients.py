"""RELIABILITY 10: a thousand visitors with a slow head, body or read are gone in 15 s, and nobody else notices.

With ``-s`` it prints what another visitor waited while nothing else was there, and beside the crowd.
"""

from __future__ import annotations

import json
import math
import re
import signal
import time
from pathlib import Path

import pytest

from tests._support import sized
from tests.end_to_end.house import OTHER, House, Visitor, open_house, with_tests
from tests.end_to_end.programs import free_port
from tests.end_to_end.slow import KINDS

CROWD = sized(len(KINDS) * 12, 1000)

LIMITS: dict[str, float] = sized({"head": 4, "body": 4, "stall": 4}, {})
"""The defaults under ``make test-full``; else less, to be done sooner."""

GONE = 15.0
"""Seconds in which each is gone."""

SLACK = 5.0
"""Seconds more that a busy machine may take for it."""

ALONE = sized(2.0, 5.0)
"""Seconds for which the other visitor is looked at before the crowd comes."""

PAUSE = 0.01
"""Seconds between two requests of the other visitor."""


def waits(visitor: Visitor, seconds: float) -> list[float]:
    """How long each request took, one after the other on one connection; every one of them is served."""
    took = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        answer = visitor.ask("GET", "/100")
        took.append(time.monotonic() - began)
        assert (answer.status, len(answer.body)) == (200, 100)
        time.sleep(PAUSE)
    return took


def percentile(took: list[float], part: float) -> str:
    return f"{sorted(took)[math.ceil(len(took) * part) - 1] * 1000:.1f} ms"


def shed(house: House, port: int) -> dict[str, int]:
    """What the edge counted, by kind, and the visitors that it has."""
    got = house.curl(f"http://127.0.0.1:{port}/metrics")
    text = got.stdout.decode()
    found = re.findall(r'^wormhole_visitors_shed_total\{kind="(\w+)"\} (\S+)', text, re.MULTILINE)
    found += [("there", number) for number in re.findall(r"^wormhole_visitor_connections (\S+)", text, re.MULTILINE)]
    return {kind: int(float(number)) for kind, number in found}


@pytest.mark.requires_program("curl")
@pytest.mark.deadline(sized(90, 180))
def test_slow_visitors_are_shed_and_nobody_else_notices(tmp_path: Path) -> None:
    with open_house(tmp_path, limits=LIMITS) as house:
        admin = free_port()
        house.config["edge"]["admin"] = f"tcp:{admin}:interface=127.0.0.1"
        house.write()
        house.start_edge()
        for backend in ("app", "other"):
            # the other visitor has another service: the crowd's sends a gigabyte into the kernel's buffers
            blocks = house.programs.python(f"blocks of {backend}", "-m", "tests.end_to_end.blocks", env=with_tests())
            house.agent(f"agent of {backend}", int(blocks.wait_for(r"^port (\d+)")[1]), backend=backend)
        with house.visitor(OTHER) as visitor:
            waits(visitor, 0.5)
            idle = waits(visitor, ALONE)
            argv = ("-m", "tests.end_to_end.slow", str(house.port), str(house.ca_file), str(CROWD))
            crowd = house.programs.python("slow", *argv, env=with_tests())
            crowd.wait_for("in place", deadline=90)
            crowd.send(signal.SIGUSR1)
            crowd.wait_for("^slow")
            assert shed(house, admin)["there"] == CROWD + 1
            begun = waits(visitor, 1.0)
            beside = []
            while not crowd.count("^{"):
                assert crowd.running, crowd.output
                beside += waits(visitor, 0.5)
        report = json.loads(crowd.wait_for("^{.*")[0])
        print(f"\n{CROWD} slow visitors, kind: [how many, the longest stay in s, left over]: {report}")
        for what, took in (("alone", idle), ("as the crowd has begun", begun), ("beside it", beside)):
            median, p99 = percentile(took, 0.5), percentile(took, 0.99)
            print(f"another visitor {what}: {len(took)} requests, median {median}, p99 {p99}")
        while (counted := shed(house, admin))["there"]:
            pass  # the other visitor has just gone
        print(f"counted: {counted}")
    assert sum(number for number, _, _ in report.values()) == CROWD
    for kind, (_, longest, left) in report.items():
        assert left == 0, f"{kind}: {left} were not shed"
        assert longest < GONE + SLACK, f"{kind}: shed after {longest} s"
    assert counted["head"] == report["head"][0] + report["HTTP/2 head"][0]
    assert counted["body"] == report["body"][0] + report["chunks"][0] + report["HTTP/2 body"][0]
    readers = ("reader", "small answer", "HTTP/2 window", "HTTP/2 reader")
    assert counted["reader"] == sum(report[kind][0] for kind in readers)
