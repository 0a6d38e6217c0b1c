"""Visitors of many tenants over HTTP/1.1 and HTTP/2, who judge every answer and often leave before it has come."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import StreamClosedError
from hpack import NeverIndexedHeaderTuple

from tests.end_to_end.tenants import BODY, BROKEN, host_of, manner, text

PER_CONNECTION = 60
"""Requests until a visitor comes again on a new connection, as somebody else."""

AT_ONCE = 12
"""Streams of one HTTP/2 connection."""

LEAVING = 0.02
"""The share of requests that their visitor gives up; half of them before all is said."""

REASONS = frozenset({"agent-lost", "no-agent", "service-failed"})
"""What the edge may say of a tenant whose agent was just killed (``X-Wormhole-Error``)."""

PATIENCE = 60
"""Seconds that a visitor waits for one answer, or for anything on a connection with many, until it is a hang."""

_QUICK = H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


class _Unique(NeverIndexedHeaderTuple):
    """A field whose value comes once: to keep it in HPACK's table only takes the visitors' time."""


class Ask:
    """One request."""

    def __init__(self, tenant: bytes, dice: random.Random) -> None:
        self.tenant = tenant
        self.nonce = b"%032x" % dice.getrandbits(128)
        self.body = self.nonce * BODY if dice.random() < 0.3 else b""
        self.leaves = ("begun", "asked")[dice.random() < 0.5] if dice.random() < LEAVING else ""
        self.status = 0
        self.fields: Mapping[bytes, bytes] = {}
        self.answer = b""

    @property
    def method(self) -> bytes:
        return b"POST" if self.body else b"GET"


@dataclass
class Tally:
    """What came of all requests.

    :ivar wanted: answers that are to come
    :ivar answered: HTTP version → answers that were right in every octet
    :ivar crossed: answers that were not theirs
    :ivar failed: status and reason → answers of the edge itself
    :ivar left: requests that their visitor gave up
    :ivar broken: requests whose answer broke off
    """

    wanted: int
    answered: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)

    def go_on(self, version: str) -> bool:
        """Whether this version's half of the answers has not come yet."""
        return self.answered[version] * 2 < self.wanted and not self.crossed

    def judge(self, version: str, ask: Ask) -> None:
        """Hold a whole answer against its request."""
        reason = ask.fields.get(b"x-wormhole-error", b"").decode()
        if reason:
            self.failed[f"{ask.status} {reason}"] += 1
        elif (
            ask.status == 200
            and ask.fields.get(b"x-tenant") == ask.tenant
            and ask.fields.get(b"x-nonce") == ask.nonce
            and ask.answer == text(ask.tenant, ask.nonce, ask.body)
            and manner(ask.nonce) != BROKEN
        ):
            self.answered[version] += 1
        else:
            got = f"{ask.status} {dict(ask.fields)} {ask.answer[:200]!r}"
            self.crossed.append(f"{version}: {ask.tenant!r} asked with {ask.nonce!r} and got {got}")

    def cut_off(self, version: str, ask: Ask) -> None:
        """An answer that broke off: what came of it is this request's all the same."""
        self.broken[version] += 1
        whole = text(ask.tenant, ask.nonce, ask.body)
        named = ask.fields.get(b"x-tenant", ask.tenant), ask.fields.get(b"x-nonce", ask.nonce)
        if b"x-wormhole-error" not in ask.fields and (
            named != (ask.tenant, ask.nonce) or not whole.startswith(ask.answer)
        ):
            self.crossed.append(f"{version}: {ask.tenant!r} asked with {ask.nonce!r} and got {ask.answer[:200]!r} …")


class Visitors:
    """Those of one edge.

    :param port: the edge's
    :param authority: the PEM file of the CA that it is verified by
    """

    def __init__(self, port: int, authority: str, tenants: int, tally: Tally) -> None:
        self._port = port
        self._tenants = [b"tenant-%d" % number for number in range(tenants)]
        self._contexts = {}
        for protocol in ("http/1.1", "h2"):
            context = ssl.create_default_context(cafile=authority)
            context.set_alpn_protocols([protocol])
            self._contexts[protocol] = context
        self.tally = tally

    async def run(self, each: int) -> None:
        """So many visitors at once over each HTTP version, until the tally is full."""
        async with asyncio.TaskGroup() as group:
            for number in range(each):
                group.create_task(self._come_again("HTTP/1.1", random.Random(number)))
                group.create_task(self._come_again("HTTP/2", random.Random(-number - 1)))

    async def _come_again(self, version: str, dice: random.Random) -> None:
        visit = self._http1 if version == "HTTP/1.1" else self._http2
        protocol = "http/1.1" if version == "HTTP/1.1" else "h2"
        while self.tally.go_on(version):
            tenant = dice.choice(self._tenants)
            name = host_of(tenant).decode()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._contexts[protocol], server_hostname=name
            )
            try:
                await visit(reader, writer, tenant, dice)
            finally:
                writer.transport.abort()

    # HTTP/1.1

    async def _http1(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tenant: bytes, dice: random.Random
    ) -> None:
        for _ in range(PER_CONNECTION):
            if not self.tally.go_on("HTTP/1.1"):
                return
            ask = Ask(tenant, dice)
            octets = b"%s /%s HTTP/1.1\r\nHost: %s:%d\r\nX-Nonce: %s\r\nContent-Length: %d\r\n\r\n%s" % (
                *(ask.method, ask.nonce, host_of(tenant), self._port, ask.nonce, len(ask.body), ask.body),
            )
            if ask.leaves:
                self.tally.left["HTTP/1.1"] += 1
                writer.write(octets if ask.leaves == "asked" else octets[: dice.randrange(len(octets))])
                await writer.drain()
                if dice.random() < 0.5:  # some see that it is answered
                    await asyncio.sleep(dice.random() * 0.01)
                return
            writer.write(octets)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._read_http1(reader, ask)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.tally.cut_off("HTTP/1.1", ask)
                return
            self.tally.judge("HTTP/1.1", ask)
            if ask.fields.get(b"connection") == b"close":
                return

    async def _read_http1(self, reader: asyncio.StreamReader, ask: Ask) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        ask.status = int(lines[0].split(b" ")[1])
        ask.fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if b"content-length" in ask.fields:
            left = int(ask.fields[b"content-length"])
            while left:
                piece = await reader.read(left)
                if not piece:
                    raise ConnectionError
                ask.answer += piece
                left -= len(piece)
            return
        assert ask.fields[b"transfer-encoding"] == b"chunked"
        while size := int(await reader.readuntil(b"\r\n"), 16):
            ask.answer += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)

    # HTTP/2

    async def _http2(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tenant: bytes, dice: random.Random
    ) -> None:
        talk = H2Connection(_QUICK)
        talk.initiate_connection()
        open_asks: dict[int, Ask] = {}
        authority = b"%s:%d" % (host_of(tenant), self._port)
        asked, ending = 0, False
        while True:
            while not ending and len(open_asks) < AT_ONCE and asked < PER_CONNECTION and self.tally.go_on("HTTP/2"):
                asked += 1
                ask = Ask(tenant, dice)
                stream = talk.get_next_available_stream_id()
                fields = [
                    (b":method", ask.method), (b":scheme", b"https"), _Unique(b":path", b"/" + ask.nonce),
                    (b":authority", authority), _Unique(b"x-nonce", ask.nonce),
                    (b"content-length", b"%d" % len(ask.body)),
                ]  # fmt: skip
                begun = ask.leaves == "begun" and bool(ask.body)
                talk.send_headers(stream, fields, end_stream=not ask.body)
                if ask.body:
                    talk.send_data(stream, ask.body[: len(ask.body) // 2 if begun else None], end_stream=not begun)
                open_asks[stream] = ask
                if begun:
                    self._leave(talk, open_asks, stream)
            writer.write(talk.data_to_send())
            if not open_asks:
                return
            async with asyncio.timeout(PATIENCE):
                data = await reader.read(1 << 16)
            if not data:
                break
            for event in talk.receive_data(data):
                if isinstance(event, ConnectionTerminated):
                    ending = True  # what it has taken it answers
                    continue
                of = open_asks.get(getattr(event, "stream_id", None) or 0)
                if isinstance(event, DataReceived):
                    talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
                if of is None:
                    continue  # it was left
                if isinstance(event, ResponseReceived):
                    of.fields = dict(event.headers)  # type: ignore[arg-type]
                    of.status = int(of.fields[b":status"])
                    if of.leaves:
                        self._leave(talk, open_asks, event.stream_id)
                elif isinstance(event, DataReceived):
                    of.answer += event.data
                elif isinstance(event, StreamEnded):
                    self.tally.judge("HTTP/2", open_asks.pop(event.stream_id))
                elif isinstance(event, StreamReset):
                    self.tally.cut_off("HTTP/2", open_asks.pop(event.stream_id))
        for of in open_asks.values():
            self.tally.cut_off("HTTP/2", of)

    def _leave(self, talk: H2Connection, open_asks: dict[int, Ask], stream: int) -> None:
        with suppress(StreamClosedError):  # its answer was there in whole
            talk.reset_stream(stream, ErrorCodes.CANCEL)
        self.tally.left["HTTP/2"] += 1
        del open_asks[stream]
