"""A data path without a network whose site has a cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.edge.house import House, Stream, Visitor
from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.control.caching import CacheSettings
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.model import Backend, Route, Site
from wormhole_tw.edge.caching.stores import StoreSettings, make_store
from wormhole_tw.http.caching import CachePolicy
from wormhole_tw.http.caching.purges import Purges

MEMORY = 64 * 1024 * 1024


class Kept:
    """What an edge keeps of answers, with a clock and without a journal."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.purges = Purges()


class CachingHouse(House):
    """``app.test`` and ``other.test`` (a site of its own, with a backend of its own) with a cache.

    :param policy: what of the policy is not as usual
    :param settings: the same of the settings
    """

    def __init__(
        self,
        *middleware: Any,
        policy: dict[str, Any] | None = None,
        memory: int = MEMORY,
        settings: dict[str, Any] | None = None,
        routes: tuple[Route, ...] = (),
        gates: tuple[Any, ...] | None = None,
        store: Any = None,
        **options: Any,
    ) -> None:
        self.settings = CacheSettings(CachePolicy(**(policy or {})), scope=b"app", **(settings or {}))
        self.memory = memory
        self.routes = routes
        self.of_gates = gates
        self.own_store = store
        super().__init__(*middleware, **options)
        self.others = self.agent("other", instance=99)

    def kept(self) -> Any:
        store = self.own_store or make_store(StoreSettings(self.clock, memory=self.memory))
        return Kept(store)

    def catalog(self, protocol: str) -> Catalog:
        cached = Route("app", "/", "app", cache=self.settings, gates=self.of_gates)
        other = Route("other", "/", "other", cache=replace(self.settings, scope=b"other"))
        sites = [
            Site("app", ("app.test", "*.wild.test"), (*self.routes, Route("app", "/off", "app"), cached)),
            Site("other", ("other.test",), (other,)),
        ]
        backends = [Backend("app", protocol=protocol), Backend("other"), Backend("docs")]
        return Catalog(sites, backends, own_names=["edge.test"])

    def visitor(self, **options: Any) -> Visitor:
        visitor = super().visitor(**options)
        visitor.turn = self.turn
        return visitor

    def close(self) -> None:
        super().close()
        assert self.context.cache.running_count == 0

    @property
    def counters(self) -> Any:
        return self.context.cache.counters

    @property
    def asked(self) -> int:
        """How many requests have reached a service of ``app``."""
        return sum(len(stream.requests()) for stream in self.streams)

    @property
    def every_stream(self) -> list[Stream]:
        """Those of all services."""
        return [*self.streams, *self.others.streams]

    def ask(
        self,
        target: str = "/",
        *fields: str,
        host: str = "app.test",
        visitor: Visitor | None = None,
        method: str = "GET",
    ) -> Visitor:
        """A visitor asks."""
        visitor = visitor or self.visitor()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        visitor.says("\r\n".join([*lines, "", ""]))
        return visitor

    def answer(
        self, *fields: str, body: bytes = b"hello", status: str = "200 OK", stream: Stream | None = None
    ) -> None:
        """The service answers the last request, all at once."""
        stream = stream or self.stream
        stream.read()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
        stream.deliver("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def get(
        self,
        target: str = "/",
        *fields: str,
        reply: tuple[str, ...] | None = None,
        body: bytes = b"hello",
        status: str = "200 OK",
        host: str = "app.test",
        method: str = "GET",
        visitor: Visitor | None = None,
    ) -> Got:
        """A whole conversation; with ``reply`` the service has to be asked, without it must not be."""
        before = {id(stream): len(stream.requests()) for stream in self.every_stream}
        visitor = self.ask(target, *fields, host=host, method=method, visitor=visitor)
        asked = [stream for stream in self.every_stream if len(stream.requests()) > before.get(id(stream), 0)]
        if reply is None:
            assert not asked, "the service was asked"
        else:
            assert len(asked) == 1, "the service was not asked"
            self.answer(*reply, body=body, status=status, stream=asked[0])
        [(head, got)] = visitor.answers([method.encode()])
        return Got(head, got)


class Got:
    """An answer that a visitor has got.

    :ivar cache: what ``Cache-Status`` says
    """

    def __init__(self, head: Any, body: bytes) -> None:
        self.status = head.status_code
        self.fields: dict[str, str] = {}
        for name, value in head.headers:
            text = value.decode("latin-1")
            key = name.decode().lower()
            self.fields[key] = f"{self.fields[key]}, {text}" if key in self.fields else text
        self.body = body

    @property
    def cache(self) -> str:
        return self.fields.get("cache-status", "")


class CachedMiddleware(CachingHouse, MiddlewareHouse):
    """With middleware in front of the cache."""
