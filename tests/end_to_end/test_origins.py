"""Origins on the web: nginx behind https, names by a server of the test's own, visitors with curl and a browser's
WebSocket."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.fronts import nginx
from tests.end_to_end.house import APP, House, open_house, with_tests
from tests.end_to_end.programs import free_port, wait_until
from tests.end_to_end.test_websocket import echo, talk, websocket_service

pytestmark = pytest.mark.requires_program("nginx", "curl")

PUBLIC, SECOND, SECRET = "127.0.0.2", "127.0.0.3", "127.0.0.1"
"""What plays the web, and what plays the machine's own: the first two are allowed, the last one is not."""

PAGES = "pages.example.test"


class Web(House):
    """A house whose edge asks a name server of ours, and an nginx with these names.

    :ivar web_port: where nginx has https, on each of its addresses
    """

    web_port: int
    h2c_port: int
    authority: Authority

    @classmethod
    def open(cls, folder: Path, house: House) -> Web:
        house.__class__ = cls
        assert isinstance(house, cls)
        web = house
        web.web_port, web.h2c_port, dns_port = free_port(), free_port(), free_port()
        web.zone = folder / "zone.json"
        web.says({PAGES: [["A", PUBLIC, 1]]})
        server = web.programs.python(
            "names", "-m", "tests.end_to_end.nameserver", str(dns_port), str(web.zone), env=with_tests()
        )
        server.wait_for("serving")
        web.authority = Authority(folder, "web")
        web.config["edge"]["resolvers"] = [f"127.0.0.1:{dns_port}"]
        web.config["backends"], web.config["sites"] = [], []
        return web

    zone: Path

    def says(self, zone: dict[str, Any]) -> None:
        """What the name server says from now on."""
        fresh = self.zone.with_suffix(".new")
        fresh.write_text(json.dumps(zone))
        fresh.replace(self.zone)

    def site(self, hostname: str, **backend: Any) -> None:
        """A site with a backend of its own."""
        name = hostname.partition(".")[0]
        table = {"name": name, "allow_networks": [PUBLIC, SECOND], "ca_file": str(self.authority.file), **backend}
        self.config["backends"].append({key: value for key, value in table.items() if value is not None})
        self.config["sites"].append({"hostnames": [hostname], "routes": [{"path": "/", "backend": name}]})

    def url_of(self, name: str, path: str = "") -> str:
        return f"https://{name}:{self.web_port}{path}"

    def reload(self) -> None:
        self.write()
        mark = self.edge.mark()
        self.edge.send(signal.SIGHUP)
        self.edge.wait_for("configuration reloaded", after=mark)


def nginx_server(web: Web, address: str, certificate: tuple[Path, Path], names: str, locations: str) -> str:
    return f"""
        server {{
            listen {address}:{web.web_port} ssl; server_name {names};
            ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};
            add_header X-Served-By {address} always;
            {locations}
        }}
    """


ECHO = (
    'return 200 "sni=$ssl_server_name host=$http_host uri=$request_uri for=$http_x_forwarded_for '
    'n=$connection_requests\\n";'
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    with open_house(folder) as house:
        web = Web.open(folder, house)
        (folder / "www" / "base" / "docs").mkdir(parents=True)
        (folder / "www" / "base" / "docs" / "index.html").write_text("the index\n")
        (folder / "www" / "base" / "large").write_bytes(os.urandom(3_000_000))
        good = web.authority.issue(
            "pages", PAGES, "dual.example.test", "attack.example.test", "second.example.test", "through.example.test"
        )
        nameless = web.authority.issue("nameless", "nameless.example.test", named=False)
        own = f"https://{PAGES}:{web.web_port}"
        locations = f"""
            root {folder}/www; client_max_body_size 10m;
            location /base/echo {{ default_type text/plain; {ECHO} }}
            location /base/moved {{
                add_header Set-Cookie "sid=1; Domain={PAGES}; Path=/base; Secure";
                add_header Link "<{own}/base/next>; rel=next";
                return 301 {own}/base/echo?moved;
            }}
            location /base/beside {{ return 302 /other; }}
            location /base/put {{ dav_methods PUT; client_body_temp_path {folder}; alias {folder}/put; }}
        """
        servers = "".join(nginx_server(web, address, good, "_", locations) for address in (PUBLIC, SECOND, SECRET))
        servers += nginx_server(web, PUBLIC, nameless, "nameless.example.test", ECHO)
        servers += f"""
            server {{
                listen {PUBLIC}:{web.h2c_port} http2;
                location / {{ return 200 "$server_protocol host=$http_host uri=$request_uri\\n"; }}
            }}
        """
        nginx(web.programs, folder, servers)
        web.says(
            {
                PAGES: [["A", PUBLIC, 60]],
                "nameless.example.test": [["A", PUBLIC, 60]],
                "wrong.example.test": [["CNAME", PAGES, 60]],
                "dual.example.test": [["AAAA", "::1", 60], ["A", PUBLIC, 60]],
                "attack.example.test": [["A", PUBLIC, 1]],
                "second.example.test": [["A", PUBLIC, 1]],
            }
        )
        web.site("pages.example.test", origin=web.url_of(PAGES, "/base"))
        web.site("visitor.example.test", origin=web.url_of(PAGES, "/base"), host="visitor")
        web.site("bucket.example.test", preset="s3", origin=web.url_of(PAGES, "/base"))
        web.site("wrong.example.test", origin=web.url_of("wrong.example.test"))
        web.site("nameless.example.test", origin=web.url_of("nameless.example.test"))
        web.site("stranger.example.test", origin=web.url_of(PAGES), ca_file=None)
        web.site("renamed.example.test", origin=web.url_of("wrong.example.test", "/base"), server_name=PAGES)
        web.site("dual.example.test", origin=web.url_of("dual.example.test", "/base"), allow_networks=[PUBLIC, "::1"])
        web.site("attack.example.test", origin=web.url_of("attack.example.test", "/base"))
        web.site("second.example.test", origin=web.url_of("second.example.test", "/base"))
        web.site("nowhere.example.test", origin=web.url_of("nowhere.example.test"))
        web.site("h2c.example.test", origin=f"http://{PAGES}:{web.h2c_port}/base", protocol="h2c", ca_file=None)
        web.site("through.example.test", origin=web.url_of(PAGES))
        web.config["sites"][-1]["tls"] = "passthrough"
        web.write()
        web.start_edge()
        yield web


def curl(web: Web, path: str, *args: str, host: str = PAGES) -> str:
    done = web.curl("--include", *args, web.url(path, host), host=host)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_name_based_hosting_over_https(web: Web, version: str) -> None:
    """The name in TLS and in Host is the origin's own, the visitor stands in the forwarding fields."""
    answer = curl(web, "/echo/x?q=1", version)
    assert answer.startswith("HTTP/2 200" if version == "--http2" else "HTTP/1.1 200")
    assert f"sni={PAGES} host={PAGES}:{web.web_port} uri=/base/echo/x?q=1 for=127.0.0.1 n=" in answer


def test_the_visitors_name_and_another_name_in_tls(web: Web) -> None:
    host = "visitor.example.test"
    assert f"sni={PAGES} host={host}:{web.port} uri=/base/echo" in curl(web, "/echo", host=host)
    host = "renamed.example.test"
    assert f"sni={PAGES} host=wrong.example.test:{web.web_port}" in curl(web, "/echo", host=host)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_redirects_links_and_cookies_are_the_visitors(web: Web, version: str) -> None:
    answer = curl(web, "/moved", version).lower()
    assert f"location: {web.url('/echo?moved', PAGES)}" in answer
    assert f"set-cookie: sid=1; domain={PAGES}; path=/; secure" in answer
    assert f"link: <{web.url('/next', PAGES)}>; rel=next" in answer
    # a browser gets where it should, with its cookie
    followed = curl(web, "/moved", version, "--location", "--cookie", "none")
    assert "uri=/base/echo?moved" in followed
    assert f"location: {web.url_of(PAGES)}/other" in curl(web, "/beside", version).lower()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_an_origin_that_speaks_http2(web: Web, version: str) -> None:
    answer = curl(web, "/x", version, host="h2c.example.test")
    assert f"HTTP/2.0 host={PAGES}:{web.h2c_port} uri=/base/x" in answer


def test_a_site_whose_origin_ends_tls_itself(web: Web) -> None:
    host = "through.example.test"
    done = web.curl("--cacert", str(web.authority.file), web.url("/base/echo", host), host=host)
    assert f"sni={host} host={host}:{web.port} uri=/base/echo for= n=" in done.stdout.decode()


def test_an_index_for_a_bucket(web: Web) -> None:
    assert curl(web, "/docs/", host="bucket.example.test").endswith("the index\n")


def test_a_connection_carries_many_requests(web: Web) -> None:
    with web.visitor(PAGES) as visitor:
        numbers = [int(visitor.ask("GET", "/echo").body.rpartition(b"n=")[2]) for _ in range(5)]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_large_bodies_both_ways(web: Web, version: str) -> None:
    sent = web.folder / "www" / "base" / "large"
    done = web.curl(version, web.url("/large", PAGES), host=PAGES)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent.read_bytes()).digest()
    stored = web.folder / f"put{version}"
    done = web.curl(version, "--upload-file", str(sent), web.url(f"/put{version}", PAGES), host=PAGES)
    assert done.returncode == 0
    assert stored.read_bytes() == sent.read_bytes()


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("wrong.example.test", "is not for the name wrong.example.test"),
        # Twisted alone would take it: it is signed by a CA that is trusted, and names nobody
        ("nameless.example.test", "is not for the name nameless.example.test"),
        ("stranger.example.test", "not signed by a CA that is trusted here; give its CA with ca_file"),
    ],
)
def test_who_cannot_prove_its_name_gets_no_request(web: Web, host: str, line: str) -> None:
    answer = web.get(host=host)
    assert (answer.status, answer.reason) == (502, "service-untrusted")
    web.edge.wait_for(rf"backend {host.partition('.')[0]}, origin .*{line}")


def test_a_name_that_there_is_not(web: Web) -> None:
    answer = web.get(host="nowhere.example.test")
    assert (answer.status, answer.reason) == (502, "service-unknown")
    web.edge.wait_for("backend nowhere, origin .*: there is no name nowhere.example.test")


@contextlib.contextmanager
def silent_listener(port: int) -> Iterator[None]:
    """Somebody on ::1 who takes no connection and refuses none: every SYN is dropped."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_INET6))
        full.bind(("::1", port))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            waiting.connect_ex(("::1", port))
        yield


def test_a_dead_ipv6_costs_a_blink(web: Web) -> None:
    with silent_listener(web.web_port):
        began = time.monotonic()
        assert web.get("/echo", host="dual.example.test").status == 200
        assert time.monotonic() - began < 4  # and not limits.connect, after which there would be no answer


def served_by(web: Web, host: str) -> str:
    answer = web.get("/echo", host=host)
    return f"{answer.status} {answer.reason or answer.headers['X-Served-By']}"


def eventually(web: Web, host: str, wanted: str) -> list[str]:
    """Ask until it is so; gives all that was answered."""
    seen: list[str] = []

    def asked() -> bool:
        seen.append(served_by(web, host))
        return seen[-1] == wanted

    wait_until(asked, 20, every=0.1)
    return seen


def change(web: Web, name: str, records: Sequence[Sequence[Any]]) -> None:
    web.says({**json.loads(web.zone.read_text()), name: records})


@pytest.mark.deadline(60)
def test_a_name_that_moves_is_followed(web: Web) -> None:
    host = "second.example.test"
    assert served_by(web, host) == f"200 {PUBLIC}"
    change(web, host, [["A", SECOND, 1]])
    seen = eventually(web, host, f"200 {SECOND}")
    assert set(seen) <= {f"200 {PUBLIC}", f"200 {SECOND}"}


@pytest.mark.deadline(90)
def test_the_attack_a_name_that_leads_to_the_machine_itself_the_next_time(web: Web) -> None:
    """First an address of the web, for whoever looks; then, while it is believed, this machine's."""
    host = "attack.example.test"
    assert served_by(web, host) == f"200 {PUBLIC}"
    change(web, host, [["A", SECRET, 0]])
    seen = eventually(web, host, "502 service-forbidden")
    assert set(seen) <= {f"200 {PUBLIC}", "502 service-forbidden"}
    web.edge.wait_for(f"backend attack, origin .*allow_networks does not name: {SECRET} is loopback")
    # beside one that is allowed
    change(web, host, [["A", "127.0.0.2", 0], ["A", SECRET, 0], ["AAAA", "::ffff:127.0.0.1", 0]])
    seen = eventually(web, host, f"200 {PUBLIC}")
    assert set(seen) <= {f"200 {PUBLIC}", "502 service-forbidden"}
    for _ in range(10):
        assert served_by(web, host) == f"200 {PUBLIC}"


@pytest.mark.deadline(90)
def test_origins_change_under_load_and_no_request_fails(web: Web) -> None:
    """Reloads that swap the origin of a site back and forth."""
    over = threading.Event()
    answers: list[str] = []

    def visit() -> None:
        with web.visitor(PAGES) as visitor:
            while not over.is_set():
                try:
                    answer = visitor.ask("GET", "/echo")
                except (OSError, http.client.HTTPException) as error:
                    answers.append(repr(error))
                    return
                answers.append(f"{answer.status} {answer.reason or answer.headers['X-Served-By']}")

    visitors = [threading.Thread(target=visit, daemon=True) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    backend = next(backend for backend in web.config["backends"] if backend["name"] == "pages")
    usual = backend["origin"]
    try:
        for address in (SECOND, PUBLIC, SECOND, PUBLIC):
            backend.update(origin=f"https://{address}:{web.web_port}/base", server_name=PAGES)
            web.reload()
            mark = len(answers)
            until = time.monotonic() + 10
            while f"200 {address}" not in answers[mark:] and time.monotonic() < until:
                time.sleep(0.01)
    finally:
        over.set()
        for visitor in visitors:
            visitor.join(10)
        backend["origin"] = usual
        del backend["server_name"]
        web.reload()
    assert set(answers) == {f"200 {PUBLIC}", f"200 {SECOND}"}


@contextlib.contextmanager
def one_answer(web: Web, address: str, *, whole: bool) -> Iterator[int]:
    """A https server whose one answer ends with its connection: by TLS's own goodbye, or cut."""
    certificate, key = web.authority.issue("cut", PAGES)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nsome")
                    if whole:
                        connection.unwrap()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_is_cut_does_not_look_whole(web: Web, whole: bool) -> None:
    backend = next(backend for backend in web.config["backends"] if backend["name"] == "second")
    usual = backend["origin"]
    with one_answer(web, PUBLIC, whole=whole) as port:
        backend.update(origin=f"https://{PUBLIC}:{port}", server_name=PAGES)
        web.reload()
        done = web.curl(web.url("/", "second.example.test"), host="second.example.test")
        backend["origin"] = usual
        del backend["server_name"]
        web.reload()
    assert done.stdout in (b"some", b"")
    assert (done.returncode == 0) is whole


@pytest.mark.deadline(60)
def test_websocket(house: House) -> None:
    with websocket_service(echo) as port:
        house.config["backends"][0] = {
            "name": "app",
            "origin": f"http://127.0.0.1:{port}",
            "allow_networks": ["127.0.0.1"],
        }
        house.write()
        house.start_edge()
        with talk(house) as visitor:
            for number in range(20):
                visitor.send(f"message {number}")
                assert visitor.recv(10) == f"message {number}"
            assert house.get("/forbidden", APP).status == 403


def test_an_address_of_this_machine_is_refused_with_its_reason(house: House) -> None:
    house.config["backends"][0] = {"name": "app", "origin": "http://127.0.0.1:8080"}
    house.write()
    edge = house.launch_edge()
    edge.wait_for(
        r"edge.toml: \$\.backends\[0\]\.origin: 127.0.0.1 is a loopback address, which is refused unless it is named: "
        r'allow_networks = \["127.0.0.1"\]'
    )
    assert edge.wait() != 0
