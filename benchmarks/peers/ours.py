"""Our own edge and agents."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.processes import free_port
from benchmarks.world import HOST, Front, World
from wormhole_tw.control.tokens import digest_line, generate

__all__ = ["bare_tunnel", "edge", "edge_and_agent"]

_EDGE = """
[edge]
name = "bench"
names = ["localhost"]
https = ["tcp:{port}:interface=127.0.0.1:backlog=1024"]
state = "{name}-state"
{observed}
[tls]
mode = "files"
[[tls.certificates]]
certificate = "{certificate}"
key = "{key}"
[limits]
agent_streams = 8192
[[backends]]
name = "app"
tokens = ["{digest}"]
[[sites]]
name = "bench"
hostnames = ["{host}"]
[[sites.routes]]
path = "/"
backend = "app"
{route}
"""
_OBSERVED = """
admin = "tcp:{admin}:interface=127.0.0.1"
[access_log]
path = "{name}-access.log"
"""
"""What an operator has: metrics that can be read, and a line for each request."""


def write_config(world: World, name: str, port: int, *, observed: bool = True, route: str = "") -> str:
    """``<name>.toml`` for an edge with one backend; gives the token of its agents.

    :param observed: with an access log, in a file, and an admin listener
    :param route: what else stands at the one route
    """
    token = generate()
    text = _EDGE.format(
        port=port,
        name=name,
        observed=_OBSERVED.format(admin=free_port(), name=name) if observed else "",
        certificate=world.certificate,
        key=world.key,
        digest=digest_line(token),
        host=HOST,
        route=route,
    )
    world.write(f"{name}.toml", text)
    return token


def agent_environment(world: World, token: str, edge: int, origin: int) -> Mapping[str, str]:
    """What ``twistd wormhole-agent`` reads."""
    return {
        "FLY_TOKEN": token,
        "FLY_LOCAL_ENDPOINT": f"127.0.0.1:{origin}",
        "FLY_REMOTE_ENDPOINT": f"localhost:{edge}",
        "FLY_TLS_CERT_FILE": str(world.certificate),
    }


def edge(world: World, name: str = "edge", *, observed: bool = True, route: str = "") -> tuple[int, int, str]:
    """An edge without agents: its pid, its port, and the token for agents."""
    port = free_port()
    token = write_config(world, name, port, observed=observed, route=route)
    pid = world.running.twistd(name, ["wormhole-edge", "--config", f"{name}.toml"], port)
    return pid, port, token


def edge_and_agent(
    world: World,
    origin: int,
    *,
    name: str = "edge",
    link: bool = False,
    agents: int = 1,
    observed: bool = True,
    route: str = "",
) -> Front:
    """An edge with one agent before ``origin``.

    :param link: with the slow link of :mod:`benchmarks.helpers.link` between the two
    :param agents: more than one: so many agents, all in one process
    :param observed: with an access log and an admin listener, as everywhere
    :param route: what else stands at the one route
    """
    pid, port, token = edge(world, name, observed=observed, route=route)
    entrance = world_link(world, port, f"{name}-link") if link else port
    environment = agent_environment(world, token, entrance, origin)
    if agents == 1:
        agent = world.running.twistd(f"{name}-agent", ["wormhole-agent"], 0, env=environment)
    else:
        settings = {**environment, "count": agents}
        agent = world.helper("agents", settings, seconds=60.0)
    return Front("https", port, {"edge": pid, "agent": agent}, "edge")


def bare_tunnel(world: World, origin: int, *, link: bool = False) -> Front:
    """A plain TCP port whose connections are streams of kind ``tcp``: the tunnel alone, without visitors' TLS and HTTP.

    The edge is embedded in a program of a few lines, :mod:`benchmarks.helpers.tcp_edge`.
    """
    port, visitors = free_port(), free_port()
    token = write_config(world, "bare", port)
    pid = world.helper("tcp_edge", {"config": str(world.folder / "bare.toml"), "port": visitors}, port=visitors)
    entrance = world_link(world, port, "bare-link") if link else port
    environment = agent_environment(world, token, entrance, origin)
    agent = world.running.twistd("bare-agent", ["wormhole-agent"], 0, env=environment)
    return Front("http", visitors, {"edge": pid, "agent": agent}, "edge")


def world_link(world: World, port: int, name: str) -> int:
    """The entrance of a slow link to ``port``: 20 Mbit/s each way, 40 ms there and back."""
    entrance = free_port()
    settings = {"listen": entrance, "to": port, "megabits": 20, "round_trip": 0.04}
    world.running.start(name, world.helper_command("link", settings), entrance, ready="ready")
    return entrance
