"""One order's walk, from its record in the state folder to a certificate: RFC 8555 section 7.4, resumable at each step.

Where it stands, the CA knows; the record has what the CA does not: the names, the private key, and the order's URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from wormhole_tw.control.acme import challenge_kind
from wormhole_tw.edge.certificates.challenges import record_name
from wormhole_tw.errors import CaRefused, ChallengeFailed, ConfigError, WormholeError
from wormhole_tw.net.pem import certificate_names, parse_certificates

if TYPE_CHECKING:
    from cryptography import x509
    from twisted.internet.interfaces import IReactorTime

    from wormhole_tw.control.acme import AcmeConfig
    from wormhole_tw.edge.certificates.account import AcmeAccount, Disk
    from wormhole_tw.edge.certificates.acme_client import Authorization, Order
    from wormhole_tw.edge.certificates.challenges import IChallengeSolver
    from wormhole_tw.edge.certificates.plan import Pace
    from wormhole_tw.edge.certificates.store import CertificateStore, OrderRecord

__all__ = ["OrderFailed", "OrderWalk", "Solvers"]

LONGEST_WAIT = 300.0
"""Seconds: a CA that asks to be left alone for longer is looked at all the same."""

log = Logger()


class OrderFailed(Exception):
    """An order has come to nothing.

    :ivar errors: a sentence for each name that is to blame; the others may be ordered again at once
    :ivar retry_after: seconds that the CA asks to wait, or None
    """

    def __init__(self, errors: Mapping[str, str], retry_after: float | None = None) -> None:
        super().__init__(dict(errors))
        self.errors = errors
        self.retry_after = retry_after


class Solvers:
    """The solvers of challenges, which are never called twice at a time for one name.

    :param solvers: by kind
    """

    def __init__(self, solvers: Mapping[str, IChallengeSolver]) -> None:
        self._solvers = solvers
        self._turns: dict[tuple[str, str], tuple[DeferredLock, list[None]]] = {}

    async def present(self, kind: str, name: str, values: Sequence[str]) -> None:
        """:raises ChallengeFailed: it could not"""
        await self._call(kind, name, values, "present")

    async def clean_up(self, kind: str, name: str, values: Sequence[str]) -> None:
        """:raises ChallengeFailed: it could not"""
        await self._call(kind, name, values, "clean_up")

    async def _call(self, kind: str, name: str, values: Sequence[str], method: str) -> None:
        solver = self._solvers.get(kind)
        if solver is None:
            raise ChallengeFailed(f"nothing is configured that proves names by {kind}")
        turn, users = self._turns.setdefault((kind, name), (DeferredLock(), []))
        users.append(None)
        try:
            await turn.acquire()
            try:
                await getattr(solver, method)(name, values)
            finally:
                turn.release()
        finally:
            users.pop()
            if not users:
                self._turns.pop((kind, name), None)


class OrderWalk:
    """Brings one order to its end; nothing of it is lost where it is stopped.

    :param record: what the state folder has of it
    :param replaces: the certificate that it takes the place of
    """

    def __init__(
        self,
        clock: IReactorTime,
        config: AcmeConfig,
        account: AcmeAccount,
        store: CertificateStore,
        disk: Disk,
        solvers: Solvers,
        pace: Pace,
        record: OrderRecord,
        replaces: x509.Certificate | None,
    ) -> None:
        self._clock = clock
        self._config = config
        self._account = account
        self._store = store
        self._disk = disk
        self._solvers = solvers
        self._pace = pace
        self._replaces = replaces
        self.record = record

    async def run(self) -> str:
        """The certificate and its chain, PEM, good for the record's names and key.

        :raises OrderFailed: the order is dead
        :raises CaUnavailable: the CA cannot be had; the order waits for another run
        :raises ConfigError: the state folder, or a file that the configuration names
        """
        try:
            chain = await self._walk()
        except CancelledError:
            raise  # stopped, or given up: what is shown stands in the record
        except BaseException:
            await self.take_back()
            raise
        await self.take_back()
        return chain

    async def take_back(self) -> None:
        """Take away what this process or an earlier one has put somewhere to prove the names.  It never fails."""
        if not self.record.shown:
            return
        for kind, where, values in self.record.shown:
            try:
                await self._solvers.clean_up(kind, where, values)
            except WormholeError as error:
                log.warn("what proved {where} could not be taken away: {error}", where=where, error=error)
        self.record = replace(self.record, shown=())
        try:
            await self._disk(self._store.write_order, self.record)
        except ConfigError as error:
            log.error("an order cannot be kept: {error}", error=error)

    async def _walk(self) -> str:
        call = self._account.call
        try:
            order = await self._begun()
            if order.status == "pending":
                await self._prove(order)
                order = await self._wait(order, "pending")
            if order.status == "ready":
                order = await call("finalize", order, self.record.names, self.record.key)
            if order.status in ("processing", "ready"):
                order = await self._wait(order, "processing", "ready")
            if order.status != "valid" or not order.certificate:
                raise self._failed(order.error or f"the CA calls the order {order.status}")
            chain: str = await call("certificate", order)
        except CaRefused as error:
            names = [name for name in error.names if name in self.record.names] or self.record.names
            raise OrderFailed(dict.fromkeys(names, str(error)), error.retry_after) from None
        self._judge(chain)
        return chain

    async def _begun(self) -> Order:
        """The order at the CA: made, or found again."""
        record, call = self.record, self._account.call
        if record.uri:
            try:
                order: Order = await call("order", record.uri)
                if order.status != "invalid":
                    return order
                proofs = await self._authorizations(order)
            except CaRefused as error:
                log.info("an order for {names} is gone: {error}", names=", ".join(record.names), error=error)
            else:
                # Why, its proofs know; where none was refused, it was left lying too long.
                await self._raise_failures([one for one in proofs if one.status == "invalid"])
                if order.error:
                    raise self._failed(order.error)
                log.info("an order for {names} has run out", names=", ".join(record.names))
        order = await call("new_order", record.names, self._replaces)
        self.record = replace(record, uri=order.uri, account=self._account.uri)
        await self._disk(self._store.write_order, self.record)
        return order

    async def _authorizations(self, order: Order) -> list[Authorization]:
        return [await self._account.call("authorization", uri) for uri in order.authorizations]

    async def _raise_failures(self, authorizations: Sequence[Authorization]) -> None:
        failed = {
            one.name: one.error or f"the CA calls the proof {one.status}"
            for one in authorizations
            if one.status not in ("pending", "valid")
        }
        if failed:
            raise OrderFailed(failed)

    async def _prove(self, order: Order) -> None:
        authorizations = await self._authorizations(order)
        await self._raise_failures(authorizations)
        waiting = [one for one in authorizations if one.status == "pending"]
        challenges, proofs = [], dict[tuple[str, str], list[str]]()
        kind: str
        for one in waiting:
            kind = challenge_kind(self._config, one.name)
            challenge = one.challenges.get(kind)
            if challenge is None:
                offered = ", ".join(sorted(one.challenges)) or "nothing"
                raise OrderFailed({one.name: f"the CA does not take {kind} as a proof, but {offered}"})
            challenges.append(challenge)
            where = challenge.token if kind == "http-01" else record_name(one.name)
            proofs.setdefault((kind, where), []).append(challenge.value)
        if proofs:
            shown = tuple((kind, where, tuple(values)) for (kind, where), values in proofs.items())
            # Kept before it is there: whenever the process ends, the next one takes it away.
            self.record = replace(self.record, shown=tuple(dict.fromkeys((*self.record.shown, *shown))))
            await self._disk(self._store.write_order, self.record)
            await self._show(shown, waiting)
        for challenge in challenges:
            if challenge.status == "pending":
                await self._account.call("answer", challenge)
        await self._settled(order)
        await self.take_back()

    async def _show(self, shown: Sequence[tuple[str, str, Sequence[str]]], waiting: Sequence[Authorization]) -> None:
        """All at a time: each may take minutes until the world sees it."""

        async def show(kind: str, where: str, values: Sequence[str]) -> str:
            try:
                await self._solvers.present(kind, where, values)
            except WormholeError as error:
                return str(error)
            return ""

        try:
            said = await gatherResults([Deferred.fromCoroutine(show(*one)) for one in shown], consumeErrors=True)
        except FirstError as error:  # of being cancelled
            reason = error.subFailure.value
            assert reason is not None
            raise reason from None
        errors = {
            one.name: sentence
            for (kind, where, _), sentence in zip(shown, said, strict=True)
            for one in waiting
            if sentence and _place(one, kind) == where
        }
        if errors:
            raise OrderFailed(errors)

    async def _settled(self, order: Order) -> None:
        """Wait until the CA has judged every proof; what failed is told for all names at once."""
        until = self._clock.seconds() + self._pace.settle
        pause = self._pace.poll
        while True:
            authorizations = await self._authorizations(order)
            waiting = [one for one in authorizations if one.status == "pending"]
            if not waiting:
                await self._raise_failures(authorizations)
                return
            if self._clock.seconds() >= until:
                raise OrderFailed({one.name: "the CA has come to no verdict on its proof" for one in waiting})
            pause = await self._sleep(pause, max((one.retry_after or 0.0 for one in waiting), default=0.0))

    async def _wait(self, order: Order, *states: str) -> Order:
        until = self._clock.seconds() + self._pace.settle
        pause = self._pace.poll
        first = True
        while order.status in states:
            if not first and order.status == "ready":
                # It was not, when the certificate was asked for.
                order = await self._account.call("finalize", order, self.record.names, self.record.key)
                if order.status not in states:
                    return order
            if self._clock.seconds() >= until:
                # Of these names' order alone: the CA answers, and others do not have to wait.
                raise self._failed(f"the CA has left the order in the state {order.status}")
            if not first or states != ("pending",):
                pause = await self._sleep(pause, order.retry_after or 0.0)
            first = False
            order = await self._account.call("order", order.uri)
        return order

    async def _sleep(self, pause: float, wanted: float) -> float:
        await deferLater(self._clock, min(max(pause, wanted), LONGEST_WAIT), _nothing)
        return min(pause * 1.5, self._pace.poll_most)

    def _judge(self, chain: str) -> None:
        try:
            leaf = parse_certificates(chain.encode())[0]
            theirs = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, IndexError):
            raise self._failed("what the CA gave is no certificate in PEM") from None
        key: Any = load_pem_private_key(self.record.key.encode("ascii"), password=None)
        ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if theirs != ours:
            raise self._failed("what the CA gave is the certificate of another key")
        missing = set(self.record.names) - set(certificate_names(leaf))
        if missing:
            raise self._failed(f"what the CA gave is not for {', '.join(sorted(missing))}")

    def _failed(self, sentence: str) -> OrderFailed:
        return OrderFailed(dict.fromkeys(self.record.names, sentence))


def _place(authorization: Authorization, kind: str) -> str:
    challenge = authorization.challenges.get(kind)
    token = challenge.token if challenge is not None else ""
    return token if kind == "http-01" else record_name(authorization.name)


def _nothing() -> None:
    pass
