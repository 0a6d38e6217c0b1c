"""The arithmetic of purges: which of the answers that are kept an operator has declared void.

A purge changes nothing in a store.  It gets a number of a clock that only rises, and every answer remembers the number
that the clock stood at when its fetch *began* (``Stored.born``).  What was born before a purge that covers it is void,
from that moment on and wherever it lies: in memory, on disk, or still on its way from the service.  Where nothing was
purged since, one comparison says so.

The clock follows the time of day in microseconds, and never goes back: a purge whose record is lost with its journal
still has a smaller number than every one after it.

A record in a journal is a line: the CRC-32 of the rest in hexadecimal digits, a space, and a JSON list of clock, kind,
site and value (as Latin-1).  A journal begins with :data:`HEADER`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

from wormhole_tw.errors import MisuseError

__all__ = [
    "EVERY_SITE",
    "HEADER",
    "KINDS",
    "MOST_PURGES",
    "Purge",
    "Purges",
    "encode_purge",
    "read_journal",
    "write_journal",
]

KINDS = ("url", "prefix", "tag", "site")
"""What can be purged; see :meth:`Purges.add`."""

EVERY_SITE = ""
"""Instead of a site's name: a purge of every site.  No site is called so."""

MOST_PURGES = 20_000
"""So many are remembered one by one (some 5 MB); past that the oldest of a site become one purge of the whole site."""

HEADER = b"wormhole-tw purges 1\n"
"""The first line of a journal."""

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Purge:
    """One purge.

    :ivar clock: its number: what was born before it and is covered by it is void
    :ivar kind: one of :data:`KINDS`
    :ivar site: the name of the site, or :data:`EVERY_SITE`
    :ivar value: see :meth:`Purges.add`
    """

    clock: int
    kind: str
    site: str
    value: bytes = b""


class _Site:
    """What was purged of one site; clocks by value."""

    __slots__ = ("lengths", "prefix", "tag", "url", "whole")

    def __init__(self) -> None:
        self.whole = 0
        self.url: dict[bytes, int] = {}
        self.prefix: dict[bytes, int] = {}
        self.tag: dict[bytes, int] = {}
        self.lengths: tuple[int, ...] = ()

    @property
    def tables(self) -> tuple[tuple[str, dict[bytes, int]], ...]:
        return ("url", self.url), ("prefix", self.prefix), ("tag", self.tag)

    @property
    def count(self) -> int:
        return len(self.url) + len(self.prefix) + len(self.tag)

    def measure(self) -> None:
        self.lengths = tuple(sorted({len(value) for value in self.prefix}))

    def covers(self, host: bytes, target: bytes, tags: Iterable[bytes], born: int) -> bool:
        if born < self.whole:
            return True
        if self.tag and any(born < self.tag.get(tag, 0) for tag in tags):
            return True
        if not self.url and not self.prefix:
            return False
        for place in (target, host + target):
            if born < self.url.get(place, 0):
                return True
            for length in self.lengths:
                if length > len(place):
                    break
                if born < self.prefix.get(place[:length], 0):
                    return True
        return False

    def keep(self, clock: int) -> int:
        """Only what is newer than ``clock``; how many were not."""
        before = self.count
        for _, table in self.tables:
            for value in [value for value, known in table.items() if known <= clock]:
                del table[value]
        self.measure()
        return before - self.count


class Purges:
    """All purges that something may still be covered by.

    :param most: how many are remembered one by one
    :ivar clock: the number of the newest: what is fetched now is born then
    """

    def __init__(self, most: int = MOST_PURGES) -> None:
        self.clock = 0
        self._most = most
        self._count = 0
        self._sites: dict[str, _Site] = {}

    def add(self, kind: str, site: str, value: bytes, now: float) -> Purge:
        """Purge, from now on.

        :param kind: ``url``: one target, exactly, with its query; ``prefix``: every target that begins so, octet by
            octet; ``tag``: every answer that has it; ``site``: all of the site
        :param site: its name, or :data:`EVERY_SITE`
        :param value: of ``url`` and ``prefix`` a target in the form that it is kept under, which begins with a slash,
            or the same behind a host name: ``/docs/`` is of every host of the site, ``docs.example.test/`` of one;
            of ``tag`` the tag; of ``site`` nothing
        :param now: the time of day, seconds since 1970
        :raises MisuseError: there is no such kind, or a value is missing, or is one too many
        """
        if kind not in KINDS:
            raise MisuseError(f"nothing is purged by {kind}; there are {', '.join(KINDS)}")
        if (kind == "site") == bool(value):
            raise MisuseError(f"a purge by {kind} has {'no value' if value else 'to say which'}")
        purge = Purge(max(self.clock + 1, int(now * MICROSECONDS)), kind, site, value)
        self.note(purge)
        return purge

    def note(self, purge: Purge) -> None:
        """One that has its number already, out of a journal; the order does not matter, nor does a second time."""
        self.clock = max(self.clock, purge.clock)
        site = self._sites.setdefault(purge.site, _Site())
        if purge.kind == "site":
            site.whole = max(site.whole, purge.clock)
            self._count -= site.keep(site.whole)
            return
        table = dict(site.tables)[purge.kind]
        if max(site.whole, table.get(purge.value, 0)) >= purge.clock:
            return
        self._count += purge.value not in table
        table[purge.value] = purge.clock
        if purge.kind == "prefix" and len(purge.value) not in site.lengths:
            site.measure()
        if self._count > self._most:
            self._fold()

    def covers(self, site: str, host: bytes, target: bytes, tags: Iterable[bytes], born: int) -> bool:
        """Whether an answer is void.

        :param site: the name of the site that it was kept for
        :param host: the host name that it was asked for, in the form of its key
        :param target: path and query, in the form of its key
        :param tags: ``Stored.tags``
        :param born: ``Stored.born``
        """
        if born >= self.clock:
            return False
        for name in (site, EVERY_SITE):
            purged = self._sites.get(name)
            if purged is not None and purged.covers(host, target, tags, born):
                return True
        return False

    def forget(self, clock: int) -> None:
        """Let go of the purges up to ``clock``.

        Right only where all that they cover is gone: every store was swept since, and no fetch that began before is
        on its way.
        """
        for name, site in list(self._sites.items()):
            self._count -= site.keep(clock)
            if site.whole <= clock:
                site.whole = 0
            if not site.whole and not site.count:
                del self._sites[name]

    def records(self) -> Iterator[Purge]:
        """All of them, for a new journal."""
        for name, site in self._sites.items():
            if site.whole:
                yield Purge(site.whole, "site", name)
            for kind, table in site.tables:
                for value, clock in table.items():
                    yield Purge(clock, kind, name, value)

    def __len__(self) -> int:
        """How many are remembered one by one."""
        return self._count

    def _fold(self) -> None:
        """Turn the older half of the site that has most into one purge of the whole: more is void than was asked for,
        never less."""
        site = max(self._sites.values(), key=lambda site: site.count)
        clocks = sorted(clock for _, table in site.tables for clock in table.values())
        site.whole = max(site.whole, clocks[len(clocks) // 2])
        self._count -= site.keep(site.whole)


def encode_purge(purge: Purge) -> bytes:
    """The line of a journal that says it."""
    fields = [purge.clock, purge.kind, purge.site, purge.value.decode("latin-1")]
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (crc32(text), text)


def write_journal(purges: Purges) -> bytes:
    """A whole journal.

    It begins with the clock, so that this does not go back where all else was forgotten: as a purge of a site whose
    name no configuration can have.
    """
    clock = Purge(purges.clock, "site", "\n")
    others = (purge for purge in purges.records() if purge.site != clock.site)
    return HEADER + b"".join(encode_purge(purge) for purge in (clock, *others))


def read_journal(data: bytes, *, begun: bool = False) -> tuple[list[Purge], int]:
    """The purges of a journal, and how many octets of it are whole lines.

    What follows the last line break was cut off while it was written: nobody was told that it is done.

    :param begun: the header was read before
    :raises ValueError: it is no journal, of another version, or damaged; the message says which
    """
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole
    if not begun:
        if not whole.startswith(HEADER):
            raise ValueError("it does not begin as a journal of purges of this version does")
        lines = whole[len(HEADER) :]
    return [_decode(line) for line in lines.split(b"\n")[:-1]], len(whole)


def _decode(line: bytes) -> Purge:
    check, _, text = line.partition(b" ")
    if check != b"%08x" % crc32(text):
        raise ValueError("a line of it is damaged")
    clock, kind, site, value = json.loads(text)
    if kind not in KINDS:
        raise ValueError(f"it has a purge by {kind}, which this version does not know")
    return Purge(clock, kind, site, value.encode("latin-1"))
