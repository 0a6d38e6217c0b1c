"""HTTP-date, read and written (RFC 9110 §5.6.7, RFC 9111 §4.2)."""

from __future__ import annotations

import calendar
import re
import time
from functools import lru_cache

__all__ = ["read_date", "write_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}

_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_NAMED = rb"(?P<month>%s)" % b"|".join(_MONTH)
_SHORT = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG = rb"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rb"%s, (?P<day>[0-9]{2}) %s (?P<year>[0-9]{4}) %s GMT" % (_SHORT, _NAMED, _TIME),
        rb"%s, (?P<day>[0-9]{2})-%s-(?P<year>[0-9]{2}) %s GMT" % (_LONG, _NAMED, _TIME),
        rb"%s %s (?P<day>[0-9]{2}| [0-9]) %s (?P<year>[0-9]{4})" % (_SHORT, _NAMED, _TIME),
    )
)
"""IMF-fixdate, RFC 850 and asctime.  Nothing else is a date: what has another zone than GMT, or is written as people
write, is invalid, which for ``Expires`` means the past (RFC 9111 §5.3)."""

_TWO_DIGITS_AHEAD = 50
"""A year of two digits is at most so far ahead (RFC 9110 §5.6.7)."""

_LAST_SECOND = 60
"""Of a minute that has a leap second."""

_YEAR = 31556952
"""Seconds, on the average: near enough to know the century by."""

_LONGEST = 40
"""Octets: no form of a date is longer."""


def read_date(value: bytes, now: float) -> float | None:
    """Epoch seconds, or None for what is no date.  Letters in any case (RFC 9111 §4.2).

    :param now: epoch seconds, for the century of RFC 850's dates
    """
    if len(value) > _LONGEST:
        return None
    return _read(value, 1970 + int(now // _YEAR))


@lru_cache(maxsize=256)
def _read(value: bytes, this_year: int) -> float | None:
    for form in _FORMS:
        match = form.fullmatch(value)
        if match is None:
            continue
        year, month, day = int(match["year"]), _MONTH[match["month"].lower()], int(match["day"])
        hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
        if len(match["year"]) == 2:
            year += this_year - this_year % 100
            if year > this_year + _TWO_DIGITS_AHEAD:
                year -= 100
        if year < 1 or hour > 23 or minute > 59 or second > _LAST_SECOND:
            return None
        if not 1 <= day <= calendar.monthrange(year, month)[1]:
            return None
        return float(calendar.timegm((year, month, day, hour, minute, second)))
    return None


@lru_cache(maxsize=8)
def _write(second: int) -> bytes:
    t = time.gmtime(second)
    # strftime would speak the language of the process's locale
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    ).encode("ascii")


def write_date(when: float) -> bytes:
    """IMF-fixdate of epoch seconds."""
    return _write(int(when))
