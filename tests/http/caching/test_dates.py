"""HTTP-dates: three forms, in any case, and nothing else (RFC 9110 §5.6.7, RFC 9111 §4.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.caching.said import NOW
from wormhole_tw.http.caching.dates import read_date, write_date

MOMENT = datetime(2050, 8, 18, 2, 1, 18, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        b"Thu, 18 Aug 2050 02:01:18 GMT",
        b"THU, 18 aUG 2050 02:01:18 gmt",
        b"Thursday, 18-Aug-50 02:01:18 GMT",
        b"Thu Aug 18 02:01:18 2050",
    ],
)
def test_every_form(text: bytes) -> None:
    assert read_date(text, NOW) == MOMENT


def test_asctime_pads_its_day_with_a_space() -> None:
    assert read_date(b"Thu Aug  8 02:01:18 2050", NOW) == MOMENT - 10 * 86400


@pytest.mark.parametrize(
    ("text", "year"),
    [(b"26", 2026), (b"76", 2076), (b"77", 1977), (b"94", 1994), (b"00", 2000)],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(text: bytes, year: int) -> None:
    assert (
        read_date(b"Sunday, 06-Nov-%s 08:49:37 GMT" % text, NOW)
        == datetime(year, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"-1",
        b"now",
        b"Thu, 18 Aug 2050 02:01:18",
        b"Thu, 18 Aug 2050 02:01:18 UTC",
        b"Thu, 18 Aug 2050 02:01:18 +0000",
        b"Thu 18 Aug 2050 02:01:18 GMT",
        b"Thu, 18  Aug 2050 02:01:18 GMT",
        b"Thu, 18-Aug-2050 02:01:18 GMT",
        b"Thu, 18 Aug 50 02:01:18 GMT",
        b"Thu, 8 Aug 2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 2:01:18 GMT",
        b"Thu, 18 Aug 2050 24:01:18 GMT",
        b"Thu, 18 Aug 2050 02:60:18 GMT",
        b"Thu, 18 Aug 2050 02:01:61 GMT",
        b"Thu, 00 Aug 2050 02:01:18 GMT",
        b"Thu, 31 Jun 2050 02:01:18 GMT",
        b"Thu, 18 Aug 0000 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        b"Thu Aug 0 02:01:18 2050",
    ],
)
def test_what_is_no_date(text: bytes) -> None:
    assert read_date(text, NOW) is None


def test_a_leap_second_is_one() -> None:
    assert read_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@given(st.integers(min_value=0, max_value=253402300799))
def test_what_is_written_is_read(second: int) -> None:
    assert read_date(write_date(second + 0.999), NOW) == second
