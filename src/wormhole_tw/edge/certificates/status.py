"""How each name of a configuration stands, for ``/readyz?verbose``, metrics and ``wormhole-tw edge certificates``."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wormhole_tw.control.acme import is_acme_name
from wormhole_tw.edge.certificates.plan import renewal_time, served_certificates
from wormhole_tw.edge.certificates.store import NameRecord, StatusRecord, Stored

if TYPE_CHECKING:
    from wormhole_tw.control.config import EdgeConfig

__all__ = ["NameStatus", "State", "acme_statuses", "configured_names", "says", "shown_time"]

State = Literal["valid", "expired", "missing", "local"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class NameStatus:
    """How one name stands.

    :ivar state: "valid"; "expired" (its certificate is served all the same); "missing" (visitors are refused); "local":
        no public name, it has a certificate of the local CA
    :ivar ends: the end of its certificate's validity, seconds since 1970, or None
    :ivar renew_at: when that is due to be renewed, or None
    :ivar ordered: an order is under way
    :ivar failures: in a row
    :ivar error: what went wrong last; empty after a success
    :ivar error_at: when, seconds since 1970
    :ivar next_try: not before, seconds since 1970
    """

    name: str
    state: State
    ends: float | None = None
    renew_at: float | None = None
    ordered: bool = False
    failures: int = 0
    error: str = ""
    error_at: float = 0.0
    next_try: float = 0.0

    def days_left(self, now: float) -> float | None:
        """Days until its certificate ends, negative afterwards; None without one."""
        return None if self.ends is None else (self.ends - now) / _DAY


def configured_names(config: EdgeConfig) -> list[tuple[str, ...]]:
    """The names that share certificates: the edge's own, then those of each site whose TLS ends here."""
    return [config.names, *(site.hostnames for site in config.terminated)]


def acme_statuses(
    config: EdgeConfig,
    stored: Iterable[Stored],
    others: Iterable[Stored],
    record: StatusRecord,
    ordered: Iterable[str],
    now: float,
) -> list[NameStatus]:
    """Every name of the configuration, in its order.

    :param stored: the newest first
    :param others: of other CAs, the newest first
    :param ordered: names of orders under way
    :param now: seconds since 1970
    """
    acme = config.tls.acme
    assert acme is not None
    names = [name for group in configured_names(config) for name in group]
    stored = list(stored)
    own, best, busy = set(stored), served_certificates(stored, others, names, now), set(ordered)
    found = []
    for name in names:
        if not is_acme_name(acme, name):
            found.append(NameStatus(name, "local"))
            continue
        one, known = best.get(name), record.names.get(name, NameRecord())
        error, error_at, next_try = known.error, known.error_at, known.next_try
        # another CA's is replaced as soon as this one gives its own
        renew_at = None if one is None else renewal_time(one, record.renewals.get(one.id)) if one in own else now
        waits = renew_at is None or name in busy or renew_at <= now
        if record.ca.error and record.ca.error_at >= error_at and waits:
            # whoever waits for a certificate waits for the CA
            error, error_at, next_try = record.ca.error, record.ca.error_at, record.ca.next_try
        found.append(
            NameStatus(
                name,
                "missing" if one is None else "valid" if one.ends > now else "expired",
                ends=None if one is None else one.ends,
                renew_at=renew_at,
                ordered=name in busy,
                failures=known.failures,
                error=error,
                error_at=error_at,
                next_try=next_try,
            )
        )
    return found


def says(status: NameStatus, now: float) -> str:
    """One sentence about a name."""
    if status.state == "local":
        return "not a public name: a certificate of the local CA"
    words = []
    if status.ends is None:
        words.append("no certificate yet: visitors are refused")
    elif status.state == "expired":
        words.append(f"expired {shown_time(status.ends)}")
    else:
        words.append(f"valid until {shown_time(status.ends)} ({_span(status.ends - now)})")
    if status.ordered:
        words.append("ordered")
    elif status.renew_at is not None and status.renew_at > now:
        words.append(f"renewed from {shown_time(status.renew_at)}")
    if status.error:
        again = f"; again at {shown_time(status.next_try)}" if status.next_try > now else ""
        words.append(f"last error {shown_time(status.error_at)}: {status.error}{again}")
    return ", ".join(words)


def shown_time(seconds: float) -> str:
    """``2026-11-23 05:40 UTC``."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _span(seconds: float) -> str:
    for unit, word in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{math.floor(seconds / unit)} {word}"
    return f"{math.floor(seconds)} seconds"
