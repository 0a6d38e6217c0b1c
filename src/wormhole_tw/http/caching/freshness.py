"""For how long an answer is fresh, and how old it is (RFC 9111 §4.2, RFC 9213 §2.2, RFC 5861).

**Which directives count.**  The first targeted field of the policy that is there and valid, for then ``Cache-Control``
and ``Expires`` say nothing to us; else ``Cache-Control``.  What the policy ignores counts as not said.

**Lifetime** (§4.2.1), the first of: the policy's ``override_ttl``; ``s-maxage``; ``max-age``; ``Expires`` less
``Date``; the policy's ``ttl``; a tenth of the time since ``Last-Modified``, at most a day (§4.2.2).  Of several values
the first counts; a value that is no number, and an ``Expires`` that is no date, make the answer stale.

**Age** (§4.2.3): the time since ``Date``, or ``Age`` with the time that the fetch took, whichever is more, and the time
since then.  An ``Age`` of several numbers counts by its first one (§5.1); what is not digits and commas alone was
mangled on its way, perhaps by a cache that put its own beside another's, and makes the answer stale.  (§5.1 would have
it ignored.  That an answer is asked for again is never wrong; that an old one is served for a new one is.)

**Served stale** (§4.2.4): as ``stale-while-revalidate`` and ``stale-if-error`` say, or the policy where an answer does
not; never with ``no-cache``, ``must-revalidate`` or ``proxy-revalidate``.  ``s-maxage`` implies ``proxy-revalidate``
(§5.2.2.10), so that no policy and no visitor can have such an answer stale; but where the answer itself says
``stale-while-revalidate`` or ``stale-if-error`` beside ``s-maxage``, it means a shared cache, and that counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from wormhole_tw.http.caching.dates import read_date
from wormhole_tw.http.caching.dictionaries import InvalidDictionary, read_dictionary
from wormhole_tw.http.caching.directives import delta_seconds, read_directives
from wormhole_tw.http.caching.policy import HEURISTIC_STATUSES
from wormhole_tw.http.caching.records import IMMUTABLE, MUST_REVALIDATE, NO_CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wormhole_tw.http.caching.policy import CachePolicy

__all__ = ["Directives", "Freshness", "Lines", "Times", "age_of", "directives_of", "freshness", "times_of"]

Lines = dict[bytes, list[bytes]]
"""Lower-case name → the values of its lines, in order."""

Directives = dict[bytes, bytes | None]

_NAMING = (b"no-cache", b"private")
"""Directives whose value is a list of field names, a string in a targeted field."""

_AGE = re.compile(rb"([0-9]+)(?:,[0-9]+)*")

_HEURISTIC_SHARE = 10
"""Of the time since ``Last-Modified``: what RFC 9111 §4.2.2 calls typical."""

_HEURISTIC_MOST = 86400.0


def directives_of(lines: Lines, policy: CachePolicy) -> tuple[Directives, bool]:
    """The directives of an answer that count for us, and whether they stand in a targeted field."""
    targeted = False
    found: Directives = {}
    for name in policy.targets:
        values = lines.get(name)
        if values is None:
            continue
        try:
            members = read_dictionary(values)
        except InvalidDictionary:
            continue
        if members:
            targeted = True
            for key, value in members.items():
                if value is not False:
                    found[key] = _directive_value(key, value)
            break
    if not targeted:
        found = read_directives(lines.get(b"cache-control", ()))
    for name in policy.ignore:
        found.pop(name, None)
    return found, targeted


def _directive_value(name: bytes, value: int | bytes | str | None) -> bytes | None:
    """As :func:`read_directives` gives it; a value of the wrong type is no number, as there."""
    if value is True:
        return None
    if isinstance(value, int):
        return b"%d" % value
    text = value.encode("ascii") if isinstance(value, str) else value or b""
    return text if name in _NAMING else b" " + text


class Times(NamedTuple):
    """When an answer was made, in epoch seconds.

    :ivar date: of its ``Date``, or ``received``
    :ivar dated: its ``Date`` is there and valid
    :ivar zero: when its age was 0
    :ivar aged: its ``Age`` is not there or valid
    """

    date: float
    dated: bool
    zero: float
    aged: bool


def times_of(lines: Lines, requested: float, received: float) -> Times:
    """RFC 9111 §4.2.3, in whole seconds as far as ``Date`` is in it: it is up to a second older than it says."""
    written = lines.get(b"date")
    date = None if written is None else read_date(written[0], received)
    age = age_of(lines)
    apparent = 0.0 if date is None else max(0.0, int(received) - date)
    corrected = (age or 0) + max(0.0, received - requested)
    zero = received - max(apparent, corrected)
    return Times(received if date is None else date, date is not None, zero, age is not None)


def age_of(lines: Lines) -> int | None:
    """The seconds that ``Age`` says, 0 where there is none, None where it is not valid (RFC 9111 §5.1)."""
    said = lines.get(b"age")
    if said is None:
        return 0
    match = _AGE.fullmatch(b", ".join(said))
    return None if match is None else delta_seconds(match[1])


class Freshness(NamedTuple):
    """Until when (epoch seconds) an answer may be served, as :class:`.Stored` has it, and its flags."""

    fresh_until: float
    behind_until: float
    error_until: float
    flags: int


def freshness(
    said: Mapping[bytes, bytes | None],
    lines: Lines,
    policy: CachePolicy,
    status: int,
    times: Times,
    received: float,
    *,
    targeted: bool,
    guessing: bool,
) -> Freshness | None:
    """
    :param said: the directives that count (:func:`directives_of`)
    :param guessing: heuristics are allowed for this request
    :returns: None where nobody says for how long it is fresh, and it may not be guessed
    """
    ours = status in policy.statuses
    if policy.override_ttl is not None and ours:
        until: float | None = received + policy.override_ttl
    else:
        lifetime = _said_lifetime(said, lines, times, received, targeted=targeted)
        if lifetime is not None:
            until = times.zero + lifetime if times.aged else received
        elif policy.ttl is not None and ours:
            until = received + policy.ttl
        else:
            until = _guessed(said, lines, policy, times, received, ours=ours) if guessing else None
    unqualified = b"no-cache" in said and not said[b"no-cache"]
    if until is None:
        # what is never served unasked may be stored all the same, where any answer with that status may (§3)
        if not unqualified or not (status in HEURISTIC_STATUSES or b"public" in said):
            return None
        until = received
    if policy.max_ttl is not None:
        until = min(until, received + policy.max_ttl)
    until = max(until, received)
    flags = IMMUTABLE if b"immutable" in said else 0
    if unqualified:
        return Freshness(until, until, until, flags | NO_CACHE)
    if b"must-revalidate" in said or b"proxy-revalidate" in said:
        return Freshness(until, until, until, flags | MUST_REVALIDATE)
    shared = b"s-maxage" in said
    behind = _window(said, b"stale-while-revalidate", 0 if shared else policy.stale_while_revalidate)
    error = _window(said, b"stale-if-error", 0 if shared else policy.stale_if_error)
    return Freshness(until, until + behind, until + error, flags | (MUST_REVALIDATE if shared else 0))


def _said_lifetime(
    said: Mapping[bytes, bytes | None], lines: Lines, times: Times, received: float, *, targeted: bool
) -> float | None:
    """The lifetime that the answer says; 0 for one that it says wrongly."""
    for name in (b"s-maxage", b"max-age"):
        if name in said:
            return delta_seconds(said[name] or b"") or 0
    if not targeted and b"expires" in lines:
        expires = read_date(lines[b"expires"][0], received)
        return 0.0 if expires is None else max(0.0, expires - times.date)
    return None


def _guessed(
    said: Mapping[bytes, bytes | None], lines: Lines, policy: CachePolicy, times: Times, received: float, *, ours: bool
) -> float | None:
    """Until when it is fresh by heuristics (RFC 9111 §4.2.2).

    ``Pragma: no-cache`` in an answer means nothing (§5.4); but who writes it does not want to be guessed about.
    """
    if not policy.heuristic or not (ours or b"public" in said) or not times.aged:
        return None
    if b"cache-control" not in lines and any(b"no-cache" in value.lower() for value in lines.get(b"pragma", ())):
        return None
    modified = read_date(lines[b"last-modified"][0], received) if b"last-modified" in lines else None
    if modified is None:
        return None
    return times.zero + min(max(0.0, times.date - modified) / _HEURISTIC_SHARE, _HEURISTIC_MOST)


def _window(said: Mapping[bytes, bytes | None], name: bytes, default: int) -> int:
    if name in said:
        return delta_seconds(said[name] or b"") or 0
    return default
