"""An agent that does not get in says in one clear line why, and no token stands in any log."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, House
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import Program, free_port, need_program
from wormhole_tw.control.tokens import generate


def complaint(agent: Program, pattern: str) -> str:
    """The agent's one line that is no information, which matches; it goes on trying."""
    agent.wait_for(pattern)
    said = [line for line in agent.output.splitlines() if " info " not in line]
    assert len(said) == 1, said
    assert "Traceback" not in agent.output
    assert agent.running
    return said[0]


def test_wrong_token(house: House, origin: Origin) -> None:
    edge = house.start_edge()
    wrong = generate()
    agent = house.launch_agent("agent", origin.port, env={"FLY_TOKEN": wrong})
    line = complaint(agent, "refuses this agent")
    assert "the edge does not know this token" in line
    assert f"localhost:{house.port}" in line
    # Slowly: it says itself that it will be half a minute, and has come once.
    wait = agent.wait_for(r"next try in (\d+) s")[1]
    assert int(wait) >= 30
    assert edge.wait_for("came with a token that is not in the configuration")
    assert edge.count("came with a token") == 1
    for program in (edge, agent):
        assert wrong not in program.output
        assert wrong.removeprefix("wh_") not in program.output
    assert agent.stop() == 0


def test_no_token_in_any_log(house: House, origin: Origin) -> None:
    """The right token, at the most talkative level."""
    origin.text("/", b"served")
    edge = house.start_edge()
    agent = house.agent("agent", origin.port, env={"FLY_LOG_LEVEL": "debug"})
    assert house.get("/").body == b"served"
    assert agent.stop() == 0
    edge.wait_for("left")
    assert edge.stop() == 0
    for program in (edge, agent):
        assert house.tokens["app"].removeprefix("wh_") not in program.output


def test_wrong_ca(house: House, origin: Origin, tmp_path: Path) -> None:
    edge = house.start_edge()
    stranger = Authority(tmp_path / "stranger")
    agent = house.launch_agent("agent", origin.port, env={"FLY_TLS_CERT_FILE": str(stranger.file)})
    line = complaint(agent, "certificate")
    assert f"localhost:{house.port}" in line
    assert "not signed by a CA that is trusted here" in line
    assert "FLY_TLS_CERT_FILE" in line
    assert "Traceback" not in edge.output


def test_wrong_host_name(house: House, origin: Origin, tmp_path: Path) -> None:
    """The right CA, and a certificate for other names than the one that was dialled."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("edge", "edge.example.test", APP)
    house.config["edge"]["names"] = ["edge.example.test"]
    house.config["tls"] = {"mode": "files", "certificates": [{"certificate": str(certificate), "key": str(key)}]}
    house.write()
    house.start_edge()
    agent = house.launch_agent("agent", origin.port, env={"FLY_TLS_CERT_FILE": str(authority.file)})
    line = complaint(agent, "certificate")
    assert "is not for the name localhost" in line


@contextmanager
def https_server(certificate: Path, key: Path) -> Iterator[int]:
    """The standard library's HTTP server behind TLS, which knows nothing of ALPN; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def nginx(house: House, certificate: Path, key: Path) -> Iterator[int]:
    """nginx, which offers http/1.1 by ALPN; gives its port."""
    port = free_port()
    (house.folder / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {house.folder}/nginx.pid; error_log stderr notice;
        events {{}}
        http {{
            access_log off; client_body_temp_path {house.folder}; proxy_temp_path {house.folder};
            fastcgi_temp_path {house.folder}; uwsgi_temp_path {house.folder}; scgi_temp_path {house.folder};
            server {{
                listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
                return 200 "not an edge";
            }}
        }}
        """
    )
    program = house.programs.start("nginx", [need_program("nginx"), "-c", str(house.folder / "nginx.conf")])
    # It says its version when its sockets are open.
    program.wait_for("nginx/")
    yield port


@pytest.mark.parametrize("what", ["https", "nginx", "http", "nobody"])
def test_a_port_that_is_no_edge(house: House, tmp_path: Path, what: str) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("other", "localhost", "127.0.0.1")
    ca = {"FLY_TLS_CERT_FILE": str(authority.file)}
    with Origin() as origin:
        if what in ("https", "nginx"):
            make = https_server(certificate, key) if what == "https" else nginx(house, certificate, key)
            with make as port:
                agent = house.launch_agent("agent", origin.port, env={"FLY_REMOTE_ENDPOINT": f"localhost:{port}", **ca})
                line = complaint(agent, "edge")
                assert f"TLS at localhost:{port} ends at something that is not an edge" in line
        elif what == "http":
            agent = house.launch_agent(
                "agent", origin.port, env={"FLY_REMOTE_ENDPOINT": f"localhost:{origin.port}", **ca}
            )
            line = complaint(agent, "TLS")
            assert f"localhost:{origin.port} does not speak TLS" in line
        else:
            port = free_port()
            agent = house.launch_agent("agent", origin.port, env={"FLY_REMOTE_ENDPOINT": f"localhost:{port}", **ca})
            line = complaint(agent, "refuses connections")
            assert f"localhost:{port}" in line


def test_a_name_that_is_not_known(house: House, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with Origin() as origin:
        env = {"FLY_REMOTE_ENDPOINT": "edge.invalid:443", "FLY_TLS_CERT_FILE": str(authority.file)}
        agent = house.launch_agent("agent", origin.port, env=env)
        assert "edge.invalid" in complaint(agent, "edge.invalid.*not known")
