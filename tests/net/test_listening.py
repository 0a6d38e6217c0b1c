"""Ports from descriptions: open at once, or one error that names the setting."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.listening import open_port


def quiet() -> Factory:
    factory: Factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    return factory


def refused(reactor: Any, description: str) -> str:
    with pytest.raises(ConfigError) as caught:
        open_port(reactor, description, quiet(), source="edge.toml", key="$.edge.https[0]")
    text = str(caught.value)
    assert text.startswith("edge.toml: $.edge.https[0]: ")
    assert "\n" not in text
    return text


async def test_it_listens_at_once(reactor: Any) -> None:
    port: Any = open_port(reactor, "tcp:0:interface=127.0.0.1", quiet(), source="edge.toml", key="$.edge.https[0]")
    assert port.getHost().port
    assert "Address already in use" in refused(reactor, f"tcp:{port.getHost().port}:interface=127.0.0.1")
    await port.stopListening()


async def test_an_ipv6_address_that_is_not_escaped_is_told_how(reactor: Any) -> None:
    assert r"tcp6:443:interface=\:\:1" in refused(reactor, "tcp:8443:interface=::1")


async def test_what_is_no_description_is_said_so(reactor: Any) -> None:
    for description in ("nonsense:1", "tcp:port", "tcp"):
        assert "is no endpoint description" in refused(reactor, description)


async def test_an_address_that_is_not_ours_is_refused(reactor: Any) -> None:
    assert "cannot listen on" in refused(reactor, "tcp:0:interface=192.0.2.1")
