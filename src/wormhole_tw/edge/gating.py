"""The gates of a route, one after the other, before its request goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from wormhole_tw.edge.states import State
from wormhole_tw.errors import HttpError
from wormhole_tw.http.identity import alike

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from wormhole_tw.control.model import LocalAnswer
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.interfaces import IGate
    from wormhole_tw.edge.middleware.stacks import Stack
    from wormhole_tw.http.events import Fields

__all__ = ["GateWalk"]

log = Logger()


class GateWalk:
    """One exchange's way through its route's gates: the first that has an answer ends it."""

    __slots__ = ("_asked", "_exchange", "_gates", "_kept", "_next", "_stack")

    def __init__(self, exchange: Exchange, gates: tuple[IGate, ...], stack: Stack | None = None) -> None:
        """
        :param stack: the middleware that it goes through behind them
        """
        self._exchange = exchange
        self._gates = gates
        self._stack = stack
        self._kept = False  # while it waits its middleware may not be let go
        self._next = 0
        self._asked: Deferred[LocalAnswer | None] | None = None

    def go_on(self) -> None:
        """Ask the gates that are left; behind the last one the exchange proceeds."""
        exchange, gates = self._exchange, self._gates
        while self._next < len(gates):
            gate = gates[self._next]
            self._next += 1
            try:
                verdict = gate.check(exchange)
            except HttpError as error:
                exchange.give_up(error.reason, status=error.status, message=error.message)
                return
            if verdict is None:
                continue
            if isinstance(verdict, Deferred):
                self._wait(verdict)
            else:
                exchange.answer_locally(verdict)
            return
        if self._stack is None:
            exchange.proceed()
        else:
            self._stack.enter(exchange)
            self._release()

    def without_hidden(self, trailers: Fields) -> Fields:
        """The trailer fields of the request without those that only a gate may say."""
        hidden: set[bytes] = set()
        for gate in self._gates:
            hidden |= getattr(gate, "hides", frozenset())
        return [line for line in trailers if alike(line[0]) not in hidden] if hidden else trailers

    def stop(self) -> None:
        """The exchange is over."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()
        self._release()

    def _wait(self, asked: Deferred[LocalAnswer | None]) -> None:
        if self._exchange.state is State.NEW:
            self._exchange.move(State.CHECKING)
        if self._stack is not None and not self._kept:
            self._kept = True
            self._stack.keep()
        self._asked = asked
        asked.addCallbacks(self._told, self._failed).addErrback(self._crashed)

    def _told(self, verdict: LocalAnswer | None) -> None:
        self._asked = None
        exchange = self._exchange
        if exchange.state is not State.CHECKING:
            return
        if verdict is None:
            self.go_on()
        else:
            exchange.answer_locally(verdict)
        exchange.flush()

    def _failed(self, failure: Failure) -> None:
        self._asked = None
        exchange = self._exchange
        if exchange.state is not State.CHECKING:
            return  # cancelled, or as good as that
        error = failure.value
        if not isinstance(error, HttpError):
            log.failure("a gate of route {route} failed", failure, route=exchange.route)
            exchange.crashed()
            return
        exchange.give_up(error.reason, status=error.status, message=error.message)
        exchange.flush()

    def _release(self) -> None:
        if self._stack is not None and self._kept:
            self._kept = False
            self._stack.release()

    def _crashed(self, failure: Failure) -> None:
        log.failure("an exchange failed behind its gates", failure)
        self._exchange.crashed()
