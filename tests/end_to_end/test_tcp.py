"""``[[tcp]]`` with real programs: Redis and ssh through an edge and an agent; ends, limits, and who may connect."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.desk import PATIENCE, Desk, breaks, dialled, everything, exactly, is_cut_off
from tests.end_to_end.house import House, open_house
from tests.end_to_end.programs import Program, free_port, need_program
from wormhole_tw.net.proxy_protocol import encode_header

PROXY = "127.0.0.2"
ALLOWED = "127.0.0.3"
DENIED = "127.0.0.4"
SIZE = 4_000_000


class Ports:
    """An edge with TCP services, and the agent of the one behind which the test itself is the service."""

    def __init__(self, house: House, desk: Desk) -> None:
        self.house = house
        self.desk = desk
        self.app, self.idle, self.few, self.some, self.proxied, self.lonely, self.admin = (
            free_port() for _ in range(7)
        )
        edge = house.config["edge"]
        edge["admin"] = f"tcp:{self.admin}:interface=127.0.0.1"
        house.config["access_log"] = {"path": "-"}
        house.config["tcp"] = [
            self.service("app", self.app),
            self.service("idle", self.idle, idle=0.5),
            self.service("few", self.few, connections=3, connections_per_address=2),
            self.service("some", self.some, allow=["127.0.0.0/29"], deny=[DENIED]),
            self.service("proxied", self.proxied, backend="told", proxy_protocol=True, trusted=[PROXY]),
            self.service("lonely", self.lonely, backend="other"),
        ]
        house.config["backends"][2]["proxy_protocol"] = "v2"
        house.write()
        house.start_edge()
        self.agent = house.agent("agent", desk.port)
        desk.probed()

    @staticmethod
    def service(name: str, port: int, *, backend: str = "app", **more: Any) -> dict[str, Any]:
        return {"name": name, "listen": f"tcp:{port}:interface=127.0.0.1", "backend": backend, **more}

    def line(self, service: str, client: str, *, after: int = 0) -> dict[str, Any]:
        """The line of the access log about a connection from an address, which no other test has."""
        found = self.house.edge.wait_for(rf'{{.*"client":"{client}","service":"{service}".*}}', after=after)
        line: dict[str, Any] = json.loads(found[0])
        return line

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            return str(answer.read(), "ascii")


HOSTS = {"app.example.test": "app", "other.example.test": "other", "told.example.test": "told"}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with open_house(tmp_path_factory.mktemp("tcp"), hosts=HOSTS) as house, Desk() as desk:
        yield Ports(house, desk)


def test_half_close_the_visitor_first(ports: Ports) -> None:
    with dialled(ports.app, "127.0.0.21") as visitor, ports.desk.accepted() as service:
        visitor.sendall(b"question")
        visitor.shutdown(socket.SHUT_WR)
        assert everything(service) == b"question"
        service.sendall(b"answer")
        service.close()
        assert everything(visitor) == b"answer"
    line = ports.line("app", "127.0.0.21")
    assert (line["kind"], line["reason"], line["received"], line["sent"]) == ("tcp", "closed", 8, 6)
    assert (line["backend"], line["attempts"], line["site"], line["host"]) == ("app", 1, "", "")
    assert line["session"]
    assert 0 < line["connected"] <= line["duration"]


def test_half_close_the_service_first(ports: Ports) -> None:
    with dialled(ports.app) as visitor, ports.desk.accepted() as service:
        service.sendall(b"greeting")
        service.shutdown(socket.SHUT_WR)
        assert everything(visitor) == b"greeting"
        sending = threading.Thread(target=visitor.sendall, args=(b"x" * SIZE,))
        sending.start()
        assert exactly(service, SIZE) == b"x" * SIZE
        sending.join(PATIENCE)
        visitor.close()
        assert service.recv(1) == b""


def test_the_service_speaks_first(ports: Ports) -> None:
    with dialled(ports.app) as visitor, ports.desk.accepted() as service:
        service.sendall(b"220 ready\r\n")
        assert exactly(visitor, 11) == b"220 ready\r\n"


def test_megabytes_both_ways_at_once(ports: Ports) -> None:
    data = os.urandom(SIZE)
    with dialled(ports.app) as visitor, ports.desk.accepted() as service:
        heard: dict[str, bytes] = {}
        threads = [
            threading.Thread(target=visitor.sendall, args=(data,)),
            threading.Thread(target=service.sendall, args=(data[::-1],)),
            threading.Thread(target=lambda: heard.update(service=exactly(service, SIZE))),
        ]
        for thread in threads:
            thread.start()
        heard["visitor"] = exactly(visitor, SIZE)
        for thread in threads:
            thread.join(PATIENCE)
    assert hashlib.sha256(heard["service"]).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(heard["visitor"]).digest() == hashlib.sha256(data[::-1]).digest()


def test_who_does_not_read_holds_the_service_up(ports: Ports) -> None:
    """Bounded all the way: some buffers fill, then the service can send no more; once they are read, all comes."""
    with dialled(ports.app, receive_buffer=65536) as visitor, ports.desk.accepted() as service:
        service.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64_000_000:
                sent += service.send(b"z" * 65536)
        assert sent < 32_000_000, "nothing held the service up"
        service.settimeout(PATIENCE)
        service.shutdown(socket.SHUT_WR)
        assert len(everything(visitor)) == sent


def test_a_service_that_breaks_is_no_clean_end(ports: Ports) -> None:
    with dialled(ports.app, "127.0.0.22") as visitor, ports.desk.accepted() as service:
        service.sendall(b"half of")
        assert exactly(visitor, 7) == b"half of"
        breaks(service)
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)
    assert ports.line("app", "127.0.0.22")["reason"] == "service-failed"


def test_a_visitor_that_breaks(ports: Ports) -> None:
    with dialled(ports.app, "127.0.0.23") as visitor, ports.desk.accepted() as service:
        visitor.sendall(b"half of")
        assert exactly(service, 7) == b"half of"
        breaks(visitor)
        assert is_cut_off(service)
    assert ports.line("app", "127.0.0.23")["reason"] == "visitor-gone"


def test_silence_ends_it(ports: Ports) -> None:
    with dialled(ports.idle) as visitor, ports.desk.accepted() as service:
        visitor.sendall(b".")
        assert service.recv(1) == b"."
        assert is_cut_off(visitor)
        assert is_cut_off(service)
    assert ports.line("idle", "127.0.0.1")["reason"] == "idle"


def test_no_agent(ports: Ports) -> None:
    mark = ports.house.edge.mark()
    with dialled(ports.lonely) as visitor:
        # for 5 s after its start the edge expects agents, and the connection waits for one
        assert is_cut_off(visitor)
    assert ports.line("lonely", "127.0.0.1", after=mark)["reason"] == "no-agent"
    ports.house.edge.wait_for(
        r"TCP service lonely: a connection of 127\.0\.0\.1 was closed: no agent of backend other is there", after=mark
    )
    [count] = re.findall(
        r'wormhole_tcp_connections_total\{backend="other",kind="tcp",reason="no-agent",service="lonely"\} (\S+)',
        ports.metrics(),
    )
    assert float(count) >= 1


def test_limits_of_connections(ports: Ports) -> None:
    mark = ports.house.edge.mark()
    with dialled(ports.few) as first, ports.desk.accepted() as service, dialled(ports.few), ports.desk.accepted():
        with dialled(ports.few) as third:
            assert is_cut_off(third)
        assert ports.line("few", "127.0.0.1", after=mark)["reason"] == "too-many-connections"
        with dialled(ports.few, ALLOWED), ports.desk.accepted(), dialled(ports.few, DENIED) as fifth:
            assert is_cut_off(fifth)
        assert ports.line("few", DENIED, after=mark)["reason"] == "service-busy"
        service.close()
        assert first.recv(1) == b""
        first.close()
        ports.house.edge.wait_for('"client":"127.0.0.1","service":"few".*"reason":"closed"', after=mark)
        with dialled(ports.few) as again, ports.desk.accepted() as service:
            again.sendall(b"room")
            assert exactly(service, 4) == b"room"


def test_who_may_connect(ports: Ports) -> None:
    mark = ports.house.edge.mark()
    with dialled(ports.some, ALLOWED) as visitor, ports.desk.accepted() as service:
        service.sendall(b"!")
        assert visitor.recv(1) == b"!"
    for stranger in ("127.0.0.9", DENIED):
        with dialled(ports.some, stranger) as visitor:
            assert is_cut_off(visitor)
        assert ports.line("some", stranger, after=mark)["reason"] == "not-allowed"


def test_the_proxy_protocol_in_and_out(ports: Ports) -> None:
    """A trusted peer says who the visitor is, and the service hears it; others come as they are."""
    with Desk() as told:
        agent = ports.house.agent("told", told.port, backend="told")
        with told.accepted() as probe:
            everything(probe)
        visitor, reached = ("198.51.100.7", 4321), ("203.0.113.1", 5432)
        mark = ports.house.edge.mark()
        with dialled(ports.proxied, PROXY) as proxy:
            for piece in (
                encode_header("v1", visitor, reached)[:9],
                encode_header("v1", visitor, reached)[9:] + b"hello",
            ):
                proxy.sendall(piece)
            with told.accepted() as service:
                wanted = encode_header("v2", visitor, reached) + b"hello"
                assert exactly(service, len(wanted)) == wanted
        assert ports.line("proxied", "198.51.100.7", after=mark)["reason"] == "closed"
        with dialled(ports.proxied, ALLOWED) as direct, told.accepted() as service:
            here = direct.getsockname()
            wanted = encode_header("v2", here, ("127.0.0.1", ports.proxied))
            assert exactly(service, len(wanted)) == wanted
        with dialled(ports.proxied, PROXY) as proxy:
            proxy.sendall(b"SSH-2.0-nothing\r\n")
            assert is_cut_off(proxy)
        ports.house.edge.wait_for("127.0.0.2 is trusted to send the PROXY protocol's header, and did not", after=mark)
        agent.stop()


def test_metrics_of_what_has_been(ports: Ports) -> None:
    """Connections that are open are counted, with their octets, as they stand."""
    with dialled(ports.app) as visitor, ports.desk.accepted() as service:
        visitor.sendall(b"x" * 1000)
        exactly(service, 1000)
        text = ports.metrics()
        place = 'backend="app",kind="tcp",service="app"'
        assert f"wormhole_tcp_connections_open{{{place}}} 1.0" in text
        [received] = re.findall(rf"wormhole_tcp_received_bytes_total\{{{place}\}} (\S+)", text)
        assert float(received) >= 1000


# Real programs.


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[House, int]]:
    """A Redis behind an edge: its public port."""
    server, inside, public = need_program("redis-server"), free_port(), free_port()
    with open_house(tmp_path) as house:
        house.config["tcp"] = [Ports.service("redis", public)]
        house.write()
        argv = [server, "--port", str(inside), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        house.programs.start("redis", argv).wait_for("Ready to accept connections")
        house.start_edge()
        house.agent("agent", inside)
        yield house, public


def test_redis(redis: tuple[House, int]) -> None:
    house, port = redis
    client = [need_program("redis-cli"), "-p", str(port)]

    def ask(*words: str, given: bytes | None = None) -> bytes:
        return subprocess.run([*client, *words], input=given, capture_output=True, timeout=PATIENCE, check=True).stdout

    assert ask("ping") == b"PONG\n"
    big = os.urandom(SIZE // 4).hex().encode()
    assert ask("-x", "set", "big", given=big) == b"OK\n"
    assert ask("get", "big") == big + b"\n"
    # ten thousand commands in one pipeline, which Redis's own client checks
    commands = b"".join(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" for _ in range(10_000))
    assert b"errors: 0, replies: 10000" in ask("--pipe", given=commands)
    assert ask("get", "n") == b"10000\n"
    # a subscriber hears what another connection publishes
    listener = house.programs.start("subscriber", [*client, "subscribe", "news"])
    listener.wait_for("^1$")
    assert ask("publish", "news", "hello") == b"1\n"
    listener.wait_for("hello")


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[tuple[House, list[str]]]:
    """An sshd behind an edge, with keys and a configuration of its own: the client's command line for it."""
    sshd, keygen, client = need_program("sshd"), need_program("ssh-keygen"), need_program("ssh")
    inside, public = free_port(), free_port()
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True, timeout=PATIENCE)
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {inside}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile {tmp_path}/sshd.pid\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "PermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives up its rights
    with open_house(tmp_path) as house:
        house.config["tcp"] = [Ports.service("ssh", public)]
        house.write()
        house.programs.start("sshd", [sshd, "-D", "-e", "-f", str(config)]).wait_for("Server listening")
        house.start_edge()
        house.agent("agent", inside)
        known = tmp_path / "known_hosts"
        known.write_text(f"[127.0.0.1]:{public} {(tmp_path / 'host.pub').read_text()}")
        options = [
            f"UserKnownHostsFile={known}",
            f"IdentityFile={tmp_path}/user",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
        ]
        yield (
            house,
            [
                *(client, "-F", "none", "-p", str(public)),
                *(word for option in options for word in ("-o", option)),
                f"{getpass.getuser()}@127.0.0.1",
            ],
        )


def test_ssh(ssh: tuple[House, list[str]]) -> None:
    house, command = ssh
    data = os.urandom(SIZE)
    done = subprocess.run([*command, "cat; exit 7"], input=data, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (7, b"")
    assert done.stdout == data
    # a session that only sits there, until the agent is killed: ssh says that it was cut off, and does not hang
    session = house.programs.start("session", [*command, "echo here; sleep 600"])
    session.wait_for("here")
    house.programs.named("agent").send(signal.SIGKILL)
    assert session.wait(30) == 255


# What becomes of open connections.


class Open:
    """An edge with one TCP service, its agent, and a connection that is open."""

    def __init__(self, house: House, desk: Desk) -> None:
        self.house = house
        self.port = free_port()
        house.config["access_log"] = {"path": "-"}
        house.config["tcp"] = [Ports.service("app", self.port)]
        house.write()
        self.edge: Program = house.start_edge()
        self.agent = house.agent("agent", desk.port)
        desk.probed()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as mine:
        yield mine


def until_refused(port: int) -> None:
    """Connect until nobody listens any more."""
    for _ in range(1000):
        try:
            with dialled(port) as late:
                assert is_cut_off(late)
        except ConnectionRefusedError:
            return
    raise AssertionError("the port is still open")


def test_sigterm_lets_open_connections_run_on_until_a_second_one(tmp_path: Path, desk: Desk) -> None:
    with open_house(tmp_path) as house:
        here = Open(house, desk)
        with (
            dialled(here.port) as visitor,
            desk.accepted() as service,
            dialled(here.port) as endless,
            desk.accepted() as unending,
        ):
            here.edge.send(signal.SIGTERM)
            here.edge.wait_for("SIGTERM: finishing what runs")
            until_refused(here.port)
            visitor.sendall(b"still")
            assert exactly(service, 5) == b"still"
            service.sendall(b"here")
            service.close()
            assert everything(visitor) == b"here"
            visitor.close()
            here.edge.wait_for('"reason":"closed","received":5,"sent":4')
            here.edge.send(signal.SIGTERM)
            assert is_cut_off(endless)
            assert is_cut_off(unending)
        here.edge.wait()


def test_a_connection_ends_with_its_agent(tmp_path: Path, desk: Desk) -> None:
    with open_house(tmp_path) as house:
        here = Open(house, desk)
        with dialled(here.port) as visitor, desk.accepted() as service:
            visitor.sendall(b"x")
            assert exactly(service, 1) == b"x"
            here.agent.send(signal.SIGKILL)
            assert is_cut_off(visitor)
        assert '"reason":"agent-lost"' in here.edge.wait_for('{.*"service":"app".*}')[0]


def test_a_reload_changes_all_but_ports(tmp_path: Path, desk: Desk) -> None:
    with open_house(tmp_path) as house, Desk() as second:
        here = Open(house, desk)
        house.agent("second", second.port, backend="other")
        second.probed()

        def reload(*services: dict[str, Any]) -> int:
            mark = here.edge.mark()
            house.config["tcp"] = list(services)
            house.write()
            here.edge.send(signal.SIGHUP)
            here.edge.wait_for("configuration reloaded", after=mark)
            return mark

        with dialled(here.port) as visitor, desk.accepted() as service:
            reload(Ports.service("app", here.port, backend="other", deny=[DENIED]))
            visitor.sendall(b"as before")
            assert exactly(service, 9) == b"as before"
            with dialled(here.port) as newcomer, second.accepted() as elsewhere:
                newcomer.sendall(b"new")
                assert exactly(elsewhere, 3) == b"new"
            with dialled(here.port, DENIED) as denied:
                assert is_cut_off(denied)
            mark = reload(Ports.service("app", free_port()), Ports.service("more", free_port()))
            here.edge.wait_for(
                r"only a restart changes \$\.tcp\[0\]\.listen \(app\), \$\.tcp\[1\] \(more is new\)", after=mark
            )
            with dialled(here.port) as newcomer, desk.accepted() as elsewhere:
                newcomer.sendall(b"new")
                assert exactly(elsewhere, 3) == b"new"
            reload()
            with dialled(here.port) as newcomer:
                assert is_cut_off(newcomer)
            visitor.sendall(b"still")
            assert exactly(service, 5) == b"still"
