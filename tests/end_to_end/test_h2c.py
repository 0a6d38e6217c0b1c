"""A service that speaks HTTP/2 and is not gRPC: nginx on cleartext HTTP/2, behind an edge and an agent."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests._support import require_program, sized
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import Program, free_port, need_program

pytestmark = pytest.mark.requires_program("nginx")

MIB = 1024 * 1024
SIZE = sized(16, 256) * MIB


class Served:
    """A house, and the nginx behind its agent."""

    def __init__(self, house: House, nginx: Program, digest: str) -> None:
        self.house = house
        self.nginx = nginx
        self.digest = digest


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One house for all of this file; nginx gives a file, and passes bodies on to a service that counts them."""

    def count(call: Call) -> None:
        call.answer(b"%d\n" % sum(map(len, call.body())))

    with Origin({"/count": count}) as origin, open_house(tmp_path_factory.mktemp("h2c")) as house:
        folder, port = house.folder, free_port()
        whole = os.urandom(MIB) * (SIZE // MIB)
        (folder / "file").write_bytes(whole)
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr notice;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{}}
            http {{
                access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
                fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                client_max_body_size 0;
                server {{
                    listen 127.0.0.1:{port} http2;
                    location = /small {{ return 200 "small"; }}
                    location = /file {{ root {folder}; }}
                    location / {{
                        proxy_pass http://127.0.0.1:{origin.port}; proxy_request_buffering off;
                        proxy_http_version 1.1;
                    }}
                }}
            }}
            """
        )
        nginx = house.programs.start("nginx", [need_program("nginx"), "-c", str(folder / "nginx.conf")])
        nginx.wait_for("start worker process ")
        house.config["backends"][0]["protocol"] = "h2c"
        house.write()
        house.start_edge()
        house.agent("agent", port)
        yield Served(house, nginx, hashlib.sha256(whole).hexdigest())


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_download(served: Served, version: str) -> None:
    got = served.house.curl(version, "--fail", served.house.url("/file"))
    assert got.returncode == 0, got.stderr
    assert hashlib.sha256(got.stdout).hexdigest() == served.digest


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload(served: Served, version: str, framing: str) -> None:
    more = ("--header", "transfer-encoding: chunked") if framing == "chunked" and version == "--http1.1" else ()
    if framing == "chunked" and version == "--http2":
        more = ("--header", "content-length:")
    file = str(served.house.folder / "file")
    got = served.house.curl(version, "--upload-file", file, *more, served.house.url("/count"))
    assert got.stdout == b"%d\n" % SIZE, got.stderr


def test_heads_and_what_is_not_there(served: Served) -> None:
    head = served.house.curl("--http2", "--head", served.house.url("/file")).stdout
    assert head.startswith(b"HTTP/2 200")
    assert b"content-length: %d" % SIZE in head
    assert served.house.get("/nothing").status == 404
    assert served.house.curl("--http2", served.house.url("/small")).stdout == b"small"


@pytest.mark.requires_program("h2load")
@pytest.mark.parametrize("streams", [1, 64])
def test_many_requests(served: Served, streams: int) -> None:
    """64 each of four visitors: more than one connection to nginx takes."""
    house, n = served.house, sized(1000, 20000)
    got = subprocess.run(
        [require_program("h2load"), f"-n{n}", "-c4", f"-m{streams}", f"-H:authority: {APP}",
         f"https://{APP}:{house.port}/small", f"--connect-to=127.0.0.1:{house.port}"],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"status codes: %d 2xx" % n in got.stdout, got.stdout + got.stderr


def test_a_service_that_reloads_loses_no_request(served: Served) -> None:
    """nginx's old workers say GOAWAY and go; what they have not processed goes to the new ones, POST or not."""
    house = served.house
    failed: list[str] = []
    asked = [0]
    done = threading.Event()

    def ask() -> None:
        with house.visitor(APP) as visitor:
            while not done.is_set():
                for answer in (visitor.ask("GET", "/small"), visitor.ask("POST", "/count", b"x" * 1000)):
                    asked[0] += 1
                    if answer.status != 200:
                        failed.append(repr(answer))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            before = len(served.nginx.lines)
            served.nginx.process.send_signal(signal.SIGHUP)
            served.nginx.wait_for(r"exited with code 0", after=before)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert failed == []
    assert asked[0] > 20
