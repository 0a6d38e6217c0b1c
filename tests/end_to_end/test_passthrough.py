"""A site whose TLS its service ends, beside sites whose TLS the edge ends, on one port; with curl and openssl."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from tests._support import sized
from tests.end_to_end.certificates import Authority
from tests.end_to_end.chromium import chromium
from tests.end_to_end.desk import PATIENCE, dialled, everything
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import free_port, need_program
from tests.end_to_end.threaded import ThreadedService
from wormhole_tw.net.client_hello import read_client_hello

VAULT = "vault.example.test"
PROXIED = "proxied.example.test"
HOSTS = {APP: "app", VAULT: "vault", PROXIED: "proxied"}


class _Said(BaseHTTPRequestHandler):
    """Says who it is, and what TLS it ended."""

    protocol_version = "HTTP/1.1"
    server: Any
    request: Any

    def setup(self) -> None:
        vault: Vault = self.server.origin
        self.header = b""
        if vault.proxied:
            # the PROXY protocol's line, which stands before TLS
            while not self.header.endswith(b"\r\n"):
                self.header += self.request.recv(1)
        self.request = vault.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        body = json.dumps(
            {
                "who": "vault",
                "tls": self.request.version(),
                "alpn": self.request.selected_alpn_protocol(),
                "header": self.header.decode(),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def finish(self) -> None:
        super().finish()
        self.request.close()


class Vault(ThreadedService):
    """A private service with a certificate of its own."""

    def __init__(self, authority: Authority, name: str, *, proxied: bool = False) -> None:
        super().__init__(_Said)
        self.proxied = proxied
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = authority.issue(name, name)
        self.certificate = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(["http/1.1"])


class Port:
    """The house, its two kinds of site, and whom visitors of the passed one trust."""

    def __init__(self, house: House, authority: Authority, vault: Vault) -> None:
        self.house = house
        self.vault = vault
        self.authority = authority
        self.context = ssl.create_default_context(cafile=str(authority.file))

    def visitor(self, name: str = VAULT) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.house.port), PATIENCE)
        return self.context.wrap_socket(plain, server_hostname=name)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    folder = tmp_path_factory.mktemp("passthrough")
    authority = Authority(folder / "vault")
    with (
        open_house(folder, hosts=HOSTS) as house,
        Origin() as origin,
        Vault(authority, VAULT) as vault,
        Vault(authority, PROXIED, proxied=True) as proxied,
    ):
        origin.text("/", b"of the app")
        for site in house.config["sites"][1:]:
            site["tls"] = "passthrough"
        house.config["backends"][2]["proxy_protocol"] = "v1"
        house.config["access_log"] = {"path": "-"}
        house.config["edge"]["listeners"] = [
            {"endpoint": f"tcp:{free_port()}:interface=127.0.0.1", "tls": False, "on_plain": "serve"}
        ]
        house.write()
        house.start_edge()
        agents = [
            house.launch_agent(name, service.port, backend=name)
            for name, service in (("app", origin), ("vault", vault), ("proxied", proxied))
        ]
        for agent in agents:
            house.wait_ready(agent)
        yield Port(house, authority, vault)


GET = b"GET / HTTP/1.1\r\nHost: vault.example.test\r\nConnection: close\r\n\r\n"


def said(answer: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def test_curl_meets_the_services_own_certificate(port: Port) -> None:
    house = port.house
    argv = ["--cacert", str(port.authority.file), "--resolve", f"{VAULT}:{house.port}:127.0.0.1"]
    answer = house.curl(*argv, house.url(host=VAULT))
    assert json.loads(answer.stdout)["who"] == "vault"
    # and the others, on the same port, have the edge's
    assert house.curl(house.url()).stdout == b"of the app"
    assert house.curl(house.url(host=VAULT), host=VAULT).returncode == 60, "the edge's CA vouched for the service"
    line = json.loads(house.edge.wait_for(f'{{.*"host":"{VAULT}".*"reason":"closed".*}}')[0])
    assert (line["kind"], line["site"], line["service"], line["backend"]) == ("tcp", "vault", "", "vault")
    assert line["received"] > 200
    assert line["sent"] > 500


def test_openssl_is_shown_whose_certificate_it_is(port: Port) -> None:
    def issuer(*options: str) -> str:
        argv = [need_program("openssl"), "s_client", "-connect", f"127.0.0.1:{port.house.port}", *options]
        done = subprocess.run(argv, input=b"", capture_output=True, timeout=PATIENCE, check=False)
        lines = done.stdout.decode().splitlines()
        return next((line for line in lines if line.startswith("issuer=")), "none")

    assert "test CA ca" in issuer("-servername", VAULT)
    assert "test CA ca" in issuer("-servername", VAULT.upper(), "-tls1_2")
    for options in (["-servername", APP], ["-servername", "unknown.example.test"], ["-noservername"]):
        shown = issuer(*options)
        assert shown.startswith("issuer="), options
        assert "test CA ca" not in shown, options


def whole(answer: bytes) -> bool:
    """All of it is there, by its Content-Length."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


def client_hello(name: str, *, groups: int = 0) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO, bytes]:
    """What Python's client begins with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if groups:
        # as long a list as it takes for one that a packet cannot hold, as with post-quantum keys
        context.set_alpn_protocols([*(f"filler-{number:04}" for number in range(groups)), "http/1.1"])
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(come, go, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, come, go, go.read()


def ask(house: House, name: str, cut: Any, *, groups: int = 0) -> bytes:
    """A request over TLS, the ClientHello of which goes in the pieces that ``cut`` makes of it."""
    client, come, go, hello = client_hello(name, groups=groups)
    with dialled(house.port) as plain:
        for piece in cut(hello):
            plain.sendall(piece)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(go.read())
                come.write(plain.recv(65536))
        client.write(GET.replace(VAULT.encode(), name.encode()))
        plain.sendall(go.read())
        answer = b""
        while not whole(answer):
            come.write(plain.recv(65536))
            with suppress(ssl.SSLWantReadError):
                while piece := client.read(65536):
                    answer += piece
        return answer


def test_a_client_hello_cut_in_every_place(port: Port) -> None:
    """Each connection begins with a hello in two pieces; in a usual run not at each octet, but at each kind of them."""
    length = len(client_hello(VAULT)[3])
    places = range(1, length, sized(29, 1))
    for at in places:
        answer = ask(port.house, VAULT, lambda hello, at=at: (hello[:at], hello[at:]))
        assert said(answer)["who"] == "vault", at


@pytest.mark.parametrize("name", [VAULT, APP])
@pytest.mark.parametrize("groups", [0, 150, 1000])
def test_a_client_hello_in_many_segments(port: Port, name: str, groups: int) -> None:
    answer = ask(port.house, name, lambda hello: (hello[at : at + 7] for at in range(0, len(hello), 7)), groups=groups)
    assert (b"vault" in answer) == (name == VAULT)
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [11, 200])
def test_a_client_hello_in_many_records(port: Port, size: int) -> None:
    def records(hello: bytes) -> list[bytes]:
        message = hello[5:]
        size_of = max(size, len(message) // 60)
        parts = [message[at : at + size_of] for at in range(0, len(message), size_of)]
        return [b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts]

    assert said(ask(port.house, VAULT, records))["who"] == "vault"


def test_a_post_quantum_hello(port: Port) -> None:
    """Of the OpenSSL that cryptography brings: with a hybrid key it is longer than a packet of an Ethernet takes."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_tlsext_host_name(VAULT.encode())
    client.set_connect_state()
    with dialled(port.house.port) as plain:
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        hello = client.bio_read(65536)
        assert len(hello) > 1500
        for at in range(0, len(hello), 400):
            plain.sendall(hello[at : at + 400])
        while True:
            client.bio_write(plain.recv(65536))
            try:
                client.do_handshake()
                break
            except SSL.WantReadError:
                continue
        client.write(GET)
        plain.sendall(client.bio_read(65536))
        answer = b""
        while not whole(answer):
            client.bio_write(plain.recv(65536))
            with suppress(SSL.WantReadError):
                while True:
                    answer += client.read(65536)
    assert said(answer)["who"] == "vault"


def test_a_browser(port: Port, tmp_path: Path) -> None:
    """Its ClientHello has a post-quantum key, values that mean nothing (GREASE), and a seemingly encrypted hello."""
    with chromium(tmp_path, port.vault.certificate, (VAULT,)) as browser:
        browser.open(port.house.url(host=VAULT))
        said = json.loads(browser.evaluate("document.body.innerText"))
    assert (said["who"], said["tls"], said["alpn"]) == ("vault", "TLSv1.3", "http/1.1")


def test_what_only_begins_like_a_client_hello_is_refused_by_openssl(port: Port) -> None:
    _, _, _, hello = client_hello(VAULT)
    broken = hello[:5] + b"\x01\x00\x00\x05hello" + hello[14:]
    assert read_client_hello(hello) is not None
    with dialled(port.house.port) as plain:
        plain.sendall(broken)
        alert = everything(plain)
    assert alert[:1] == b"\x15", "no alert of TLS"


def test_the_name_is_not_answered_over_anothers_tls(port: Port) -> None:
    """As a browser that has a connection whose certificate is good for both would ask (RFC 9113 §9.1.1)."""
    house = port.house
    with house.connect(APP) as visitor:
        visitor.sendall(GET)
        answer = everything(visitor)
    assert answer.startswith(b"HTTP/1.1 421 ")
    done = house.curl("--http2", "-H", f"Host: {VAULT}", "-w", "%{http_version} %{http_code}", "-o", "out", house.url())
    assert done.stdout == b"2 421"
    with dialled(int(house.config["edge"]["listeners"][0]["endpoint"].split(":")[1])) as plain:
        plain.sendall(GET)
        assert everything(plain).startswith(b"HTTP/1.1 421 ")
    # plain http is sent to https, like any other
    done = house.curl("-i", f"http://{VAULT}:{house.http_port}/a?b", host=VAULT)
    assert done.stdout.startswith(b"HTTP/1.1 308 ")
    assert f"https://{VAULT}:{house.port}/a?b".encode() in done.stdout


def test_the_proxy_protocol_towards_the_service(port: Port) -> None:
    with port.visitor(PROXIED) as visitor:
        address, number = visitor.getsockname()
        visitor.sendall(GET)
        header = said(everything(visitor))["header"]
    assert header == f"PROXY TCP4 {address} 127.0.0.1 {number} {port.house.port}\r\n"


def test_no_agent(port: Port) -> None:
    """The handshake ends at once; the other sites do not notice."""
    port.house.programs.named("vault").send(signal.SIGKILL)
    port.house.edge.wait_for("of backend vault was lost")
    with pytest.raises((ssl.SSLError, ConnectionError)), port.visitor():
        pass
    port.house.edge.wait_for("site vault: a connection of 127.0.0.1 was closed: no agent of backend vault is there")
    assert port.house.get("/").body == b"of the app"
