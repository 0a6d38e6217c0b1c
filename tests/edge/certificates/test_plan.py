"""What is ordered when, and together with what."""

from __future__ import annotations

from random import Random

import pytest

from tests.net.peers import self_signed
from wormhole_tw.edge.certificates.plan import (
    DAY,
    NAMES_PER_CERTIFICATE,
    Pace,
    Plan,
    best_certificates,
    make_plan,
    renewal_time,
)
from wormhole_tw.edge.certificates.store import CaRecord, NameRecord, Renewal, StatusRecord, Stored

A, B, C = "a.example.com", "b.example.com", "c.example.com"


def stored(identity: str, *names: str, days: float = 90, since: float = -1) -> Stored:
    return Stored(identity, self_signed(*names, days=days, since=since))


def plan(
    groups: list[list[str]], *have: Stored, status: StatusRecord | None = None, busy: tuple[str, ...] = (), now: float
) -> Plan:
    best = best_certificates(have, [name for group in groups for name in group])
    return make_plan(groups, best, status or StatusRecord(), frozenset(busy), now, Pace())


def names(plan: Plan) -> list[tuple[str, ...]]:
    return [batch.names for batch in plan.batches]


def test_groups_are_ordered_together_and_apart() -> None:
    found = plan([[A, B], [C], []], now=1000.0)
    assert names(found) == [(A, B), (C,)]
    assert [batch.replaces for batch in found.batches] == [None, None]
    assert names(plan([[A, B], [C]], busy=(A,), now=1000.0)) == [(B,), (C,)]


def test_many_names_are_several_certificates() -> None:
    group = [f"n{number}.example.com" for number in range(2 * NAMES_PER_CERTIFICATE + 1)]
    found = names(plan([group], now=1000.0))
    assert [len(batch) for batch in found] == [NAMES_PER_CERTIFICATE, NAMES_PER_CERTIFICATE, 1]
    assert [name for batch in found for name in batch] == group


def test_what_stands_is_not_ordered_again_until_it_is_due() -> None:
    one = stored("1", A, B)
    due = one.begins + (one.ends - one.begins) * 2 / 3
    early = plan([[A, B, C]], one, now=due - 60)
    assert names(early) == [(C,)]
    assert early.again_at == pytest.approx(due, abs=1)
    late = plan([[A, B]], one, now=due + 1)
    assert names(late) == [(A, B)]
    assert late.batches[0].replaces is one
    # Of several, the newest counts, and what replaces two says neither.
    other = stored("2", A, since=0)
    assert best_certificates([other, one], [A, B]) == {A: other, B: one}
    both = plan([[A, B]], other, one, now=one.ends)
    assert both.batches[0].replaces is None


def test_a_wildcards_certificate_is_not_that_of_the_names_under_it() -> None:
    wild = stored("1", "*.example.com")
    assert best_certificates([wild], ["*.example.com", A]) == {"*.example.com": wild}
    assert names(plan([["*.example.com", A]], wild, now=wild.begins)) == [(A,)]


def test_what_failed_is_tried_alone_and_later() -> None:
    status = StatusRecord(names={B: NameRecord(failures=2, error="no", error_at=1000.0, next_try=1300.0)})
    waiting = plan([[A, B, C]], status=status, now=1200.0)
    assert names(waiting) == [(A, C)]
    assert waiting.again_at == 1300.0
    assert names(plan([[A, B, C]], status=status, now=1300.0)) == [(B,), (A, C)]


def test_nothing_is_ordered_while_the_ca_is_down() -> None:
    status = StatusRecord(ca=CaRecord(1, "down", 1000.0, 1015.0))
    assert plan([[A]], status=status, now=1001.0) == Plan((), 1015.0)
    assert names(plan([[A]], status=status, now=1015.0)) == [(A,)]


def test_the_ca_says_when_to_renew() -> None:
    one = stored("1", A)
    life = one.ends - one.begins
    assert renewal_time(one, None) == one.begins + life * 2 / 3
    assert renewal_time(one, Renewal(0.0, 5.0)) == one.begins + life * 2 / 3
    assert renewal_time(one, Renewal(one.begins + 60, 5.0)) == one.begins + 60
    # A CA that says never is not believed for ever.
    assert renewal_time(one, Renewal(one.ends + 60, 5.0)) == one.begins + life * 0.9
    status = StatusRecord(renewals={"1": Renewal(one.begins + 60, 0.0)})
    assert names(plan([[A]], one, status=status, now=one.begins + 61)) == [(A,)]


def test_a_clock_that_is_ahead_orders_nothing_twice() -> None:
    """Each new certificate is over as soon as it is there; the next is ordered a day later, or after a third of the
    life of one that lives for hours."""
    one = stored("1", A)
    now = one.ends + 1000 * DAY
    status = StatusRecord(names={A: NameRecord(issued_at=now)})
    soon = plan([[A]], one, status=status, now=now + 60)
    assert names(soon) == []
    assert names(plan([[A]], one, status=status, now=now + DAY)) == [(A,)]
    short = stored("2", A, days=1 / 4)
    assert names(plan([[A]], short, status=status, now=now + DAY / 12 - 1)) == []
    assert names(plan([[A]], short, status=status, now=now + DAY / 12)) == [(A,)]
    # Set right again, it waits for no day that is years away.
    assert names(plan([[A]], one, status=status, now=one.ends)) == [(A,)]


def test_patience_grows_and_differs() -> None:
    pace, random = Pace(), Random(1)
    for failures, least in ((1, 300), (2, 600), (5, 4800), (10, DAY), (10_000, DAY)):
        waits = [pace.after_failure(failures, random) for _ in range(200)]
        assert min(least, DAY) * 0.75 <= min(waits) < max(waits) <= min(least, DAY) * 1.25
    assert pace.after_failure(1, random, 7200.0) == 7200.0
    assert 11 < pace.after_ca_failure(1, random) < 19
    assert 2700 <= pace.after_ca_failure(50, random) <= 4500
    assert pace.after_ca_failure(1, random, 60.0) == 60.0


def test_nobody_is_left_alone_for_a_hundred_years() -> None:
    """What is not made for an ACME client, a proxy's page, may ask for anything."""
    pace, random = Pace(), Random(1)
    assert pace.after_failure(1, random, 6 * DAY) == 6 * DAY
    assert pace.after_failure(1, random, 36_500 * DAY) == 7 * DAY
    assert pace.after_ca_failure(1, random, 36_500 * DAY) == DAY
