"""``basic_auth``: a name and a password (RFC 7617), checked by bcrypt in a thread.

bcrypt takes a twentieth of a second and more, which is what it is for.  So what proved right is remembered for a while
(as a keyed hash), checks run in threads and few at a time, and who waits behind too many is told so.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections import OrderedDict, deque
from hashlib import blake2b
from os import urandom
from typing import TYPE_CHECKING, cast

import bcrypt
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.errors import HttpError
from wormhole_tw.http.identity import alike, tell

if TYPE_CHECKING:
    from wormhole_tw.control.access import BasicRule
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.outside import Outside

__all__ = ["BasicGate", "make"]

log = Logger()

WAITING = 64
"""Checks of one rule that wait: some seconds' worth."""

REMEMBERED = 1024
"""Proofs that are kept: a name with its right password is one."""

KEPT_FOR = 300.0
"""Seconds for which a proof is kept."""

LONGEST = 72
"""Octets of a password that bcrypt looks at; a longer one is wrong, for it would be cut."""

_BUSY = LocalAnswer(
    503,
    ((b"Retry-After", b"2"),),
    reason="sign-in-busy",
    message="Too many names and passwords are being checked; try again in a moment.",
)


@implementer(IGate)
class BasicGate:
    """See the module."""

    __slots__ = (
        "_checks",
        "_hashes",
        "_key",
        "_known",
        "_names",
        "_outside",
        "_refusal",
        "_seconds",
        "_user",
        "_users",
        "_waiting",
        "hides",
    )

    def __init__(self, rule: BasicRule, context: EdgeContext) -> None:
        self._users = dict(rule.users)
        self._user = rule.user_header
        self._hashes = tuple(hashed for _, hashed in rule.users)
        self.hides = frozenset({alike(self._user)} if self._user else ())
        self._names = self.hides if rule.keep else self.hides | {b"authorization"}
        self._checks = context.password_checks
        self._outside = cast("Outside", context.outside)
        self._seconds = context.timers.seconds
        self._key = urandom(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._waiting: deque[tuple[bytes, bytes, Deferred[bool]]] = deque()
        self._refusal = LocalAnswer(
            401,
            ((b"WWW-Authenticate", b'Basic realm="%s", charset="UTF-8"' % rule.realm),),
            reason="not-signed-in",
            message="This needs a name and a password.",
        )

    def check(self, exchange: Exchange) -> LocalAnswer | Deferred[LocalAnswer | None] | None:
        """See IGate."""
        given = _credentials(exchange)
        if given is None:
            return self._refusal
        name, password = given
        proof = blake2b(b"%d:%s:%s" % (len(name), name, password), key=self._key, digest_size=16).digest()
        now = self._seconds()
        until = self._known.get(proof)
        if until is not None and now < until:
            self._let_in(exchange, name)
            return None
        if len(self._waiting) >= WAITING:
            return _BUSY
        checking = self._checked(name, password)

        def judged(right: bool) -> LocalAnswer | None:
            if not right:
                return self._refusal
            self._known[proof] = self._seconds() + KEPT_FOR
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            self._let_in(exchange, name)
            return None

        return checking.addCallback(judged)

    def close(self) -> None:
        """See IGate."""
        waiting, self._waiting = self._waiting, deque()
        for _, _, one in waiting:
            one.errback(HttpError(503, _BUSY.reason, _BUSY.message or ""))

    def _let_in(self, exchange: Exchange, name: bytes) -> None:
        if self._names and exchange.forward is not None:
            lines = [(self._user, name)] if self._user else []
            exchange.forward = tell(exchange.forward, names=self._names, lines=lines)

    def _checked(self, name: bytes, password: bytes) -> Deferred[bool]:
        known = name in self._users
        # somebody's hash is checked in any case, of one name always the same one's, for not all may cost the same: the
        # time that an answer takes tells nobody who is there
        hashed = self._users[name] if known else self._somebody(name)
        waiting: Deferred[bool] = Deferred(self._gone)
        self._waiting.append((hashed, password, waiting))
        self._checks.want(self._next)
        return waiting if known else waiting.addCallback(lambda _: False)

    def _somebody(self, name: bytes) -> bytes:
        number = int.from_bytes(blake2b(name, key=self._key, digest_size=8).digest())
        return self._hashes[number % len(self._hashes)]

    def _gone(self, waiting: Deferred[bool]) -> None:
        """A visitor has left: its place is free for another."""
        for entry in self._waiting:
            if entry[2] is waiting:
                self._waiting.remove(entry)
                return

    def _next(self) -> Deferred[None] | None:
        if not self._waiting:
            return None
        hashed, password, waiting = self._waiting.popleft()
        return self._outside.in_thread(_is_right, hashed, password).addBoth(self._ended, waiting)

    def _ended(self, right: object, waiting: Deferred[bool]) -> None:
        if isinstance(right, Failure):
            log.failure("a password could not be checked", right)
        if not waiting.called:  # else the visitor has left
            waiting.callback(right is True)


def _credentials(exchange: Exchange) -> tuple[bytes, bytes] | None:
    head = exchange.head
    values = [] if head is None else [value for name, value in head.fields if name.lower() == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, text = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = b64decode(text.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None


def _is_right(hashed: bytes, password: bytes) -> bool:
    return len(password) <= LONGEST and b"\0" not in password and bcrypt.checkpw(password, hashed)


def make(settings: BasicRule, context: EdgeContext) -> BasicGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return BasicGate(settings, context)
