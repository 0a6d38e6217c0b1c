"""The ports that tests give to their programs."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests._ports import BLOCK, Ports, free_port, outside_of_connections
from tests._support import ROOT

GIVE = "from tests._ports import free_port; print(*(free_port() for _ in range(20)), flush=True); input()"


def test_they_are_of_those_that_no_connection_gets() -> None:
    allowed = outside_of_connections()
    given = [free_port() for _ in range(2 * BLOCK)]
    assert all(port in allowed for port in given)
    assert len(set(given[: BLOCK // 2])) == BLOCK // 2


def test_one_on_which_somebody_listens_is_not_given() -> None:
    ports = Ports()
    one, other = ports.free(), ports.free()
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", one))
        stream.listen()
        datagrams.bind(("127.0.0.1", other))
        assert not {one, other} & {ports.free() for _ in range(2 * BLOCK)}
    assert {one, other} <= {ports.free() for _ in range(2 * BLOCK)}
    assert ports._kept is not None
    ports._kept.close()


def test_processes_beside_each_other_have_others() -> None:
    given: list[set[str]] = []
    running = []
    try:
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", GIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            running.append(process)
        for process in running:
            assert process.stdout is not None
            given.append(set(process.stdout.readline().split()))
    finally:
        for process in running:
            process.communicate("\n", timeout=30)
    given.append({str(free_port()) for _ in range(20)})
    assert [len(ports) for ports in given] == [20] * 4
    assert len(set.union(*given)) == 80
