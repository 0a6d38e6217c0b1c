"""From the output of a load to medians, ratios, tables and charts."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from benchmarks.load import BROWSER, parse_h2load, parse_wrk
from benchmarks.processes import Failed
from benchmarks.statistics import median, percentile, ratios

from benchmarks import report, svg
from tests.benchmarks.samples import made, reading

WRK = """Running 1s test @ https://127.0.0.1:45001/small
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.94ms    3.10ms  34.84ms   81.24%
    Req/Sec     6.83k     1.26k    8.49k    70.00%
  Latency Distribution
     50%  905.00us
     75%    6.14ms
     90%    9.13ms
     99%    1.15s
  6784 requests in 1.00s, 2.37MB read
Requests/sec:   6771.38
Transfer/sec:      2.36MB
"""

H2LOAD = """Application protocol: h2
finished in 2.04s, 3391.34 req/s, 1.02MB/s
requests: 6783 total, 6911 started, 6783 done, 6783 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 6783 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 2.04MB (2136645) total, 1.05MB (1098846) headers (space savings 32.50%), 662.40KB (678300) data
                     min         max         mean         sd        +/- sd
time for request:      812us     84.91ms     36.97ms     11.20ms    71.04%
time for connect:     8.31ms     23.90ms     15.04ms      5.11ms    62.50%
"""

H2LOAD_NEWER = """Application protocol: h2

finished in 2.00s, 12255.00 req/s, 1.49MB/s
requests: 24510 total, 24542 started, 24510 done, 24510 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 24510 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 2.98MB (3119586) total, 219.79KB (225070) headers (space savings 95.22%), 2.34MB (2451000) data
                 min         max         median      p95         p99         mean        sd         +/- sd
request     :      789us     18.61ms      2.29ms      4.12ms      5.50ms      2.53ms       977us    86.47%
connect     :     3.12ms     11.07ms      6.88ms     10.47ms     11.07ms      6.89ms      2.32ms    59.38%
"""
"""As 1.70 prints it: with a median and two percentiles."""

SVG = "{http://www.w3.org/2000/svg}"


def test_wrk_is_read() -> None:
    assert parse_wrk(WRK) == (6784, {"rate": 6771.38, "p50": 0.905, "p99": 1150.0})


def test_wrk_fills_short_units_with_a_blank() -> None:
    assert parse_wrk(WRK.replace("1.15s", "1.15s "))[1]["p99"] == 1150.0


@pytest.mark.parametrize(
    "output",
    [
        WRK + "  Non-2xx or 3xx responses: 3\n",
        WRK + "  Socket errors: connect 0, read 12, write 0, timeout 0\n",
        WRK.replace("6784 requests", "0 requests"),
        WRK.replace("     50%", "     51%"),
        "unable to connect to 127.0.0.1:1 Connection refused\n",
        "",
    ],
)
def test_a_run_with_errors_counts_nothing(output: str) -> None:
    with pytest.raises(Failed):
        parse_wrk(output)


def test_h2load_is_read() -> None:
    assert parse_h2load(H2LOAD) == (6783, {"rate": 3391.34, "mean": 36.97})
    assert parse_h2load(H2LOAD.replace("36.97ms", " 905us"))[1]["mean"] == 0.905


def test_newer_h2load_is_read() -> None:
    assert parse_h2load(H2LOAD_NEWER) == (24510, {"rate": 12255.0, "mean": 2.53})


@pytest.mark.parametrize(
    "output",
    [
        H2LOAD.replace(" 0 failed", " 1 failed"),
        H2LOAD.replace("0 timeout", "7 timeout"),
        H2LOAD.replace(" 0 5xx", " 5 5xx"),
        H2LOAD.replace("6783 succeeded", "0 succeeded"),
        H2LOAD.replace("time for request", "time"),
        H2LOAD_NEWER.replace("request     :", "time        :"),
        H2LOAD_NEWER.replace("0 errored", "1 errored"),
        "",
    ],
)
def test_a_run_of_h2load_with_errors_counts_nothing(output: str) -> None:
    with pytest.raises(Failed):
        parse_h2load(output)


def test_twelve_fields() -> None:
    assert len(BROWSER) == 12


def test_percentiles_are_values_that_were_seen() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0, 20, 50, 99, 100)] == [1.0, 1.0, 3.0, 5.0, 5.0]
    assert percentile(range(1, 101), 99) == 99
    with pytest.raises(ValueError):
        percentile([], 50)


def test_ratios_are_of_the_same_round() -> None:
    # The machine was half as fast in the second round: the ratio does not know.
    assert ratios([10, 5, 12], [20, 10, 20]) == [0.5, 0.5, 0.6]
    assert median(ratios([10, 5, 12], [20, 10, 20])) == 0.5
    assert ratios([0.0], [0.0]) == []
    with pytest.raises(ValueError):
        ratios([1], [1, 2])


def test_a_summary_has_all_rounds() -> None:
    found = made({"ours": [reading(10), reading(5), reading(12)], "nginx": [reading(20), reading(10), reading(20)]})
    small = json.loads(json.dumps(found))["scenarios"]["small"]
    assert small["contenders"]["nginx"]["values"]["rate"] == {
        "median": 20,
        "least": 10,
        "most": 20,
        "rounds": [20, 10, 20],
    }
    assert small["contenders"]["ours"]["processes"]["edge"] == {
        "cpu": pytest.approx(20),
        "cpu_unit": "µs",
        "peak_megabytes": 50.0,
    }
    assert small["ratios"]["nginx"]["rate"] == {"median": 0.5, "rounds": [0.5, 0.5, 0.6]}


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")]
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert report.number(value) == text


def test_columns_stand_under_one_another() -> None:
    lines = report.table([["", "rate, a second"], ["ours", "1"], ["haproxy", "22"]]).splitlines()
    assert lines == [
        "         rate, a second",
        "───────  ──────────────",
        "ours                  1",
        "haproxy              22",
    ]


def test_the_report_says_what_was_not_measured() -> None:
    text = report.render(made({"ours": [reading(10)]}, absent={"frp": "frps and frpc not on PATH"}))
    assert "not measured: frp (frps and frpc not on PATH)" in text
    assert "100 B <small>" in text


def test_the_report_says_what_failed() -> None:
    text = report.render(made({}, error="edge was not ready in time:\nTraceback"))
    assert "FAILED: edge was not ready in time: Traceback" in text


def test_the_chart_is_well_formed() -> None:
    readings = {"ours": [reading(10), reading(12)], "https": [reading(11)] * 2, "a<b>&c": [reading(20), reading(40)]}
    root = ElementTree.fromstring(svg.chart(made(readings, absent={"frp": "not on PATH"})))
    classes = [element.get("class") for element in root.iter()]
    assert [classes.count(kind) for kind in ("card", "ours", "own", "peer")] == [1, 1, 1, 1]
    assert classes.count("whisker") == 2  # one contender was the same each time
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert "a<b>&c" in texts
    assert "not measured: frp" in texts
    width, height = (float(root.get(name, "")) for name in ("width", "height"))
    for element in root.iter(f"{SVG}rect"):
        assert (
            0 <= float(element.get("x", "")) <= float(element.get("x", "")) + float(element.get("width", "")) <= width
        )
        assert (
            0 <= float(element.get("y", "")) <= float(element.get("y", "")) + float(element.get("height", "")) <= height
        )


def test_a_chart_of_what_failed_is_well_formed() -> None:
    root = ElementTree.fromstring(svg.chart(made({}, error="<nothing> & nobody " * 30)))
    assert any("failed: <nothing>" in "".join(element.itertext()) for element in root.iter(f"{SVG}text"))
