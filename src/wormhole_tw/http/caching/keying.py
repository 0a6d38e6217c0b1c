"""What of a request tells one stored answer from another, besides its URL: what a site's owner says of queries, cookies
and fields.  Pure functions over a request's target and fields; the key itself is put together by who stores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields

__all__ = ["EVERY_MEMBER", "IgnoredQuery", "Names", "brings_cookie", "keyed_values"]

_COOKIE = b"cookie"


@dataclass(frozen=True, slots=True)
class Names:
    """Some names, and all that begin in some ways.

    :ivar prefixes: what stands before the star of ``utm_*``
    """

    exact: frozenset[bytes] = frozenset()
    prefixes: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Names:
        """Of names, some of which may end in a star."""
        texts = list(texts)
        exact = frozenset(text for text in texts if not text.endswith(b"*"))
        return cls(exact, tuple(sorted({text[:-1] for text in texts if text.endswith(b"*")})))

    def __contains__(self, name: bytes) -> bool:
        return name in self.exact or (bool(self.prefixes) and name.startswith(self.prefixes))

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes)


@dataclass(frozen=True, slots=True)
class IgnoredQuery:
    """Members of a query that make no difference to the answer.

    They stand neither in the key nor in what is fetched: an answer that is kept for all cannot have come of what one
    visitor wrote there.

    :ivar names: as a service reads them: unescaped
    :ivar every: all of them, whatever they are called
    """

    names: Names = Names()
    every: bool = False

    def of(self, query: bytes | None) -> bytes | None:
        """The query without them, the others in their order and spelling; None where nothing is left of one.

        A member with a semicolon in it stays: some services take that for its end, and read another behind it.

        :param query: without its ``?``; None for none
        """
        if query is None or self.every:
            return None
        names = self.names
        members = query.split(b"&")
        kept = [member for member in members if b";" in member or _name(member) not in names]
        if len(kept) == len(members):
            return query
        return b"&".join(kept) if kept else None


EVERY_MEMBER = IgnoredQuery(every=True)


def _name(member: bytes) -> bytes:
    name = member.partition(b"=")[0]
    return unquote_to_bytes(name.replace(b"+", b" ")) if b"%" in name or b"+" in name else name


def keyed_values(fields: Fields, headers: Sequence[bytes], cookies: Sequence[bytes]) -> bytes:
    """The values of some fields and cookies, as a part of a key.

    Two requests have the same one only where each has the same values, in the same order, or none; it holds no NUL, as
    no field does.

    :param headers: names of fields, lower-case
    :param cookies: names of cookies, as they are spelt
    """
    found: dict[bytes, list[bytes]] = {}
    sent: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lower = name.lower()
        if lower in headers:
            found.setdefault(lower, []).append(value)
        if cookies and lower == _COOKIE:
            for key, text in _pairs(value):
                if key in cookies:
                    sent.setdefault(key, []).append(text)
    values = [found.get(name, ()) for name in headers] + [sent.get(name, ()) for name in cookies]
    # how many there are and how long each is stands before them, so that no value looks like two
    return b"".join(b"%d,%s" % (len(of), b"".join(b"%d:%s" % (len(text), text) for text in of)) for of in values)


def brings_cookie(fields: Fields, names: Collection[bytes] | Names) -> bool:
    """Whether a request has a cookie of one of these names."""
    return any(name.lower() == _COOKIE and any(key in names for key, _ in _pairs(value)) for name, value in fields)


def _pairs(value: bytes) -> Iterable[tuple[bytes, bytes]]:
    for pair in value.split(b";"):
        key, _, text = pair.partition(b"=")
        yield key.strip(b" \t"), text.strip(b" \t")
