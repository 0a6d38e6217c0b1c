"""``watch = true``: the edge takes changed files over by itself, and what lives goes on."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, as_toml, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.test_certificates import serial_number


def test_connections_tunnels_and_counters_survive_it(tmp_path: Path, origin: Origin) -> None:
    origin.text("/", b"served")
    authority = Authority(tmp_path / "certificates")
    certificate, key = authority.issue("edge", "localhost", APP, "new.example.test")
    with open_house(tmp_path, limits={"connections_per_address": 2}, hosts={APP: "app"}) as house:
        pair = {"certificate": str(certificate), "key": str(key)}
        house.config["tls"] = {"mode": "files", "certificates": [pair]}
        house.config["edge"]["watch"] = True
        house.write()
        house.trust(authority.file)
        edge = house.start_edge()
        agent = house.agent("agent", origin.port, env={"FLY_TLS_CERT_FILE": str(authority.file)})
        serial = serial_number(house, authority, APP)
        with house.visitor() as first, house.visitor() as second:
            assert [visitor.ask("GET", "/").status for visitor in (first, second)] == [200, 200]
            sockets = first.sock, second.sock

            # An editor's way: another file, and then its name. A site more, and a mistake, and none.
            for hostname, said in (
                ("new.example.test", "configuration reloaded: 2 sites"),
                ("localhost", "not reloaded, the old one stays: .*hostnames"),
                ("newer.example.test", "configuration reloaded: 2 sites"),
            ):
                mark = edge.mark()
                site = {"hostnames": [hostname], "routes": [{"path": "/", "backend": "app"}]}
                new = house.folder / "new.toml"
                new.write_text(as_toml({**house.config, "sites": [*house.config["sites"], site]}))
                new.replace(house.config_file)
                edge.wait_for(said, after=mark)
            mark = edge.mark()
            authority.issue("edge", "localhost", APP)
            edge.wait_for("configuration reloaded", after=mark)
            assert edge.count("edge.(pem|key).* changed: reloading") >= 1

            # The same connections and the same tunnel, and the visitors are still counted: a third is one too many.
            assert [visitor.ask("GET", "/").body for visitor in (first, second)] == [b"served", b"served"]
            assert (first.sock, second.sock) == sockets
            assert agent.count("connected to") == 1
            try:
                status = house.get("/", timeout=5).status
            except OSError:
                status = 0
            assert status == 0
        assert serial_number(house, authority, APP) != serial
