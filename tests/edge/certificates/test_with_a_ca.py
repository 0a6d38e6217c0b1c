"""An edge in this process with a real CA: its account, from the first to the one after a closed one, and its orders."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.end_to_end.ca_proxy import CaProxy
from tests.end_to_end.hasty_edge import PACE
from tests.end_to_end.pebble import Pebble
from tests.end_to_end.programs import free_port, programs
from wormhole_tw.control.acme import AcmeConfig
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.interfaces import Snapshot
from wormhole_tw.edge.certificates.acme_client import AcmeClient
from wormhole_tw.edge.service import EdgeService

pytestmark = [pytest.mark.requires_program("pebble", "pebble-challtestsrv"), pytest.mark.deadline(90)]

EDGE = "edge.example.com"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with programs() as mine:
        made = Pebble(tmp_path_factory.mktemp("ca"), mine, free_port())
        made.start()
        yield made


class House:
    """An edge that may be started many times."""

    def __init__(self, reactor: Any, folder: Path, ca: Pebble, log_lines: Any) -> None:
        self.reactor = reactor
        self.folder = folder
        self.ca = ca
        self.log_lines = log_lines
        self.edge: EdgeService | None = None

    def config(self, *hostnames: str, **tls: Any) -> EdgeConfig:
        return EdgeConfig.from_dict(
            {
                "edge": {
                    "names": [EDGE],
                    "https": ["tcp:0:interface=127.0.0.1"],
                    "http": [f"tcp:{self.ca.http_port}:interface=127.0.0.1"],
                },
                "tls": self.ca.tls(**tls),
                "backends": [{"name": "app", "tokens": ["sha256:" + "1" * 64]}],
                "sites": [{"hostnames": [name], "routes": [{"path": "/", "backend": "app"}]} for name in hostnames],
            },
            source="edge.toml",
            folder=self.folder,
        )

    def start(self, *hostnames: str, **tls: Any) -> EdgeService:
        self.log_lines.clear()
        self.edge = EdgeService(self.reactor, self.config(*hostnames, **tls), pace=PACE)
        self.edge.startService()
        return self.edge

    async def stop(self) -> None:
        edge, self.edge = self.edge, None
        if edge is not None:
            await edge.stopService()

    async def has(self, name: str) -> None:
        """Wait until a name has its certificate, and all about it is written down."""
        assert self.edge is not None
        await self.log_lines.wait_for(f"a certificate for {name}, valid until")
        material = self.edge.certificates.tls.certificates.choose(name)
        assert material is not None
        assert material.covers(name)

    async def all_is_written(self) -> None:
        """Wait until every certificate is on the disk, what the CA says of it too, and no order is left."""
        assert self.edge is not None
        acme = self.edge.certificates.acme
        assert acme is not None
        quiet = 0
        while quiet < 5:  # each turn may still bring a last line to be written
            await acme._disk(lambda: None)
            file = self.state / "status.json"
            asked = json.loads(file.read_text())["renewals"] if file.exists() else {}
            kept = {path.stem for path in self.state.glob("certificates/*.pem")}
            orders = list(self.state.glob("orders/*.json"))
            quiet = quiet + 1 if kept and set(asked) == kept and not orders else 0

    @property
    def state(self) -> Path:
        (folder,) = (self.folder / "state" / "acme").iterdir()
        return folder


@pytest_twisted.async_yield_fixture
async def house(reactor: Any, tmp_path: Path, ca: Pebble, log_lines: Any) -> AsyncIterator[House]:
    made = House(reactor, tmp_path, ca, log_lines)
    yield made
    await made.stop()


async def test_an_account_is_made_kept_and_replaced(house: House, log_lines: Any) -> None:
    edge = house.start("app.example.com")
    await house.has("app.example.com")
    await house.has(EDGE)
    assert edge.certificates.acme is not None
    assert {status.state for status in edge.certificates.acme.statuses()} == {"valid"}
    await house.stop()
    account = json.loads((house.state / "account.json").read_text())
    assert account["email"] == "admin@example.com"

    # It has another address now, which the CA is told; the account stays.
    edge = house.start("app.example.com", email="other@example.com")
    wanted = house.config("app.example.com", "second.example.com", email="other@example.com")
    edge.apply(Snapshot(wanted, build_catalog(wanted)))
    await house.has("second.example.com")
    await house.stop()
    told = json.loads((house.state / "account.json").read_text())
    assert (told["uri"], told["email"]) == (account["uri"], "other@example.com")

    # Somebody closes it. That is not a day old, and no new one is made behind his back.
    key: Any = load_pem_private_key((house.state / "account.key").read_bytes(), None)
    config = AcmeConfig(directory=house.ca.directory, directory_ca_file=house.ca.ca_file)
    client = AcmeClient(config, key, source="the test")
    client.open()
    client.use(account["uri"])
    client.close_account()
    house.start("app.example.com", "third.example.com")
    await log_lines.wait_for("which is not a day old; move ")
    await house.stop()
    (house.state / "account.json").write_text(json.dumps({**told, "created": told["created"] - 90_000}))
    house.start("app.example.com", "third.example.com")
    await log_lines.wait_for("a new one is made")
    await house.has("third.example.com")
    assert len(list(house.state.glob("account.key.closed-*"))) == 1
    assert json.loads((house.state / "account.json").read_text())["uri"] != account["uri"]


async def test_a_name_that_is_refused_and_comes_back(house: House, log_lines: Any) -> None:
    house.ca.point("bad.example.com", "127.0.0.9")
    edge = house.start("bad.example.com")
    await log_lines.wait_for("no certificate for bad.example.com: ")
    await house.has(EDGE)
    assert edge.certificates.acme is not None
    [_, bad] = edge.certificates.acme.statuses()
    assert (bad.state, bad.failures) == ("missing", 1)
    assert "127.0.0.9" in bad.error
    house.ca.point("bad.example.com", "127.0.0.1")
    await house.has("bad.example.com")
    [_, good] = edge.certificates.acme.statuses()
    assert (good.state, good.failures, good.error) == ("valid", 0, "")


async def test_an_order_is_given_up_with_its_name_and_stopped_with_the_edge(house: House, log_lines: Any) -> None:
    edge = house.start("fleeting.example.com")
    await log_lines.wait_for("ordering a certificate for fleeting.example.com")
    fewer = house.config()
    edge.apply(Snapshot(fewer, build_catalog(fewer)))
    await log_lines.wait_for("the order for fleeting.example.com is given up")
    await house.has(EDGE)
    house.log_lines.clear()
    more = house.config("late.example.com")
    edge.apply(Snapshot(more, build_catalog(more)))
    await log_lines.wait_for("ordering a certificate for late.example.com")
    await house.stop()
    # What had begun goes on with the next start, or had not begun.
    house.start("late.example.com")
    await house.has("late.example.com")


async def test_what_the_ca_says_of_its_limits_and_of_renewal(house: House, log_lines: Any) -> None:
    with CaProxy(house.ca, house.folder) as proxy:
        proxy.limit_orders = 1
        edge = house.start("app.example.com", directory=proxy.directory)
        event = await log_lines.wait_for("no certificate for ")
        assert str(event["error"]) == "too many, says the test (rateLimited)"
        await house.has("app.example.com")
        await house.has(EDGE)
        await house.all_is_written()
        first = edge.certificates.tls.certificates.choose("app.example.com")
        assert proxy.replaced == []
        await house.stop()
        # It wants them renewed at once, though they live for years; what was had just now would wait a day.
        proxy.renew = True
        file = house.state / "status.json"
        status = json.loads(file.read_text())
        status["renewals"] = {}
        for name in status["names"].values():
            name["issued_at"] -= 90_000
        file.write_text(json.dumps(status))
        edge = house.start("app.example.com", directory=proxy.directory)
        await house.has("app.example.com")
        await house.has(EDGE)
        assert edge.certificates.tls.certificates.choose("app.example.com") is not first
        assert len(set(proxy.replaced)) == 2
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", one) for one in proxy.replaced)
        await house.stop()
