"""``mode = "acme"`` against a real CA (Pebble, which refuses every fifth good nonce): names, renewal, faults, ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests._support import FULL, program_environment, sized
from tests.end_to_end.house import House, open_house, with_tests
from tests.end_to_end.pebble import Pebble
from tests.end_to_end.programs import Program, free_port, programs, wait_until

EDGE = "edge.example.com"

pytestmark = [pytest.mark.requires_program("pebble", "pebble-challtestsrv"), pytest.mark.deadline(sized(90, 600))]


NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which Python's ssl has no name for."""

PATIENCE = 60.0
"""Seconds for what takes two on a machine that has nothing else to do."""


def issued(names: str) -> str:
    """What the edge says when these names have their certificate."""
    return rf"a certificate for {re.escape(names)}, valid until"


class Town:
    """A house, and a CA that it has its certificates from.

    :param ca: the CA looks at one port alone, so that houses that share one take turns
    """

    def __init__(self, house: House, ca: Pebble) -> None:
        self.house = house
        self.ca = ca
        house.http_port = ca.http_port
        house.config["edge"]["http"] = [f"tcp:{ca.http_port}:interface=127.0.0.1"]
        house.config["edge"]["names"] = [EDGE, "localhost"]
        house.config["tls"] = ca.tls()
        self.sites("app.example.com")

    def sites(self, *sites: str | tuple[str, ...]) -> None:
        """Write ``edge.toml`` with these sites, each one host name or several."""
        self.house.config["sites"] = [
            {"hostnames": [site] if isinstance(site, str) else list(site), "routes": [{"path": "/", "backend": "app"}]}
            for site in sites
        ]
        self.house.write()

    def trust(self) -> ssl.SSLContext:
        """Trusts the CA's root of now, and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca.write_root(self.house.folder / "root.pem")))

    def served(self, name: str, context: ssl.SSLContext) -> str:
        """The serial number of the certificate that is served for a name; verified."""
        with (
            socket.create_connection(("127.0.0.1", self.house.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            certificate = tls.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    def serves(self, name: str, context: ssl.SSLContext) -> bool:
        """Whether a name is served with a good certificate."""
        try:
            return bool(self.served(name, context))
        except ssl.SSLError:
            return False

    def refused(self, name: str) -> str:
        """What a visitor hears who asks for a name that has no certificate."""
        with pytest.raises(ssl.SSLError) as caught:
            self.served(name, ssl.create_default_context())
        return str(caught.value)

    def hasty(self, *options: str) -> Program:
        """Start an edge that is hasty with its CA."""
        return self.house.programs.python(
            "edge", "-m", "tests.end_to_end.hasty_edge", *options, env=with_tests(), cwd=self.house.folder
        )

    def table(self) -> subprocess.CompletedProcess[str]:
        """``wormhole-tw edge certificates``."""
        argv = [sys.executable, "-m", "wormhole_tw.cli.main", "edge", "certificates"]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=60, cwd=self.house.folder, env=program_environment()
        )

    @property
    def state(self) -> Path:
        (folder,) = (self.house.folder / "state" / "acme").iterdir()
        return folder

    def asked(self, path: str, name: str) -> bytes:
        """What the plain listener answers: its first line."""
        with socket.create_connection(("127.0.0.1", self.house.http_port), timeout=20) as plain:
            plain.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            return plain.makefile("rb").readline()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """A CA for all of these that need none of their own. It never spares anybody a proof."""
    with programs() as mine:
        made = Pebble(tmp_path_factory.mktemp("ca"), mine, free_port(), environment={"PEBBLE_AUTHZREUSE": "0"})
        made.start()
        yield made


@pytest.fixture
def town(house: House, ca: Pebble) -> Town:
    return Town(house, ca)


def test_names_are_had_kept_and_added(town: Town) -> None:
    house, ca = town.house, town.ca
    names = [f"site-{number}.example.com" for number in range(sized(4, 49))]
    admin = free_port()
    house.config["edge"]["admin"] = f"tcp:{admin}:interface=127.0.0.1"
    town.sites(("together.example.com", "beside.example.com"), "app.localhost", *names)
    edge = house.start_edge()
    for name in [EDGE, "together.example.com, beside.example.com", *names]:
        edge.wait_for(issued(name), deadline=60)
    assert edge.count("app.localhost is no public name") == 1
    context = town.trust()
    served = {name: town.served(name, context) for name in [EDGE, *names]}
    assert len(set(served.values())) == len(served)
    assert town.served("together.example.com", context) == town.served("beside.example.com", context)
    # Whoever names nobody that is configured gets the edge's own; what is local has the local CA's.
    context.check_hostname = False
    assert town.served("nobody.example.com", context) == served[EDGE]
    context.check_hostname = True
    town.served("app.localhost", ssl.create_default_context(cafile=str(house.ca_file)))
    # Nobody else's questions are answered.
    assert b" 308 " in town.asked("/.well-known/acme-challenge/" + "a" * 43, names[0])

    for path in town.state.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    key = load_pem_private_key(next(town.state.glob("certificates/*.pem")).read_bytes(), None)
    assert getattr(getattr(key, "curve", None), "name", "") == "secp256r1"
    table = town.table()
    assert table.returncode == 0, table.stderr
    assert table.stdout.splitlines()[0].split() == ["NAME", "STATE", "ENDS", "DAYS", "NEXT"]
    rows = {line.split()[0]: line.split()[1] for line in table.stdout.splitlines()[1:]}
    assert rows == {
        **dict.fromkeys([*served, "together.example.com", "beside.example.com"], "valid"),
        **dict.fromkeys(["localhost", "app.localhost"], "local"),
    }

    def told(path: str) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=20) as answer:
            return list(answer.read().decode().splitlines())

    ready = told("/readyz?verbose")
    assert ready[0] == "ok"
    assert [line.split(",")[0] for line in ready if line.startswith(f"certificate {names[0]}: ")] == [
        f"certificate {names[0]}: valid until {table.stdout.split(names[0])[1][9:].split('  ')[1].strip()} (1825 days)"
    ]
    assert "certificate localhost: not a public name: a certificate of the local CA" in ready
    days = [
        line.split()[1] for line in told("/metrics") if line.startswith('wormhole_certificate_days_left{name="site')
    ]
    assert len(days) == len(names)
    assert all(1820 < float(number) < 1830 for number in days)

    # A restart orders nothing again, and serves at once; SIGHUP brings a name.
    before = ca.orders()
    assert edge.stop() == 0
    edge = house.start_edge()
    assert town.served(names[0], context) == served[names[0]]
    town.sites(("together.example.com", "beside.example.com"), "new.example.com", *names)
    edge.send(signal.SIGHUP)
    edge.wait_for(issued("new.example.com"))
    town.served("new.example.com", context)
    assert ca.orders() == before + 1
    assert edge.count("ordering a certificate") == 1


def test_renewal_disturbs_no_handshake(house: House) -> None:
    town = Town(house, Pebble(house.folder, house.programs, house.http_port, life=9))
    town.ca.start()
    edge = town.hasty()
    edge.wait_for(issued("app.example.com"))
    edge.wait_for(issued(EDGE))
    context = town.trust()
    # They live for nine seconds; a machine that is busy for three of them is not what this is about.
    context.verify_flags |= NO_CHECK_TIME
    seen: list[str] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            try:
                seen.append(town.served("app.example.com", context))
            except BaseException as error:
                failed.append(error)
                return

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    try:
        mark = edge.mark()
        for _ in range(sized(1, 5)):
            edge.wait_for(issued("app.example.com"), after=mark)
            mark = edge.mark()
        until = time.monotonic() + 20
        while len(set(seen)) < sized(2, 6) and time.monotonic() < until and not failed:
            over.wait(0.05)
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert failed == []
    assert len(set(seen)) >= sized(2, 6)
    assert len(list(town.state.glob("certificates/*.pem"))) <= 4


def test_the_ca_is_down(house: House) -> None:
    town = Town(house, Pebble(house.folder, house.programs, house.http_port))
    edge = town.hasty()
    line = edge.wait_for(r"certificates have to wait: (.*)")[1]
    assert "the connection is refused" in line
    assert "unrecognized" in town.refused("app.example.com").lower()
    table = town.table()
    assert table.returncode == 1
    assert re.search(r"^app\.example\.com +missing +- +- ", table.stdout, re.MULTILINE), table.stdout
    assert "last error" in table.stdout
    assert "2 of 3 names have no valid certificate" in table.stderr
    edge.wait_for(r"certificates have to wait", after=edge.mark())
    town.ca.start()
    edge.wait_for(issued("app.example.com"))
    edge.wait_for(issued(EDGE))
    town.served("app.example.com", town.trust())
    # Another process that shares the folder orders nothing, and takes over when this one has gone.
    town.house.config["edge"]["https"], town.house.config["edge"]["http"] = ["tcp:0"], ["tcp:0"]
    town.sites("app.example.com", "more.example.com")
    second = town.hasty()
    second.wait_for("another process has")
    edge.stop()
    second.wait_for("ordering a certificate for more.example.com")


def test_a_refused_challenge(town: Town) -> None:
    ca = town.ca
    ca.point("bad.example.com", "127.0.0.9")
    town.sites(("good.example.com", "bad.example.com"))
    edge = town.hasty()
    error = edge.wait_for(r"no certificate for bad\.example\.com: (.*); again at")[1]
    assert "127.0.0.9" in error, error
    # It fails for itself: the other name of its site has a certificate of its own.
    edge.wait_for(issued("good.example.com"))
    context = town.trust()
    town.served("good.example.com", context)
    assert "unrecognized" in town.refused("bad.example.com").lower()
    assert "no certificate for good" not in edge.output
    table = town.table()
    assert table.returncode == 1
    assert re.search(r"last error .*bad\.example\.com", table.stdout), table.stdout

    # A restart does not shorten the wait: what was refused once is not asked for again before its time.
    edge.wait_for(issued(EDGE))
    status = json.loads((town.state / "status.json").read_text())
    status["names"]["bad.example.com"]["next_try"] += 3600
    edge.stop()
    (town.state / "status.json").write_text(json.dumps(status))
    orders = ca.orders()
    edge = town.hasty()
    edge.wait_for("serves https on")
    town.sites(("good.example.com", "bad.example.com"), "other.example.com")
    edge.send(signal.SIGHUP)
    edge.wait_for(issued("other.example.com"))
    assert ca.orders() == orders + 1


def test_a_clock_that_is_years_ahead(town: Town) -> None:
    """The CA's certificates are all over by this clock, and still each name is ordered once."""
    edge = town.hasty("--clock", "315360000")
    edge.wait_for("this machine's clock is .* minutes ahead of the CA's")
    edge.wait_for(issued("app.example.com"))
    edge.wait_for(issued(EDGE))
    edge.wait_for("the new certificate is not valid by ours")
    town.sites("app.example.com", "later.example.com")
    edge.send(signal.SIGHUP)
    edge.wait_for(issued("later.example.com"))
    assert edge.count("ordering a certificate") == 3


DEATHS = (
    "after POST sign-me-up",
    "after POST finalize-order",
    "before remove orders/",
)
"""Where losing what was just done would hurt; with full sizes it is every step there is."""


def dies_and_goes_on(ca: Pebble, folder: Path, die: str) -> bool:
    """Kill an edge at a step, start it again, and look what is there. False where there is no such step."""
    name = f"{re.sub('[^a-z0-9]+', '-', folder.name.lower())[-40:].strip('-')}.example.com"
    with open_house(folder) as house:
        town = Town(house, ca)
        house.config["edge"]["names"] = ["localhost"]
        town.sites(name)
        accounts = ca.program.count("There are now .* accounts in memory")
        certificates = ca.issued()
        edge = town.hasty("--die", die)
        try:
            status = edge.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            assert edge.count(issued(name)), edge.output
            return False
        assert status == -signal.SIGKILL, edge.output
        again = town.hasty()
        again.wait_for("serves https on", deadline=PATIENCE)
        context = town.trust()
        wait_until(lambda: town.serves(name, context), PATIENCE, program=again)
        wait_until(lambda: not list(house.folder.glob("state/acme/*/orders/*.json")), PATIENCE, program=again)
        (file,) = house.folder.glob("state/acme/*/certificates/*.pem")
        pem = file.read_bytes()
        certificate, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)
        assert _public(certificate) == _public(key)
        assert file.stat().st_mode & 0o777 == 0o600
        # Nothing was lost, and so nothing was had twice.
        assert ca.issued() == certificates + 1
        assert ca.program.count("There are now .* accounts in memory") == accounts + 1
        return True


def _public(of: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    public: bytes = of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public


@pytest.mark.parametrize("die", DEATHS)
def test_killed_where_it_hurts(ca: Pebble, tmp_path: Path, die: str) -> None:
    assert dies_and_goes_on(ca, tmp_path, die)


@pytest.mark.full
@pytest.mark.deadline(3600)
def test_killed_between_every_two_steps(ca: Pebble, tmp_path: Path) -> None:
    assert FULL
    step = 1
    while True:
        folder = tmp_path / f"step-{step}"
        folder.mkdir()
        if not dies_and_goes_on(ca, folder, str(step)):
            break
        step += 1
    assert step > 60
