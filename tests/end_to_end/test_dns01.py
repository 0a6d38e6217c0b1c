"""Wildcards from a real CA (Pebble), proved in a real zone (Knot DNS) by what ``[tls.dns]`` says."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._support import ROOT, require_program
from tests.edge.dns01.knot import Knot
from tests.end_to_end.house import House
from tests.end_to_end.pebble import Pebble
from tests.end_to_end.programs import programs, wait_until

WILDCARD = "*.preview.example.test"
BASE = "preview.example.test"
RECORD = "_acme-challenge.preview.example.test"

ISSUED = rf"a certificate for \{WILDCARD}, {BASE}, valid until"

Scene = tuple[House, Knot, Pebble]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Knot, Pebble]]:
    with programs() as started:
        folder = tmp_path_factory.mktemp("names")
        knot = Knot(started, folder / "knot")
        pebble = Pebble(folder, started, 1, resolver=knot.address)
        pebble.start()
        yield knot, pebble


@pytest.fixture
def scene(house: House, names: tuple[Knot, Pebble]) -> Scene:
    """An edge with a site that is a wildcard and its base name: two values at one record."""
    knot, pebble = names
    house.config["sites"][0]["hostnames"] = [WILDCARD, BASE]
    del house.config["sites"][1]
    house.config["tls"] = pebble.tls(challenge="dns-01")
    return house, knot, pebble


def proves(scene: Scene, **table: Any) -> None:
    """Say who writes the DNS."""
    house, knot, _ = scene
    house.config["tls.dns"] = {
        "resolvers": [knot.address],
        "propagation_servers": [knot.address],
        "propagation_timeout": 20,
        **table,
    }
    house.write()


def updates(knot: Knot, **changes: Any) -> dict[str, Any]:
    return {"server": knot.address, "key_file": str(knot.key_file()), **changes}


def hook_with(house: House, script: str) -> Path:
    path = house.folder / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def served(house: House, pebble: Pebble, host: str) -> dict[str, Any]:
    """The certificate that a visitor of a name gets, who trusts the CA alone."""
    context = ssl.create_default_context(cafile=str(pebble.write_root(house.folder / "root.pem")))
    with (
        socket.create_connection(("127.0.0.1", house.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        certificate: Any = tls.getpeercert()
        return dict(certificate)


def status_of(house: House) -> str:
    argv = [str(Path(sys.executable).with_name("wormhole-tw")), "edge", "certificates", "--config", "edge.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(argv, cwd=house.folder, capture_output=True, text=True, timeout=60, env=environment)
    return done.stdout + done.stderr


def tidied(knot: Knot) -> None:
    wait_until(lambda: knot.values(RECORD) == set())


def test_by_dynamic_update(scene: Scene) -> None:
    house, knot, pebble = scene
    proves(scene, rfc2136=updates(knot))
    house.start_edge()
    house.edge.wait_for(ISSUED)
    for host in (BASE, "branch-7.preview.example.test"):
        names = {name for _, name in served(house, pebble, host)["subjectAltName"]}
        assert names == {WILDCARD, BASE}
    tidied(knot)
    assert "valid" in status_of(house)


@pytest.mark.full  # the hook itself is tested beside the solver
def test_by_the_hook_of_the_documentation(scene: Scene) -> None:
    house, knot, pebble = scene
    example = ROOT / "docs" / "examples" / "dns_hook.sh"
    hook = hook_with(house, f'KNOTC="{require_program("knotc")} -s {knot.socket}" exec {example} "$@"')
    proves(scene, hook=[str(hook), "example.test"])
    house.start_edge()
    house.edge.wait_for(ISSUED)
    served(house, pebble, "branch-7.preview.example.test")
    tidied(knot)


def test_a_wrong_key_is_said_to_the_operator(scene: Scene) -> None:
    house, knot, _ = scene
    proves(scene, rfc2136=updates(knot, key_file=str(knot.key_file(name="nobody"))))
    house.start_edge()
    house.edge.wait_for(r"no certificate for .*does not take the key nobody")
    said = status_of(house)
    assert "missing" in said
    assert "does not take the key nobody (hmac-sha256): unknown there, or it may not write this" in said


def test_killed_while_it_waits_for_the_record(scene: Scene) -> None:
    """The next start takes the order up, and takes away what the killed one wrote."""
    house, _, pebble = scene
    knot = waiting_for(scene)
    before = knot.values(RECORD)
    house.edge.send(signal.SIGKILL)
    house.edge.wait()
    assert knot.values(RECORD) == before
    proves(scene, rfc2136=updates(knot))
    house.start_edge()
    house.edge.wait_for("going on with the order for")
    house.edge.wait_for(ISSUED)
    served(house, pebble, BASE)
    tidied(knot)


def waiting_for(scene: Scene) -> Knot:
    """An edge that has written its records, and waits for a server that never has them."""
    house, knot, _ = scene
    proves(scene, rfc2136=updates(knot), propagation_servers=["127.0.0.1:9"], propagation_timeout=600)
    house.start_edge()
    wait_until(lambda: len(knot.values(RECORD)) == 2)
    return knot


def test_names_that_go_meanwhile_leave_nothing(scene: Scene) -> None:
    house, _, _ = scene
    knot = waiting_for(scene)
    house.config["sites"][0]["hostnames"] = ["app.localhost"]
    house.write()
    house.edge.send(signal.SIGHUP)
    house.edge.wait_for("is given up: the names changed")
    tidied(knot)


@pytest.mark.full
def test_names_that_are_gone_at_the_next_start_leave_nothing(scene: Scene) -> None:
    house, _, _ = scene
    knot = waiting_for(scene)
    house.edge.send(signal.SIGKILL)
    house.edge.wait()
    house.config["sites"][0]["hostnames"] = ["app.localhost"]
    house.write()
    house.start_edge()
    tidied(knot)


def test_stopped_while_a_hook_hangs(scene: Scene) -> None:
    house, _, _ = scene
    pid = house.folder / "pid"
    proves(scene, hook=[str(hook_with(house, f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 1000"))])
    edge = house.start_edge()
    wait_until(pid.exists)
    began = time.monotonic()
    assert edge.stop() == 0
    assert time.monotonic() - began < 10
    process = Path(f"/proc/{pid.read_text().strip()}")
    wait_until(lambda: not process.exists() or ") Z " in (process / "stat").read_text())


def test_a_wildcard_without_dns_is_refused(scene: Scene) -> None:
    house, _, pebble = scene
    house.config["tls"] = pebble.tls()
    house.write()
    edge = house.launch_edge()
    assert edge.wait() == 1
    assert "edge.toml: $.sites[0].hostnames[0]: " in edge.output
    assert 'set [tls.dns] hook = ["/path/to/program"] or [tls.dns.rfc2136]' in edge.output
