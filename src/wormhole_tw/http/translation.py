"""Requests and answers between visitors and an origin on the web, which has another name and perhaps a base path."""

from __future__ import annotations

from dataclasses import dataclass

from wormhole_tw.http.events import Fields, RequestHead
from wormhole_tw.http.forwarding import PSEUDONYM
from wormhole_tw.http.grammar import MAX_LEARNED_LENGTH, MAX_LEARNED_NAMES
from wormhole_tw.http.links import Links, bare_authority, moved, rewrite_fields, safe
from wormhole_tw.http.memo import remember
from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap
from wormhole_tw.http.targets import normalise_target

__all__ = ["Translation"]

_TOUCHED = frozenset(
    {b"alt-svc", b"content-location", b"link", b"location", b"refresh", b"set-cookie", b"strict-transport-security"}
)
MAX_PASSES = 8
"""How often a request may have come by an edge, which ``Via`` says (RFC 9110 §7.6.3): two or three stand in a row where
somebody puts an edge in front of an edge."""

_learned: dict[bytes, bool] = {}
"""The same by names as they are spelt."""


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """What is changed on the way to an origin, and back.

    :ivar scheme: ``http`` or ``https``
    :ivar authority: its own, as it stands in its URLs
    :ivar host: what ``Host`` says; None for what the visitor asked for
    :ivar base: what stands before each path there: empty, or ``/base``
    :ivar index: what is asked for where a path ends in a slash; empty for the path as it is
    :ivar rewrite: what its answers say of its URLs is changed
    """

    scheme: bytes
    authority: bytes
    host: bytes | None
    base: bytes = b""
    index: bytes = b""
    rewrite: bool = True

    def circles(self, head: RequestHead) -> bool:
        """Whether a request comes from us again and again: an origin whose name leads back to the edge."""
        passes = 0
        for name, value in head.fields:
            if len(name) == 3 and name.lower() == b"via":
                passes += value.count(PSEUDONYM)
        return passes > MAX_PASSES

    def request(self, head: RequestHead) -> RequestHead:
        """A request as it goes to the origin; the same object for one that is shared (``head.common``).

        :param head: as it goes on, its target in canonical form
        """
        if head.common:
            key = (id(self), id(head))
            known = _requests.get(key)
            # an id is another object's when its own is gone, which this memo prevents for its own and not for others
            if known is not None and known[0] is self and known[1] is head:
                return known[2]
            translated = self._translated(head)
            translated.common = True
            remember(_requests, key, (self, head, translated))
            return translated
        return self._translated(head)

    def _translated(self, head: RequestHead) -> RequestHead:
        target = head.target
        if target != b"*":
            if self.index:
                path, mark, query = target.partition(b"?")
                if path.endswith(b"/"):
                    target = path + self.index + mark + query
            target = self.base + target
        return RequestHead(
            head.method,
            target,
            self.host or head.authority,
            head.version,
            head.fields,
            head.framing,
            head.length,
            head.expect_continue,
            head.upgrade,
        )

    def touches(self, fields: Fields) -> bool:
        """Whether :meth:`answer` may have something to change in an answer's fields."""
        if not self.rewrite:
            return False
        for name, _ in fields:
            touched = _learned.get(name)
            if touched is None:
                touched = name.lower() in _TOUCHED
                if len(name) <= MAX_LEARNED_LENGTH:
                    if len(_learned) >= MAX_LEARNED_NAMES:
                        _learned.clear()
                    _learned[name] = touched
            if touched:
                return True
        return False

    def answer(
        self,
        fields: Fields,
        scheme: bytes,
        authority: bytes,
        asked: bytes,
        sent: RequestHead,
        rewrite: PrefixSwap | PathRewrite | None = None,
    ) -> Fields:
        """The fields of an answer as they are for its visitor: a new list.

        :param scheme: by which the visitor came
        :param authority: the host, and the port where it is not usual, that the visitor asked for
        :param asked: the target that it asked for
        :param sent: what :meth:`request` got, as the route has made it
        :param rewrite: how; what it does not tell is seen from the two
        """
        origin = self.scheme + b"://" + self.authority
        path, query = normalise_target(asked)
        routed = sent.target.partition(b"?")[0]
        told = rewrite.prefixes(path, routed) if isinstance(rewrite, PrefixSwap) else None
        above, below = told or moved(path, routed)
        called = authority if self.host is None else self.host
        names = {self.authority.lower(), bare_authority(self.scheme if self.host else scheme, called)}
        links = Links(origin, frozenset(names), self.base + below, scheme + b"://" + authority, safe(above))
        asked = path if query is None else b"%s?%s" % (path, query)
        return rewrite_fields(fields, links, asked, self._translated(sent).target, named=self.host is not None)


_requests: dict[tuple[int, int], tuple[Translation, RequestHead, RequestHead]] = {}
