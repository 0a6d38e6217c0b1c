"""A house for one test: an edge, its agents, the dev CA, and visitors that verify what they are served.

Edge and agents are processes, started as an operator starts them (``twistd -n``); visitors come with curl, or with
sockets of the :mod:`ssl` module.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests._support import ROOT, SRC
from tests.end_to_end.programs import TWISTD, Program, Programs, free_port, need_program, programs
from wormhole_tw.control.tokens import digest_line, generate

APP = "app.example.test"
"""The host name of the first backend, ``app``."""

OTHER = "other.example.test"
"""The host name of the second, ``other``."""

SERVED_SOON = 10.0
"""Seconds for an answer of a service that has nothing to do."""


class House:
    """One folder with ``edge.toml`` and what an edge and its agents keep.

    :param limits: the ``[limits]`` table
    :param hosts: host name → backend; each backend gets a token

    :ivar config: what ``edge.toml`` says; change it and call :meth:`write`
    :ivar tokens: backend → token
    :ivar edge: the edge's program, once started
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        *,
        limits: Mapping[str, float] | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.programs = programs
        hosts = hosts or {APP: "app", OTHER: "other"}
        self.tokens = {backend: generate() for backend in hosts.values()}
        self.port = free_port()
        self.http_port = free_port()
        self.config: dict[str, Any] = {
            "edge": {
                "name": "edge-1",
                "names": ["localhost", "127.0.0.1"],
                "https": [f"tcp:{self.port}:interface=127.0.0.1"],
                "http": [f"tcp:{self.http_port}:interface=127.0.0.1"],
            },
            "tls": {"mode": "dev"},
            "limits": dict(limits or {}),
            "backends": [{"name": name, "tokens": [digest_line(token)]} for name, token in self.tokens.items()],
            "sites": [
                {"name": host.partition(".")[0], "hostnames": [host], "routes": [{"path": "/", "backend": backend}]}
                for host, backend in hosts.items()
            ],
        }
        self.write()
        self._edge: Program | None = None
        self._context: ssl.SSLContext | None = None

    # Files.

    @property
    def config_file(self) -> Path:
        return self.folder / "edge.toml"

    @property
    def ca_file(self) -> Path:
        return self.folder / "state" / "dev" / "ca.pem"

    def write(self, text: str | None = None) -> None:
        """Write ``edge.toml``: what :attr:`config` says, or ``text``."""
        self.config_file.write_text(as_toml(self.config) if text is None else text)

    # Programs.

    @property
    def edge(self) -> Program:
        assert self._edge is not None, "the edge was not started"
        return self._edge

    def launch_edge(self, *wrapper: str) -> Program:
        """Start an edge, and wait for nothing.

        :param wrapper: a program and its arguments to start it with (``setpriv …``)
        """
        argv = [*wrapper, *TWISTD, "-n", "wormhole-edge", "--config", "edge.toml"]
        self._edge = self.programs.start("edge", argv, cwd=self.folder)
        return self._edge

    def start_edge(self) -> Program:
        """Start it, and wait until it listens."""
        edge = self.launch_edge()
        edge.wait_for("serves https on")
        return edge

    def launch_agent(
        self,
        name: str,
        service: int | str,
        *options: str,
        env: Mapping[str, str] | None = None,
        backend: str = "app",
        wrapper: Sequence[str] = (),
    ) -> Program:
        """Start an agent, and wait for nothing.

        :param wrapper: a program and its arguments to start it with (``ip netns exec …``)
        """
        settings = {**self.agent_environment(service, backend), **(env or {})}
        argv = [*wrapper, *TWISTD, "-n", "wormhole-agent", *options]
        return self.programs.start(name, argv, env=settings, cwd=self.folder)

    def agent_environment(self, service: int | str, backend: str = "app") -> dict[str, str]:
        """What an agent has to know."""
        return {
            "FLY_TOKEN": self.tokens[backend],
            "FLY_LOCAL_ENDPOINT": f"127.0.0.1:{service}" if isinstance(service, int) else service,
            "FLY_REMOTE_ENDPOINT": f"localhost:{self.port}",
            "FLY_TLS_CERT_FILE": str(self.ca_file),
        }

    def agent(
        self, name: str, service: int | str, *, env: Mapping[str, str] | None = None, backend: str = "app"
    ) -> Program:
        """Start an agent, and wait until the edge gives it requests."""
        agent = self.launch_agent(name, service, env=env, backend=backend)
        self.wait_ready(agent)
        return agent

    def wait_ready(self, agent: Program, *, after: int = 0, deadline: float = 30.0) -> str:
        """Wait until an agent has connected (in its lines from number ``after`` on) and is ready; gives its session."""
        session = agent.wait_for(r"connected to edge-1.* as (\S+)", after=after, deadline=deadline)[1]
        self.edge.wait_for(f"agent {session} of backend .* is ready", deadline=deadline)
        return session

    # Visitors.

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the dev CA alone."""
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.ca_file))
        return self._context

    def trust(self, authority: Path) -> None:
        """Trust another CA from now on, in the place of the dev CA."""
        self._context = ssl.create_default_context(cafile=str(authority))

    def connect(self, host: str = APP, *, timeout: float = 30.0, receive_buffer: int | None = None) -> ssl.SSLSocket:
        """A verified TLS connection to the edge, with ``host`` as SNI.

        :param receive_buffer: octets of SO_RCVBUF, for a visitor that is to be full soon
        """
        with socket.socket() as plain:
            if receive_buffer is not None:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plain.settimeout(timeout)
            plain.connect(("127.0.0.1", self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self.context.wrap_socket(plain, server_hostname=host)

    def visitor(self, host: str = APP, *, timeout: float = 30.0) -> Visitor:
        """An :class:`http.client.HTTPConnection` over :meth:`connect`."""
        return Visitor(self, host, timeout)

    def get(self, path: str = "/", host: str = APP, *, timeout: float = SERVED_SOON) -> Answer:
        """One GET on a connection of its own."""
        with self.visitor(host, timeout=timeout) as visitor:
            return visitor.ask("GET", path)

    def url(self, path: str = "/", host: str = APP) -> str:
        return f"https://{host}:{self.port}{path}"

    def curl(self, *args: str, host: str = APP, deadline: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """curl with the dev CA and ``host`` resolved to the edge, over HTTP/1.1 unless told; its output stays bytes."""
        argv = [
            need_program("curl"),
            "--silent",
            "--show-error",
            "--no-netrc",
            "--http1.1",
            *("--cacert", str(self.ca_file)),
            *("--resolve", f"{host}:{self.port}:127.0.0.1"),
            *("--resolve", f"{host}:{self.http_port}:127.0.0.1"),
            *args,
        ]
        return subprocess.run(argv, capture_output=True, timeout=deadline, cwd=self.folder, check=False)


class Answer:
    """An answer that was read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def reason(self) -> str:
        """Why the edge itself answered (``X-Wormhole-Error``); empty where the service did."""
        return self.headers.get("X-Wormhole-Error", "")

    def __repr__(self) -> str:
        return f"<{self.status} {self.reason or 'of the service'}: {self.body[:200]!r}>"


class Visitor(http.client.HTTPConnection):
    """A visitor of a :class:`House`, on one connection."""

    def __init__(self, house: House, host: str, timeout: float) -> None:
        super().__init__(host, house.port, timeout=timeout)
        self._house = house

    def connect(self) -> None:
        self.sock = self._house.connect(self.host, timeout=self.timeout or 30.0)

    def ask(
        self,
        method: str,
        path: str = "/",
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request, and its whole answer."""
        self.request(method, path, body, dict(headers or {}))
        return Answer(self.getresponse())

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_toml(config: Mapping[str, Any]) -> str:
    """The few shapes that an ``edge.toml`` has: tables, and lists of tables."""
    out: list[str] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            out += [f"[{name}]", *_lines(value), ""]
        else:
            for table in value:
                out += [f"[[{name}]]", *_lines(table), ""]
    return "\n".join(out)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_lines(value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)  # text, numbers and truth are written alike in TOML


@contextmanager
def open_house(
    folder: Path, *, limits: Mapping[str, float] | None = None, hosts: Mapping[str, str] | None = None
) -> Iterator[House]:
    """A house with nothing started; whatever it starts has ended afterwards."""
    with programs() as mine:
        yield House(folder, mine, limits=limits, hosts=hosts)


def with_tests() -> dict[str, str]:
    """The environment of a program that is part of the tests."""
    return {"PYTHONPATH": os.pathsep.join((str(SRC), str(ROOT)))}


def nonce() -> str:
    return secrets.token_hex(16)
