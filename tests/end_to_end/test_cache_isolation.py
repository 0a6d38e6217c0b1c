"""Two tenants behind one edge with a cache, over HTTP/1.1, HTTP/2 and without TLS: nobody gets what is another's."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests._support import sized
from tests.end_to_end.house import APP, OTHER, House, open_house
from tests.end_to_end.origin import Call, Origin

VISITORS = 8
ROUNDS = sized(25, 2000)
"""Connections of each visitor, of four requests each.  One of each takes a tenth of a second of two cores: 2000 of them
take about 3 minutes."""

PAGES = 12
KINDS = ("public", "private", "personal", "vary", "long")

EVIL = "evil.example"


class Tenant:
    """A service whose answers say whose they are, what they answer and who asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, call: Call) -> None:
        kind = call.path.split("/")[1].partition("?")[0]
        lang = call.headers.get("Accept-Language", "") if kind == "vary" else ""
        seen = "|".join(f"{name}={value}" for name, value in call.headers.items() if name.lower() != "x-request-id")
        text = f"tenant={self.name} path={call.path} lang={lang} who={call.headers.get('X-Nonce', '')} seen={seen}\n"
        if kind == "long":
            text += "x" * 300_000
        control = "private" if kind == "private" else "max-age=1, stale-while-revalidate=1"
        call.answer(
            text.encode(),
            headers={"Cache-Control": control, "Vary": "Accept-Language"} if lang else {"Cache-Control": control},
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        house = stack.enter_context(open_house(tmp_path_factory.mktemp("tenants")))
        house.config["cache"] = {"memory": "16 MiB", "disk": "64 MiB"}
        for site in house.config["sites"]:
            site["cache"] = True
        house.write()
        house.start_edge()
        for backend in ("app", "other"):
            origin = stack.enter_context(Origin())
            tenant = Tenant(backend)
            for kind in (*KINDS, "account"):
                for page in range(PAGES):
                    origin.routes[f"/{kind}/{page}"] = tenant
                origin.routes[f"/{kind}"] = origin.routes[f"/{kind}/x.css"] = tenant
            house.agent(backend, origin.port, backend=backend)
        yield house


def said(body: bytes) -> dict[str, str]:
    line = body.decode().partition("\n")[0]
    head, _, seen = line.partition(" seen=")
    return {**dict(part.split("=", 1) for part in head.split(" ")), "seen": seen}


class Crowd(threading.Thread):
    """One who asks as different people, and looks whether the answers are theirs."""

    def __init__(self, house: House, seed: int) -> None:
        super().__init__(daemon=True)
        self.house = house
        self.dice = random.Random(seed)
        self.wrong: list[str] = []
        self.hits = 0
        self.checked = 0

    def run(self) -> None:
        dice = self.dice
        for number in range(ROUNDS):
            host, tenant = dice.choice(((APP, "app"), (OTHER, "other")))
            try:
                with self.house.visitor(host) as visitor:
                    for step in range(4):
                        self.ask(visitor, tenant, f"{id(self)}-{number}-{step}")
            except Exception as error:
                self.wrong.append(repr(error))
                return

    def ask(self, visitor: object, tenant: str, who: str) -> None:
        dice = self.dice
        kind, page, lang = dice.choice(KINDS), dice.randrange(PAGES), dice.choice(("de", "fr"))
        fields = {"X-Nonce": who, "Accept-Language": lang}
        if kind == "personal":
            fields["Authorization"] = f"Bearer {who}"
        if dice.random() < 0.3:
            fields[dice.choice(("X-Original-URL", "X-Forwarded-Host", "X-HTTP-Method-Override"))] = EVIL
        path = f"/{kind}/{page}"
        answer = visitor.ask("GET", path, headers=fields)  # type: ignore[attr-defined]
        if answer.status != 200:
            self.wrong.append(f"{path}: {answer.status} {answer.headers.get('X-Wormhole-Error')}")
            return
        self.checked += 1
        self.hits += "hit" in answer.headers.get("Cache-Status", "")
        got = said(answer.body)
        right = got["tenant"] == tenant and got["path"] == path and EVIL not in got["seen"].replace(who, "")
        right &= got["lang"] == (lang if kind == "vary" else "")
        if kind in ("private", "personal"):
            right = got["who"] == who and got["tenant"] == tenant and got["path"] == path
        if kind == "long":
            right &= answer.body.endswith(b"\n" + b"x" * 300_000)
        if not right:
            self.wrong.append(f"{who} asked {tenant} for {path} with {fields} and got {got}")


@pytest.mark.deadline(3600)
def test_nothing_crosses_while_the_edge_is_reloaded(house: House) -> None:
    crowds = [Crowd(house, seed) for seed in range(VISITORS)]
    for crowd in crowds:
        crowd.start()
    while any(crowd.is_alive() for crowd in crowds):
        os.kill(house.edge.process.pid, signal.SIGHUP)
        crowds[0].join(0.5)
        for crowd in crowds[1:]:
            crowd.join(0.05)
    assert [wrong for crowd in crowds for wrong in crowd.wrong] == []
    assert sum(crowd.checked for crowd in crowds) == VISITORS * ROUNDS * 4
    assert sum(crowd.hits for crowd in crowds) > VISITORS * ROUNDS / 2


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_an_attacker_tries_with_curl(house: House, version: str) -> None:
    mark = f"{EVIL}{version.strip('-').replace('.', '')}"

    def ask(path: str, *args: str, host: str = APP, scheme: str = "https") -> bytes:
        port = house.port if scheme == "https" else house.http_port
        done = house.curl(version, "--path-as-is", *args, f"{scheme}://{host}:{port}{path}", host=host)
        assert done.returncode == 0, done.stderr
        return done.stdout

    page = f"/public/1?{mark[-4:]}"
    for field in (
        "X-Forwarded-Host",
        "X-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "Forwarded",
    ):
        assert mark.encode() not in ask(page, "-H", f"{field}: {mark}")
    assert mark.encode() not in ask(page)
    # a body on GET, which is the sender's alone
    sent = ask(page + "body", "-X", "GET", "--data", mark, "-H", f"X-Nonce: {mark}")
    assert mark.encode() in sent
    assert mark.encode() not in ask(page + "body")
    # an account that looks like a style sheet
    for way in (f"/account/x.css?{mark[-4:]}", f"/account?{mark[-4:]}"):
        assert b"victim" in ask(way, "-H", "Authorization: Bearer victim")
        assert b"victim" not in ask(way)
    # spellings of the host, and the other tenant's page of the same name
    assert said(ask(page, host=OTHER))["tenant"] == "other"
    assert said(ask(page))["tenant"] == "app"
    assert mark.encode() not in ask(page, "-H", f"Host: {APP}:{house.port}", "-H", f"X-Nonce: {mark}")


def test_the_folder_of_the_cache_is_the_owners_alone(house: House) -> None:
    folder = Path(house.folder) / "state" / "cache"
    assert folder.stat().st_mode & 0o077 == 0
