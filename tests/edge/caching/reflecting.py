"""A service that answers with all that it was asked, so that whatever came of one visitor's request is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.edge.caching.house import CachingHouse
from tests.edge.h2_visitor import H2Visitor
from tests.edge.house import Stream
from tests.edge.test_router import served
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.tokens import digest_line

FRESH = "Cache-Control: max-age=60"


def lead(house: CachingHouse, *sites: dict[str, Any], backends: tuple[str, ...] = ("app", "other", "docs")) -> None:
    """Give the house these sites, as a file says them."""
    raw = {
        "edge": {"names": ["edge.test"], "https": ["tcp:8443"]},
        "backends": [{"name": name, "tokens": [digest_line(name)]} for name in backends],
        "sites": list(sites),
    }
    house.catalogs.swap(build_catalog(EdgeConfig.from_dict(raw, folder=Path("/nowhere"), hostname="machine")))


class Reflector:
    """Visitors and services of a house.

    :param reply: the fields of an answer, for a request's head as h11 tells it
    """

    def __init__(self, house: CachingHouse, reply: Callable[[Any], str] = lambda head: FRESH) -> None:
        self.house = house
        self.reply = reply
        self.answered: dict[int, int] = {}
        self.seen: list[tuple[str, Any]] = []

    @property
    def streams(self) -> list[tuple[str, Stream]]:
        house = self.house
        sessions = [*house.sessions, house.others]
        return [(session.facts.backend, stream) for session in sessions for stream in session.streams]

    def serve(self) -> None:
        """Answer every request that waits."""
        again = True
        while again:
            again = False
            for backend, stream in self.streams:
                requests = stream.requests()
                for head, body, _ in requests[self.answered.get(id(stream), 0) :]:
                    again = True
                    self.answered[id(stream)] = self.answered.get(id(stream), 0) + 1
                    self.seen.append((backend, head))
                    if not stream.disconnected:
                        stream.deliver(self.answer(backend, head, body))

    def answer(self, backend: str, head: Any, body: bytes) -> bytes:
        lines = [backend.encode(), head.method + b" " + head.target]
        lines += [
            name + b": " + value for name, value in head.headers if name not in (b"x-request-id", b"x-forwarded-for")
        ]
        text = b"\n".join([*lines, body])
        if head.method == b"HEAD":
            text = b""
        return b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (self.reply(head).encode(), len(text), text)

    def ask(
        self,
        target: str = "/page",
        *fields: str,
        host: str = "app.test",
        method: str = "GET",
        body: str = "",
        secure: bool = False,
        **facts: Any,
    ) -> str:
        """What a new visitor gets to a request."""
        if secure:
            facts["served"] = served("app.test", "app.test", "other.test", "*.wild.test")
        visitor = self.house.visitor(**facts)
        visitor.says("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", body]))
        self.serve()
        [(_, got)] = visitor.answers([method.encode()])
        visitor.lose()
        return got.decode("latin-1")

    def ask_h2(self, target: str = "/page", *fields: tuple[str, str], authority: str = "app.test", **facts: Any) -> str:
        """The same over HTTP/2."""
        facts.setdefault("served", served("app.test", "app.test", "other.test", "*.wild.test"))
        visitor = H2Visitor(self.house, **facts).hello()
        stream = visitor.ask(
            [(":method", "GET"), (":scheme", "https"), (":path", target), (":authority", authority)], *fields
        )
        self.serve()
        body = visitor[stream].body
        visitor.lose()
        return body.decode("latin-1")
