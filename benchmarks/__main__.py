"""Edge and agent beside nginx as a TLS reverse proxy to the same origin, in turn.

``python -m benchmarks [--rounds N] [--seconds S] [--megabytes M]``
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from wormhole_tw.control.tokens import digest_line, generate

from .processes import Set, cpu_seconds, find, free_port, peak_megabytes, programs, workers

HOST = "app.localhost"
"""A name that leads to loopback without DNS."""

_NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 600;
  client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fcgi; uwsgi_temp_path {folder}/{name}-uwsgi; scgi_temp_path {folder}/{name}-scgi;
  {inside}
}}
"""
_ORIGIN = "server {{ listen 127.0.0.1:{port}; root {folder}/www; }}"
_PROXY = """
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} ssl; server_name {host};
    ssl_certificate {folder}/proxy.pem; ssl_certificate_key {folder}/proxy.key; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
"""
_EDGE = """
[edge]
name = "bench"
https = ["tcp:{port}:interface=127.0.0.1"]
[[backends]]
name = "app"
tokens = ["{digest}"]
[[sites]]
name = "bench"
hostnames = ["{host}"]
[[sites.routes]]
path = "/"
backend = "app"
"""


class Peers(NamedTuple):
    """What is measured: the ports to ask, and the processes to read."""

    ours: int
    nginx: int
    pids: dict[str, int]


class Figure(NamedTuple):
    """One run: requests or megabytes a second, and CPU a request (µs) or a gigabyte (s) for each process."""

    rate: float
    cpu: dict[str, float]


def start(running: Set, megabytes: int) -> Peers:
    """Start origin, proxy, edge and agent."""
    folder = running.folder
    (folder / "www").mkdir()
    (folder / "www" / "small").write_bytes(b"x" * 100)
    (folder / "www" / "10k").write_bytes(b"x" * 10240)
    with open(folder / "www" / "big", "wb") as big:
        big.truncate(megabytes * 1_000_000)
    folder.chmod(0o755)  # nginx's workers are another user where it was started by root
    origin, proxy, edge = free_port(), free_port(), free_port()
    subprocess.run(
        [
            *(find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-keyout", "proxy.key", "-out", "proxy.pem", "-subj", f"/CN={HOST}"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    configs = {
        "origin": (origin, _ORIGIN.format(port=origin, folder=folder)),
        "nginx": (proxy, _PROXY.format(port=proxy, origin=origin, host=HOST, folder=folder)),
    }
    pids = {}
    for name, (port, inside) in configs.items():
        (folder / f"{name}.conf").write_text(_NGINX.format(folder=folder, name=name, inside=inside))
        pids[name] = workers(running.start(name, [find("nginx"), "-c", str(folder / f"{name}.conf")], port))[0]
    token = generate()
    (folder / "edge.toml").write_text(_EDGE.format(port=edge, digest=digest_line(token), host=HOST))
    pids["edge"] = running.twistd("edge", ["wormhole-edge", "--config", "edge.toml"], edge)
    environment = {
        "FLY_TOKEN": token,
        "FLY_LOCAL_ENDPOINT": f"127.0.0.1:{origin}",
        "FLY_REMOTE_ENDPOINT": f"localhost:{edge}",
        "FLY_TLS_CERT_FILE": "state/dev/ca.pem",
    }
    pids["agent"] = running.twistd("agent", ["wormhole-agent"], 0, environment)
    wait = ["--retry", "40", "--retry-delay", "1", "--retry-all-errors", "-fsSko", "/dev/null"]
    for port in (edge, proxy):
        subprocess.run([find("curl"), *wait, f"https://{HOST}:{port}/small"], check=True)
    return Peers(edge, proxy, pids)


def small(port: int, path: str, seconds: int, connections: int, pids: dict[str, int]) -> Figure:
    """``wrk`` over keep-alive HTTPS."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    # wrk resolves by getaddrinfo, which need not know *.localhost
    command = [find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {HOST}:{port}"]
    output = subprocess.run([*command, f"https://127.0.0.1:{port}/{path}"], capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"a run had errors and counts nothing:\n{output}")
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    assert rate is not None, output
    assert count is not None, output
    used = {name: (cpu_seconds(pid) - before[name]) / int(count[1]) * 1e6 for name, pid in pids.items()}
    return Figure(float(rate[1]), used)


def bulk(port: int, megabytes: int, pids: dict[str, int]) -> Figure:
    """One download by curl over HTTPS."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    command = [find("curl"), "-fsSk", "-o", "/dev/null", "-w", "%{speed_download} %{size_download}"]
    output = subprocess.run([*command, f"https://{HOST}:{port}/big"], capture_output=True, text=True, check=True).stdout
    speed, size = output.split()
    assert int(size) == megabytes * 1_000_000
    used = {name: (cpu_seconds(pid) - before[name]) / megabytes * 1000 for name, pid in pids.items()}
    return Figure(float(speed) / 1e6, used)


def main() -> None:
    """Measure, and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each program, in turn (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of a run of wrk (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the download (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="of wrk (default: %(default)s)")
    options = parser.parse_args()
    with programs() as running:
        peers = start(running, options.megabytes)
        pids, count = peers.pids, options.connections
        scenarios: dict[str, tuple[str, Callable[[int], Figure]]] = {
            f"100 B, {count} connections": (
                "requests/s",
                lambda port: small(port, "small", options.seconds, count, pids),
            ),
            f"10 KB, {count} connections": (
                "requests/s",
                lambda port: small(port, "10k", options.seconds, count, pids),
            ),
            f"{options.megabytes} MB download": ("MB/s", lambda port: bulk(port, options.megabytes, pids)),
        }
        report = {}
        for name, (unit, measure) in scenarios.items():
            figures: dict[str, list[Figure]] = {"ours": [], "nginx": []}
            for number in range(options.rounds):
                for peer in figures:
                    figures[peer].append(measure(getattr(peers, peer)))
                    print(f"  {name}: round {number + 1}, {peer} {figures[peer][-1].rate:,.0f} {unit}", flush=True)
            report[name] = _summary(figures, unit)
        peaks = {name: round(peak_megabytes(pids[name])) for name in ("edge", "agent")}
    print()
    for name, line in report.items():
        print(f"{name}: {line['text']}")
    print(f"peak memory: edge {peaks['edge']} MB, agent {peaks['agent']} MB")
    print(json.dumps({"scenarios": report, "peak_megabytes": peaks}))


def _summary(figures: dict[str, list[Figure]], unit: str) -> dict[str, object]:
    rate = {peer: median(figure.rate for figure in runs) for peer, runs in figures.items()}
    ratio = median(ours.rate / nginx.rate for ours, nginx in zip(figures["ours"], figures["nginx"], strict=True))
    cpu_unit = "us a request" if unit == "requests/s" else "s a GB"
    cpu = {
        "edge": median(figure.cpu["edge"] for figure in figures["ours"]),
        "agent": median(figure.cpu["agent"] for figure in figures["ours"]),
        "nginx": median(figure.cpu["nginx"] for figure in figures["nginx"]),
    }
    text = (
        f"{rate['ours']:,.0f} {unit}, nginx {rate['nginx']:,.0f}: {ratio:.2f} of nginx; "
        f"CPU {cpu_unit}: edge {cpu['edge']:.3g}, agent {cpu['agent']:.3g}, nginx {cpu['nginx']:.3g}"
    )
    return {"unit": unit, "median": rate, "ratio": ratio, "cpu": cpu, "cpu_unit": cpu_unit, "text": text}


if __name__ == "__main__":
    main()
