"""Who can be measured, and what each needs on PATH."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.world import Front, World

from . import proxies, tunnels

__all__ = ["NEEDS", "PROXIES", "TUNNELS"]

PROXIES: Mapping[str, Callable[[World, int], Front]] = {"nginx": proxies.nginx, "haproxy": proxies.haproxy}
"""TLS reverse proxies: the cost of serving a visitor, without a tunnel."""

TUNNELS: Mapping[str, Callable[..., Front]] = {
    "ssh": tunnels.ssh,
    "frp": tunnels.frp,
    "rathole": tunnels.rathole,
    "chisel": tunnels.chisel,
}
"""Reverse tunnels for TCP; each takes ``link=True``."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "nginx": ("nginx",),
    "haproxy": ("haproxy",),
    "ssh": ("ssh", "sshd", "ssh-keygen"),
    "frp": ("frps", "frpc"),
    "rathole": ("rathole",),
    "chisel": ("chisel",),
}
"""Contender → programs."""
