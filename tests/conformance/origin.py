"""The independent judge: an origin on h11 that keeps every octet it is sent and says what is wrong with it.

h11 takes a bare LF, and ``Transfer-Encoding`` beside ``Content-Length``; so the octets of each head are looked at
besides, by rules that share no line with the code that they judge.
"""

from __future__ import annotations

import re
import socket
import socketserver
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import h11

from tests.end_to_end.threaded import ThreadedService

__all__ = ["JudgingOrigin", "Received", "Script", "ambiguities", "oddities"]

READ = 64 * 1024

_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*)")
_FRAMING = (b"content-length", b"transfer-encoding")
_HOP_BY_HOP = (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy", b"http2-settings")


def _fields(head: bytes) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    fields: list[tuple[bytes, bytes]] = []
    faults: list[str] = []
    for line in head.split(b"\r\n")[1:-2]:
        match = _FIELD.fullmatch(line)
        if match is None:
            faults.append(f"no field: {line!r}")
        else:
            fields.append((match[1].lower(), match[2].strip(b" \t")))
    return fields, faults


def ambiguities(head: bytes) -> list[str]:
    """What two readers of this head could understand differently: where it ends, its host, its body's end."""
    faults = []
    if re.search(rb"(?<!\r)\n|\r(?!\n)|\0", head):
        faults.append("a bare CR, a bare LF or NUL")
    if not _LINE.fullmatch(head.partition(b"\r\n")[0]):
        faults.append("the request line is not valid")
    fields, wrong = _fields(head)
    faults += wrong
    names = [name for name, _ in fields]
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        faults.append("framed twice")
    if any(not value.isdigit() or len(value) > 18 for value in lengths):
        faults.append("a length that is no number")
    if any(value.lower() != b"chunked" for value in codings):
        faults.append("a coding that is not chunked")
    if names.count(b"host") != 1:
        faults.append("not one Host")
    for name in names:
        alike = name.replace(b"_", b"-")
        if alike != name and alike in (*_FRAMING, b"host"):
            faults.append(f"a look-alike: {name!r}")
    return faults


def oddities(head: bytes) -> list[str]:
    """What an edge should not pass on, though no reader is misled by it."""
    faults = []
    line = head.partition(b"\r\n")[0].split(b" ")
    path = line[1].partition(b"?")[0]
    if not (path == b"*" or path.startswith(b"/")) or b"#" in line[1]:
        faults.append("the target is not a path")
    if any(part in (b".", b"..") for part in path.split(b"/")) or re.search(rb"%(?:[a-f]|.[a-f]|2[dDeE]|4[1-9])", path):
        faults.append("the path is not in its one form")
    if line[2] != b"HTTP/1.1":
        faults.append("not HTTP/1.1")
    fields, _ = _fields(head)
    if fields[0][0] != b"host" or not fields[0][1]:
        faults.append("Host is not the first field, or empty")
    for name, value in fields:
        if name in _HOP_BY_HOP or (name == b"te" and value.lower() != b"trailers"):
            faults.append(f"of one connection: {name!r}")
        if name == b"content-length" and value != b"%d" % int(value):
            faults.append("a length with leading zeros")
    return faults


@dataclass
class Received:
    """A request as it came.

    :ivar visitor: whose it is: the value of ``X-Forwarded-For``
    :ivar faults: what is wrong with it; h11's words where it refuses it
    :ivar odd: what is not canonical in it
    """

    visitor: str
    method: bytes
    target: bytes
    head: bytes
    body: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


Script = Callable[["_Call", Received], bool]
"""Answers a request over ``call.say``; False ends the connection."""


class _Call(socketserver.BaseRequestHandler):
    """One connection."""

    server: Any
    request: socket.socket

    def say(self, data: bytes) -> None:
        self.request.sendall(data)

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except OSError:
            pass

    def setup(self) -> None:
        self._waiting = b""

    def _one(self) -> bool:
        """Read one request and answer it."""
        judge = h11.Connection(h11.SERVER)
        taken = self._waiting
        if taken:
            judge.receive_data(taken)
        found: Received | None = None
        while True:
            try:
                event = judge.next_event()
            except h11.RemoteProtocolError as error:
                self.server.origin.refused(taken, found, str(error))
                return False
            if event is h11.NEED_DATA:
                if judge.they_are_waiting_for_100_continue:
                    self.say(judge.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                try:
                    data = self.request.recv(READ)
                except OSError:
                    data = b""
                if not data:
                    if taken:
                        self.server.origin.cut_short(taken, found)
                    return False
                taken += data
                judge.receive_data(data)
            elif isinstance(event, h11.Request):
                found = _received(event, taken)
            elif isinstance(event, h11.Data):
                assert found is not None
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert found is not None
                found.trailers = list(event.headers)
                break
            else:
                return False
        self._waiting = judge.trailing_data[0]
        if self._waiting:
            found.faults.append("more octets behind it than it has")
        self.server.origin.keep(found)
        return self.server.origin.answer(self, found)


def _received(event: h11.Request, taken: bytes) -> Received:
    end = re.search(rb"\r?\n\r?\n", taken)
    assert end is not None
    head = taken[: end.end()]
    fields = [(bytes(name), bytes(value)) for name, value in event.headers]
    visitor = b"".join(value for name, value in fields if name == b"x-forwarded-for").decode("latin-1")
    found = Received(visitor, bytes(event.method), bytes(event.target), head, fields=fields)
    found.faults = ambiguities(head)
    if not found.faults:
        found.odd = oddities(head)
    return found


class JudgingOrigin(ThreadedService):
    """The judge.

    :ivar requests: every whole request
    :ivar broken: what h11 refused: the octets, whose they seem to be, and its words
    :ivar scripts: target → what answers it, in the place of the ordinary answers
    """

    def __init__(self) -> None:
        super().__init__(_Call)
        self.requests: list[Received] = []
        self.broken: list[tuple[str, str, bytes]] = []
        self.partial: list[tuple[str, bytes]] = []
        self.scripts: dict[bytes, Script] = {}

    def keep(self, found: Received) -> None:
        with self.lock:
            self.requests.append(found)

    def refused(self, octets: bytes, found: Received | None, words: str) -> None:
        with self.lock:
            self.broken.append((_whose(octets, found), words, octets))

    def cut_short(self, octets: bytes, found: Received | None) -> None:
        """A request that ended before its end: visible to everybody, so no harm."""
        with self.lock:
            self.partial.append((_whose(octets, found), octets))
            if found is not None and found.faults:
                self.requests.append(found)

    def by_visitor(self) -> dict[str, list[Received]]:
        with self.lock:
            out: dict[str, list[Received]] = {}
            for found in self.requests:
                out.setdefault(found.visitor, []).append(found)
            return out

    def answer(self, call: _Call, found: Received) -> bool:
        script = self.scripts.get(found.target)
        if script is not None:
            return script(call, found)
        call.say(ordinary_answer(found))
        return True


def _whose(octets: bytes, found: Received | None) -> str:
    if found is not None:
        return found.visitor
    match = re.search(rb"(?i)\nx-forwarded-for: *([0-9.]+)", octets)
    return match[1].decode() if match else ""


def ordinary_answer(found: Received) -> bytes:
    """What a careful service answers: it echoes a body, knows five methods, and reads cookies."""
    status, body, more = b"200 OK", found.body or b"ok", b""
    if found.method == b"OPTIONS":
        more = b"Allow: GET, HEAD, POST, OPTIONS\r\n"
    elif found.method in (b"DELETE", b"PUT", b"PATCH", b"TRACE"):
        status, more = b"405 Method Not Allowed", b"Allow: GET, HEAD, POST, OPTIONS\r\n"
    elif found.method not in (b"GET", b"HEAD", b"POST"):
        status = b"501 Not Implemented"
    elif found.target == b"/echo":
        body = b"".join(b"%s: %s\n" % line for line in found.fields)
    elif found.target == b"/cookie":
        body = b"; ".join(found.values(b"cookie"))
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: text/plain\r\n%s%s\r\n" % (
        status,
        formatdate(usegmt=True).encode(),
        more,
        length,
    )
    return head if found.method == b"HEAD" else head + body
