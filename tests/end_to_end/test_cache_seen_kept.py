"""What the cache keeps: through kill -9 under load, and within its bounds whatever passes."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._support import require_program, sized
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import free_port
from tests.end_to_end.test_cache_seen import MIB, cached, is_hit
from tests.end_to_end.test_observability import wait_until
from wormhole_tw.admin.local_client import SOCKET, ask

PAGES = sized(150, 2000)
KILLS = sized(1, 20)
URLS = sized(3200, 1_000_000)
"""Distinct ones that pass; each answer has :data:`BODY` octets."""
BODY = 8192
MEMORY, DISK = sized((4, 16), (64, 256))
"""MiB: less than passes, by far."""


def page(number: int) -> bytes:
    """What a path is served, which tells a wrong one, or half of one."""
    seed = hashlib.sha256(b"%d" % number).hexdigest().encode()
    return seed * (1 + number % 97 * 4)


@pytest.mark.deadline(sized(120, 900))
def test_kill_9_under_load_and_a_warm_cache_after(tmp_path: Path) -> None:
    def served(call: Call) -> None:
        call.answer(page(int(call.path.partition("?")[0][2:])), headers={"Cache-Control": "max-age=3600"})

    with open_house(tmp_path) as house, Origin() as origin:
        origin.routes.update({f"/p{number}": served for number in range(PAGES)})
        cached(house, memory="2 MiB", disk="64 MiB")
        house.start_edge()
        agent = house.agent("agent", origin.port)
        wrong: list[str] = []
        for _ in range(KILLS):
            with house.visitor() as visitor:
                for number in range(PAGES):
                    assert visitor.ask("GET", f"/p{number}").body == page(number)
            _wait_for_disk(house)
            dying = threading.Event()

            def load(offset: int, dying: threading.Event = dying) -> None:
                """Old pages and new ones, for as long as there is an edge."""
                for turn in itertools.count():
                    number = (offset + turn * 7) % PAGES
                    path = f"/p{number}" if turn % 3 else f"/p{number}?{offset}.{turn}"
                    try:
                        if turn % 50 == 0:
                            visitor = house.visitor()
                        got = visitor.ask("GET", path)
                    except (OSError, http.client.HTTPException) as error:
                        if not dying.is_set():
                            wrong.append(repr(error))
                        return
                    if got.body != page(number):
                        wrong.append(f"{path}: {got}")

            threads = [threading.Thread(target=load, args=(offset,), daemon=True) for offset in range(4)]
            before = sum(origin.calls.values())
            for thread in threads:
                thread.start()
            wait_until(lambda before=before: sum(origin.calls.values()) > before + 40)
            mark = agent.mark()
            dying.set()
            house.edge.stop(signal.SIGKILL)
            for thread in threads:
                thread.join(30)
            assert not wrong
            house.start_edge()
            with house.visitor() as visitor:
                answers = [visitor.ask("GET", f"/p{number}") for number in range(PAGES)]
            assert all(got.status in (200, 503) for got in answers)  # the agent may not be back yet
            good = [number for number, got in enumerate(answers) if got.status == 200 and got.body == page(number)]
            assert len(good) == sum(got.status == 200 for got in answers)
            # warm: what was on disk before it was killed is there, and nobody was asked for it
            hits = sum(map(is_hit, answers))
            assert hits >= PAGES * 0.95, f"{hits} of {PAGES}"
            house.wait_ready(agent, after=mark)


def _wait_for_disk(house: House) -> None:
    """Until every page is on disk, as the edge counts them there."""

    def there() -> bool:
        stores = ask(house.folder / "state" / SOCKET, "GET", "/cache")["stores"]
        return bool(sum(store["entries"] for store in stores if store["place"] == "disk") >= PAGES)

    wait_until(there)


def folder_size(house: House) -> int:
    """Octets of the files in the cache's folder."""
    found = 0
    for folder, _, names in os.walk(house.folder / "state" / "cache"):
        for name in names:
            try:
                found += os.stat(Path(folder, name)).st_size
            except FileNotFoundError:  # replaced meanwhile
                continue
    return found


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 10000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        set $k {kilobyte};
        location / {{ add_header Cache-Control max-age=3600; return 200 "{body}$request_uri"; }}
    }}
}}
"""


@pytest.fixture
def plenty(tmp_path: Path) -> Iterator[int]:
    """The port of a service that answers every path, each with another body of :data:`BODY` octets and more."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, kilobyte="x" * 1024, body="$k" * (BODY // 1024)))
    with open_house(folder) as programs:
        argv = [require_program("nginx"), "-p", str(folder), "-c", str(config)]
        nginx = programs.programs.start("nginx", argv, cwd=folder)
        wait_until(lambda: answers(port) or not nginx.running)
        assert nginx.running, nginx.output
        yield port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.requires_program("h2load", "nginx")
@pytest.mark.deadline(sized(120, 7200))
def test_memory_and_disk_hold_their_bounds(house: House, plenty: int) -> None:
    house.config["limits"] = {"requests_per_connection": 0}  # h2load does not come back after a GOAWAY
    cached(house, memory=f"{MEMORY} MiB", disk=f"{DISK} MiB")
    house.start_edge()
    house.agent("agent", plenty)
    pass_by(house, 0, URLS // 4)
    resident = house.edge.resident_memory()
    largest = folder_size(house)
    for quarter in range(1, 4):
        pass_by(house, quarter * (URLS // 4), URLS // 4)
        largest = max(largest, folder_size(house))
    assert URLS * BODY > 1.5 * DISK * MIB  # or nothing was to be held
    assert largest < (DISK + 8) * MIB * 1.1  # what SQLite has not put back yet
    # the memory of the cache was full long before, so what comes later costs nothing more
    assert house.edge.resident_memory() < resident + (MEMORY + 32) * MIB
    # and what passed last is there
    with house.visitor() as visitor:
        assert is_hit(visitor.ask("GET", f"/{URLS - 1}"))


def pass_by(house: House, first: int, count: int) -> None:
    """Ask for so many URLs, each once: every connection of h2load would ask for all."""
    urls = house.folder / "urls"
    urls.write_text("".join(f"https://{APP}:{house.port}/{number}\n" for number in range(first, first + count)))
    done = subprocess.run(
        [require_program("h2load"), "-n", str(count), "-c", "1", "-m", "32", "-i", str(urls),
         f"--connect-to=127.0.0.1:{house.port}"],
        capture_output=True, text=True, timeout=sized(100, 3000), check=False,
    )  # fmt: skip
    assert re.search(rf"\b{count} 2xx", done.stdout), done.stdout + done.stderr
