"""Waiting for the private service to be there for the first time.

An agent connects to its edges at once, and is no candidate for requests until its service was reached; after that a
dial that fails is the error of that one request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from wormhole_tw.agent.local import LocalService

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "Readiness", "ServiceWatch"]

FIRST_WAIT = 0.2
"""Seconds between the first two dials: a service that starts together with its agent is found soon."""

LONGEST_WAIT = 5.0
"""Seconds between dials after a while: one that is not started yet is not hammered."""

_GROWTH = 1.5


class ServiceWatch(Shape):
    """Who knows whether the private service takes requests: this, or a health check."""

    ready: bool
    reason: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def begin_with(self, header: bytes) -> None: ...


class Readiness:
    """Dials the service until it was reached once.

    :param changed: called once, when it was reached
    :ivar ready: it was
    :ivar reason: why not, one sentence for the edge, which tells visitors nothing of the private network
    """

    def __init__(self, clock: IReactorTime, local: LocalService, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._local = local
        self._changed = changed
        self._wait = FIRST_WAIT
        self._timer: IDelayedCall | None = None
        self._dialling: Deferred[Any] | None = None
        self._probe: _Probe | None = None
        self._running = False
        self._header = b""
        self.ready = False
        self.reason = "the service was not reached yet"

    def start(self) -> None:
        """Begin, from the state of a service never reached."""
        self._running = True
        self._wait = FIRST_WAIT
        self.ready = False
        self._dial()

    def stop(self) -> None:
        """Leave nothing scheduled and no connection open. Safe to call twice."""
        self._running = False
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        if self._probe is not None:
            self._probe.abort()

    def begin_with(self, header: bytes) -> None:
        """From now on the service's connections begin with these octets, without which it may take none."""
        if header != self._header:
            self._header = header
            timer = self._timer
            if timer is not None and timer.active():
                timer.cancel()
                self._dial()

    def _dial(self) -> None:
        self._timer = None
        self._dialling = self._local.connect(_PROBES, self._header)
        self._dialling.addCallbacks(self._stands, self._failed)

    def _stands(self, probe: Any) -> None:
        self._dialling = None
        self._probe = probe
        probe.transport.loseConnection()
        if self._running and not self.ready:
            self.ready = True
            self.reason = ""
            self._changed()

    def _failed(self, _failure: Failure) -> None:
        self._dialling = None
        if self._running:
            self._timer = self._clock.callLater(self._wait, self._dial)
            self._wait = min(self._wait * _GROWTH, LONGEST_WAIT)


class _Probe(Protocol):
    """A connection that is only made, and closed."""

    lost = False

    def abort(self) -> None:
        """Close it now, where it is not closed yet."""
        if not self.lost and self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


_PROBES = Factory.forProtocol(_Probe)
_PROBES.noisy = False
