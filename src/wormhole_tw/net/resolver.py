"""The addresses of a host name, looked up anew when what was found has run out.

Asked are the hosts file, then name servers (those of ``/etc/resolv.conf``, or others), then the system's own resolver
in a thread, which knows search domains and whatever else the machine is set up with.  While a name server says nothing,
the last addresses that it gave go on serving for a while.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from twisted.names.hosts import searchFileForAll
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath

from wormhole_tw.net.addresses import is_ip_address
from wormhole_tw.net.dns_question import AAAA, NEGATIVE_TTL, A, Answer, LookupFailed, NoSuchName, Server, ask
from wormhole_tw.net.threads import call_in_thread

__all__ = ["Found", "Resolver"]

log = Logger()

MIN_TTL = 1.0
"""Seconds for which an answer serves at least: names with 0 would be asked for with each connection."""

MAX_TTL = 3600.0
"""Seconds after which a name is looked up anew whatever its record says."""

SYSTEM_TTL = 30.0
"""Seconds for which serves what says nothing of how long it holds: the hosts file, the system's resolver."""

STALE = 3600.0
"""Seconds for which the last addresses go on serving where nobody answers (RFC 8767): an outage of name servers is over
by then, or somebody looks after it."""

STALE_AFTER = 1.0
"""Seconds after which the last addresses serve where no answer has come: whoever waits for a connection has five for
all of it. The answer still counts when it comes."""

STALE_TTL = 5.0
"""Seconds for which they serve then, before it is asked anew."""

FAILURE_TTL = {NoSuchName: NEGATIVE_TTL, LookupFailed: 1.0}
"""Seconds for which a failure is not looked up again: every visitor of a broken site would ask."""

RESOLUTION_DELAY = 0.05
"""Seconds that one family's addresses wait for the other's (RFC 8305 section 3)."""

MAX_NAMES = 4096
"""Names whose addresses are kept."""

MAX_ADDRESSES = 16
"""Addresses of a name that are used, of each family: more are a mistake, or an attack on those that they name."""

PORT = 53
HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"


class Found(NamedTuple):
    """The addresses of a name.

    :ivar addresses: as text, of both families; never none
    :ivar until: until when they hold, on the reactor's clock
    """

    addresses: tuple[str, ...]
    until: float


class Resolver:
    """Looks names up; one an edge.

    :param reactor: time, UDP, TCP and threads
    :param servers: who is asked, and nobody else then; empty for what the machine is set up with
    """

    def __init__(
        self, reactor: Any, servers: Sequence[Server] = (), *, hosts: str = HOSTS, resolv_conf: str = RESOLV_CONF
    ) -> None:
        self._reactor = reactor
        self._servers = tuple(servers)
        self._hosts = hosts
        self._resolv_conf = resolv_conf
        self._known: dict[str, Found] = {}
        self._usable: dict[str, float] = {}  # until when each of those serves where nobody answers
        self._failed: dict[str, tuple[LookupFailed, float]] = {}  # until when
        self._hurry: dict[str, Any] = {}
        self._waiting: dict[str, list[Deferred[Found]]] = {}
        self._running: dict[str, Deferred[Any]] = {}

    def ask_others(self, servers: Sequence[Server]) -> None:
        """From now on; what was found is forgotten where they are others."""
        if tuple(servers) != self._servers:
            self._servers = tuple(servers)
            for kept in (self._known, self._usable, self._failed):
                kept.clear()

    def lookup(self, host: str) -> Deferred[Found]:
        """The addresses of a host now; an address is its own.

        Fails with :class:`~wormhole_tw.net.dns_question.LookupFailed`.  Each caller has a Deferred of its own, and may
        cancel it.
        """
        now = self._reactor.seconds()
        if is_ip_address(host):
            return succeed(Found((host,), float("inf")))
        known = self._known.get(host)
        if known is not None and now < known.until:
            return succeed(known)
        failed = self._failed.get(host)
        if failed is not None and now < failed[1]:
            return fail(failed[0])
        waiter: Deferred[Found] = Deferred()
        self._waiting.setdefault(host, []).append(waiter)
        if host not in self._running:
            running = self._running[host] = Deferred.fromCoroutine(self._look(host))
            running.addBoth(self._done, host)
            if known is not None and not running.called:
                self._hurry[host] = self._reactor.callLater(STALE_AFTER, self._too_slow, host)
        return waiter

    def close(self) -> None:
        """Look for nothing any more; whoever waits is told."""
        for running in list(self._running.values()):
            running.cancel()

    def _too_slow(self, host: str) -> None:
        stale = self._stale(host, self._reactor.seconds())
        if stale is not None:
            self._tell(host, stale)

    def _stale(self, host: str, now: float) -> Found | None:
        """The last addresses, where they may serve on."""
        if now >= self._usable.get(host, 0.0):
            return None
        stale = self._known[host] = Found(self._known[host].addresses, now + STALE_TTL)
        return stale

    def _tell(self, host: str, outcome: Found | Failure) -> None:
        for waiter in self._waiting.pop(host, ()):
            if not waiter.called:
                waiter.callback(outcome)

    def _done(self, result: Answer | Failure, host: str) -> None:
        self._running.pop(host, None)
        hurry = self._hurry.pop(host, None)
        if hurry is not None and hurry.active():
            hurry.cancel()
        now = self._reactor.seconds()
        outcome: Found | Failure
        if isinstance(result, Failure):
            outcome = self._instead(result, host, now)
        else:
            addresses = tuple(dict.fromkeys(result.addresses))
            outcome = Found(addresses, now + min(max(result.ttl, MIN_TTL), MAX_TTL))
            if len(self._known) >= MAX_NAMES:
                self._known.clear()
                self._usable.clear()
            self._known[host] = outcome
            self._usable[host] = outcome.until + STALE
        self._tell(host, outcome)

    def _instead(self, failure: Failure, host: str, now: float) -> Found | Failure:
        """What whoever waits gets where nobody answered."""
        error = failure.value
        if isinstance(error, CancelledError):
            return failure
        if not isinstance(error, LookupFailed):
            log.failure("a name could not be looked up", failure)
            error = LookupFailed(f"{host} could not be looked up")
        if not isinstance(error, NoSuchName):
            stale = self._stale(host, now)
            if stale is not None:
                log.warn("{error}; its last addresses go on serving", error=str(error))
                return stale
        if len(self._failed) >= MAX_NAMES:
            self._failed.clear()
        self._failed[host] = (error, now + FAILURE_TTL[type(error)])
        return Failure(error)

    async def _look(self, host: str) -> Answer:
        if self._servers:
            return await self._ask(host, self._servers)
        own = searchFileForAll(FilePath(self._hosts), host.encode("ascii"))
        if own:
            return Answer(tuple(own), SYSTEM_TTL)
        servers = self._system_servers()
        if servers and "." in host:
            try:
                return await self._ask(host, servers)
            except NoSuchName:
                pass  # a search domain may have it, or what else the system asks
        return await self._ask_system(host)

    async def _ask(self, host: str, servers: Sequence[Server]) -> Answer:
        """Both families at once; who answers first waits a little for the other."""
        questions = [Deferred.fromCoroutine(ask(self._reactor, servers, host, kind)) for kind in (AAAA, A)]
        answers: list[Answer] = []
        errors: list[BaseException] = []
        enough: Deferred[None] = Deferred()
        timers: list[Any] = []

        def came(answer: Answer) -> None:
            answers.append(answer)
            if answer.addresses and not timers and len(answers) + len(errors) < len(questions):
                timers.append(self._reactor.callLater(RESOLUTION_DELAY, tell))

        def went(failure: Failure) -> None:
            errors.append(failure.value or LookupFailed(host))

        def tell() -> None:
            if not enough.called:
                enough.callback(None)

        every = DeferredList([question.addCallbacks(came, went) for question in questions])
        every.addCallback(lambda _: tell())
        try:
            await enough
        finally:
            for timer in timers:
                if timer.active():
                    timer.cancel()
            for question in questions:
                question.cancel()
        found = [answer for answer in answers if answer.addresses]
        if found:
            addresses = [address for answer in found for address in answer.addresses[:MAX_ADDRESSES]]
            return Answer(tuple(addresses), min(answer.ttl for answer in found))
        # of two errors the one that is not "no such name" says that it may be otherwise
        for error in sorted(errors, key=lambda error: isinstance(error, NoSuchName)):
            raise error
        raise NoSuchName(f"{host} has no address")

    async def _ask_system(self, host: str) -> Answer:
        try:
            entries = await call_in_thread(
                self._reactor, socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except socket.gaierror as error:
            kind = NoSuchName if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5)) else LookupFailed
            raise kind(f"{host} has no address: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            raise LookupFailed(f"{host} cannot be looked up: {error}") from error
        return Answer(tuple(str(entry[4][0]) for entry in entries), SYSTEM_TTL)

    def _system_servers(self) -> tuple[Server, ...]:
        # read each time: it is a file of three lines, and a laptop that moves has another one
        servers: list[Server] = []
        try:
            with open(self._resolv_conf, encoding="latin-1") as file:
                for line in file:
                    words = line.split()
                    if len(words) > 1 and words[0] == "nameserver":
                        try:
                            servers.append((str(ip_address(words[1])), PORT))
                        except ValueError:
                            continue
        except OSError:
            return ()
        return tuple(servers)
