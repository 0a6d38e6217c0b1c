"""``wormhole-tw expose`` and ``demo``: an agent in the foreground, and where none is named an edge beside it.

What a person is told goes to standard output, a line for each thing that happens; the log of both services goes to
standard error, from warnings on.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import globalLogBeginner

from wormhole_tw.agent import events
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.service import AgentService
from wormhole_tw.cli.demo import fetch_page, serve_sample
from wormhole_tw.cli.logs import log_observer
from wormhole_tw.cli.process import handle_signals
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.tokens import digest_line, generate
from wormhole_tw.edge.service import EdgeService
from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["demo", "expose"]

PORT = 8443
"""The local edge's https port where it is free and no other was asked for: a bookmark works again next time."""

START_SECONDS = 15.0
"""How long the demo waits for its own agent and edge, which takes a second."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class Local:
    """An edge of this machine alone: on loopback, with a local CA, for one ``*.localhost`` name."""

    def __init__(self, reactor: Any, options: argparse.Namespace) -> None:
        label = str(options.name).lower()
        if _LABEL.fullmatch(label) is None:
            raise ConfigError("--name", "", "a label is 1 to 63 letters, digits and hyphens")
        self.hostname = f"{label}.localhost"
        self.token = generate()
        port = options.port or (PORT if _free(PORT) else 0)
        where = "--port" if options.port else "the local edge"
        state = _state_folder(options.state)
        config = EdgeConfig.from_dict(
            {
                "edge": {
                    "name": "local",
                    "names": ["localhost", "127.0.0.1", "::1"],
                    "https": [f"tcp:{port}:interface=127.0.0.1"],
                    "state": str(state),
                },
                "backends": [{"name": "local", "tokens": [digest_line(self.token)]}],
                "sites": [
                    {
                        "name": "local",
                        "hostnames": [self.hostname],
                        "routes": [{"path": "/", "backend": "local"}],
                    }
                ],
                # Ctrl-C should not wait for an open event stream for half a minute.
                "limits": {"drain": 3.0},
            },
            source=where,
        )
        self.edge = EdgeService(reactor, config)
        self.edge.startService()
        self.port = self.edge.public_port

    @property
    def ca_file(self) -> Path:
        assert self.edge.ca_file is not None, "the local edge is in dev mode"
        return self.edge.ca_file

    def agent(self, target: str, options: argparse.Namespace) -> AgentConfig:
        return AgentConfig(
            token=self.token,
            edges=[f"127.0.0.1:{self.port}"],
            local=target,
            ca_file=str(self.ca_file),
            local_ca_file=getattr(options, "local_ca_file", None),
            local_insecure=getattr(options, "local_insecure", False),
            drain=3.0,
            sources={"local": "TARGET", "local_ca_file": "--local-ca-file"},
        )

    def trust_lines(self) -> list[str]:
        url = f"https://{self.hostname}:{self.port}/"
        return [
            f"try it:    curl --cacert {self.ca_file} {url}",
            f"browsers:  trust this machine's own CA once: import {self.ca_file} as an authority",
        ]


class Reporter:
    """Says in one line each what happens to an agent."""

    def __init__(self, target: str, say: Callable[[str], None]) -> None:
        self._target = target
        self._say = say
        self._urls: tuple[str, ...] = ()

    def __call__(self, event: events.AgentEvent) -> None:
        say = self._say
        match event:
            case events.Connected(session):
                if session.urls != self._urls:
                    self._urls = session.urls
                    for url in session.urls:
                        say(f"{url} -> {self._target}")
                    if not session.urls:
                        say(f"no route of the edge leads to {self._target} yet")
                say(f"connected to {session}")
            case events.Draining(session, reason):
                say(f"{session} asks to reconnect: {reason}")
            case events.Lost(session, reason, retry_in):
                say(f"lost {session}: {reason}; next try in {retry_in:.1f} s")
            case events.Failed(address, reason, retry_in, repeated):
                if not repeated:
                    say(f"cannot reach {address}: {reason}; next try in {retry_in:.1f} s")
            case events.Refused(address, _, reason, retry_in, repeated, _):
                if not repeated:
                    say(f"{address} refuses: {reason}; next try in {retry_in:.0f} s")
            case events.ServiceReached(service):
                say(f"{service} answers")
            case _:
                pass


def expose(options: argparse.Namespace) -> int:
    """``wormhole-tw expose TARGET``: until Ctrl-C; gives the exit status.

    :raises ConfigError: an option is wrong, or a port or folder cannot be had
    """

    async def run(reactor: Any, stopping: Deferred[None]) -> int:
        local = None
        if options.edge is None:
            if options.token_file or options.ca_file:
                name = "--token-file" if options.token_file else "--ca-file"
                raise ConfigError(name, "", "it is for an edge elsewhere: give --edge HOST too")
            local = Local(reactor, options)
            config = local.agent(options.target, options)
        else:
            config = AgentConfig.from_environment(
                os.environ,
                {
                    "edge": options.edge,
                    "local": options.target,
                    "token_file": options.token_file,
                    "ca_file": options.ca_file,
                    "local_ca_file": options.local_ca_file,
                    "local_insecure": options.local_insecure,
                },
            )
        agent = AgentService(reactor, config)
        agent.on_event(Reporter(_shown_target(options.target), _say))
        agent.startService()
        try:
            if local is not None:
                for line in local.trust_lines():
                    _say(line)
            await stopping
        finally:
            await agent.stopService()
            if local is not None:
                await local.edge.stopService()
        return 0

    return _run(run)


def demo(options: argparse.Namespace) -> int:
    """``wormhole-tw demo``: see it work; gives the exit status.

    :raises ConfigError: an option is wrong, or a port or folder cannot be had
    """

    async def run(reactor: Any, stopping: Deferred[None]) -> int:
        local = Local(reactor, options)
        sample = serve_sample(reactor)
        target = f"127.0.0.1:{cast(IPv4Address, sample.getHost()).port}"
        agent = AgentService(reactor, local.agent(target, options))
        agent.on_event(Reporter(target, _say))
        agent.startService()
        status = 0
        try:
            ready = agent.when_ready()
            ready.addTimeout(START_SECONDS, reactor)
            await ready
            outcome = await fetch_page(reactor, local.hostname, local.port, local.ca_file)
            _say(outcome.sentence)
            status = 0 if outcome.good else 1
            for line in local.trust_lines():
                _say(line)
            if not options.once and outcome.good:
                _say("Ctrl-C ends it")
                await stopping
        finally:
            await agent.stopService()
            await local.edge.stopService()
            await maybeDeferred(sample.stopListening)
        return status

    return _run(run)


def _run(main: Callable[[Any, Deferred[None]], Awaitable[int]]) -> int:
    """Run ``main`` on the reactor until it is done; SIGINT and SIGTERM fire its second argument."""
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([log_observer(sys.stderr, "warn")], redirectStandardIO=False)
    stopping: Deferred[None] = Deferred()
    status = 1
    error: BaseException | None = None

    async def whole() -> None:
        nonlocal status, error
        try:
            status = await main(reactor, stopping)
        except Exception as failure:  # noqa: BLE001 - told after the reactor's end, to whoever runs us
            error = failure
        with suppress(RuntimeError):
            _reactor(reactor).stop()

    running: list[Deferred[None]] = []
    _reactor(reactor).callWhenRunning(lambda: running.append(Deferred.fromCoroutine(whole())))
    handle_signals(_Stopper(reactor, stopping), say=_say)
    _reactor(reactor).run(installSignalHandlers=False)
    if error is not None:
        raise error
    return status


class _Stopper:
    """Lets a signal end what runs in its own order, before the reactor stops."""

    def __init__(self, reactor: Any, stopping: Deferred[None]) -> None:
        self._reactor = reactor
        self._stopping = stopping

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> object:
        return self._reactor.callWhenRunning(callable, *args, **kwargs)

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._reactor.callFromThread(callable, *args, **kwargs)

    def stop(self) -> None:
        if not self._stopping.called:
            self._stopping.callback(None)


def _reactor(reactor: Any) -> Any:
    return reactor


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        pass  # nobody reads any more; what runs goes on


def _shown_target(target: str) -> str:
    """A bare port is short for one of this machine's."""
    return f"127.0.0.1:{target}" if target.isdigit() else target


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _state_folder(given: str | None) -> Path:
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_STATE_HOME") or ""
    root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return root / "wormhole-tw"
