"""A request as rules look at it: its parts are taken apart when one is asked for, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields

__all__ = ["MAX_MEMBERS", "Asked"]

MAX_MEMBERS = 1000
"""Members of a query or cookies that are looked at: forms have fewer, and each costs."""


class Asked:
    """What rules may ask about a request.

    :ivar host: normalised
    :ivar path: canonical, or ``*``
    :ivar query: without its ``?``; None for none
    :ivar method: as sent
    :ivar scheme: ``http`` or ``https``, of the visitor
    :ivar address: the visitor's; empty where it has none
    :ivar drawn: cookie → the value that was drawn for a visitor who had none
    """

    __slots__ = (
        "_chance",
        "_cookies",
        "_fields",
        "_luck",
        "_members",
        "_offers",
        "_values",
        "address",
        "drawn",
        "host",
        "method",
        "path",
        "query",
        "scheme",
    )

    def __init__(
        self,
        host: str,
        path: str,
        query: bytes | None,
        *,
        method: bytes,
        fields: Fields,
        scheme: str,
        address: str,
        chance: Callable[[], float],
        offers: Callable[[str, str], bool],
    ) -> None:
        """
        :param chance: a number from 0 to 1, without 1
        :param offers: whether somebody of a release branch is there for a backend: ``offers(backend, branch)``
        """
        self.host = host
        self.path = path
        self.query = query
        self.method = method
        self.scheme = scheme
        self.address = address
        self.drawn: dict[bytes, bytes] | None = None
        self._fields = fields
        self._chance = chance
        self._offers = offers
        self._luck: float | None = None
        self._values: dict[bytes, list[bytes]] | None = None
        self._members: dict[bytes, list[bytes]] | None = None
        self._cookies: dict[bytes, list[bytes]] | None = None

    def field(self, lower: bytes) -> list[bytes]:
        """The values of the lines of a field, in order.

        :param lower: its name, lower-case
        """
        values = self._values
        if values is None:
            values = self._values = {}
            for name, value in self._fields:
                values.setdefault(name.lower(), []).append(value)
        return values.get(lower, [])

    def member(self, name: bytes) -> list[bytes]:
        """The values of a member of the query, unescaped as forms are (``+`` is a space)."""
        members = self._members
        if members is None:
            members = self._members = {}
            for part in (self.query or b"").split(b"&", MAX_MEMBERS)[:MAX_MEMBERS]:
                key, _, value = part.partition(b"=")
                if part:
                    members.setdefault(_unescaped(key), []).append(_unescaped(value))
        return members.get(name, [])

    def cookie(self, name: bytes) -> list[bytes]:
        """The values of a cookie (RFC 6265 §5.4), without quotation marks around them."""
        cookies = self._cookies
        if cookies is None:
            cookies = self._cookies = {}
            for line in self.field(b"cookie"):
                for part in line.split(b";", MAX_MEMBERS)[:MAX_MEMBERS]:
                    key, mark, value = part.partition(b"=")
                    if mark:
                        value = value.strip(b" \t")
                        if len(value) > 1 and value[:1] == value[-1:] == b'"':
                            value = value[1:-1]
                        cookies.setdefault(key.strip(b" \t"), []).append(value)
        return cookies.get(name, [])

    def offers(self, backend: str, branch: str) -> bool:
        """Whether somebody of a release branch is there for a backend."""
        return self._offers(backend, branch)

    def luck(self) -> float:
        """A number from 0 to 1, without 1: the same one for all rules that this request meets."""
        if self._luck is None:
            self._luck = self._chance()
        return self._luck

    def ticket(self, cookie: bytes) -> bytes:
        """The value of a cookie that is not empty; one is drawn where there is none."""
        for value in self.cookie(cookie):
            if value:
                return value
        drawn = self.drawn
        if drawn is None:
            drawn = self.drawn = {}
        if cookie not in drawn:
            drawn[cookie] = b"%016x" % int(self._chance() * (1 << 64))
        return drawn[cookie]


def _unescaped(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
