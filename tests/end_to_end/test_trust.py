"""Proxies in front of an edge and services behind it that speak the PROXY protocol: HAProxy and nginx as they are.

Proxies come from 127.0.0.2, which is trusted; visitors from 127.0.0.9, which is not.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, OTHER, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import Program, free_port, need_program
from tests.end_to_end.test_http2 import Client
from wormhole_tw.net.proxy_protocol import encode_header

PROXY = "127.0.0.2"
VISITOR = "127.0.0.9"


class Fronts:
    """An edge, an agent, a service that shows what it was asked, and the proxies in front of them.

    :ivar tls: port of the edge that takes TLS behind the PROXY protocol
    :ivar plain: the same without TLS
    :ivar v1: HAProxy's port that passes TLS through, with a header of version 1
    :ivar v2: the same with version 2, and everything that HAProxy can put in it
    :ivar ends_tls: HAProxy's port that ends TLS, and says so
    :ivar web: nginx's port, which forwards requests to the edge over TLS
    :ivar web2: HAProxy's, which forwards them over HTTP/2, several visitors' on one connection
    """

    def __init__(self, house: House, origin: Origin) -> None:
        self.house = house
        self.origin = origin
        self.tls, self.plain, self.v1, self.v2, self.ends_tls, self.web, self.web2 = (free_port() for _ in range(7))
        edge = house.config["edge"]
        edge["trusted_proxies"] = [PROXY]
        edge["listeners"] = [
            {"endpoint": f"tcp:{self.tls}:interface=127.0.0.1", "proxy_protocol": True},
            {
                "endpoint": f"tcp:{self.plain}:interface=127.0.0.1",
                "tls": False,
                "on_plain": "redirect",
                "proxy_protocol": True,
            },
        ]
        house.config["access_log"] = {"path": "-"}
        house.write()

    def start(self) -> None:
        self.house.start_edge()
        self.house.agent("agent", self.origin.port)
        haproxy(self.house, "front", self._haproxy())
        nginx(self.house, "web", self._nginx())

    def _haproxy(self) -> str:
        options = "proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id"
        certificate, key = Authority(self.house.folder / "front").issue("front", APP)
        (self.house.folder / "front.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        return f"""
        listen v1
            bind 127.0.0.1:{self.v1}
            server edge 127.0.0.1:{self.tls} source {PROXY} send-proxy check check-send-proxy
        listen v2
            bind 127.0.0.1:{self.v2}
            unique-id-format %{{+X}}o\\ %ci:%cp
            server edge 127.0.0.1:{self.tls} source {PROXY} send-proxy-v2 {options} check check-send-proxy
        listen ends_tls
            bind 127.0.0.1:{self.ends_tls} ssl crt {self.house.folder}/front.pem alpn h2,http/1.1
            server edge 127.0.0.1:{self.plain} source {PROXY} send-proxy-v2 {options}
        listen web2
            mode http
            bind 127.0.0.1:{self.web2}
            option forwardfor
            http-reuse always
            http-request set-header X-Forwarded-Proto http
            http-request set-header X-Request-Id %[uuid()]
            server edge 127.0.0.1:{self.house.port} source {PROXY} ssl verify none sni str({APP}) alpn h2
        """

    def _nginx(self) -> str:
        return f"""
        server {{
            listen 127.0.0.1:{self.web};
            location / {{
                proxy_pass https://127.0.0.1:{self.house.port};
                proxy_bind {PROXY};
                proxy_ssl_name $host;
                proxy_ssl_server_name on;
                proxy_http_version 1.1;
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Request-Id $request_id;
            }}
        }}
        """

    def ask(
        self, port: int, *options: str, host: str = APP, scheme: str = "https", visitor: str = VISITOR
    ) -> dict[str, str]:
        """The fields that the service gets of a request by curl, from the visitor's address."""
        done = self.house.curl(
            *("--interface", visitor, "--resolve", f"{host}:{port}:127.0.0.1", "--fail"),
            *options,
            f"{scheme}://{host}:{port}/show",
        )
        assert done.returncode == 0, done
        shown: dict[str, str] = json.loads(done.stdout)
        return shown

    def logged(self, request_id: str) -> dict[str, Any]:
        """The line of the access log about a request that the service got."""
        line: dict[str, Any] = json.loads(self.house.edge.wait_for(rf'.*"request_id":"{request_id}".*')[0])
        return line


def show(call: Call) -> None:
    call.answer(json.dumps({name.lower(): value for name, value in call.headers.items()}).encode())


def haproxy(house: House, name: str, text: str) -> Program:
    """Start one of our own, and wait until it listens."""
    file = house.folder / f"{name}.cfg"
    file.write_text(
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
        + "\n".join(line.removeprefix("        ") for line in text.splitlines())
        + "\n"
    )
    program = house.programs.start(name, [need_program("haproxy"), "-W", "-db", "-f", str(file)])
    program.wait_for("Loading success")
    return program


def nginx(house: House, name: str, servers: str) -> Program:
    """Start one of our own, and wait until it listens."""
    folder = house.folder
    (folder / f"{name}.conf").write_text(
        f"""
        daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr notice;
        events {{}}
        http {{
            access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
            fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
            {servers}
        }}
        """
    )
    program = house.programs.start(name, [need_program("nginx"), "-c", str(folder / f"{name}.conf")])
    program.wait_for("nginx/")
    return program


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    """One of them for all of this file."""
    with Origin({"/show": show}) as origin, open_house(tmp_path_factory.mktemp("trust")) as house:
        mine = Fronts(house, origin)
        mine.start()
        yield mine


FORGED = (
    *("-H", "X-Forwarded-For: 6.6.6.6", "-H", "Forwarded: for=6.6.6.6", "-H", "X-Real-IP: 6.6.6.6"),
    *("-H", "X-Forwarded-Proto: http", "-H", "X-Forwarded-Host: evil.test", "-H", "X-Request-Id: forged"),
    *("-H", "Connection: X-Forwarded-For, Forwarded, Host"),
)


def test_a_visitor_that_comes_by_itself_can_forge_nothing(fronts: Fronts) -> None:
    kept = ("-H", "Authorization: Bearer x", "-H", "Cookie: a=1", "-H", "X-Kept: 1", "-H", "X-Hop: 1")
    hops = ("-H", "Connection: X-Hop, Authorization, Cookie", "-H", "Keep-Alive: 5", "-H", "Proxy-Authorization: x")
    shown = fronts.ask(fronts.house.port, *FORGED, *kept, *hops)
    assert {name: shown.get(name) for name in ("authorization", "cookie", "x-kept")} == {
        "authorization": "Bearer x", "cookie": "a=1", "x-kept": "1",
    }  # fmt: skip
    assert not {"x-hop", "keep-alive", "proxy-authorization", "connection"} & set(shown)
    assert shown["host"] == f"{APP}:{fronts.house.port}"
    assert shown["x-forwarded-for"] == VISITOR
    assert shown["x-forwarded-proto"] == "https"
    assert shown["x-forwarded-host"] == f"{APP}:{fronts.house.port}"
    assert shown["forwarded"].startswith(f"for={VISITOR};")
    assert "x-real-ip" not in shown
    assert shown["x-request-id"] != "forged"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("front", ["v1", "v2"])
def test_haproxy_passes_tls_through(fronts: Fronts, front: str, version: str) -> None:
    shown = fronts.ask(getattr(fronts, front), version, *FORGED[:-2])
    assert shown["x-forwarded-for"] == VISITOR
    assert shown["x-forwarded-proto"] == "https"
    assert shown["x-request-id"] != "forged"
    assert shown["via"].startswith("2.0" if version == "--http2" else "1.1")
    assert fronts.logged(shown["x-request-id"])["client"] == VISITOR


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_haproxy_ends_tls(fronts: Fronts, version: str) -> None:
    shown = fronts.ask(fronts.ends_tls, version, "--insecure")
    assert shown["x-forwarded-for"] == VISITOR
    assert shown["x-forwarded-proto"] == "https"
    assert shown["via"].startswith("2.0" if version == "--http2" else "1.1")
    line = fronts.logged(shown["x-request-id"])
    assert (line["client"], line["scheme"], line["tls"]) == (VISITOR, "https", "TLSv1.3")


def test_nginx_forwards_requests(fronts: Fronts) -> None:
    for _ in range(2):
        shown = fronts.ask(fronts.web, *FORGED[:2], scheme="http")
        assert shown["x-forwarded-for"] == f"{VISITOR}, {PROXY}"
        assert shown["x-forwarded-proto"] == "http"
        assert shown["forwarded"] == f"for={VISITOR};host={APP};proto=http, for={PROXY}"
        line = fronts.logged(shown["x-request-id"])
        assert (line["client"], line["scheme"]) == (VISITOR, "http")
        assert len(shown["x-request-id"]) == 32  # nginx's


def test_haproxy_forwards_requests_of_many_on_one_connection(fronts: Fronts) -> None:
    for number in range(12):
        visitor = f"127.0.0.{10 + number % 4}"
        shown = fronts.ask(fronts.web2, *FORGED, scheme="http", visitor=visitor)
        assert shown["x-forwarded-for"] == f"{visitor}, {PROXY}"
        assert shown["forwarded"].startswith(f"for={visitor};")
        assert shown["x-forwarded-proto"] == "http"
        assert shown["via"].startswith("2.0")
        assert fronts.logged(shown["x-request-id"])["client"] == visitor


@pytest.mark.parametrize("front", ["v1", "v2"])
def test_an_agent_comes_through_haproxy(fronts: Fronts, front: str) -> None:
    house = fronts.house
    mark = house.edge.mark()
    port = getattr(fronts, front)
    agent = house.launch_agent("far agent", fronts.origin.port, env={"FLY_REMOTE_ENDPOINT": f"localhost:{port}"})
    session = house.wait_ready(agent)
    assert house.edge.wait_for(rf"agent {session} .*connected from (\S+)", after=mark)[1] == "127.0.0.1"
    assert agent.stop() == 0


@pytest.mark.parametrize("port", ["tls", "plain"])
def test_a_stranger_s_header_is_refused(fronts: Fronts, port: str) -> None:
    for version in ("v1", "v2"):
        header = encode_header(version, ("6.6.6.6", 1), ("127.0.0.1", 2))  # type: ignore[arg-type]
        address = ("127.0.0.1", getattr(fronts, port))
        with socket.create_connection(address, timeout=10, source_address=(VISITOR, 0)) as stranger:
            stranger.sendall(header)
            assert ended(stranger)
    fronts.house.edge.wait_for(rf"header of the PROXY protocol from {VISITOR} was refused: .* not among the trusted")


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_a_trusted_peer_without_a_header_is_closed_and_a_stranger_served(fronts: Fronts) -> None:
    with socket.create_connection(("127.0.0.1", fronts.tls), timeout=10, source_address=(PROXY, 0)) as proxy:
        proxy.sendall(b"\x16\x03\x01")
        assert ended(proxy)
    fronts.house.edge.wait_for(rf"{PROXY} is trusted to send .* did not: there is none, TLS begins at once")
    assert fronts.ask(fronts.tls)["x-forwarded-for"] == VISITOR


def test_a_header_in_single_octets(fronts: Fronts) -> None:
    with socket.create_connection(("127.0.0.1", fronts.tls), timeout=10, source_address=(PROXY, 0)) as proxy:
        proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in encode_header("v2", ("2001:db8::7", 1), ("2001:db8::1", 443)):
            proxy.sendall(bytes([octet]))
        with fronts.house.context.wrap_socket(proxy, server_hostname=APP) as visitor:
            visitor.sendall(f"GET /show HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: visitor.recv(65536), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["x-forwarded-for"] == "2001:db8::7"


# Services behind the PROXY protocol.


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """nginx without and with TLS, and HAProxy, each behind an agent, with either version of the header."""
    names = [f"{service}-{version}" for service in SERVICES for version in VERSIONS]
    hosts = {f"{name}.example.test": name for name in names}
    with open_house(tmp_path_factory.mktemp("services"), hosts=hosts) as house:
        authority = Authority(house.folder / "services")
        certificate, key = authority.issue("service", "localhost")
        ports = {service: free_port() for service in SERVICES}
        said = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"
        shown = "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]"
        nginx(
            house,
            "services",
            f"""
            server {{ listen 127.0.0.1:{ports["nginx"]} proxy_protocol; return 200 "{said}"; }}
            server {{
                listen 127.0.0.1:{ports["secure"]} ssl proxy_protocol; return 200 "{said}";
                ssl_certificate {certificate}; ssl_certificate_key {key};
            }}
            """,
        )
        haproxy(
            house,
            "haproxy-service",
            f"""
            frontend service
                mode http
                bind 127.0.0.1:{ports["haproxy"]} accept-proxy
                http-request return status 200 content-type text/plain lf-string "{shown}"
            """,
        )
        for backend in house.config["backends"]:
            backend["proxy_protocol"] = backend["name"].partition("-")[2]
        house.write()
        house.start_edge()
        for host, backend in hosts.items():
            service = backend.partition("-")[0]
            secure = {"FLY_LOCAL_ENDPOINT_CA_CERT_FILE": str(authority.file)} if service == "secure" else {}
            target = f"https://localhost:{ports[service]}" if secure else f"localhost:{ports[service]}"
            house.agent(host, target, env=secure, backend=backend)
        yield house


SERVICES = ("nginx", "secure", "haproxy")
VERSIONS = ("v1", "v2")


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_hears_who_its_visitor_is(services: House, service: str, version: str, http: str) -> None:
    host = f"{service}-{version}.example.test"
    said = set()
    for address in (VISITOR, "127.0.0.10"):
        # three requests on one connection are one visitor
        urls = [services.url("/", host)] * 3
        done = services.curl(http, "--interface", address, "--write-out", " %{local_port}\n", *urls, host=host)
        assert done.returncode == 0, done
        for line in done.stdout.decode().splitlines():
            client, port, server, server_port, *rest = line.split()
            assert (client, server, int(server_port)) == (address, "127.0.0.1", services.port)
            assert port == rest[-1]
            if service == "haproxy" and version == "v2":
                assert rest[0] == host
            said.add((client, port))
    assert len(said) == 2


def test_visitors_of_a_proxy_are_never_mixed(services: House) -> None:
    """Requests for many visitors on one connection of a trusted proxy, over and over."""
    services.config["edge"]["trusted_proxies"] = ["127.0.0.1"]
    services.write()
    services.edge.send(signal.SIGHUP)
    services.edge.wait_for("configuration reloaded")
    for name in ("nginx-v1", "nginx-v2"):
        with services.visitor(f"{name}.example.test") as proxy:
            for number in range(60):
                address = f"192.0.2.{number % 3 + 1}"
                answer = proxy.ask("GET", "/", headers={"X-Forwarded-For": f"{address}:{number + 1}"})
                assert answer.body.split()[:2] == [address.encode(), b"%d" % (number + 1)]


# Misdirected requests.


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """Two sites under one certificate, a third under another; gives the CA's file besides."""
    hosts = {APP: "app", OTHER: "app", LONER: "app"}
    with Origin() as origin, open_house(tmp_path_factory.mktemp("certified"), hosts=hosts) as house:
        origin.text("/", b"served")
        authority = Authority(house.folder / "certificates")
        house.config["sites"][0]["security"] = {
            "hsts": {"max_age": 300},
            "content_type_options": True,
            "frame_ancestors": ["'self'"],
        }
        house.config["tls"] = {"mode": "files", "certificates": []}
        for label, names in (("both", ("localhost", APP, OTHER)), ("one", (LONER,))):
            certificate, key = authority.issue(label, *names)
            house.config["tls"]["certificates"].append({"certificate": str(certificate), "key": str(key)})
        house.write()
        house.start_edge()
        house.agent("agent", origin.port, env={"FLY_TLS_CERT_FILE": str(authority.file)})
        house.trust(authority.file)
        yield house, authority.file


LONER = "loner.example.test"
DIRECTIONS = [
    # the name in TLS, and the hosts asked for on that connection, each with its status
    (APP, [(APP, 200), (OTHER, 200), (APP, 200)]),
    (OTHER, [(APP, 200)]),
    (APP, [(LONER, 421), (APP, 200), (LONER, 421), (OTHER, 200)]),
    (LONER, [(LONER, 200), (APP, 421), (LONER, 200)]),
    (APP, [("nobody.example.test", 404), (APP, 200)]),
]


@pytest.mark.parametrize(("name", "asked"), DIRECTIONS)
def test_a_host_under_another_certificate_is_misdirected(
    certified: tuple[House, Path], name: str, asked: list[tuple[str, int]]
) -> None:
    """Whoever joins connections (RFC 9113 §9.1.1) may do so under one certificate, and comes again under two."""
    house, authority = certified
    with Client(house, name, authority) as visitor:
        streams = [visitor.ask("/", host=host) for host, _ in asked]
        assert [visitor.status(stream) for stream in streams] == [status for _, status in asked]
    with house.visitor(name) as old:
        answers = [old.ask("GET", "/", headers={"Host": host}) for host, _ in asked]
        assert [answer.status for answer in answers] == [status for _, status in asked]
        assert {answer.reason for answer in answers if answer.status == 421} <= {"misdirected"}


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_curl_is_told_that_it_is_misdirected(certified: tuple[House, Path], http: str) -> None:
    house, authority = certified
    told = ("--cacert", str(authority), "-H", f"Host: {LONER}", "--write-out", "%{http_code}", "--output", "answer")
    assert house.curl(http, *told, house.url("/", OTHER), host=OTHER).stdout == b"421"
    assert b"misdirected" in (house.folder / "answer").read_bytes()


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nothing", 404), ("/%2e%2e/", 400)])
def test_security_headers(certified: tuple[House, Path], http: str, path: str, status: int) -> None:
    house, authority = certified
    trust = ("--cacert", str(authority), "--path-as-is", "--dump-header", "-", "--output", "answer")
    for host, expected in ((APP, True), (OTHER, False)):
        head = house.curl(http, *trust, house.url(path, host), host=host).stdout.decode().lower()
        assert f" {status} " in head.splitlines()[0] + " "
        assert ("strict-transport-security: max-age=300\r\n" in head) is expected
        assert ("content-security-policy: frame-ancestors 'self'\r\n" in head) is expected
        assert head.count("x-content-type-options: nosniff\r\n") == (1 if expected or status == 400 else 0)
    plain = house.curl("--dump-header", "-", f"http://{APP}:{house.http_port}/").stdout.decode().lower()
    assert " 308 " in plain
    assert "strict-transport-security" not in plain
