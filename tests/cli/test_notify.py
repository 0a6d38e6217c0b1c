"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThreadPool

from tests.cli._programs import twistd
from tests.end_to_end.programs import free_port
from wormhole_tw.cli.notify import READY, STOPPING, Notifier

TOML = """
[edge]
https = ["tcp:{port}:interface=127.0.0.1"]
"""


@pytest.fixture
def listener(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_it_is_told_at_a_path(listener: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": listener.getsockname(), "PATH": "/bin"}
    notifier = Notifier(environ)
    notifier.tell(READY)
    notifier.tell(STOPPING)
    assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"STOPPING=1"]
    assert environ == {"PATH": "/bin"}  # no program started from here is to speak in its name


def test_another_process_is_the_service_from_now_on(listener: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": listener.getsockname()}
    notifier = Notifier(environ)
    assert notifier.environment == {"NOTIFY_SOCKET": listener.getsockname()}
    notifier.name_main_process(4711)
    notifier.tell(STOPPING)  # that is nobody's concern any more
    listener.setblocking(False)
    assert listener.recv(100) == b"MAINPID=4711"
    with pytest.raises(BlockingIOError):
        listener.recv(100)
    assert Notifier({}).environment == {}


def test_it_is_told_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # any free name
        listener.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + listener.getsockname()[1:].decode()}).tell(READY)
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "relative", "vsock:2:1234", "/nowhere/at/all", "/" + "x" * 200])
def test_nobody_is_told(path: str) -> None:
    Notifier({"NOTIFY_SOCKET": path}).tell(READY)


def test_a_full_queue_holds_nobody_up(listener: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": listener.getsockname()})
    for _ in range(10_000):  # far more than a queue of datagrams takes
        notifier.tell(READY)


async def test_an_edge_is_ready_when_its_port_is_open(reactor: Any, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "edge.toml").write_text(TOML.format(port=port))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        program = twistd(
            reactor,
            *("-n", "wormhole-edge"),
            folder=tmp_path,
            environ={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert await _datagram(reactor, listener) == b"READY=1"
            with socket.create_connection(("127.0.0.1", port), 5):
                pass
            program.signal("TERM")
            assert await _datagram(reactor, listener) == b"STOPPING=1"
            assert await program.end() == 0
        finally:
            await program.kill()


async def _datagram(reactor: Any, listener: socket.socket) -> bytes:
    """The next datagram, in a thread: the reactor watches the process meanwhile."""
    return await deferToThreadPool(reactor, reactor.getThreadPool(), listener.recv, 100)
