"""``jwt``: a token of somebody else in ``Authorization: Bearer`` (RFC 6750) or in a cookie, judged here."""

from __future__ import annotations

import json
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.control.keys import Judge, KeySet, Unsigned, read_keys
from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.edge.sign_in.fetched import Fetched
from wormhole_tw.edge.sign_in.issuer import metadata_of
from wormhole_tw.errors import IssuerUnavailable
from wormhole_tw.http.identity import cookies_named, tell

if TYPE_CHECKING:
    from wormhole_tw.control.access import TokenRule
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.outside import Outside
    from wormhole_tw.http.events import RequestHead

__all__ = ["UNAVAILABLE", "TokenGate", "make"]

REMEMBERED = 4096
"""Tokens that were found good and are not judged again until they end: a signature costs a tenth of a millisecond."""

KEPT_FOR = 300.0
"""Seconds for which one is remembered at most: keys are taken back, too."""

UNAVAILABLE = LocalAnswer(
    503,
    ((b"Retry-After", b"10"),),
    reason="issuer-unavailable",
    message="Who you are cannot be checked at the moment; try again a little later.",
)


def _refusal(status: int, error: bytes, reason: str, message: str) -> LocalAnswer:
    challenge = b"Bearer" if not error else b'Bearer error="%s"' % error
    return LocalAnswer(status, ((b"WWW-Authenticate", challenge),), reason=reason, message=message)


# RFC 6750 §3.1: nothing is said about an error where there was no token
_NONE = _refusal(401, b"", "not-signed-in", "This needs a token.")
_BAD = _refusal(401, b"invalid_token", "token-refused", "This token is not good here, or its time is over.")
_NOT_FOR = _refusal(403, b"insufficient_scope", "not-allowed", "This is not for who the token says you are.")
_UNKNOWN = _refusal(401, b"invalid_token", "token-refused", "The key of this token is not known yet.")
_MIXED = _refusal(400, b"invalid_request", "token-refused", "More than one token came.")


@implementer(IGate)
class TokenGate:
    """See the module."""

    __slots__ = ("_judge", "_keys", "_known", "_names", "_rule", "_seconds", "_wall", "hides")

    def __init__(self, rule: TokenRule, context: EdgeContext) -> None:
        self._rule = rule
        self._judge = Judge(rule.algorithms, rule.issuer, rule.audiences, rule.leeway)
        self._wall = context.wall
        self._seconds = context.timers.seconds
        self._known: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()
        self.hides = rule.claims.names
        self._names = self.hides if rule.keep else self.hides | {b"authorization"}
        self._keys: Fetched[KeySet] | KeySet | bytes
        if rule.secret is not None:
            self._keys = rule.secret
        elif rule.keys is not None:
            self._keys = read_keys(json.loads(rule.keys), "jwks_file")
        else:
            client = cast("Outside", context.outside).client(rule.authorities)

            async def fetch() -> KeySet:
                url = rule.jwks_url
                if not url:
                    url = (await metadata_of(rule.issuer, client)).keys
                return read_keys(await client.get(url), url)

            what = f"the key set of {rule.issuer or rule.jwks_url}"
            self._keys = Fetched(what, fetch, context.timers.seconds)

    def check(self, exchange: Exchange) -> LocalAnswer | Deferred[LocalAnswer | None] | None:
        """See IGate."""
        tokens = self._tokens(exchange)
        if len(tokens) != 1:
            return _MIXED if tokens else _NONE
        token = tokens[0]
        proof = blake2b(token.encode("latin-1"), digest_size=16).digest()
        known = self._known.get(proof)
        if known is not None and self._seconds() < known[0]:
            return self._judged(exchange, known[1])
        try:
            self._judge.key_id(token)
        except Unsigned:
            return _BAD
        keys = self._keys
        if not isinstance(keys, Fetched):
            return self._verdict(exchange, token, proof, keys, last=True)
        at_hand = keys.at_hand()
        if at_hand is not None:
            verdict = self._verdict(exchange, token, proof, at_hand, last=False)
            if verdict is not _UNKNOWN:
                return verdict
        # the key is new, or made up
        asked = keys.newest(anew=True)
        return asked.addCallbacks(
            lambda found: self._verdict(exchange, token, proof, found, last=True), self._unavailable
        )

    def close(self) -> None:
        """See IGate."""
        if isinstance(self._keys, Fetched):
            self._keys.stop()

    def _tokens(self, exchange: Exchange) -> list[str]:
        head = exchange.head
        assert head is not None
        found = _bearers(head)
        if not found and self._rule.cookie:
            found = cookies_named(head, self._rule.cookie)
        return [token.decode("latin-1") for token in found]

    def _verdict(
        self, exchange: Exchange, token: str, proof: bytes, keys: KeySet | bytes, *, last: bool
    ) -> LocalAnswer | None:
        try:
            claims = self._judge.claims(token, keys, self._wall())
        except Unsigned:
            return _BAD
        if claims is None:
            return _BAD if last else _UNKNOWN
        left = float(claims["exp"]) + self._rule.leeway - self._wall()
        self._known[proof] = (self._seconds() + min(left, KEPT_FOR), claims)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return self._judged(exchange, claims)

    def _judged(self, exchange: Exchange, claims: dict[str, Any]) -> LocalAnswer | None:
        if self._rule.claims.refused(claims):
            return _NOT_FOR
        rule, head = self._rule, exchange.head
        cookies: tuple[bytes, ...] = ()
        if rule.cookie and head is not None and (not rule.keep or _bearers(head)):
            # beside a token in the other field it was not looked at, and nobody must take it for one that was
            cookies = (rule.cookie,)
        if exchange.forward is not None and (self._names or cookies):
            lines = rule.claims.lines(claims)
            exchange.forward = tell(exchange.forward, names=self._names, lines=lines, cookies=cookies)
        return None

    def _unavailable(self, failure: Failure) -> LocalAnswer:
        failure.trap(IssuerUnavailable)
        return UNAVAILABLE


def _bearers(head: RequestHead) -> list[bytes]:
    found = []
    for name, value in head.fields:
        if len(name) == len(b"authorization") and name.lower() == b"authorization":
            scheme, _, text = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(text.strip(b" "))
    return found


def make(settings: TokenRule, context: EdgeContext) -> TokenGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return TokenGate(settings, context)
