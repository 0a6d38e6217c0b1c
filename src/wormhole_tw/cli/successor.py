"""Starting the process that replaces this one, and going when it serves: SIGUSR2.

The new process is started with the same command line.  It gets the listening sockets of this one, so that nobody is
refused meanwhile, and when it says that it serves, this one finishes what runs and ends.  One that does not come so far
changes nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from wormhole_tw.cli.notify import Notifier
from wormhole_tw.net.inherited import SERVES, SUCCESSOR, hand_on
from wormhole_tw.net.listening import descriptor_of

__all__ = ["START_WITHIN", "Succession"]

START_WITHIN = 120.0
"""Seconds for the new process until it serves: ten thousand sites take some."""

log = Logger()


class Succession:
    """What SIGUSR2 does to this process.

    :param ports: gives its listening ports, each with its endpoint description
    :param hand_over: called when the new process serves, before the reactor is stopped
    :param foreground: it is not daemonized by twistd, whose pid file would be in the way of another
    """

    def __init__(
        self,
        reactor: Any,
        *,
        ports: Callable[[], list[tuple[str, IListeningPort]]] = list,
        hand_over: Callable[[], object] = lambda: None,
        foreground: bool = True,
    ) -> None:
        self._reactor = reactor
        self._ports = ports
        self._hand_over = hand_over
        self._foreground = foreground
        # twistd goes to its --rundir later, and what the command line names is relative to here
        self._folder = os.getcwd()
        self._notifier = Notifier({})
        self._successor: _Successor | None = None
        self._over = False
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)

    def settle(self, notifier: Notifier) -> None:
        """Who is to be told which process is the main one."""
        self._notifier = notifier

    def begin(self) -> None:
        """Start the new process, unless one is starting, or this one ends."""
        if self._successor is not None or self._over:
            return
        if os.getpid() == 1:
            log.error("SIGUSR2: the first process of a container cannot be replaced, for the container ends with it")
            return
        if not self._foreground:
            log.error("SIGUSR2: only a process in the foreground (twistd -n, wormhole-tw) can be replaced")
            return
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                named = [(description, descriptor_of(port)) for description, port in self._ports()]
                hand_on(ours, [(description, number) for description, number in named if number is not None])
                self._start(ours, theirs)
            except OSError as error:
                self._successor = None
                log.error("SIGUSR2: no new process can be started: {error}", error=error)

    def _start(self, ours: socket.socket, theirs: socket.socket) -> None:
        successor = self._successor = _Successor(self)
        descriptor = theirs.fileno()
        environment = {**os.environ, **self._notifier.environment, SUCCESSOR: str(_ITS_END)}
        self._reactor.spawnProcess(
            successor,
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            environment,
            self._folder,
            childFDs={0: 0, 1: 1, 2: 2, _ITS_END: descriptor},
        )
        factory = Factory.forProtocol(lambda: _Listener(successor))
        factory.noisy = False
        self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        log.info("SIGUSR2: process {pid} starts, and takes over when it serves", pid=successor.pid)

    def serves(self, successor: _Successor) -> None:
        """The new process has everything."""
        if self._over:
            return
        self._over = True
        log.info("process {pid} has taken over; finishing what runs", pid=successor.pid)
        self._hand_over()
        self._notifier.name_main_process(successor.pid)
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass

    def failed(self, successor: _Successor, why: str) -> None:
        """It is gone, or to go, before it served."""
        self._successor = None
        if not self._over:
            log.error("process {pid} did not take over: {why}; this one goes on", pid=successor.pid, why=why)

    def _shut_down(self) -> None:
        """This process ends; a new one that does not serve yet is not to be left behind."""
        successor = self._successor
        if not self._over and successor is not None:
            self._over = True
            successor.end()
        self._over = True


_ITS_END = 3
"""The descriptor by which the new process reaches this one."""


class _Successor(ProcessProtocol):
    """The new process."""

    transport: Any

    def __init__(self, succession: Succession) -> None:
        self._succession = succession
        self._late: Any = None
        self._failed = False
        self.pid = 0

    def connectionMade(self) -> None:
        self.pid = self.transport.pid
        self._late = self._succession._reactor.callLater(START_WITHIN, self._too_late)

    def heard(self) -> None:
        """It serves."""
        if not self._failed:
            self._stop_waiting()
            self._succession.serves(self)

    def end(self) -> None:
        """Kill it."""
        self._stop_waiting()
        self._failed = True
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def _too_late(self) -> None:
        self._late = None
        self.end()
        self._succession.failed(self, f"it did not serve within {START_WITHIN:.0f} s")

    def _stop_waiting(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def processExited(self, reason: Failure) -> None:
        if self._late is not None:
            self._stop_waiting()
            self._failed = True
            status = getattr(reason.value, "exitCode", None)
            self._succession.failed(self, f"it ended with status {status}" if status is not None else "it was killed")


class _Listener(Protocol):
    """What the new process says."""

    def __init__(self, successor: _Successor) -> None:
        self._successor = successor
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if self._data == SERVES:
            self._successor.heard()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Its exit tells, or it has said all."""
