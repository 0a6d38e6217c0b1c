"""The surroundings of a scenario: a folder with a certificate and files, an origin, and the contenders before it."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .model import Options
from .processes import Failed, Set, find, free_port, which

__all__ = ["HOST", "KEPT", "Front", "World", "ask"]

HOST = "app.localhost"
"""A name that leads to loopback without DNS."""

KEPT = "kept"
"""The path below which the origin lets its answers be cached: elsewhere it says nothing of that."""

_ORIGIN = """
worker_processes 1; daemon off; master_process off; pid {folder}/origin.pid; error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 600;
  client_body_temp_path {folder}/origin-body; proxy_temp_path {folder}/origin-proxy;
  fastcgi_temp_path {folder}/origin-fcgi; uwsgi_temp_path {folder}/origin-uwsgi; scgi_temp_path {folder}/origin-scgi;
  server {{
    listen 127.0.0.1:{port}; root {folder}/www;
    location /{kept}/ {{ alias {folder}/www/; expires 1h; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Front:
    """A contender that is up: what is asked, and which of its processes is compared.

    :ivar scheme: ``http`` or ``https``
    :ivar pids: role → process
    :ivar compared: the role whose CPU is held against other contenders': the one that visitors reach
    """

    scheme: str
    port: int
    pids: Mapping[str, int]
    compared: str

    def url(self, path: str) -> str:
        """Of a path, by the host name that every front serves."""
        return f"{self.scheme}://{HOST}:{self.port}/{path.lstrip('/')}"


class World:
    """One scenario's.

    :param running: its programs
    :param options: how much to measure
    :param wanted: peers that may be used; None: all
    :param say: tells what happens

    :ivar absent: peers that cannot be used → why
    """

    def __init__(
        self,
        running: Set,
        options: Options,
        *,
        wanted: Sequence[str] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.running = running
        self.folder: Path = running.folder
        self.options = options
        self.say = say
        self.absent: dict[str, str] = {}
        self._wanted = wanted
        self._origin = 0
        self._sink = 0
        self._certified = False

    def choose(self, *peers: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
        """Those of the peers that are wanted and installed; the others are noted in :attr:`absent`.

        :param needs: peer → programs
        """
        chosen = []
        for peer in peers:
            missing = [program for program in needs[peer] if which(program) is None]
            if self._wanted is not None and peer not in self._wanted:
                self.absent[peer] = "left out"
            elif missing:
                self.absent[peer] = f"{' and '.join(missing)} not on PATH"
            else:
                chosen.append(peer)
        return chosen

    # Files.

    @property
    def certificate(self) -> Path:
        """A self-signed P-256 certificate for localhost and :data:`HOST`, the same for every contender: chain."""
        self._certify()
        return self.folder / "front.pem"

    @property
    def key(self) -> Path:
        """Its key."""
        self._certify()
        return self.folder / "front.key"

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def _certify(self) -> None:
        if self._certified:
            return
        self._certified = True
        command = [find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-keyout", "front.key", "-out", "front.pem", "-subj", f"/CN={HOST}"]
        command += ["-addext", f"subjectAltName=DNS:localhost,DNS:{HOST},IP:127.0.0.1"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise Failed(f"openssl made no certificate:\n{done.stderr}")
        (self.folder / "front.key").chmod(0o600)

    # Origins.

    @property
    def origin(self) -> int:
        """The port of an nginx with files: ``small`` (100 octets), ``10k`` and ``big`` (``options.megabytes``).

        The same stand below :data:`KEPT`, to be kept for an hour.
        """
        if not self._origin:
            www = self.folder / "www"
            www.mkdir()
            (www / "small").write_bytes(b"x" * 100)
            (www / "10k").write_bytes(b"x" * 10240)
            with open(www / "big", "wb") as big:
                big.truncate(self.options.megabytes * 1_000_000)
            with open(www / "big", "rb") as big:
                # into memory: whoever came first would wait for a second while the system clears its pages
                while big.read(1 << 20):
                    pass
            self._origin = free_port()
            self.write("origin.conf", _ORIGIN.format(port=self._origin, folder=self.folder, kept=KEPT))
            self.running.start("origin", [find("nginx"), "-c", str(self.folder / "origin.conf")], self._origin)
        return self._origin

    @property
    def sink(self) -> int:
        """The port of an HTTP service that drops what is sent to it and says 200."""
        if not self._sink:
            self._sink = free_port()
            self.helper("sink", {"port": self._sink}, port=self._sink)
        return self._sink

    # Fronts.

    def fronts(
        self, ours: Mapping[str, Callable[[], Front]], peers: Mapping[str, Callable[[], Front]]
    ) -> dict[str, Front]:
        """Start them all, and wait until each has answered. A peer that does not is noted in :attr:`absent`.

        :raises Failed: one of ours does not
        """
        started: dict[str, Front] = {}
        for name, start in {**ours, **peers}.items():
            self.say(f"starting {name}")
            try:
                front = start()
                self.await_answer(front)
            except Failed as failure:
                if name in ours:
                    raise
                self.absent[name] = f"failed: {failure}"
            else:
                started[name] = front
        return started

    def await_answer(self, front: Front, seconds: float = 15.0) -> None:
        """Ask for ``/small`` until it comes.

        :raises Failed: it did not come in time
        """
        until = time.monotonic() + seconds
        while (seen := _status(front)) != "200":
            if time.monotonic() > until:
                raise Failed(f"{front.compared} did not serve in {seconds:.0f} s: {seen}")
            time.sleep(0.01)

    # Our own helpers.

    def helper_command(self, name: str, settings: Mapping[str, object]) -> list[str]:
        """The command line of ``benchmarks/helpers/<name>.py``."""
        return [sys.executable, "-m", f"benchmarks.helpers.{name}", json.dumps(settings)]

    def helper(self, name: str, settings: Mapping[str, object], *, port: int = 0, seconds: float = 20.0) -> int:
        """Start a helper that goes on running; give its pid once it listens and has printed ``ready``."""
        return self.running.start(name, self.helper_command(name, settings), port, ready="ready", seconds=seconds)


def ask(front: Front, path: str) -> bytes:
    """One GET on a connection of its own; gives the answer's head, as it came.

    :raises OSError: there was no answer
    """
    with socket.create_connection(("127.0.0.1", front.port), 5) as raw:
        connection: socket.socket = raw
        if front.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = context.wrap_socket(raw, server_hostname=HOST)
        with connection:
            request = f"GET /{path} HTTP/1.1\r\nHost: {HOST}:{front.port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = b""
            while data := connection.recv(65536):  # to its end: what is cut off need not be kept by anybody
                answer += data
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n"


def _status(front: Front) -> str:
    """The status of an answer, or what came in its place."""
    try:
        line = ask(front, "small").partition(b"\r\n")[0].decode("latin-1")
    except OSError as error:
        return str(error)
    return line.split()[1] if line.startswith("HTTP/1.1 ") else f"no answer ({line})"
