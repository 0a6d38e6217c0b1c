"""An agent and the command that it serves, as one service: they start together and end together.

The agent connects to its edges while the command starts, and says that it is not ready; requests come when the command
listens.  A stop drains first, so that what runs is answered by a command that is still there; then it ends the command.
When the command ends, whatever its status, the agent has nothing to serve, and ends too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from wormhole_tw.agent.command import CANNOT_RUN, Command, Ending
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.events import AgentEvent, ServiceReached
from wormhole_tw.agent.service import AgentService
from wormhole_tw.agent.targets import parse_target
from wormhole_tw.errors import MisuseError

__all__ = ["AFTER_END", "NEVER_REACHED", "Supervisor", "command_environment", "port_of"]

_log = Logger()

AFTER_END = 2.0
"""Seconds that streams get when the command has ended by itself: what it has sent reaches its visitors, and there will
be no more."""

NEVER_REACHED = 1
"""The exit status where the command ran and was never reached, whatever its own is: it ended because we told it to."""

SECRETS = ("FLY_TOKEN", "FLY_TOKEN_FILE", "FLY_PROXY")
"""Variables that the command does not get: they are the agent's (a proxy may have a password), and programs show their
environment on debug pages and in crash reports."""

OURS = ("NOTIFY_SOCKET",)
"""Others that it does not get: where systemd is told of this process, in whose name it is not to speak."""


def port_of(config: AgentConfig) -> int | None:
    """The port where the agent looks for its service; None where it is not found by one."""
    target = parse_target(config.local) if isinstance(config.local, str) else None
    return target.port if target is not None and target.kind == "tcp" else None


def command_environment(environ: Mapping[str, str], config: AgentConfig) -> dict[str, str]:
    """The environment of a command: ours, without the token, and with the port where it has to listen.

    ``PORT`` and ``FLY_PORT`` say the port that the agent dials. Where it dials no port (``unix:/path``), they stay as
    they are.
    """
    own = {name: value for name, value in environ.items() if name not in SECRETS + OURS}
    port = port_of(config)
    if port is not None:
        own["PORT"] = own["FLY_PORT"] = str(port)
    return own


class Supervisor(Service):
    """Runs a command beside an agent, whose service it is.

    It starts and stops the agent: add this one to the application, and not the agent.

    :param agent: its ``config`` says how long things may take: ``start_timeout``, ``drain``, ``stop_timeout``
    :param command: the program, looked up in ``PATH``, and its arguments; there is no shell
    :param environ: the environment of which :func:`command_environment` makes the command's; this process's by default
    :param log_output: what the command writes goes into the log, a line each; otherwise to our standard streams
    :param descriptors: the command's soft limit of open files; None: as it is here
    :ivar status: the exit status of the command, as a shell would give it; None while it is not over
    """

    def __init__(
        self,
        reactor: Any,
        agent: AgentService,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        log_output: bool = False,
        descriptors: int | None = None,
    ) -> None:
        if isinstance(command, str) or not command:
            raise MisuseError("a command is a list: the program, and its arguments")
        self.agent = agent
        self.status: int | None = None
        self._reactor = reactor
        self._argv = list(command)
        self._environ = command_environment(os.environ if environ is None else environ, agent.config)
        self._log_output = log_output
        self._descriptors = descriptors
        self._command: Command | None = None
        self._stop_signal: int = signal.SIGTERM
        self._start_timer: IDelayedCall | None = None
        self._forget_events: Callable[[], None] | None = None
        self._finishing = False
        self._never_reached = False
        self._waiters: list[Deferred[int]] = []

    def when_ended(self) -> Deferred[int]:
        """The command's exit status, when it and the agent are over: by a stop, or because the command has ended. A
        Deferred of the caller's own."""
        waiter: Deferred[int] = Deferred(self._waiters.remove)
        if self.status is not None and not self._finishing:
            waiter.callback(self.status)
        else:
            self._waiters.append(waiter)
        return waiter

    # Service

    def privilegedStartService(self) -> None:
        """The agent's.

        :raises ConfigError: as :meth:`~wormhole_tw.agent.service.AgentService.privilegedStartService`
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.agent.privilegedStartService()

    def startService(self) -> None:
        """Start the agent, and the command once the reactor runs.

        :raises ConfigError: the agent cannot start, and the command was not
        :raises MisuseError: the last stop has not ended
        """
        if self.running:
            return
        if self._finishing:
            raise MisuseError("it is still stopping; wait for the Deferred of stopService()")
        self.agent.service_starts()
        self.agent.startService()
        super().startService()  # type: ignore[no-untyped-call]
        self.status = None
        self._command = None
        self._never_reached = False
        self._stop_signal = signal.SIGTERM
        self._forget_events = self.agent.on_event(self._agent_event)
        # A process that starts before the reactor cannot be heard of yet when it ends.
        self._reactor.callWhenRunning(self._launch)

    def stopService(self) -> Deferred[None]:
        """Drain (``drain`` seconds at most), end the command (``stop_timeout`` seconds, then it is killed).

        Fires when both are over.
        """
        was_running = bool(self.running)
        super().stopService()  # type: ignore[no-untyped-call]
        if was_running and not self._finishing and self.status is None:
            self._begin_finish(self.agent.config.drain)
        return self.when_ended().addCallback(lambda _: None) if self._finishing else succeed(None)

    # Signals, for the process that runs us

    def signal(self, number: int) -> None:
        """Hand a signal on to the command, as soon as it runs."""
        if self._command is not None:
            self._command.signal(number)

    def stopping(self, number: int) -> None:
        """The stop that follows was asked for by this signal: the command gets the same, once the drain is over."""
        self._stop_signal = number

    def kill(self) -> None:
        """End the command and all that it has started, now. Safe in a signal handler."""
        if self._command is not None:
            self._command.kill_group()

    # The command's life

    def _launch(self) -> None:
        if not self.running or self._command is not None:
            return
        command = self._command = Command(
            self._reactor,
            self._argv,
            self._environ,
            log_output=self._log_output,
            descriptors=self._descriptors,
            started=self._started,
            ended=self._ended,
        )
        try:
            command.start()
        except OSError as error:
            self._ended(Ending(CANNOT_RUN, f"{command.name} cannot be started: {error.strerror or error}"))

    def _started(self) -> None:
        assert self._command is not None
        _log.info("started {command} as process {pid}", command=self._command.name, pid=self._command.pid)
        limit = self.agent.config.start_timeout
        if limit and not self._finishing and self._forget_events is not None:
            self._start_timer = self._reactor.callLater(limit, self._not_reached)

    def _agent_event(self, event: AgentEvent) -> None:
        if isinstance(event, ServiceReached):
            if self._command is None or not self._command.running:
                _log.warn(
                    "{service} answers before the command runs; is another one still there?", service=event.service
                )
            self._forget_start()

    def _forget_start(self) -> None:
        forget, self._forget_events = self._forget_events, None
        if forget is not None:
            forget()
        timer, self._start_timer = self._start_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _not_reached(self) -> None:
        assert self._command is not None
        config = self.agent.config
        port = port_of(config)
        told = f" (PORT and FLY_PORT tell it {port})" if port is not None else ""
        what = "does not listen" if config.health is None else "does not pass its health check"
        _log.error(
            "{command} {what} at {service}{told} {limit:g} s after its start; ending it; {setting} gives it more time",
            command=self._command.name,
            what=what,
            service=config.local if isinstance(config.local, str) else "the endpoint of this application",
            limit=config.start_timeout,
            told=told,
            setting=config.sources.get("start_timeout", "start_timeout"),
        )
        self._never_reached = True
        self._begin_finish(0.0)

    def _ended(self, ending: Ending) -> None:
        if self._finishing:
            _log.info("{sentence}", sentence=ending.sentence)
            self.agent.stop(AFTER_END)  # somebody else has ended it, maybe: then nothing comes that a drain waits for
            return
        if ending.status:
            _log.error("{sentence}; the agent ends too", sentence=ending.sentence)
        else:
            _log.info("{sentence}; the agent ends too", sentence=ending.sentence)
        self._begin_finish(min(AFTER_END, self.agent.config.drain), ending)

    def _begin_finish(self, drain: float, ending: Ending | None = None) -> None:
        self._finishing = True
        self._forget_start()
        finish = Deferred.fromCoroutine(self._finish(drain, ending))
        finish.addErrback(lambda failure: _log.failure("ending the command failed", failure))

    async def _finish(self, drain: float, ending: Ending | None) -> None:
        status = 0
        try:
            await maybeDeferred(self.agent.stop, drain)
        finally:
            command = self._command
            if command is not None:
                await command.end(self._stop_signal, self.agent.config.stop_timeout)
                ending = command.ending or ending
            if ending is not None:
                status = ending.status
            self.status = NEVER_REACHED if self._never_reached else status
            self._finishing = False
            self.running = 0
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.called:
                    waiter.callback(self.status)
