"""Asking a running edge something over the socket in its state folder."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from wormhole_tw.errors import WormholeError
from wormhole_tw.net.local_sockets import connect_local

__all__ = ["LEAVING", "SOCKET", "EdgeRefused", "ask", "sockets"]

SOCKET = "control.sock"
"""The name of the socket, in the state folder."""

LEAVING = "control-{}.sock"
"""What it is called once another process has that name."""

TIMEOUT = 30.0
"""Seconds for an answer: a purge waits for a disk to say that it is written."""


class EdgeRefused(WormholeError):
    """An edge is there, and does not do it; its own sentence."""


def sockets(folder: Path) -> list[Path]:
    """The sockets in a state folder, that of the process which serves first; behind some of them nobody may be."""
    return [folder / SOCKET, *sorted(folder.glob(LEAVING.format("*")))]


def ask(path: Path, method: str, target: str, body: object = None, *, timeout: float = TIMEOUT) -> Any:
    """Ask, and give what the answer's JSON says.

    :param path: of the socket
    :param body: goes as JSON; None for nothing
    :raises OSError: nobody listens, or it may not be asked; ``TimeoutError`` where no answer comes
    :raises EdgeRefused: it says no
    """
    connection = HTTPConnection("edge", timeout=timeout)
    connection.sock = connect_local(path, timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"Content-Type": "application/json", "Connection": "close"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.getheader("content-type") != "application/json":
            raise EdgeRefused(f"it answers {answer.status} to {target}: it runs another version than this one")
        said = json.loads(data)
    except (HTTPException, ValueError) as error:
        raise EdgeRefused(f"{path} answers what no edge does: {error!r}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise EdgeRefused(str(said.get("error", f"it answers {answer.status}")))
    return said
