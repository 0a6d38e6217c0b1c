"""Two orders of one edge that come to their end at the same time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.edge.certificates.test_keeper import config, keep
from tests.net.peers import chain_pem, key_pem, self_signed
from wormhole_tw.edge.certificates.keeper import CertificateKeeper
from wormhole_tw.edge.certificates.store import OrderRecord

NAMES = ("a.example.com", "b.example.com")


async def test_two_certificates_are_renewed_at_the_same_time(reactor: Any, tmp_path: Path) -> None:
    """While what the first one replaces is taken away, the second one comes."""
    for identity, name in zip("12", NAMES, strict=True):
        keep(tmp_path, identity, name, days=30, since=-25)
    keeper = CertificateKeeper(reactor, config(tmp_path, *NAMES))
    acme = keeper.acme
    assert acme is not None
    assert acme._store.take()
    disk, taken_away, go_on = acme._disk, Deferred[None](), Deferred[None]()

    async def slow_disk(function: Callable[..., Any], *args: Any) -> Any:
        if function == acme._store.drop_certificate and not taken_away.called:
            taken_away.callback(None)
            await go_on
        return await disk(function, *args)

    acme._disk = slow_disk  # type: ignore[assignment]
    new = []
    for identity, name in zip("ab", NAMES, strict=True):
        material = self_signed(name, days=90)
        order = OrderRecord(identity * 16, (name,), 0.0, key_pem(material.key).decode())
        new.append((order, acme._store.write_certificate(order, chain_pem(material).decode())))
    first = Deferred.fromCoroutine(acme._issued(*new[0]))
    await taken_away
    second = Deferred.fromCoroutine(acme._issued(*new[1]))
    go_on.callback(None)
    await first
    await second
    wanted = config(tmp_path, *NAMES)
    keeper.serve(wanted, keeper.prepare(wanted))
    for name, (_, stored) in zip(NAMES, new, strict=True):
        served = keeper.tls.certificates.choose(name)
        assert served is not None
        assert served.certificate == stored.material.certificate
    assert sorted(path.stem for path in (acme._store.folder / "certificates").iterdir()) == ["a" * 16, "b" * 16]
    keeper.stop()
