"""Pipelined requests: answers in their order, each to whom it belongs, whatever time the service takes for each."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from tests._support import sized
from tests.conformance.origin import JudgingOrigin, Received, _Call, ordinary_answer
from tests.conformance.visitors import as_many, dialler, source_address
from tests.end_to_end.house import OTHER, House

ROUNDS = sized(300, 10_000)
DEPTH = 8
VISITORS = 16
SLOWEST = 0.02
"""Seconds; most answers take next to nothing, so that there is always one that could overtake another."""


class SlowOrigin(JudgingOrigin):
    """Takes its time, and echoes target and body."""

    def answer(self, call: _Call, found: Received) -> bool:
        dice = random.random()
        if dice > 0.5:
            time.sleep(SLOWEST * (dice - 0.5) ** 3 * 8)
        if not found.body:
            found.body = found.target
        data = ordinary_answer(found)
        if dice < 0.1 and len(data) > 1:
            call.say(data[:-1])
            time.sleep(dice / 100)
            data = data[-1:]
        call.say(data)
        return dice > 0.01  # and now and then it closes, without having said so


@pytest.fixture(scope="module")
def slow(house: House) -> Iterator[SlowOrigin]:
    with SlowOrigin() as origin:
        agents = [house.agent(f"slow-{number}", origin.port, backend="other") for number in range(2)]
        yield origin
        for agent in agents:
            agent.stop()


def read_answer(stream: BinaryIO, method: str) -> tuple[int, bytes]:
    status = int(stream.readline().split(b" ")[1])
    length = 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        assert name.lower() != b"transfer-encoding"
    return status, b"" if method == "HEAD" else stream.read(length)


@pytest.mark.deadline(sized(60, 900))
def test_no_answer_is_swapped(house: House, slow: SlowOrigin) -> None:
    dial = dialler(house.port, house.context, OTHER)

    def visitor(number: int) -> int:
        dice = random.Random(number)
        rounds = 0
        connection = dial(source_address(30000 + number))
        stream = connection.makefile("rb")
        try:
            for turn in range(ROUNDS // VISITORS + 1):
                wanted: list[tuple[str, bytes]] = []
                octets = b""
                for place in range(DEPTH):
                    nonce = b"/%d-%d-%d-%x" % (number, turn, place, dice.getrandbits(64))
                    # not only GET: what is not idempotent, has a body or no answer's body, and each after each
                    method = dice.choice(["GET", "GET", "GET", "HEAD", "POST", "chunks"])
                    wanted.append((method, nonce))
                    line = b"POST" if method in ("POST", "chunks") else method.encode()
                    octets += b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (line, nonce, OTHER.encode())
                    if method == "POST":
                        octets += b"Content-Length: %d\r\n\r\n%s" % (len(nonce), nonce)
                    elif method == "chunks":
                        octets += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(nonce), nonce)
                    else:
                        octets += b"\r\n"
                cut = dice.randrange(len(octets))
                connection.sendall(octets[:cut])
                connection.sendall(octets[cut:])
                for method, nonce in wanted:
                    status, body = read_answer(stream, method)
                    if status == 502:
                        # the service closed under a request that may not be sent twice: said so, and in its place
                        assert method in ("POST", "chunks")
                    else:
                        assert (status, body) == (200, b"" if method == "HEAD" else nonce)
                rounds += 1
        finally:
            stream.close()
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        return rounds

    assert sum(as_many(visitor, range(VISITORS), VISITORS)) >= ROUNDS
    assert [found.faults or found.odd for found in slow.requests if found.faults or found.odd] == []
    assert slow.broken == []
