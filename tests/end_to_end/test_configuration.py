"""A configuration with a mistake: one line that names the file and the key, and a status that is not 0."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, OTHER, House
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import need_program
from wormhole_tw.control.tokens import digest_line, generate

WORMHOLE_TW = (sys.executable, "-m", "wormhole_tw.cli.main")


def unknown_key(house: House) -> str:
    house.config["edge"]["htps"] = ["tcp:8443"]
    return "$.edge.htps"


def unknown_key_of_a_route(house: House) -> str:
    house.config["sites"][1]["routes"][0]["backends"] = "app"
    return "$.sites[1].routes[0].backends"


def unknown_table(house: House) -> str:
    house.config["limit"] = {"drain": 3}
    return "$.limit"


def one_host_name_twice(house: House) -> str:
    house.config["sites"][1]["hostnames"] = ["APP.example.test."]
    return "$.sites[1].hostnames[0]"


def missing_backend(house: House) -> str:
    house.config["sites"][0]["routes"].append({"path": "/docs", "backend": "docs"})
    return "$.sites[0].routes[1].backend"


def token_in_clear(house: House) -> str:
    house.config["backends"][0]["tokens"] = [house.tokens["app"]]
    return "$.backends[0].tokens[0]"


def limit_out_of_range(house: House) -> str:
    house.config["limits"]["drain"] = -1
    return "$.limits.drain"


def no_such_certificate(house: House) -> str:
    house.config["tls"] = {"mode": "files", "certificates": [{"certificate": "no.pem", "key": "no.key"}]}
    return "$.tls.certificates[0].certificate"


def unreadable_key(house: House) -> str:
    _, key = Authority(house.folder).issue("app", APP)
    key.chmod(0)
    house.config["tls"] = {"mode": "files", "certificates": [{"certificate": "app.pem", "key": "app.key"}]}
    return "$.tls.certificates[0].key"


def key_is_a_folder(house: House) -> str:
    unreadable_key(house)
    (house.folder / "app.key").unlink()
    (house.folder / "app.key").mkdir()
    return "$.tls.certificates[0].key"


def no_origin_of_the_web(house: House) -> str:
    del house.config["backends"][0]["tokens"]
    house.config["backends"][0]["origin"] = "ftp://example.github.io"
    return "$.backends[0].origin"


MISTAKES: list[Callable[[House], str]] = [
    unknown_key,
    unknown_key_of_a_route,
    unknown_table,
    one_host_name_twice,
    missing_backend,
    token_in_clear,
    limit_out_of_range,
    no_such_certificate,
    unreadable_key,
    key_is_a_folder,
    no_origin_of_the_web,
]


def says_one_line(output: str, *parts: str) -> None:
    lines = [line for line in output.splitlines() if line.strip()]
    assert len(lines) == 1, output
    for part in parts:
        assert part in lines[0], output
    assert "Traceback" not in output


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_ends_the_start_with_one_line(house: House, mistake: Callable[[House], str]) -> None:
    key = mistake(house)
    house.write()
    # Without these capabilities root is held to a file's mode as everybody is.
    less = "-dac_override,-dac_read_search"
    drop = [need_program("setpriv"), "--bounding-set", less, "--inh-caps", less] if mistake is unreadable_key else []
    started = [house.launch_edge(*drop)]
    if mistake in (unknown_key, unreadable_key):
        # `edge check` says the same without starting.
        check = [*drop, *WORMHOLE_TW, "edge", "check", str(house.config_file)]
        started.append(house.programs.start("check", check, cwd=house.folder))
    for program in started:
        assert program.wait() != 0
        says_one_line(program.output, "edge.toml", key)
        assert house.tokens["app"] not in program.output


def test_a_route_out_of_reach_is_named_at_the_start(house: House) -> None:
    house.config["sites"][0]["routes"].append({"path": "/docs", "backend": "other"})
    house.write()
    edge = house.start_edge()
    edge.wait_for(r"warn .*\$\.sites\[0\]\.routes\[1\].*")


def test_no_configuration_file(house: House) -> None:
    house.config_file.unlink()
    edge = house.launch_edge()
    assert edge.wait() != 0
    says_one_line(edge.output, "edge.toml", "No such file")


def test_not_toml(house: House) -> None:
    house.write("[edge]\nname =\n")
    edge = house.launch_edge()
    assert edge.wait() != 0
    says_one_line(edge.output, "edge.toml", "line 2")


@pytest.mark.parametrize("key", ["https", "http", "admin"])
def test_a_port_in_use(house: House, key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        house.config["edge"][key] = endpoint if key == "admin" else [endpoint]
        house.write()
        edge = house.launch_edge()
        assert edge.wait() != 0
        says_one_line(
            "\n".join(line for line in edge.output.splitlines() if " info " not in line),
            "edge.toml",
            "$.edge.admin" if key == "admin" else f"$.edge.{key}[0]",
            "in use",
        )
        assert "Traceback" not in edge.output


def test_wrong_options(house: House) -> None:
    edge = house.programs.twistd("edge", "wormhole-edge", "--confg", "edge.toml", cwd=house.folder)
    assert edge.wait() != 0
    assert "--confg" in edge.output
    assert "Traceback" not in edge.output


def test_the_agent_names_the_variable(house: House, tmp_path: Path) -> None:
    ca = Authority(tmp_path / "authority").file
    started = []
    for env, parts in [
        ({"FLY_TOKEN": ""}, ["FLY_TOKEN"]),
        ({"FLY_LOCAL_ENDPOINT": "127.0.0.1:port"}, ["FLY_LOCAL_ENDPOINT"]),
        ({"FLY_REMOTE_ENDPOINT": ""}, ["FLY_REMOTE_ENDPOINT"]),
        ({"FLY_TLS_CERT_FILE": str(tmp_path / "no.pem")}, ["FLY_TLS_CERT_FILE", "no.pem"]),
        ({"FLY_TOKEN": "", "FLY_TOKEN_FILE": str(tmp_path / "no.token")}, ["FLY_TOKEN_FILE", "no.token"]),
    ]:
        started.append((house.launch_agent("agent", 9, env={"FLY_TLS_CERT_FILE": str(ca), **env}), parts))
    for agent, parts in started:
        assert agent.wait() != 0
        says_one_line(agent.output, *parts)
        assert house.tokens["app"] not in agent.output


# While it runs: SIGHUP.


def test_a_bad_reload_leaves_the_old_serving(house: House, origin: Origin) -> None:
    origin.text("/", b"served")
    edge = house.start_edge()
    house.agent("agent", origin.port)
    good = house.config_file.read_text()
    for mistake, key in [
        (good.replace("[limits]", "[limitz]"), "$.limitz"),
        (good.replace(OTHER, APP), "$.sites[1].hostnames[0]"),
        (good.replace('backend = "app"', 'backend = "ap"'), "$.sites[0].routes[0].backend"),
        ("[edge]\nname =\n", "line 2"),
    ]:
        assert mistake != good
        mark = edge.mark()
        house.write(mistake)
        edge.send(signal.SIGHUP)
        edge.wait_for("not reloaded", after=mark)
        said = [line for line in edge.lines[mark:] if " info " not in line]
        assert len(said) == 1, said
        assert "edge.toml" in said[0]
        assert key in said[0]
        assert house.get("/").body == b"served"
    assert "Traceback" not in edge.output


def test_a_good_reload_swaps_sites_and_says_what_needs_a_restart(house: House, origin: Origin) -> None:
    origin.text("/", b"served")
    edge = house.start_edge()
    house.agent("agent", origin.port)
    added = "added.example.test"
    assert house.get("/").body == b"served"

    house.config["sites"][0]["hostnames"].append(added)
    house.config["sites"][1]["routes"] = [{"path": "/only", "backend": "other"}]
    house.config["edge"]["https"].append("tcp:0:interface=127.0.0.1")
    house.config["limits"]["first_byte"] = 7.5
    house.write()
    edge.send(signal.SIGHUP)
    edge.wait_for("configuration reloaded")
    # The dev CA has a certificate for the new name, and the route that went is gone.
    assert house.get("/", host=added).body == b"served"
    assert house.get("/", host=OTHER).status == 404
    told = edge.wait_for("only a restart changes (.*)")[1]
    assert "$.edge.listeners" in told or "$.edge.https" in told
    assert "$.limits.first_byte" in told
    assert "Traceback" not in edge.output


@pytest.mark.deadline(60)
def test_a_removed_token_ends_its_agents(house: House, origin: Origin) -> None:
    origin.text("/", b"served")
    second = generate()
    house.config["backends"][0]["tokens"].append(digest_line(second))
    house.write()
    edge = house.start_edge()
    first_agent = house.agent("first", origin.port)
    second_agent = house.agent("second", origin.port, env={"FLY_TOKEN": second})

    del house.config["backends"][0]["tokens"][1]
    house.write()
    edge.send(signal.SIGHUP)
    # Within five seconds: the agent whose token went is told so, and what it serves goes on with the other.
    second_agent.wait_for("token was taken away", deadline=5.0)
    edge.wait_for("1 agents? ended whose token is gone", deadline=5.0)
    assert house.get("/").body == b"served"
    assert first_agent.count("token was taken away") == 0

    del house.config["backends"][0], house.config["sites"][0]
    house.write()
    edge.send(signal.SIGHUP)
    first_agent.wait_for("token was taken away", deadline=5.0)
    # The site went too: there is neither a route nor a certificate for its name.
    gone = house.curl("--insecure", "--write-out", "%{http_code}", house.url("/"))
    assert gone.stdout.endswith(b"404"), gone
    for token in (*house.tokens.values(), second):
        for program in (edge, first_agent, second_agent):
            assert token not in program.output
