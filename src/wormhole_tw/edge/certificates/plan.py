"""Which names to order certificates for, together with which, and when: rules alone, no clock and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from wormhole_tw.edge.certificates.store import CaRecord, NameRecord, Renewal, StatusRecord, Stored

__all__ = [
    "NAMES_PER_CERTIFICATE",
    "Batch",
    "Pace",
    "Plan",
    "best_certificates",
    "make_plan",
    "not_before",
    "renewal_time",
    "replaced",
    "served_certificates",
]

NAMES_PER_CERTIFICATE = 25
"""Let's Encrypt takes 100 names, and asks for no more than 25: a longer certificate costs every handshake, and one bad
name holds up all the others of its order."""

RENEW_AFTER = 2 / 3
"""The part of its life after which a certificate is renewed, where the CA says nothing better: what Let's Encrypt
asks for, and time for many tries."""

LATEST = 9 / 10
"""The part of its life after which it is renewed whatever the CA says."""

DAY = 86400.0

LONGEST_RETRY = 7 * DAY
"""Seconds for which a CA can have a name left alone (``Retry-After``): Let's Encrypt's limits look back a week. What is
not made for it, a proxy's page, may well say a hundred years."""

NOT_TWICE = 1 / 3
"""The part of its life (a day at most) for which a new certificate's names are not ordered again. Where this machine's
clock is far ahead, each new one is old as soon as it is there; five of the same in a week are the CA's limit."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the edge is with a CA; seconds.

    :ivar first: after a name's first failure; it doubles with each. Let's Encrypt allows five failed proofs of a name
        an hour
    :ivar most: at the most
    :ivar ca_first: the same while the CA cannot be had at all
    :ivar ca_most: at the most
    :ivar poll: between two looks at what the CA is doing, at first; it grows by half each time
    :ivar poll_most: at the most, where the CA does not ask for more
    :ivar settle: for how long an order may take once its proofs are there
    :ivar look: between two looks at what is due, at the most: a machine may have slept
    :ivar locked: until the state folder is tried again that another process has: an edge that is about to end
    """

    first: float = 300.0
    most: float = DAY
    ca_first: float = 15.0
    ca_most: float = 3600.0
    poll: float = 0.5
    poll_most: float = 10.0
    settle: float = 900.0
    look: float = 600.0
    locked: float = 2.0

    def after_failure(self, failures: int, random: Random, at_least: float | None = None) -> float:
        """Seconds until a name is tried again: a quarter more or less, so that many do not come at once."""
        return max(_backoff(self.first, self.most, failures, random), min(at_least or 0.0, LONGEST_RETRY))

    def after_ca_failure(self, failures: int, random: Random, at_least: float | None = None) -> float:
        """Seconds until the CA is tried again; what it asks for counts up to a day, for all names wait for it."""
        return max(_backoff(self.ca_first, self.ca_most, failures, random), min(at_least or 0.0, DAY))


def _backoff(first: float, most: float, failures: int, random: Random) -> float:
    return min(first * 2.0 ** min(failures - 1, 30), most) * random.uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True)
class Batch:
    """Names to be ordered together.

    :ivar replaces: the certificate that all of them have now, if it is one
    """

    names: tuple[str, ...]
    replaces: Stored | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again (seconds since 1970)."""

    batches: tuple[Batch, ...]
    again_at: float


def best_certificates(stored: Iterable[Stored], names: Iterable[str]) -> dict[str, Stored]:
    """For each name that has one, its newest certificate. A wildcard's is not that of the names under it.

    :param stored: the newest first
    """
    wanted = set(names)
    found: dict[str, Stored] = {}
    for one in stored:
        for name in one.material.names:
            if name in wanted:
                found.setdefault(name, one)
    return found


def served_certificates(
    stored: Iterable[Stored], others: Iterable[Stored], names: Iterable[str], now: float
) -> dict[str, Stored]:
    """For each name that has one, the certificate to serve: one of this CA, or else another CA's that is valid still.

    :param stored: the newest first
    :param others: of other CAs, the newest first
    """
    names = list(names)
    return best_certificates((one for one in others if one.begins <= now < one.ends), names) | best_certificates(
        stored, names
    )


def not_before(record: NameRecord | CaRecord, now: float) -> float:
    """When to try again, seconds since 1970: at once where the clock was set back since, which would make it years."""
    return record.next_try if record.error_at <= now else 0.0


def renewal_time(stored: Stored, renewal: Renewal | None) -> float:
    """When a certificate is due to be renewed, seconds since 1970."""
    life = stored.ends - stored.begins
    if renewal is not None and renewal.at:
        return min(renewal.at, stored.begins + life * LATEST)
    return stored.begins + life * RENEW_AFTER


def make_plan(
    groups: Sequence[Sequence[str]],
    best: Mapping[str, Stored],
    status: StatusRecord,
    busy: frozenset[str],
    now: float,
    pace: Pace,
) -> Plan:
    """What is due.

    Names of one group are ordered together, and never with those of another; a name that failed is ordered alone until
    it has its certificate, so that it fails for itself.

    :param groups: names that may share a certificate
    :param best: what they have
    :param busy: names of orders under way
    """
    again_at = now + pace.look
    ca: CaRecord = status.ca
    if not_before(ca, now) > now:
        return Plan((), min(again_at, ca.next_try))
    batches: list[Batch] = []
    for group in groups:
        together: list[str] = []
        for name in group:
            if name in busy:
                continue
            record = status.names.get(name, NameRecord())
            due = max(_due(best.get(name), status, record, now), not_before(record, now))
            if due > now:
                again_at = min(again_at, due)
            elif record.failures:
                batches.append(_batch([name], best))
            else:
                together.append(name)
        for begin in range(0, len(together), NAMES_PER_CERTIFICATE):
            batches.append(_batch(together[begin : begin + NAMES_PER_CERTIFICATE], best))
    return Plan(tuple(batches), again_at)


def _due(stored: Stored | None, status: StatusRecord, record: NameRecord, now: float) -> float:
    if stored is None:
        return 0.0
    due = renewal_time(stored, status.renewals.get(stored.id))
    if 0.0 < record.issued_at <= now:
        due = max(due, record.issued_at + min((stored.ends - stored.begins) * NOT_TWICE, DAY))
    return due


def _batch(names: Sequence[str], best: Mapping[str, Stored]) -> Batch:
    return Batch(tuple(names), replaced(names, best))


def replaced(names: Sequence[str], best: Mapping[str, Stored]) -> Stored | None:
    """The certificate that all of these names have now, if it is one."""
    now = {best.get(name) for name in names}
    return now.pop() if len(now) == 1 else None
