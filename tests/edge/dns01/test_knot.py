"""Dynamic updates (RFC 2136) with TSIG, against a real Knot DNS."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._support import ROOT, require_program
from tests.edge.dns01.knot import KEY, Knot
from tests.end_to_end.programs import free_port, programs
from wormhole_tw.control.dns import DnsConfig, DnsTable, UpdateTable, read_dns
from wormhole_tw.edge.certificates.dns01.solver import DnsSolver
from wormhole_tw.errors import ChallengeFailed

VALUE = "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo"
OTHER = "-value-that-begins-with-a-hyphen_0123456789A"


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with programs() as started:
        yield Knot(started, tmp_path_factory.mktemp("knot"))


def configured(knot: Knot, *, update: dict[str, Any] | None = None, **changes: Any) -> DnsConfig:
    table = DnsTable(
        **{
            "rfc2136": UpdateTable(**{"server": knot.address, "key_file": str(knot.key_file()), **(update or {})}),
            "resolvers": [knot.address],
            "propagation_servers": [knot.address],
            "propagation_timeout": 10,
            **changes,
        }
    )
    return read_dns(table, Path("/"), "edge.toml")


async def refusal(reactor: Any, config: DnsConfig, name: str = "_acme-challenge.a.example.test") -> str:
    with pytest.raises(ChallengeFailed) as caught:
        await DnsSolver(reactor, reactor, config).present(name, [VALUE])
    assert KEY not in str(caught.value)
    return str(caught.value)


async def test_values_come_and_go(reactor: Any, knot: Knot) -> None:
    name = "_acme-challenge.preview.example.test"
    solver = DnsSolver(reactor, reactor, configured(knot))
    await solver.present(name, [VALUE, OTHER])
    assert knot.values(name) == {VALUE, OTHER}
    await solver.present(name, [VALUE])  # as after a restart: no error, and nothing twice
    await solver.clean_up(name, [OTHER])
    assert knot.values(name) == {VALUE}
    await solver.clean_up(name, [VALUE, OTHER])
    await solver.clean_up(name, [VALUE])
    assert knot.values(name) == set()


async def test_what_is_not_ours_stays(reactor: Any, knot: Knot) -> None:
    name = "_acme-challenge.taken.example.test"
    solver = DnsSolver(reactor, reactor, configured(knot))
    await solver.present(name, [VALUE])
    assert knot.values(name) == {VALUE, "somebody else's"}
    await solver.clean_up(name, [VALUE])
    assert knot.values(name) == {"somebody else's"}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("_acme-challenge.elsewhere.example.test", "token.other.test"),
        ("_acme-challenge.far.example.test", "two.other.test"),
    ],
)
async def test_a_cname_is_followed(reactor: Any, knot: Knot, log_lines: Any, name: str, record: str) -> None:
    solver = DnsSolver(reactor, reactor, configured(knot))
    await solver.present(name, [VALUE])
    assert knot.values(record) == {VALUE}
    assert f"{name} is a CNAME: what proves the name is written to {record}" in log_lines
    await solver.clean_up(name, [VALUE])
    assert knot.values(record) == set()


async def test_a_circle_of_cnames(reactor: Any, knot: Knot) -> None:
    said = await refusal(reactor, configured(knot), "_acme-challenge.round.example.test")
    assert "more than 8 CNAMEs in a row, or in a circle" in said


async def test_a_cname_that_is_not_followed(reactor: Any, knot: Knot) -> None:
    """A record cannot stand beside a CNAME: Knot says nothing and drops it, and the wait finds that out."""
    name = "_acme-challenge.elsewhere.example.test"
    said = await refusal(reactor, configured(knot, follow_cname=False, propagation_timeout=0.2), name)
    assert f"{name} was not seen within 0.2 s (tls.dns.propagation_timeout): {knot.address} did not have it" in said


async def test_the_zone_is_given(reactor: Any, knot: Knot) -> None:
    name = "_acme-challenge.given.example.test"
    solver = DnsSolver(reactor, reactor, configured(knot, update={"zone": "example.test"}))
    await solver.present(name, [VALUE])
    assert knot.values(name) == {VALUE}
    await solver.clean_up(name, [VALUE])
    said = await refusal(reactor, configured(knot, update={"zone": "other.test"}), name)
    assert "given.example.test is not in the zone other.test (tls.dns.rfc2136.zone)" in said


async def test_a_wrong_secret(reactor: Any, knot: Knot) -> None:
    wrong = knot.key_file(base64.b64encode(b"not what the server knows it as").decode())
    said = await refusal(reactor, configured(knot, update={"key_file": str(wrong)}))
    assert "has another secret for the key edge (tls.dns.rfc2136.key_file)" in said


async def test_an_unknown_key(reactor: Any, knot: Knot) -> None:
    said = await refusal(reactor, configured(knot, update={"key_file": str(knot.key_file(name="nobody"))}))
    assert "does not take the key nobody (hmac-sha256): unknown there, or it may not write this" in said


async def test_a_zone_that_is_closed(reactor: Any, knot: Knot) -> None:
    assert "does not take the key edge" in await refusal(reactor, configured(knot), "_acme-challenge.a.closed.test")


async def test_a_name_that_the_key_may_not_write(reactor: Any, knot: Knot) -> None:
    assert "does not take the key edge" in await refusal(reactor, configured(knot), "_acme-challenge.a.half.test")
    await DnsSolver(reactor, reactor, configured(knot)).present("_acme-challenge.b.half.test", [VALUE])
    assert knot.values("_acme-challenge.b.half.test") == {VALUE}


async def test_a_key_that_may_not(reactor: Any, knot: Knot) -> None:
    said = await refusal(reactor, configured(knot, update={"key_file": str(knot.key_file(name="stranger"))}))
    assert "does not take the key stranger (hmac-sha256)" in said


async def test_no_such_zone(reactor: Any, knot: Knot) -> None:
    config = configured(knot, follow_cname=False)
    said = await refusal(reactor, config, "_acme-challenge.a.nowhere.test")
    assert "has no zone that _acme-challenge.a.nowhere.test is in" in said


async def test_the_hook_of_the_documentation(reactor: Any, knot: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOTC", f"{require_program('knotc')} -s {knot.socket}")
    name, hook = "_acme-challenge.taken.example.test", str(ROOT / "docs" / "examples" / "dns_hook.sh")
    table = DnsTable(hook=[hook, "example.test"], resolvers=[knot.address], propagation_servers=[knot.address])
    solver = DnsSolver(reactor, reactor, read_dns(table, Path("/"), "edge.toml"))
    await solver.present(name, [VALUE, OTHER])
    await solver.present(name, [VALUE])
    assert knot.values(name) == {VALUE, OTHER, "somebody else's"}
    await solver.clean_up(name, [VALUE])
    await solver.clean_up(name, [VALUE])
    assert knot.values(name) == {OTHER, "somebody else's"}
    await solver.clean_up(name, [OTHER])
    with pytest.raises(
        ChallengeFailed, match=r"dns_hook.sh present ended with status 1: error: .*does not belong to the zone"
    ):
        await solver.present("_acme-challenge.a.other.test", [VALUE])
    # That was undone, or the zone would be closed to everybody.
    await solver.present(name, [VALUE])
    await solver.clean_up(name, [VALUE])


async def test_a_server_that_is_down(reactor: Any, knot: Knot) -> None:
    config = configured(knot, update={"server": f"127.0.0.1:{free_port()}"})
    assert "(tls.dns.rfc2136.server) cannot be reached: Connection refused" in await refusal(reactor, config)
