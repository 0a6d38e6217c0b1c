"""Sockets in a folder, which one process takes over from another."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from wormhole_tw.net import local_sockets
from wormhole_tw.net.local_sockets import connect_local, is_alive, listen_local, owns, serve_local


def identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with listen_local(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == ["control.sock"]
        assert is_alive(path)
    assert not is_alive(path), "its process has let go of it"
    path.unlink()
    assert not is_alive(path)


def test_a_long_path_is_a_path_too(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    path = folder / "control.sock"
    with listen_local(path) as listening, connect_local(path, 5) as connection:
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(b"here")
            assert connection.recv(4) == b"here"
        assert is_alive(path)


def test_a_system_that_cannot_say_a_long_path_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    monkeypatch.setattr(local_sockets, "_BY_DESCRIPTOR", str(tmp_path / "nothing"))
    with pytest.raises(OSError, match="too long"):
        listen_local(folder / "control.sock")
    assert os.listdir(folder) == []


def test_the_next_one_takes_the_path(tmp_path: Path) -> None:
    path, aside = tmp_path / "control.sock", tmp_path / "aside.sock"
    with listen_local(path):
        first = identity(path)
        os.link(path, aside)
        with listen_local(path):
            assert not owns(path, first)
            assert owns(aside, first)
            assert owns(path, identity(path))
            assert is_alive(aside)
    assert not owns(tmp_path / "nothing", first)


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    listen_local(path).close()
    (tmp_path / f"control.sock.{os.getpid()}").write_text("half a start")
    with listen_local(path):
        assert is_alive(path)


def test_a_file_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("")
    assert not is_alive(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_local(tmp_path / "nothing" / "control.sock")
    with pytest.raises(FileNotFoundError):
        connect_local(tmp_path / "nothing" / "control.sock", 1)


def test_a_path_that_cannot_be_taken_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        listen_local(path)
    assert os.listdir(tmp_path) == ["control.sock"]


class Greeting(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"here")
        self.transport.loseConnection()


async def test_a_port_serves_and_leaves_the_path_to_whom_it_belongs(reactor: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with listen_local(path) as listening:
        factory = Factory.forProtocol(Greeting)
        port = serve_local(reactor, listening, factory)
    got: Deferred[bytes] = Deferred()

    class Caller(Protocol):
        data = b""

        def dataReceived(self, data: bytes) -> None:
            self.data += data

        def connectionLost(self, reason: Any = None) -> None:
            got.callback(self.data)

    await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Caller())
    assert await got == b"here"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "Twisted would let everybody in"
    await port.stopListening()
    assert path.exists()
    path.unlink()
