"""Sites that ask their visitors for certificates: curl, openssl and HTTP/2, every way round it, and a reload."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, ResponseReceived, StreamEnded

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, OTHER, House, nonce, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import need_program
from tests.end_to_end.test_observability import wait_until
from tests.net.certificates import Person

CHOICE = "choice.example.test"

FORGED = {"Client-Cert": ":AAAA:", "client-cert-chain": ":AAAA:", "Client_Cert": ":AAAA:"}


class People:
    """A CA of people, with files of theirs in a folder, and the house that they visit.

    :ivar server: the CA of the house's own certificate
    """

    def __init__(self, house: House, origin: Origin) -> None:
        self.house = house
        self.origin = origin
        self.folder = house.folder / "people"
        self.folder.mkdir()
        self.ca = Person("people", ca=True)
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_bytes(self.ca.pem)
        self.anne = Person("anne", self.ca)
        self.bert = Person("bert", self.ca)
        self.stranger = Person("stranger", Person("others", ca=True))
        self.server = Authority(house.folder / "certificates")

    def open(self) -> None:
        """``APP`` wants a certificate, ``CHOICE`` takes one, ``OTHER`` asks for none; one certificate for all."""
        house = self.house
        certificate, key = self.server.issue("all", "localhost", APP, OTHER, CHOICE)
        house.config["tls"] = {"mode": "files", "certificates": [{"certificate": str(certificate), "key": str(key)}]}
        house.trust(self.server.file)
        sites = house.config["sites"]
        sites.append({"hostnames": [CHOICE], "client_ca": "people/ca.pem", "client_certificate": "optional"})
        sites[0]["client_ca"] = "people/ca.pem"
        for site in sites:
            site["routes"] = [{"path": "/", "backend": "app"}]
        house.config["access_log"] = {"path": "access.log"}
        house.write()
        self.origin.routes["/"] = show
        house.start_edge()
        house.agent("agent", self.origin.port, env={"FLY_TLS_CERT_FILE": str(self.server.file)})

    def curl(self, host: str, path: str, *args: str, person: Person | None = None) -> tuple[int, bytes, str]:
        """curl's exit status, what it got, and what it complained of."""
        argv = ["--cacert", str(self.server.file), "--max-time", "20", *args]
        if person is not None:
            certificate, key = person.write(self.folder)
            argv += ["--cert", str(certificate), "--key", str(key)]
        done = self.house.curl(*argv, self.house.url(path, host), host=host)
        return done.returncode, done.stdout, done.stderr.decode()

    def context(self, person: Person | None = None, *alpn: str) -> ssl.SSLContext:
        """A client that shows a person's certificate, or none."""
        made = ssl.create_default_context(cafile=str(self.server.file))
        made.check_hostname = False
        if alpn:
            made.set_alpn_protocols(list(alpn))
        if person is not None:
            made.load_cert_chain(*person.write(self.folder))
        return made


def show(call: Call) -> None:
    """Answer with the fields that came."""
    call.answer(json.dumps([[name.lower(), value] for name, value in call.headers.items()]).encode())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """One house for the tests that change nothing in it."""
    with open_house(tmp_path_factory.mktemp("house")) as house, Origin() as origin:
        people = People(house, origin)
        people.open()
        yield people


def got(body: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in json.loads(body):
        if name.startswith("client"):
            found.setdefault(name, []).append(value)
    return found


def cert_field(person: Person) -> str:
    return f":{base64.b64encode(person.der).decode()}:"


@pytest.mark.requires_program("curl")
@pytest.mark.parametrize(
    ("version", "tls"),
    [
        ("--http1.1", "1.2"),
        ("--http2", "1.3"),
        pytest.param("--http1.1", "1.3", marks=pytest.mark.full),
        pytest.param("--http2", "1.2", marks=pytest.mark.full),
    ],
)
def test_curl(people: People, version: str, tls: str) -> None:
    options = [
        version,
        "--tls-max",
        tls,
        *(part for name, value in FORGED.items() for part in ("-H", f"{name}: {value}")),
    ]
    path = f"/{nonce()}"
    people.origin.routes[path] = show
    # who has one
    for host in (APP, CHOICE):
        status, body, _ = people.curl(host, path, *options, person=people.anne)
        assert status == 0
        assert got(body) == {"client-cert": [cert_field(people.anne)]}
    # who has none, or somebody else's
    status, body, error = people.curl(APP, path, *options)
    assert (status, body) != (0, b"")
    assert "alert" in error
    status, body, error = people.curl(APP, path, *options, person=people.stranger)
    assert status != 0
    assert "unknown ca" in error
    # where there is a choice, and where nobody asks, nothing that a visitor writes is believed
    for host, person in ((CHOICE, None), (OTHER, None), (OTHER, people.anne)):
        status, body, _ = people.curl(host, path, *options, person=person)
        assert (status, got(body)) == (0, {})

    def fingerprints() -> list[str | None]:
        lines = [json.loads(line) for line in (people.house.folder / "access.log").read_text().splitlines()]
        return [line["client_certificate"] for line in lines if line["path"] == path]

    wait_until(lambda: len(fingerprints()) == 5)
    assert fingerprints() == [people.anne.fingerprint.hex()] * 2 + [None] * 3


def ask(house: House, context: ssl.SSLContext, name: str | None, host: str) -> tuple[int, str]:
    """Status and reason of a GET for ``host`` on a connection that asked for ``name``."""
    plain = socket.create_connection(("127.0.0.1", house.port), timeout=20)
    with plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return answer_of(tls)


def answer_of(stream: Any) -> tuple[int, str]:
    head = b""
    while b"\r\n\r\n" not in head:
        data = stream.recv(65536)
        assert data, head
        head += data
    lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields.get("x-wormhole-error", "")


def test_no_way_round_it(people: People) -> None:
    house, origin = people.house, people.origin
    nobody, anne = people.context(), people.context(people.anne)
    for context in (nobody, anne):
        assert ask(house, context, OTHER, OTHER)[0] == 200
        assert ask(house, context, CHOICE, CHOICE)[0] == 200
        served = origin.calls["/"]
        # another name in TLS, which the same certificate covers; one of nobody's; none
        assert ask(house, context, OTHER, APP) == (421, "misdirected")
        assert ask(house, context, CHOICE, APP) == (421, "misdirected")
        assert ask(house, context, "localhost", APP) == (421, "misdirected")
        assert ask(house, context, "unknown.example.test", APP) == (421, "misdirected")
        assert ask(house, context, None, APP) == (403, "client-certificate-required")
        assert ask(house, context, None, CHOICE) == (403, "client-certificate-required")
        assert ask(house, context, None, OTHER)[0] == 200
        served += 1
        # without TLS
        with socket.create_connection(("127.0.0.1", house.http_port), timeout=20) as plain:
            plain.sendall(f"GET / HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n".encode())
            assert answer_of(plain)[0] == 308
        assert origin.calls["/"] == served
    # and a certificate for one site is shown to no other
    assert ask(house, anne, APP, APP)[0] == 200
    assert ask(house, anne, APP, OTHER) == (421, "misdirected")
    assert ask(house, anne, APP, CHOICE) == (421, "misdirected")


class H2:
    """A visitor's HTTP/2 connection."""

    def __init__(self, house: House, context: ssl.SSLContext, name: str) -> None:
        plain = socket.create_connection(("127.0.0.1", house.port), timeout=20)
        self.tls = context.wrap_socket(plain, server_hostname=name)
        assert self.tls.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()

    def ask(self, host: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")]
        self.h2.send_headers(stream, fields, end_stream=True)
        status = 0
        while True:
            self.tls.sendall(self.h2.data_to_send())
            events: list[Event] = self.h2.receive_data(self.tls.recv(65536))
            for event in events:
                if isinstance(event, ResponseReceived) and event.stream_id == stream:
                    status = int(dict(event.headers)[":status"])
                if isinstance(event, StreamEnded) and event.stream_id == stream:
                    return status


def test_no_way_round_it_on_a_connection_of_http2(people: People) -> None:
    house, served = people.house, people.origin.calls["/"]
    for person in (None, people.anne):
        connection = H2(house, people.context(person, "h2"), OTHER)
        statuses = [connection.ask(host) for host in (OTHER, APP, CHOICE, OTHER)]
        assert statuses == [200, 421, 421, 200]
        connection.tls.close()
    connection = H2(house, people.context(people.anne, "h2"), APP)
    assert [connection.ask(host) for host in (APP, OTHER, APP)] == [200, 421, 200]
    connection.tls.close()
    assert people.origin.calls["/"] == served + 6


def s_client(people: People, *args: str) -> tuple[int, str]:
    """A GET by openssl's own client: its exit status, and all that it says."""
    argv = [
        need_program("openssl"),
        "s_client",
        "-connect",
        f"127.0.0.1:{people.house.port}",
        "-ign_eof",
        "-alpn",
        "http/1.1",
    ]
    host = args[args.index("-servername") + 1] if "-servername" in args else OTHER
    done = subprocess.run(
        [*argv, "-CAfile", str(people.server.file), *args], cwd=people.folder, timeout=30, check=False,
        input=f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), capture_output=True,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.requires_program("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(people: People, version: str) -> None:
    certificate, key = people.anne.write(people.folder)
    shown = ("-cert", str(certificate), "-key", str(key))
    session = str(people.folder / "session.pem")
    # the edge says whose certificates it wants
    status, said = s_client(people, version, "-servername", APP, *shown, "-sess_out", session)
    assert status == 0
    assert re.search(r"Acceptable client certificate CA names\nCN ?= ?people", said)
    assert "HTTP/1.1 200" in said
    assert cert_field(people.anne) in said
    # resumed, and with the same certificate; at another site not
    status, said = s_client(people, version, "-servername", APP, *shown, "-sess_in", session)
    assert "Reused, TLS" in said
    assert cert_field(people.anne) in said
    status, said = s_client(people, version, "-servername", OTHER, *shown, "-sess_in", session)
    assert "New, TLS" in said
    assert "No client certificate CA names sent" in said
    assert "HTTP/1.1 200" in said
    assert cert_field(people.anne) not in said
    # without one
    status, said = s_client(people, version, "-servername", APP)
    assert "alert" in said
    assert "HTTP/1.1" not in said
    # an open site's session does not lead here; nor does an unknown name, which has the edge's own certificate
    s_client(people, version, "-servername", OTHER, "-sess_out", session)
    status, said = s_client(people, version, "-servername", APP, "-sess_in", session)
    assert "alert" in said
    assert "HTTP/1.1" not in said
    status, said = s_client(people, version, "-servername", "unknown.example.test")
    assert "No client certificate CA names sent" in said
    assert "HTTP/1.1 404" in said


@pytest.mark.deadline(120)
def test_reload(house: House, origin: Origin) -> None:
    people = People(house, origin)
    people.open()
    anne, bert = people.context(people.anne), people.context(people.bert)
    edge = house.edge
    old = H2(house, people.context(people.anne, "h2"), APP)
    other = H2(house, people.context(None, "h2"), OTHER)
    assert (old.ask(APP), other.ask(OTHER)) == (200, 200)

    # nothing of it changes
    edge.send(signal.SIGHUP)
    edge.wait_for("configuration reloaded")
    assert old.ask(APP) == 200

    # now it is Bert alone
    site = house.config["sites"][0]
    site["client_fingerprints"] = [people.bert.fingerprint.hex(":").upper()]
    house.write()
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    edge.wait_for("1 connections end after their requests", after=mark)
    assert old.tls.recv(65536)  # GOAWAY
    old.tls.close()
    assert ask(house, bert, APP, APP)[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(house, anne, APP, APP)
    assert other.ask(OTHER) == 200

    # another CA, and the file alone has changed
    people.ca = Person("people", ca=True)
    people.ca_file.write_bytes(people.ca.pem)
    del site["client_fingerprints"]
    house.write()
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    edge.wait_for("configuration reloaded", after=mark)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(house, bert, APP, APP)
    carl = people.context(Person("carl", people.ca))
    assert ask(house, carl, APP, APP)[0] == 200

    # a file that is none: everything stays
    people.ca_file.write_text("nothing\n")
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    line = edge.wait_for("not reloaded.*", after=mark)[0]
    assert "edge.toml: $.sites[0].client_ca: people/ca.pem holds no PEM certificate" in line
    assert ask(house, carl, APP, APP)[0] == 200

    # the open site closes, and who is there is asked to come again
    people.ca_file.write_bytes(people.ca.pem)
    house.config["sites"][1]["client_ca"] = "people/ca.pem"
    house.write()
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    edge.wait_for("1 connections end after their requests", after=mark)
    other.tls.close()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(house, people.context(), OTHER, OTHER)

    # and the versions of TLS
    carl.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(house, carl, APP, APP)[0] == 200
    house.config["tls"]["policy"] = "modern"
    house.write()
    mark = edge.mark()
    edge.send(signal.SIGHUP)
    edge.wait_for("configuration reloaded", after=mark)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        ask(house, carl, APP, APP)
    carl.maximum_version = ssl.TLSVersion.TLSv1_3
    assert ask(house, carl, APP, APP)[0] == 200
