"""Listening sockets that come from systemd or from the process before, and which endpoint takes which."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import serverFromString

from tests._support import program_environment
from wormhole_tw.errors import WormholeError
from wormhole_tw.net.inherited import BATCH, SERVES, SUCCESSOR, Inherited, hand_on, inherit


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    own = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind((host, port))
    own.listen()
    return own


def endpoint_of(description: str) -> Any:
    from twisted.internet import reactor

    return serverFromString(reactor, description)


@pytest.mark.parametrize(
    ("host", "description", "takes"),
    [
        ("127.0.0.1", "tcp:{port}:interface=127.0.0.1", True),
        ("127.0.0.1", "tcp:{port}", False),  # the whole world is more than this
        ("0.0.0.0", "tcp:{port}", True),
        ("0.0.0.0", "tcp:{port}:interface=127.0.0.1", False),
        ("::", "tcp:{port}", True),
        ("::", "tcp6:{port}", True),
        ("::1", r"tcp6:{port}:interface=\:\:1", True),
        ("::1", r"tcp6:{port}:interface=\:\:2", False),
        ("127.0.0.1", "tcp:{other}:interface=127.0.0.1", False),
        ("127.0.0.1", "tcp:{port}:interface=localhost", False),
        ("127.0.0.1", "tcp:0:interface=127.0.0.1", False),
        ("127.0.0.1", "unix:/nowhere", False),
        ("127.0.0.1", "systemd:domain=INET:index=0", False),
    ],
)
def test_its_address_tells_whose_it_is(stack: ExitStack, host: str, description: str, takes: bool) -> None:
    own = listening(stack, host)
    port = own.getsockname()[1]
    text = description.format(port=port, other=port - 1)
    endpoint = object() if text.startswith("systemd") else endpoint_of(text)
    inherited = Inherited([(own, "")])
    assert inherited.take(text, endpoint) is (own if takes else None)
    assert inherited.take(text, endpoint) is None


def test_one_that_was_opened_for_the_same_comes_first(stack: ExitStack) -> None:
    first, second = listening(stack), listening(stack)
    inherited = Inherited([(first, "tcp:0"), (second, "tcp:0:interface=127.0.0.1")])
    text = "tcp:0:interface=127.0.0.1"
    assert inherited.take(text, endpoint_of(text)) is second
    port = first.getsockname()[1]
    assert inherited.close() == ["tcp:0"]
    assert first.fileno() == -1
    closed = Inherited([(first, "")])
    assert closed.take(f"tcp:{port}", endpoint_of(f"tcp:{port}")) is None


def test_a_unix_socket_by_its_path(stack: ExitStack, tmp_path: Path) -> None:
    own = stack.enter_context(socket.socket(socket.AF_UNIX))
    own.bind(str(tmp_path / "edge.sock"))
    own.listen()
    inherited = Inherited([(own, "")])
    assert inherited.take("x", endpoint_of(f"unix:{tmp_path}/other.sock")) is None
    assert inherited.take("x", endpoint_of(f"unix:{tmp_path}/edge.sock")) is own


def test_more_sockets_than_one_message_takes(stack: ExitStack) -> None:
    own = [listening(stack) for _ in range(2 * BATCH + 1)]
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    hand_on(ours, [(f"tcp:{number}", one.fileno()) for number, one in enumerate(own)])
    environ = {SUCCESSOR: str(theirs.detach()), "LISTEN_PID": "1", "LISTEN_FDS": "1", "OTHER": "stays"}
    inherited, predecessor = inherit(environ)
    assert environ == {"OTHER": "stays"}
    assert inherited.succeeds
    assert predecessor is not None
    for number, one in enumerate(own):
        given = inherited.take(f"tcp:{number}", None)
        assert given is not None
        with given:
            assert given.getsockname() == one.getsockname()
            assert (given.getblocking(), given.get_inheritable()) == (False, False)
    predecessor.tell()
    assert ours.recv(100) == SERVES
    assert ours.recv(100) == b""


def test_one_that_is_gone_is_told_nothing(stack: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    hand_on(ours, [])
    _, predecessor = inherit({SUCCESSOR: str(theirs.detach())})
    ours.close()
    assert predecessor is not None
    predecessor.tell()


@pytest.mark.parametrize(
    "said", [b"", b"\0\0", b"\0\0\0\2[", b"\0\0\0\2{]", b'\0\0\0\5["a"]', b"\0\0\0\x011", b"\0\0\0\x04null"]
)
def test_one_that_says_something_else(stack: ExitStack, said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(said)
    with pytest.raises(WormholeError, match="gave no sockets"):
        inherit({SUCCESSOR: str(theirs.detach())})


@pytest.mark.parametrize("number", ["987654", "9" * 30])
def test_a_descriptor_that_is_nothing(number: str) -> None:
    with pytest.raises(WormholeError, match="gave no sockets"):
        inherit({SUCCESSOR: number})


@pytest.mark.deadline(10)
def test_more_than_a_socket_holds_is_an_error_at_once(stack: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    own = listening(stack)
    with ours, theirs, pytest.raises(OSError, match="temporarily unavailable"):
        hand_on(ours, [("x" * 1000, own.fileno())] * 2000)


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}]
)
def test_what_is_for_nobody_here(environ: dict[str, str]) -> None:
    inherited, predecessor = inherit(environ)
    assert (inherited.close(), predecessor, inherited.succeeds, environ) == ([], None, False, {})


PROGRAM = """
import os, socket, sys
kind = sys.argv[1]
own = socket.socket() if kind != "udp" else socket.socket(type=socket.SOCK_DGRAM)
own.bind(("127.0.0.1", 0))
if kind == "tcp":
    own.listen()
port = str(own.getsockname()[1])
os.dup2(own.fileno() if kind != "file" else os.open(os.devnull, os.O_RDONLY), 3)
os.set_inheritable(3, kind != "missing")
environ = {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"}
os.execve(sys.executable, [sys.executable, "-c", sys.argv[2], port], environ)
"""

TAKES = """
import os, sys
import twisted.internet.endpoints  # which takes the variables out
from wormhole_tw.net.inherited import inherit
inherited, predecessor = inherit(os.environ)
from twisted.internet import reactor
description = "tcp:" + sys.argv[1] + ":interface=127.0.0.1"
own = inherited.take(description, twisted.internet.endpoints.serverFromString(reactor, description))
assert not any(name.startswith("LISTEN") for name in os.environ)
print("takes", own.getsockname()[1] == int(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd's")
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("tcp", "takes True"),
        ("udp", "descriptor 3, which is no listening stream socket"),
        ("not listening", "descriptor 3, which is no listening stream socket"),
        ("file", "descriptor 3, which is no socket"),
        ("missing", "WormholeError: systemd handed over descriptor 3, which is no socket"),
    ],
)
def test_systemds_sockets(kind: str, says: str) -> None:
    got = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, TAKES],
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert says in (got.stdout + got.stderr).strip().splitlines()[-1]
