"""The loads: what visitors do, and how their programs' output is read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence

from .model import Reading
from .processes import Failed, find
from .statistics import percentile
from .usage import Meter
from .world import HOST, Front, World

__all__ = [
    "BROWSER",
    "bulk_command",
    "download",
    "h2_requests",
    "handshakes",
    "parse_h2load",
    "parse_wrk",
    "probe",
    "requests",
    "upload",
]

SPARE = 20.0
"""Seconds that a load may take beyond those it was asked for."""

SLOWEST = 10.0
"""MB/s below which a transfer is given up."""

BROWSER: Mapping[str, str] = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://app.localhost/shop/articles?page=3",
    "Cookie": "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=1; _ga=GA1.2.1234567890.1234567890",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Priority": "u=0, i",
}
"""Twelve fields that a browser sends beside Host."""

_VARY = """
local n = 0
request = function()
  n = n + 1
  wrk.headers["Cookie"] = "session=8f14e45fceea167a5a36dedd4bea2543; seen=" .. n
  return wrk.format("GET", wrk.path .. "?n=" .. n)
end
"""
"""For wrk: no two requests are the same."""

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


def parse_wrk(output: str) -> tuple[int, dict[str, float]]:
    """What ``wrk --latency`` says: how many requests, and ``rate`` a second, ``p50`` and ``p99`` in milliseconds.

    :raises Failed: there were errors, so that the run counts nothing; or this is no output of wrk
    """
    if "Non-2xx" in output or "Socket errors" in output:
        raise Failed(f"a run of wrk had errors and counts nothing:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    if rate is None or count is None or not int(count[1]):
        raise Failed(f"wrk made no requests:\n{output}")
    values = {"rate": float(rate[1])}
    for share in ("50", "99"):
        found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m|h) *$", output, re.MULTILINE)
        if found is None:
            raise Failed(f"wrk told no {share} %:\n{output}")
        values[f"p{share}"] = float(found[1]) * _UNITS[found[2]]
    return int(count[1]), values


def requests(
    world: World,
    front: Front,
    path: str,
    connections: int,
    *,
    headers: Mapping[str, str] | None = None,
    vary: bool = False,
) -> Reading:
    """``wrk`` over keep-alive connections, closed loop: the next request follows the answer."""
    seconds = max(round(world.options.seconds), 1)
    command = [find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "5s"]
    # wrk resolves by getaddrinfo, which need not know *.localhost
    for name, value in {"Host": f"{HOST}:{front.port}", **(headers or {})}.items():
        command += ["-H", f"{name}: {value}"]
    if vary:
        command += ["-s", str(world.write("vary.lua", _VARY))]
    meter = Meter(front.pids)
    url = f"{front.scheme}://127.0.0.1:{front.port}/{path}"
    output = world.running.run("wrk", [*command, url], seconds + SPARE, meanwhile=meter.sample)
    count, values = parse_wrk(output)
    processes = meter.stop(count)
    return Reading({**values, "cpu": processes[front.compared].cpu * 1e6}, processes)


def parse_h2load(output: str) -> tuple[int, dict[str, float]]:
    """What ``h2load`` says: how many requests, ``rate`` a second, and ``mean`` in milliseconds.

    :raises Failed: there were errors, so that the run counts nothing; or this is no output of h2load
    """
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", output)
    count = re.search(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout", output)
    answered = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", output)
    # least, most, mean; since nghttp2 1.70 or a little before least, most, median, p95, p99, mean
    mean = re.search(r"^(?:time for request: +(?:\S+ +){2}|request +: +(?:\S+ +){5})([\d.]+)(us|ms|s) ", output, re.M)
    if rate is None or count is None or answered is None or mean is None or not int(count[1]):
        raise Failed(f"a run of h2load had errors, or no answers, and counts nothing:\n{output}")
    return int(count[1]), {"rate": float(rate[1]), "mean": float(mean[1]) * _UNITS[mean[2]]}


def h2_requests(world: World, front: Front, path: str, connections: int, streams: int) -> Reading:
    """``h2load`` over HTTP/2, closed loop: so many connections, so many requests under way on each."""
    seconds = max(round(world.options.seconds), 1)
    command = [find("h2load"), "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}"]
    command += [f"--connect-to=127.0.0.1:{front.port}", front.url(path)]
    meter = Meter(front.pids)
    output = world.running.run("h2load", command, seconds + SPARE, meanwhile=meter.sample)
    if "Application protocol: h2" not in output:
        raise Failed(f"{front.compared} did not agree on HTTP/2:\n{output}")
    count, values = parse_h2load(output)
    processes = meter.stop(count)
    return Reading({**values, "cpu": processes[front.compared].cpu * 1e6}, processes)


_CURL = ("-sSk", "--http1.1", "--fail", "--noproxy", "*", "-o", "/dev/null")
_WRITE_OUT = "%{size_download} %{size_upload} %{time_starttransfer} %{time_total}\\n"


def _curl(front: Front) -> list[str]:
    # curl takes *.localhost for loopback by itself, and [::1] first
    return [find("curl"), *_CURL, "--resolve", f"{HOST}:{front.port}:127.0.0.1"]


def download(world: World, front: Front, streams: int) -> Reading:
    """curl, one process for each stream: together ``options.megabytes`` of the origin's ``big``."""
    share = world.options.megabytes * 1_000_000 // streams
    command = [*_curl(front), "-r", f"0-{share - 1}", "-w", _WRITE_OUT, front.url("big")]
    return _transfer(world, front, [command] * streams, share * streams, "download")


def upload(world: World, front: Front, streams: int) -> Reading:
    """The other way; the origin is a sink."""
    share = world.options.megabytes * 1_000_000 // streams
    file = world.folder / "upload"
    if not file.exists():
        with open(file, "wb") as written:
            written.truncate(share)
    command = [*_curl(front), "-T", str(file), "-H", "Expect:", "-w", _WRITE_OUT, front.url("upload")]
    return _transfer(world, front, [command] * streams, share * streams, "upload")


def _transfer(world: World, front: Front, commands: Sequence[Sequence[str]], size: int, way: str) -> Reading:
    meter = Meter(front.pids)
    seconds = size / 1e6 / SLOWEST + SPARE
    outputs = world.running.run_all("curl", commands, seconds, meanwhile=meter.sample)
    processes = meter.stop(size / 1e9)
    lines = [[float(word) for word in output.split()] for output in outputs]
    moved = sum(line[0 if way == "download" else 1] for line in lines)
    if moved != size:
        raise Failed(f"curl moved {moved:.0f} octets of {size}")
    took = max(line[3] for line in lines)
    return Reading({"rate": size / 1e6 / took, "cpu": processes[front.compared].cpu}, processes)


def bulk_command(front: Front) -> list[str]:
    """A download that goes on until it is ended: the origin's ``big`` again and again on one connection."""
    return [*_curl(front), front.url("big?[1-1000000]")]


def probe(world: World, front: Front, warm: float) -> Reading:
    """A small request every 20 ms while a bulk transfer runs, which has begun ``warm`` seconds before."""
    seconds = world.options.seconds
    bulk = world.running.start("bulk", bulk_command(front))
    time.sleep(warm)
    meter, begin = Meter(front.pids), time.monotonic()
    try:
        wanted = {
            "scheme": front.scheme,
            "port": front.port,
            "host": HOST,
            "path": "/small",
            "every": 0.02,
            "seconds": seconds,
        }
        command = world.helper_command("prober", wanted)
        output = world.running.run("prober", command, seconds + SPARE * 2, meanwhile=meter.sample)
        elapsed = time.monotonic() - begin
        if not world.running.runs(bulk):
            raise Failed(f"the bulk transfer ended too soon:\n{world.running.log('bulk')}")
    finally:
        world.running.stop(bulk)
    took = json.loads(output)
    processes = meter.stop(elapsed)
    return Reading({"p50": percentile(took, 50), "p99": percentile(took, 99)}, processes)


def handshakes(world: World, front: Front, *, resume: bool) -> Reading:
    """New TLS connections, one after the other in four threads."""
    seconds = world.options.seconds
    wanted = {"port": front.port, "host": HOST, "seconds": seconds, "threads": 4, "resume": resume}
    meter = Meter(front.pids)
    command = world.helper_command("handshakes", wanted)
    output = world.running.run("handshakes", command, seconds + SPARE, meanwhile=meter.sample)
    found = json.loads(output)
    if not found["count"]:
        raise Failed("no connection was made")
    processes = meter.stop(found["count"])
    values = {
        "rate": found["count"] / found["seconds"],
        "cpu": processes[front.compared].cpu * 1e6,
        "resumed": found["resumed"] / found["count"],
    }
    return Reading(values, processes)
