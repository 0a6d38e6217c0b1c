"""Agents as upstreams: what is asked of them for the sake of their services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.edge.house import House
from tests.edge.test_router import served
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend

Build = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


def configure(house: House, proxy_protocol: Any) -> None:
    """A reload that changes nothing else."""
    sites = house.catalogs.current.sites
    backends = [Backend("app", proxy_protocol=proxy_protocol), Backend("docs")]
    house.catalogs.swap(Catalog(sites, backends, own_names=["edge.test"]))


def ask(house: House, visitor: Any, request: bytes = GET) -> Any:
    """A request that is answered; gives the stream it went on."""
    before = {id(stream): len(stream.requests()) for stream in house.streams}
    visitor.says(request)
    [stream] = [stream for stream in house.streams if len(stream.requests()) > before.get(id(stream), 0)]
    stream.deliver(OK)
    return stream


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_service_that_wants_the_header_has_a_stream_for_each_visitor(build: Build, version: str) -> None:
    house = build(writes_proxy_header=True)
    configure(house, version)
    one, other = house.visitor(), house.visitor(served=served("app.test", "app.test"))
    streams = [ask(house, visitor) for visitor in (one, other, one, other, one)]
    assert len(house.streams) == 2
    assert streams[0] is streams[2] is streams[4]
    assert streams[1] is streams[3]
    for stream in house.streams:
        assert stream.open.dedicated
        assert stream.open.proxy_protocol == version
        assert stream.open.visitor is not None
        assert (stream.open.visitor.address, stream.open.visitor.port) == ("192.0.2.7", 40000)
    assert not house.streams[0].disconnected
    one.lose()
    assert house.streams[0].disconnected
    assert not house.streams[1].disconnected


def test_so_has_an_upgrade(build: Build) -> None:
    house = build(writes_proxy_header=True)
    configure(house, "v1")
    house.visitor().says(GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"))
    assert house.stream.open.proxy_protocol == "v1"


def test_a_reload_changes_it_for_the_next_stream(build: Build) -> None:
    house = build(writes_proxy_header=True)
    visitor = house.visitor()
    shared = ask(house, visitor)
    assert not shared.open.dedicated
    configure(house, "v1")
    mine = ask(house, visitor)
    assert mine.open.proxy_protocol == "v1"
    assert ask(house, visitor) is mine
    configure(house, None)
    assert ask(house, visitor) is shared


def test_an_agent_that_cannot_write_it_gets_nothing(build: Build) -> None:
    house = build()
    visitor = house.visitor()
    ask(house, visitor)
    visitor.answers()
    configure(house, "v2")
    for _ in range(2):
        visitor.says(GET)
        [(head, _)] = visitor.answers()
        assert head.status_code == 503
    able = house.agent(instance=2, writes_proxy_header=True)
    house.sessions.append(able)
    assert ask(house, visitor) is able.streams[0]
    configure(house, None)
    for _ in range(20):
        ask(house, house.visitor())
    assert len(house.sessions[0].streams[0].requests()) > 1


def test_a_backend_that_is_gone_changes_nothing_for_what_runs(build: Build) -> None:
    house = build(writes_proxy_header=True)
    configure(house, "v1")
    visitor = house.visitor()
    ask(house, visitor)
    house.catalogs.swap(Catalog())
    visitor.says(GET)
    assert [head.status_code for head, _ in visitor.answers()] == [200, 404]
    house.context.dispatch.pick("app")
