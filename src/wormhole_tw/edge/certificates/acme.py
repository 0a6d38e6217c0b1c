"""``[tls] mode = "acme"``: certificates that are had by themselves, and renewed.

The edge serves what is in the state folder from its first moment.  Beside that it looks what is due, and keeps orders
under way, a few at a time; each is a record in the state folder until its certificate is there, so that it goes on
where it was after whatever end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from wormhole_tw.control.acme import acme_names, challenge_kind, is_acme_name
from wormhole_tw.edge.certificates.account import AcmeAccount, Disk
from wormhole_tw.edge.certificates.acme_files import check_needs
from wormhole_tw.edge.certificates.challenges import HttpSolver, IChallengeSolver, recalled
from wormhole_tw.edge.certificates.order import OrderFailed, OrderWalk, Solvers
from wormhole_tw.edge.certificates.plan import (
    Batch,
    Pace,
    best_certificates,
    make_plan,
    not_before,
    replaced,
    served_certificates,
)
from wormhole_tw.edge.certificates.status import NameStatus, acme_statuses, configured_names, shown_time
from wormhole_tw.edge.certificates.store import (
    CaRecord,
    CertificateStore,
    NameRecord,
    OrderRecord,
    Renewal,
    StatusRecord,
    Stored,
    new_key_pem,
)
from wormhole_tw.errors import CaUnavailable, ConfigError, WormholeError
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import CertificateMap

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.net.pem import KeyMaterial

__all__ = ["ORDERS_AT_A_TIME", "AcmeCertificates"]

ORDERS_AT_A_TIME = 5
"""Orders under way. Calls to the CA go one by one anyway; what overlaps is the waiting for its verdicts."""

SOON = 0.05
"""Seconds until the next look, after something has happened: what happens at once is looked at once."""

ASK_AGAIN = 3600.0
"""Seconds until the CA is asked for renewal times again, after it did not answer."""

ASK_LATEST = 86400.0
"""Seconds until then at the most, whatever the CA says (RFC 9773 section 4.3.1)."""

log = Logger()


class AcmeCertificates:
    """The certificates of one configuration's public names; the others' are of the local CA.

    :param reactor: timers and threads
    :param wall: seconds since 1970
    :param changed: called when there is something new to serve
    :param awaited: token → what the plain listeners answer for HTTP-01
    :raises ConfigError: the state folder or a file that the configuration names cannot be read; a library is missing
    """

    def __init__(
        self,
        reactor: Any,
        config: EdgeConfig,
        *,
        wall: Callable[[], float],
        changed: Callable[[], object],
        awaited: dict[bytes, bytes],
        pace: Pace | None = None,
        random: Random | None = None,
    ) -> None:
        acme = config.tls.acme
        assert acme is not None
        check_needs(acme, config.source)
        self._reactor = reactor
        self._acme = acme
        self._config = config
        self._wall = wall
        self._changed = changed
        self._pace = pace or Pace()
        self._random = random or Random()
        source = f"{config.source}: $.edge.state"
        self._store = CertificateStore(config.state, acme.directory, source=source)
        self._disk = Disk(reactor)
        self._account = AcmeAccount(reactor, acme, self._store, self._disk, wall=wall, source=config.source)
        self._solvers = Solvers(_solvers(reactor, config, awaited))
        self._awaited = awaited
        awaited.update(recalled(self._store.orders()))
        self._stored = self._store.certificates()
        self._others = self._store.others()
        self._status = self._store.status()
        self._orders: dict[str, tuple[OrderWalk, Deferred[None]]] = {}
        self._dropping: set[Deferred[None]] = set()
        self._known: list[OrderRecord] | None = None  # of an earlier process, to be gone on with
        self._asking: Deferred[None] | None = None
        self._look_call: IDelayedCall | None = None
        self._running = False
        self._locked_out = False
        self._dev: DevCa | None = None
        self._made: dict[tuple[str, ...], KeyMaterial] = {}

    # What is served.

    def load(self, config: EdgeConfig) -> CertificateMap:
        """The map for a configuration: for each public name its newest certificate, for the others the local CA's.

        :raises ConfigError: the local CA cannot be had
        """
        groups = configured_names(config)
        wanted = [name for group in groups for name in acme_names(self._acme, group)]
        best = served_certificates(self._stored, self._others, wanted, self._wall())
        used = {stored.id for stored in best.values()}
        materials = [stored.material for stored in (*self._stored, *self._others) if stored.id in used]
        materials += self._local(groups)
        first = config.names[0]
        default = next((material for material in materials if material.covers(first)), None)
        return CertificateMap(materials, default, missing=[name for name in wanted if name not in best])

    def _local(self, groups: Sequence[Sequence[str]]) -> list[KeyMaterial]:
        made = {}
        for group in groups:
            names = tuple(name for name in group if not is_acme_name(self._acme, name))
            if not names:
                continue
            if self._dev is None:
                self._dev = DevCa(self._config.state / "dev", source=f"{self._config.source}: $.edge.state")
            material = self._made.get(names)
            if material is None or DevCa.needs_renewal(material):
                material = self._dev.certificate_for(names)
            made[names] = material
        self._made = made
        return list(made.values())

    def concerns(self, config: EdgeConfig) -> list[str]:
        """What an operator should know of a configuration's names, a line each."""
        local = [name for site in config.terminated for name in site.hostnames if not is_acme_name(self._acme, name)]
        return [
            f"{config.source}: {name} is no public name: no CA is asked for it, its certificate is of the local CA"
            for name in local
        ]

    @property
    def stale(self) -> bool:
        """Whether a certificate of the local CA is due to be renewed."""
        return any(DevCa.needs_renewal(material) for material in self._made.values())

    def adopt(self, config: EdgeConfig) -> None:
        """This configuration holds now: its new names are ordered, and what is no longer wanted is left alone."""
        self._config = config
        for walk, running in list(self._orders.values()):
            if not self._still_wanted(walk.record):
                log.info("the order for {names} is given up: the names changed", names=_listed(walk.record.names))
                self._orders.pop(walk.record.id, None)
                running.cancel()
                self._drop(walk)
        if self._running:
            self._look_soon()

    def statuses(self) -> list[NameStatus]:
        """How each name stands now."""
        return acme_statuses(self._config, self._stored, self._others, self._status, self._busy, self._wall())

    # Life.

    def start(self) -> None:
        """Begin to order and to renew."""
        if not self._running:
            self._running = True
            self._look_soon()

    def stop(self) -> None:
        """Stop at once; orders go on with the next start. Safe to call twice."""
        self._running = False
        if self._look_call is not None:
            self._look_call.cancel()
            self._look_call = None
        orders, self._orders = self._orders, {}
        for _, running in orders.values():
            running.cancel()
        for dropping in tuple(self._dropping):
            dropping.cancel()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        self._known = None
        self._store.release()

    # Looking what is due.

    def _look_soon(self) -> None:
        self._look_in(SOON)

    def _look_in(self, seconds: float) -> None:
        if self._look_call is not None:
            self._look_call.cancel()
        self._look_call = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._look_call = None
        try:
            again = self._look_at_all()
        except ConfigError as error:
            log.error("certificates cannot be ordered: {error}", error=error)
            again = self._pace.look
        except Exception:  # noqa: BLE001 - a bug; without another look nothing would ever be renewed
            log.failure("looking what is due failed on a bug")
            again = self._pace.look
        if self._running:
            self._look_in(again)

    def _look_at_all(self) -> float:
        if not self._store.take():
            if not self._locked_out:
                log.warn("another process has {folder}: no certificate is ordered", folder=self._store.folder)
            self._locked_out = True
            if self._store.changed:  # it orders, and what it gets is served here too
                self._read()
            return self._pace.locked
        self._locked_out = False
        now = self._wall()
        if self._known is None:
            # What another process left; it may have brought certificates too.
            known = self._store.orders()
            self._read()
            self._known = known
            self._awaited.clear()  # of orders that are over by now
            self._awaited.update(recalled(known))
        groups = [acme_names(self._acme, group) for group in configured_names(self._config)]
        best = best_certificates(self._stored, [name for group in groups for name in group])
        if not_before(self._status.ca, now) <= now:
            self._go_on(best)
        plan = make_plan(_by_kind(self._acme, groups), best, self._status, self._busy, now, self._pace)
        for batch in plan.batches[: ORDERS_AT_A_TIME - len(self._orders)]:
            self._begin(batch, now)
        self._ask(best, now)
        return max(plan.again_at - now, SOON)

    def _read(self) -> None:
        """Serve what is in the folder now, and make no new context of a thousand certificates that are the same."""
        self._status = self._store.status()
        if self._store.changed:
            self._stored = self._store.certificates()
            self._changed()

    @property
    def _busy(self) -> frozenset[str]:
        records = [walk.record for walk, _ in self._orders.values()] + (self._known or [])
        return frozenset(name for record in records for name in record.names)

    def _still_wanted(self, record: OrderRecord) -> bool:
        wanted = {name for group in configured_names(self._config) for name in acme_names(self._acme, group)}
        return set(record.names) <= wanted

    def _go_on(self, best: dict[str, Stored]) -> None:
        """Take up orders of an earlier process, or that wait for the CA."""
        done = {stored.id for stored in self._stored}
        while self._known and len(self._orders) < ORDERS_AT_A_TIME:
            record = self._known.pop(0)
            if record.id in done or not self._still_wanted(record):
                self._drop(self._walk_of(record, None))
                continue
            log.info("going on with the order for {names}", names=_listed(record.names))
            self._walk(record, replaced(record.names, best), begin=False)

    def _begin(self, batch: Batch, now: float) -> None:
        record = OrderRecord(secrets.token_hex(8), batch.names, now, new_key_pem())
        self._walk(record, batch.replaces, begin=True)
        log.info("ordering a certificate for {names}", names=_listed(batch.names))

    def _walk(self, record: OrderRecord, replaces: Stored | None, *, begin: bool) -> None:
        # It may come to its end at once: it is entered before.
        walk = self._walk_of(record, replaces)
        running = Deferred.fromCoroutine(self._order(walk, begin=begin))
        if not running.called:
            self._orders[record.id] = walk, running
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        running.addErrback(lambda failure: log.failure("an order failed on a bug", failure))

    def _walk_of(self, record: OrderRecord, replaces: Stored | None) -> OrderWalk:
        old = replaces.material.certificate if replaces is not None else None
        return OrderWalk(
            self._reactor, self._acme, self._account, self._store, self._disk, self._solvers, self._pace, record, old
        )

    # One order.

    async def _order(self, walk: OrderWalk, *, begin: bool) -> None:
        record = walk.record
        try:
            if begin:
                await self._disk(self._store.write_order, record)
            try:
                chain = await walk.run()
                stored = await self._disk(self._store.write_certificate, walk.record, chain)
            except OrderFailed as failed:
                await self._failed(walk.record, failed)
            else:
                await self._issued(walk.record, stored)
        except (CaUnavailable, ConfigError) as error:
            await self._unavailable(walk.record, error)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a bug; other names go on, and this one is tried again
            log.failure("an order for {names} failed on a bug", names=_listed(record.names))
            errors = dict.fromkeys(record.names, "a bug in the edge, see its log")
            await self._failed(walk.record, OrderFailed(errors))
        if self._running:
            self._look_soon()

    async def _issued(self, record: OrderRecord, stored: Stored) -> None:
        now = self._wall()
        self._stored = sorted([stored, *self._stored], key=lambda one: (-one.begins, one.id))
        for name in record.names:
            self._status.names[name] = NameRecord(issued_at=now)
        self._status.ca = CaRecord()
        self._changed()
        until = shown_time(stored.ends)
        log.info("a certificate for {names}, valid until {until}", names=_listed(record.names), until=until)
        if not stored.begins <= now < stored.ends:
            log.warn("this machine's clock is wrong, or the CA's: the new certificate is not valid by ours")
        self._orders.pop(record.id, None)
        await self._disk(self._store.drop_order, record)
        await self._tidy(now)
        await self._save()

    async def _failed(self, record: OrderRecord, failed: OrderFailed) -> None:
        now = self._wall()
        errors = {name: error for name, error in failed.errors.items() if name in record.names}
        if not errors:
            # The CA calls the name something else; without anybody to blame it would be ordered again at once.
            errors = dict.fromkeys(record.names, next(iter(failed.errors.values()), "the order failed"))
        for name, error in errors.items():
            failures = self._status.names.get(name, NameRecord()).failures + 1
            wait = self._pace.after_failure(failures, self._random, failed.retry_after)
            known = self._status.names.get(name, NameRecord())
            self._status.names[name] = replace(known, failures=failures, error=error, error_at=now, next_try=now + wait)
            log.error(
                "no certificate for {name}: {error}; again at {again}",
                name=name,
                error=error,
                again=shown_time(now + wait),
            )
        self._status.ca = CaRecord()
        await self._save()
        self._orders.pop(record.id, None)
        await self._disk(self._store.drop_order, record)

    async def _unavailable(self, record: OrderRecord, error: WormholeError) -> None:
        """The order waits, as all do, until the CA is tried again."""
        now = self._wall()
        ca = self._status.ca
        if now >= not_before(ca, now):  # several orders meet the same trouble: it counts once
            failures = ca.failures + 1
            wait = self._pace.after_ca_failure(failures, self._random, getattr(error, "retry_after", None))
            self._status.ca = CaRecord(failures, str(error), now, now + wait)
            log.error("certificates have to wait: {error}; again at {again}", error=error, again=shown_time(now + wait))
        self._orders.pop(record.id, None)
        if self._known is not None:
            self._known.append(record)
        try:
            await self._save()
        except ConfigError as worse:
            log.error("the state of certificates cannot be kept: {error}", error=worse)

    def _drop(self, walk: OrderWalk) -> None:
        """Nobody waits for this order any more; where that is not done before the end, the next start does it."""

        async def drop() -> None:
            try:
                await walk.take_back()
                await self._disk(self._store.drop_order, walk.record)
            except ConfigError as error:
                log.error("an order cannot be taken away: {error}", error=error)

        dropping = Deferred.fromCoroutine(drop())
        self._dropping.add(dropping)
        dropping.addErrback(lambda failure: failure.trap(CancelledError) and None)
        dropping.addErrback(lambda failure: log.failure("an order was not dropped", failure))
        dropping.addBoth(lambda _: self._dropping.discard(dropping))

    async def _save(self) -> None:
        status = self._status
        snapshot = StatusRecord(status.ca, dict(status.names), dict(status.renewals))
        await self._disk(self._store.write_status, snapshot)

    async def _tidy(self, now: float) -> None:
        """Take away what no name needs any more: certificates whose names all have newer ones, and those long over."""
        names = [name for stored in self._stored for name in stored.material.names]
        used = {stored.id for stored in best_certificates(self._stored, names).values()}
        wanted = {name for group in configured_names(self._config) for name in group}
        kept: list[Stored] = []
        dropped: list[Stored] = []
        for stored in self._stored:
            needed = stored.id in used and (stored.ends > now or wanted & set(stored.material.names))
            (kept if needed else dropped).append(stored)
        # Before anything is waited for: another order may bring its certificate meanwhile.
        self._stored = kept
        ids = {stored.id for stored in kept}
        self._status.renewals = {key: value for key, value in self._status.renewals.items() if key in ids}
        self._status.names = {name: known for name, known in self._status.names.items() if name in wanted}
        for stored in dropped:
            await self._disk(self._store.drop_certificate, stored)

    # What the CA says of renewals.

    def _ask(self, best: dict[str, Stored], now: float) -> None:
        due = {
            stored.id: stored
            for stored in best.values()
            # Later than in a day it never is (see below), unless the clock was set back.
            if stored.ends > now
            and not now < self._status.renewals.get(stored.id, Renewal()).ask_at <= now + ASK_LATEST
        }
        if due and self._asking is None and not_before(self._status.ca, now) <= now:
            asking = Deferred.fromCoroutine(self._ask_for(list(due.values())))
            if not asking.called:
                self._asking = asking
            asking.addErrback(lambda failure: failure.trap(CancelledError) and None)
            asking.addErrback(lambda failure: log.failure("asking for renewal times failed on a bug", failure))

    async def _ask_for(self, certificates: Sequence[Stored]) -> None:
        try:
            await self._ask_each(certificates)
        finally:
            self._asking = None
        try:
            await self._save()
        except ConfigError as error:
            log.error("the state of certificates cannot be kept: {error}", error=error)
        if self._running:
            self._look_soon()

    async def _ask_each(self, certificates: Sequence[Stored]) -> None:
        silent = False
        for stored in certificates:
            known = self._status.renewals.get(stored.id, Renewal())
            at: float | None
            at, ask_at = known.at, self._wall() + ASK_AGAIN
            if not silent:
                try:
                    at, ask_at = await self._account.renewal(stored.material.certificate)
                except WormholeError as error:
                    log.debug("the CA does not say when to renew: {error}", error=error)
                    silent = True
            if at and at < known.at - 1.0:
                log.info("the CA wants a certificate renewed earlier: {at}", at=shown_time(at))
            self._status.renewals[stored.id] = Renewal(at or 0.0, min(ask_at, self._wall() + ASK_LATEST))


def _solvers(reactor: Any, config: EdgeConfig, awaited: dict[bytes, bytes]) -> dict[str, IChallengeSolver]:
    acme = config.tls.acme
    solvers: dict[str, IChallengeSolver] = {"http-01": HttpSolver(awaited)}
    if acme is not None and acme.dns is not None:
        # dnspython takes a moment to import, and is not there where nobody needs it
        try:
            from wormhole_tw.edge.certificates.dns01.solver import DnsSolver
        except ImportError as error:
            reason = f"needs the library {error.name}: pip install 'wormhole-tw[acme]'"
            raise ConfigError(config.source, "$.tls.dns", reason) from None

        solvers["dns-01"] = DnsSolver(reactor, reactor, acme.dns)
    return solvers


def _by_kind(acme: Any, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Names that are proved by DNS wait for it, and need not hold up the others."""
    found = []
    for group in groups:
        for kind in ("http-01", "dns-01"):
            if names := [name for name in group if challenge_kind(acme, name) == kind]:
                found.append(names)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
