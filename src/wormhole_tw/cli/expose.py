"""``wormhole-tw expose`` and ``demo``: an agent in the foreground, and where none is named an edge beside it.

What a person is told goes to standard output, a line for each thing that happens.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred

from wormhole_tw.agent import events
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.service import AgentService
from wormhole_tw.cli.demo import fetch_page, serve_sample
from wormhole_tw.cli.local_edge import LocalEdge
from wormhole_tw.cli.terminal import Stop, run, say
from wormhole_tw.errors import ConfigError, TimedOut

__all__ = ["Reporter", "demo", "expose"]

START_SECONDS = 15.0
"""How long the demo waits for its own agent and edge, which takes a second."""


class Reporter:
    """Says in one line each what happens to an agent.

    :param target: the private service, as a person calls it
    :param urls: what was said to lead to it already
    """

    def __init__(self, target: str, say: Callable[[str], object], urls: Sequence[str] = ()) -> None:
        self._target = target
        self._say = say
        self._urls: tuple[str, ...] | None = tuple(urls) or None

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
                    # The sentence names the edge mostly; the try is news once, that it goes on is said with it.
                    where = "" if address in reason else f"{address}: "
                    say(f"not connected: {where}{reason}; trying on")
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
    _check_options(options)
    target = _shown_target(options.target)

    async def main(reactor: Any, stop: Stop) -> int:
        async with AsyncExitStack() as stack:
            urls: tuple[str, ...] = ()
            hints: list[str] = []
            if options.edge is None:
                local = _local_edge(reactor, options, "app")
                stack.push_async_callback(local.stop)
                config = local.agent(options.target, options)
                urls, hints = local.urls, local.hints()
            else:
                config = _remote(options)
            agent = AgentService(reactor, config)
            for url in urls:
                say(f"{url} -> {target}")
            for hint in hints:
                say(hint)
            agent.on_event(Reporter(target, say, urls))
            agent.startService()
            stack.push_async_callback(agent.stopService)
            await stop.wait()
        return 0

    return run(main)


def demo(options: argparse.Namespace) -> int:
    """``wormhole-tw demo``: see it work; gives the exit status.

    :raises ConfigError: an option is wrong, or a port or folder cannot be had
    :raises WormholeError: the agent and the edge did not come together
    """

    async def main(reactor: Any, stop: Stop) -> int:
        async with AsyncExitStack() as stack:
            sample = serve_sample(reactor)
            stack.push_async_callback(lambda: maybeDeferred(sample.stopListening))
            target = f"127.0.0.1:{cast(IPv4Address, sample.getHost()).port}"
            local = _local_edge(reactor, options, "demo")
            stack.push_async_callback(local.stop)
            agent = AgentService(reactor, local.agent(target, options))
            for url in local.urls:
                say(f"{url} -> {target}, a small sample service")
            agent.on_event(Reporter(target, say, local.urls))
            agent.startService()
            stack.push_async_callback(agent.stopService)
            try:
                await stop.unless(agent.when_ready().addTimeout(START_SECONDS, reactor))
            except TimeoutError:
                raise TimedOut("demo", f"the sample service was not there after {START_SECONDS:.0f} s") from None
            fetched = Deferred.fromCoroutine(fetch_page(reactor, local.hostname, local.port, local.ca_file))
            outcome = await stop.unless(fetched)
            say(outcome.sentence)
            if not outcome.good:
                return 1
            say(f"it came: visitor -> edge on port {local.port}, where TLS ends -> tunnel -> agent -> {target}")
            for hint in local.hints():
                say(hint)
            if not options.once:
                say("Ctrl-C ends it")
                await stop.wait()
        return 0

    return run(main)


def _local_edge(reactor: Any, options: argparse.Namespace, label: str) -> LocalEdge:
    return LocalEdge(reactor, options.name or label, port=options.port, state=options.state)


def _remote(options: argparse.Namespace) -> AgentConfig:
    return AgentConfig.from_environment(
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


def _check_options(options: argparse.Namespace) -> None:
    """Options that have nothing to do would be taken for obeyed.

    :raises ConfigError: there is one
    """
    idle: tuple[str, ...]
    if options.edge is None:
        idle, reason = ("token_file", "ca_file"), "it is for an edge elsewhere: give --edge HOST too"
    else:
        idle, reason = ("name", "port", "state"), "it is for the local edge, and --edge names another"
    for name in idle:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}", "", reason)


def _shown_target(target: str) -> str:
    """A bare port is short for one of this machine's."""
    return f"127.0.0.1:{target}" if target.isdigit() else target
