"""Networks that are not kind: an agent behind proxies, and edges behind what ends TLS or passes on TCP alone."""

from __future__ import annotations

import hashlib
import secrets
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests._support import sized
from tests.end_to_end.certificates import Authority
from tests.end_to_end.fronts import USER, haproxy, microsocks, nginx, tinyproxy
from tests.end_to_end.house import House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import Program, free_port
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.events import Welcomed
from wormhole_tw.wire.messages import Hello
from wormhole_tw.wire.session import Session, Side

PROXY = "127.0.0.2"
"""Where proxies before the edge come from: it is trusted."""

FILE = secrets.token_bytes(3_000_000)

WAYS = sized(
    ("connect", "socks", "nginx", "haproxy"),
    ("connect", "socks", "socks-names-here", "nginx", "nginx-tls", "haproxy", "connect-nginx"),
)


class Networks:
    """An edge, a service, and everything that may stand between the edge and its agents.

    :ivar password: of the proxies
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.password = secrets.token_hex(8)
        self.second = threading.Event()
        self.connect, self.socks, self.plain, self.web, self.web_tls, self.tcp, self.behind, self.bare = (
            free_port() for _ in range(8)
        )
        self.authority = Authority(house.folder / "fronts")
        self.certificate, self.key = self.authority.issue("front", "localhost")
        edge = house.config["edge"]
        edge["trusted_proxies"] = [PROXY]
        edge["listeners"] = [
            {"endpoint": f"tcp:{self.plain}:interface=127.0.0.1", "tls": False},
            {"endpoint": f"tcp:{self.behind}:interface=127.0.0.1", "proxy_protocol": True},
        ]
        house.write()

    def start(self, way: str) -> Program:
        """Start what stands in the way."""
        programs, folder = self.house.programs, self.house.folder
        if way.startswith("connect"):
            return tinyproxy(programs, folder, self.connect, self.password)
        if way.startswith("socks"):
            return microsocks(programs, self.socks, self.password)
        if way == "haproxy":
            server = f"server edge 127.0.0.1:{self.behind} source {PROXY} send-proxy-v2"
            return haproxy(programs, folder, f"listen edge\n  bind 127.0.0.1:{self.tcp}\n  {server}\n")
        return nginx(programs, folder, self._servers())

    def _servers(self) -> str:
        upgrade = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
        servers = ""
        for port, upstream, more in (
            (self.web, f"http://127.0.0.1:{self.plain}", upgrade),
            (self.web_tls, f"https://127.0.0.1:{self.house.port}", upgrade),
            (self.bare, f"http://127.0.0.1:{self.plain}", ""),
        ):
            servers += f"""
            server {{
                listen 127.0.0.1:{port} ssl; ssl_certificate {self.certificate}; ssl_certificate_key {self.key};
                location / {{
                    proxy_pass {upstream}; proxy_bind {PROXY}; proxy_http_version 1.1; {more}
                    proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}"""
        return servers

    def environment(self, way: str) -> dict[str, str]:
        """What an agent is told."""
        connect = {"HTTPS_PROXY": f"http://{USER}:{self.password}@localhost:{self.connect}"}
        socks = f"://{USER}:{self.password}@127.0.0.1:{self.socks}"
        front = {"FLY_PROTO": "websocket", "FLY_TLS_CERT_FILE": str(self.authority.file)}
        return {
            "connect": connect,
            "socks": {"ALL_PROXY": "socks5h" + socks},
            "socks-names-here": {"ALL_PROXY": "socks5" + socks},
            "nginx": front | {"FLY_REMOTE_ENDPOINT": f"localhost:{self.web}"},
            "nginx-tls": front | {"FLY_REMOTE_ENDPOINT": f"localhost:{self.web_tls}"},
            "haproxy": {"FLY_REMOTE_ENDPOINT": f"localhost:{self.tcp}"},
            "connect-nginx": connect | front | {"FLY_REMOTE_ENDPOINT": f"localhost:{self.web}"},
        }[way]

    def stream(self, call: Call) -> None:
        """Two events, the second when the test has had the first."""
        call.begin_chunks({"Content-Type": "text/event-stream"})
        call.chunk(b"data: first\n\n")
        assert self.second.wait(30)
        call.chunk(b"data: second\n\n")
        call.chunk(b"")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    """One edge for all of this file."""
    with open_house(tmp_path_factory.mktemp("networks")) as house:
        mine = Networks(house)
        house.start_edge()
        yield mine


@pytest.fixture
def origin(networks: Networks) -> Iterator[Origin]:
    def take(call: Call) -> None:
        digest = hashlib.sha256()
        for piece in call.body():
            digest.update(piece)
        call.answer(digest.hexdigest().encode())

    with Origin({"/events": networks.stream, "/upload": take}) as origin:
        origin.text("/file", FILE)
        yield origin


Between = Callable[[str], Program]


@pytest.fixture
def between(networks: Networks) -> Iterator[Between]:
    """Starts what stands between; it has ended after the test."""
    started: list[Program] = []

    def start(way: str) -> Program:
        started.append(networks.start(way))
        return started[-1]

    yield start
    for program in started:
        program.end()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.deadline(90)
def test_an_agent_serves_through_it(networks: Networks, origin: Origin, between: Between, way: str) -> None:
    house = networks.house
    if way == "connect-nginx":
        between("nginx")
    front = between(way)
    agent = house.launch_agent("agent", origin.port, env=networks.environment(way))
    session = house.wait_ready(agent)
    # whoever stands between, the edge knows the agent's address: not the proxies', which come from another
    assert house.edge.wait_for(rf"agent {session} .*connected from (\S+)")[1] == "127.0.0.1"
    assert house.get("/file").body == FILE
    with house.visitor() as visitor:
        assert visitor.ask("POST", "/upload", FILE).body == hashlib.sha256(FILE).hexdigest().encode()
    networks.second.clear()
    with house.visitor() as visitor:
        visitor.request("GET", "/events")
        answer = visitor.getresponse()
        assert answer.readline() + answer.readline() == b"data: first\n\n"
        networks.second.set()
        assert answer.read() == b"data: second\n\n"
    # what stands between is killed, and comes back
    mark = agent.mark()
    front.stop(signal.SIGKILL)
    agent.wait_for("lost edge-1", after=mark)
    mark = agent.mark()
    between(way)
    house.wait_ready(agent, after=mark)
    assert house.get("/file").body == FILE
    assert agent.stop() == 0
    assert networks.password not in agent.output
    assert "Traceback" not in agent.output


def complaint(networks: Networks, origin: Origin, pattern: str, *options: str, **env: str) -> None:
    """An agent that does not come through says why, in one line, and no password."""
    agent = networks.house.launch_agent("agent", origin.port, *options, env=env)
    agent.wait_for(pattern)
    agent.end()
    assert networks.password not in agent.output
    assert "Traceback" not in agent.output


def test_a_proxy_that_wants_a_password(networks: Networks, origin: Origin, between: Between) -> None:
    between("connect")
    wanted = r"the proxy http://localhost:\d+ wants a user and a password \(407\): write USER:PASSWORD@ .* HTTPS_PROXY"
    complaint(networks, origin, wanted, HTTPS_PROXY=f"http://localhost:{networks.connect}")
    wrong = r"the proxy http://localhost:\d+ does not accept the user and password of https_proxy \(40[17]\)"
    complaint(networks, origin, wrong, https_proxy=f"http://{USER}:{networks.password}x@localhost:{networks.connect}")


def test_a_socks_proxy_that_wants_a_password(networks: Networks, origin: Origin, between: Between) -> None:
    between("socks")
    wanted = r"the proxy socks5://localhost:\d+ wants a user and a password: write USER:PASSWORD@ .* in --proxy"
    complaint(networks, origin, wanted, "--proxy", f"socks5://localhost:{networks.socks}")
    wrong = r"the proxy socks5h://localhost:\d+ does not accept the user and password of FLY_PROXY"
    complaint(networks, origin, wrong, FLY_PROXY=f"socks5h://{USER}:no@localhost:{networks.socks}")


@pytest.mark.full
def test_a_proxy_that_cannot_reach_the_edge(networks: Networks, origin: Origin, between: Between) -> None:
    between("connect")
    nobody = f"localhost:{free_port()}"
    refused = rf"the proxy http://localhost:\d+ refuses a connection to {nobody}: 50\d"
    complaint(networks, origin, refused, **networks.environment("connect"), FLY_REMOTE_ENDPOINT=nobody)


@pytest.mark.full
def test_what_is_no_proxy(networks: Networks, origin: Origin) -> None:
    port = networks.house.port
    complaint(networks, origin, rf"the proxy http://localhost:{port} refuses .*: 400", ALL_PROXY=f"localhost:{port}")
    strange = rf"the proxy socks5://localhost:{port} closed the connection without an answer; is it a proxy\?"
    complaint(networks, origin, strange, "--proxy", f"socks5://localhost:{port}")


def test_the_edge_is_reached_without_a_proxy(networks: Networks, origin: Origin) -> None:
    nobody = f"http://localhost:{free_port()}"
    for options, env in (
        (["--proxy", "none"], {"HTTPS_PROXY": nobody}),
        ([], {"HTTPS_PROXY": nobody, "NO_PROXY": "example.com,localhost"}),
    ):
        agent = networks.house.launch_agent("agent", origin.port, *options, env=env)
        networks.house.wait_ready(agent)
        assert agent.stop() == 0


def test_nginx_that_passes_no_upgrade_on(networks: Networks, origin: Origin, between: Between) -> None:
    between("nginx")
    said = r"localhost:\d+ answered 426 Upgrade Required to the WebSocket \(something before the edge does not pass"
    env = networks.environment("nginx") | {"FLY_REMOTE_ENDPOINT": f"localhost:{networks.bare}"}
    complaint(networks, origin, said, **env)


def test_auto_falls_to_websocket_where_tls_ends_before_the_edge(
    networks: Networks, origin: Origin, between: Between
) -> None:
    between("nginx")
    env = networks.environment("nginx")
    agent = networks.house.launch_agent("agent", origin.port, "--carrier", "auto", env=env)
    networks.house.wait_ready(agent)
    assert "ends at something that is not an edge; connected by websocket" in agent.output
    assert networks.house.get("/file").body == FILE
    assert agent.stop() == 0


def test_an_edge_that_stops_lets_websockets_go(networks: Networks, origin: Origin) -> None:
    house = networks.house
    agent = house.launch_agent("agent", origin.port, "--carrier", "websocket")
    house.wait_ready(agent)
    mark = agent.mark()
    assert house.edge.stop() == 0
    agent.wait_for("takes nothing new: the edge is shutting down", after=mark)
    house.start_edge()
    house.wait_ready(agent, after=mark)
    assert house.get("/file").body == FILE
    assert agent.stop() == 0


def test_auto_takes_tls_where_it_works(networks: Networks, origin: Origin) -> None:
    agent = networks.house.launch_agent("agent", origin.port, env={"FLY_PROTO": "auto"})
    networks.house.wait_ready(agent)
    assert "websocket" not in agent.output
    assert agent.stop() == 0


def test_another_implementation_of_websocket(networks: Networks) -> None:
    """The tunnel's octets in messages that are cut anywhere, by a client that is not ours and offers extensions."""
    house = networks.house
    dialler = Session(Side.DIALLER, config=SessionConfig(), now=0.0)
    token = house.tokens["app"]
    dialler.hello(Hello(role="agent", versions=[1], token=token, instance=secrets.token_bytes(16), generation=1), 0.0)
    said = b"".join(dialler.data_to_send(65536))
    uri = f"wss://localhost:{house.port}/.wormhole/tunnel"
    with connect(uri, ssl=house.context, proxy=None) as socket:
        socket.send(said[:5])
        socket.send([said[5:6], b"", said[6:20], said[20:]])
        socket.ping().wait(10)
        events = []
        while not events:
            heard = socket.recv(timeout=10)
            assert isinstance(heard, bytes)
            events = dialler.receive_data(heard, 0.0)
        assert isinstance(events[0], Welcomed)
        assert events[0].welcome.edge == "edge-1"
        socket.send("text")
        with pytest.raises(ConnectionClosedError) as closed:
            deque(socket, maxlen=0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003
