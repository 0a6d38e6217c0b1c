"""Other reverse tunnels: a TCP port on the far side that leads to the origin, encrypted on the way."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.processes import Failed, find, free_port
from benchmarks.world import Front, World

from .ours import world_link

__all__ = ["chisel", "frp", "rathole", "ssh"]

_CIPHER = "aes128-gcm@openssh.com"
_SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/ssh-host
AuthorizedKeysFile {folder}/ssh-user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
Ciphers {cipher}
Compression no
UseDNS no
PrintMotd no
"""
_FRPS = """
bindAddr = "127.0.0.1"
bindPort = {port}
proxyBindAddr = "127.0.0.1"
auth.token = "benchmark"
transport.tls.force = true
log.level = "warn"
"""
_FRPC = """
serverAddr = "127.0.0.1"
serverPort = {port}
auth.token = "benchmark"
log.level = "warn"
[[proxies]]
name = "bench"
type = "tcp"
localIP = "127.0.0.1"
localPort = {origin}
remotePort = {visitors}
"""
_RATHOLE_SERVER = """
[server]
bind_addr = "127.0.0.1:{port}"
default_token = "benchmark"
[server.transport]
type = "noise"
[server.transport.noise]
local_private_key = "{private}"
[server.services.bench]
bind_addr = "127.0.0.1:{visitors}"
"""
_RATHOLE_CLIENT = """
[client]
remote_addr = "127.0.0.1:{port}"
default_token = "benchmark"
[client.transport]
type = "noise"
[client.transport.noise]
remote_public_key = "{public}"
[client.services.bench]
local_addr = "127.0.0.1:{origin}"
"""

_CONNECT_SECONDS = 10.0
"""For the far side to listen for visitors after the near side was started."""


def ssh(world: World, origin: int, *, link: bool = False) -> Front:
    """``ssh -R`` with AES-128-GCM, to a server of our own with a key of its own."""
    port, visitors = free_port(), free_port()
    _make_separation_folder()
    for name in ("ssh-host", "ssh-user"):
        if not (world.folder / name).exists():
            _quietly(find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(world.folder / name))
    config = world.write("sshd.conf", _SSHD.format(port=port, folder=world.folder, cipher=_CIPHER))
    sshd = world.running.start("sshd", [find("sshd"), "-D", "-e", "-f", str(config)], port)
    entrance = world_link(world, port, "ssh-link") if link else port
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "ExitOnForwardFailure": "yes",
        "BatchMode": "yes",
        "Ciphers": _CIPHER,
        "Compression": "no",
        "LogLevel": "ERROR",
    }
    command = [find("ssh"), "-N", "-F", "none", "-i", str(world.folder / "ssh-user"), "-p", str(entrance)]
    command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command += ["-R", f"127.0.0.1:{visitors}:127.0.0.1:{origin}", f"{getpass.getuser()}@127.0.0.1"]
    client = world.running.start("ssh", command, visitors, seconds=_CONNECT_SECONDS)
    return Front("http", visitors, {"sshd": sshd, "ssh": client}, "sshd")


def frp(world: World, origin: int, *, link: bool = False) -> Front:
    """frp with TLS between its two."""
    return _two_programs(
        world,
        "frps",
        "frpc",
        lambda port, visitors: ["-c", str(world.write("frps.toml", _FRPS.format(port=port)))],
        lambda port, visitors: [
            "-c",
            str(world.write("frpc.toml", _FRPC.format(port=port, visitors=visitors, origin=origin))),
        ],
        link=link,
    )


def rathole(world: World, origin: int, *, link: bool = False) -> Front:
    """rathole with the Noise protocol between its two."""
    words = _quietly(find("rathole"), "--genkey").split()
    try:  # "Private Key: <key> Public Key: <key>", on lines of their own
        private, public = words[words.index("Key:") + 1], words[-1]
    except (ValueError, IndexError):
        raise Failed("rathole --genkey printed no keys") from None

    def server(port: int, visitors: int) -> list[str]:
        text = _RATHOLE_SERVER.format(port=port, visitors=visitors, private=private)
        return ["--server", str(world.write("rathole-server.toml", text, 0o600))]

    def client(port: int, visitors: int) -> list[str]:
        text = _RATHOLE_CLIENT.format(port=port, origin=origin, public=public)
        return ["--client", str(world.write("rathole-client.toml", text))]

    return _two_programs(world, "rathole", "rathole", server, client, link=link)


def chisel(world: World, origin: int, *, link: bool = False) -> Front:
    """chisel, whose streams are SSH channels over a WebSocket."""
    return _two_programs(
        world,
        "chisel",
        "chisel",
        lambda port, visitors: ["server", "--host", "127.0.0.1", "--port", str(port), "--reverse"],
        lambda port, visitors: [
            "client",
            f"http://127.0.0.1:{port}",
            f"R:127.0.0.1:{visitors}:127.0.0.1:{origin}",
        ],
        link=link,
    )


def _two_programs(
    world: World,
    server: str,
    client: str,
    server_args: Callable[[int, int], list[str]],
    client_args: Callable[[int, int], list[str]],
    *,
    link: bool,
) -> Front:
    port, visitors = free_port(), free_port()
    far_role, near_role = (server, client) if server != client else (f"{server} server", f"{client} client")
    far = world.running.start(far_role.replace(" ", "-"), [find(server), *server_args(port, visitors)], port)
    entrance = world_link(world, port, f"{server}-link") if link else port
    command = [find(client), *client_args(entrance, visitors)]
    near = world.running.start(near_role.replace(" ", "-"), command, visitors, seconds=_CONNECT_SECONDS)
    return Front("http", visitors, {far_role: far, near_role: near}, far_role)


def _make_separation_folder() -> None:
    """Where root's sshd wants an empty folder that Debian makes at boot."""
    if os.geteuid() == 0:
        with suppress(OSError):
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


def _quietly(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failed(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
