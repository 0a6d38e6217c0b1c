"""The solver of DNS-01 challenges: follow CNAMEs, have the record written, wait until it is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.control.dns import HookConfig
from wormhole_tw.edge.certificates.challenges import IChallengeSolver
from wormhole_tw.edge.certificates.dns01.hook import HookWriter
from wormhole_tw.edge.certificates.dns01.interfaces import IRecordWriter
from wormhole_tw.edge.certificates.dns01.lookup import Authority, Lookup, configured
from wormhole_tw.edge.certificates.dns01.update import UpdateWriter
from wormhole_tw.errors import ChallengeFailed
from wormhole_tw.net.threads import call_in_thread

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

    from wormhole_tw.control.dns import DnsConfig

__all__ = ["DnsSolver"]

FIRST_PAUSE = 0.5
"""Seconds between the first two rounds of asking the zone's servers: a primary that stands alone has it at once."""

LONGEST_PAUSE = 10.0
"""Seconds between two rounds later: secondaries take tens of seconds, and nobody minds ten more."""

GROWTH = 1.5

PATIENCE = 3
"""Rounds in a row without an answer after which a server is no longer waited for: the CA then asks another one too."""

AT_A_TIME = 4
"""Questions to name servers at a time, of all challenges: each has a thread."""

T = TypeVar("T")

log = Logger()


@implementer(IChallengeSolver)
class DnsSolver:
    """Proves names by what an operator configured in ``[tls.dns]``.

    :param reactor: who is told when a thread has ended
    :param clock: its timers
    :param lookup: who asks name servers, where that is not what the configuration says
    """

    kind = "dns-01"

    def __init__(
        self, reactor: IReactorFromThreads, clock: IReactorTime, config: DnsConfig, *, lookup: Lookup | None = None
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._lookup = Lookup(config.resolvers) if lookup is None else lookup
        self._questions = DeferredSemaphore(AT_A_TIME)
        self._records: dict[str, str] = {}
        self._writer: IRecordWriter
        if isinstance(config.writer, HookConfig):
            self._writer = HookWriter(reactor, config.writer)
        else:
            self._writer = UpdateWriter(reactor, config.writer)

    def present(self, name: str, values: Sequence[str]) -> Deferred[None]:
        """See :meth:`.IChallengeSolver.present`."""

        async def present() -> None:
            record = await self._follow(name)
            self._records[name] = record
            for value in values:
                await self._writer.add(name, record, value)
            if self._config.propagation_timeout:
                await self._wait(record, frozenset(values))
            if self._config.propagation_delay:
                await deferLater(self._clock, self._config.propagation_delay)

        return Deferred.fromCoroutine(present())

    def clean_up(self, name: str, values: Sequence[str]) -> Deferred[None]:
        """See :meth:`.IChallengeSolver.clean_up`."""

        async def clean_up() -> None:
            # Where it was written, wherever the CNAME leads by now.
            record = self._records.pop(name, None) or await self._follow(name)
            failed: ChallengeFailed | None = None
            for value in values:
                try:
                    await self._writer.remove(name, record, value)
                except ChallengeFailed as error:
                    failed = error  # the others are still to be taken away
            if failed is not None:
                raise failed

        return Deferred.fromCoroutine(clean_up())

    async def _follow(self, name: str) -> str:
        if not self._config.follow_cname:
            return name
        record = await self._ask(lambda: self._lookup.follow(name))
        if record != name:
            log.info("{name} is a CNAME: what proves the name is written to {record}", name=name, record=record)
        return record

    async def _wait(self, record: str, wanted: frozenset[str]) -> None:
        """Until every server has what is wanted; those that never answer are left out, as long as one does.

        :raises ChallengeFailed: one of them still has not when the configured time is over
        """
        limit = self._config.propagation_timeout
        until = self._clock.seconds() + limit
        servers = self._config.propagation_servers
        waiting = list(await self._ask(lambda: configured(servers) if servers else self._lookup.authorities(record)))
        silent = dict.fromkeys(waiting, 0)
        seen, pause = False, FIRST_PAUSE
        while True:
            try:
                answers = await gatherResults([self._values(server, record) for server in waiting], consumeErrors=True)
            except FirstError as error:  # of being cancelled, which whoever cancelled has to recognise
                reason = error.subFailure.value
                assert reason is not None
                raise reason from None
            for server, found in zip(tuple(waiting), answers, strict=True):
                if found is None:
                    silent[server] += 1
                elif wanted <= found:
                    waiting.remove(server)
                    seen = True
                else:
                    silent[server] = 0
            if seen and all(silent[server] >= PATIENCE for server in waiting):
                break
            left = until - self._clock.seconds()
            if left <= 0:
                raise ChallengeFailed(_not_seen(record, limit, waiting, silent))
            await deferLater(self._clock, min(pause, left))
            pause = min(pause * GROWTH, LONGEST_PAUSE)
        for server in waiting:
            log.warn("the name server {server} does not answer for {record}", server=server.name, record=record)

    def _values(self, server: Authority, record: str) -> Deferred[frozenset[str] | None]:
        async def values() -> frozenset[str] | None:
            for address, port in server.addresses:
                found = await self._ask(
                    lambda address=address, port=port: self._lookup.values(  # type: ignore[misc]
                        address, port, record, recursive=server.recursive
                    )
                )
                if found is not None:
                    return found
            return None

        return Deferred.fromCoroutine(values())

    def _ask(self, question: Callable[[], T]) -> Deferred[T]:
        return self._questions.run(call_in_thread, self._reactor, question)


def _not_seen(record: str, limit: float, waiting: Sequence[Authority], silent: dict[Authority, int]) -> str:
    without = ", ".join(server.name for server in waiting if not silent[server])
    mute = ", ".join(server.name for server in waiting if silent[server])
    what = [f"{without} did not have it"] if without else []
    what += [f"{mute} did not answer"] if mute else []
    return f"{record} was not seen within {limit:g} s (tls.dns.propagation_timeout): {'; '.join(what)}"
