"""What HELLO and WELCOME must agree on, and what each side fills in by itself."""

from __future__ import annotations

from wormhole_tw.errors import TunnelProtocolError
from wormhole_tw.structs import replace
from wormhole_tw.wire.codes import GoawayCode, broken
from wormhole_tw.wire.config import SessionConfig
from wormhole_tw.wire.messages import Hello, Limits, Welcome, decode

__all__ = ["MAX_BEFORE_WELCOME", "VERSIONS", "complete_hello", "complete_welcome", "read_hello", "read_welcome"]

VERSIONS = (1,)
"""The minor versions that this side speaks."""

MAX_BEFORE_WELCOME = 64 * 1024
"""Octets that a peer may send before it is authenticated: a HELLO is at most 16 KiB, the rest is somebody's attack."""


def complete_hello(hello: Hello, config: SessionConfig) -> Hello:
    """The HELLO to send: the credit that it promises is the one that the session keeps."""
    return replace(hello, initial_credit=config.initial_credit)


def complete_welcome(welcome: Welcome, config: SessionConfig) -> Welcome:
    """The WELCOME to send: credit, limits and liveness timers are the session's own."""
    return replace(
        welcome,
        initial_credit=config.initial_credit,
        limits=Limits(max_streams=config.max_streams),
        timers=replace(welcome.timers, ping_after=config.ping_after, dead_after=config.dead_after),
    )


def read_hello(payload: bytes) -> Hello:
    """A HELLO that came.

    :raises TunnelProtocolError: not valid, or no version in common
    """
    hello = decode(Hello, payload)
    if not set(hello.versions) & set(VERSIONS):
        known = ", ".join(map(str, VERSIONS))
        raise TunnelProtocolError(GoawayCode.VERSION, f"no version in common; this side speaks {known}")
    return hello


def read_welcome(payload: bytes, offered: list[int]) -> Welcome:
    """A WELCOME that came.

    :raises TunnelProtocolError: not valid, a version that was not offered, or timers that make no sense
    """
    welcome = decode(Welcome, payload)
    if welcome.version not in offered:
        raise TunnelProtocolError(GoawayCode.VERSION, "WELCOME chose a version that was not offered")
    if welcome.timers.ping_after >= welcome.timers.dead_after:
        raise broken("WELCOME's ping_after is not below its dead_after")
    return welcome
