"""``oidc``: visitors sign in at an issuer (OpenID Connect Core 1.0 §3.1, code flow with PKCE, RFC 7636).

Nothing is kept here: who has signed in shows a sealed cookie with the claims that rules and services want.  The way
there and back is remembered in a cookie of its own for each, so that several windows may sign in at once.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b, sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote, urlencode

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from wormhole_tw.control.keys import Judge, KeySet, Unsigned, read_keys
from wormhole_tw.control.model import LocalAnswer
from wormhole_tw.edge.gates.token import UNAVAILABLE
from wormhole_tw.edge.interfaces import IGate
from wormhole_tw.edge.sign_in.fetched import Fetched
from wormhole_tw.edge.sign_in.issuer import Metadata, metadata_of
from wormhole_tw.edge.sign_in.sealed import Sealer
from wormhole_tw.errors import IssuerUnavailable
from wormhole_tw.http.identity import cookie_names, cookies_named, tell

if TYPE_CHECKING:
    from wormhole_tw.control.access import SignInRule
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.edge.outside import Outside
    from wormhole_tw.http.events import RequestHead

__all__ = ["SignInGate", "make"]

log = Logger()

COOKIES = b"__Host-wormhole-"
"""How the names of our cookies begin; browsers take one with this prefix from nobody but the very host, so that others
of the same domain cannot set it (RFC 6265bis §4.1.3)."""

WAY_SECONDS = 600
"""Seconds that somebody has for typing name, password and what else the issuer wants."""

MOST_COOKIE = 3800
"""Octets of a cookie's value: browsers drop one of more than 4096 with its name and attributes."""

MOST_WAYS = 6
"""Sign-ins that one browser has begun; with more, all but the newest are forgotten, for they make its requests long."""

MOST_TARGET = 2048
"""Octets of where somebody wanted to; a longer one comes back to the site's beginning."""

_ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")

_LEEWAY = 60.0
"""Seconds by which the issuer's clock may differ from ours."""

_FLAGS = b"; Path=/; Secure; HttpOnly; SameSite=Lax"
_NEVER_STORED = (b"Cache-Control", b"no-store")

_NOT_SECURE = LocalAnswer(
    403, reason="sign-in-needs-https", message="This needs a sign-in, and a sign-in needs https: the address has none."
)
_NOT_SIGNED_IN = LocalAnswer(401, reason="not-signed-in", message="This needs a sign-in, by a page in a browser.")
_STALE = LocalAnswer(
    400,
    (_NEVER_STORED,),
    reason="sign-in-stale",
    message="This sign-in was not begun in this browser, or took too long; go back to the page and try again.",
)
_FAILED = LocalAnswer(
    502, (_NEVER_STORED,), reason="sign-in-failed", message="The sign-in could not be completed; please try again."
)
_TOO_MUCH = LocalAnswer(
    502, (_NEVER_STORED,), reason="sign-in-failed", message="The claims of this account are too long for a cookie."
)


@implementer(IGate)
class SignInGate:
    """See the module."""

    __slots__ = (
        "_client",
        "_cookie",
        "_judge",
        "_kept",
        "_keys",
        "_metadata",
        "_rule",
        "_sealer",
        "_sign_out",
        "_wall",
        "hides",
    )

    def __init__(self, rule: SignInRule, context: EdgeContext) -> None:
        self._rule = rule
        name = f"{rule.issuer}\0{rule.client_id}"
        self._wall = context.wall
        self._sealer = Sealer(rule.secret, name, context.wall)
        self._sign_out = rule.callback.rpartition("/")[0].encode() + b"/sign-out"
        self._kept = {name.partition(".")[0] for name, _ in rule.claims.wanted}
        self._kept |= {name for name, _ in rule.claims.wanted} | {name for _, name in rule.claims.told}
        self._kept |= {name.partition(".")[0] for _, name in rule.claims.told} | {"sub", "email_verified"}
        # a session that lacks a claim which a rule now wants is none: the issuer is asked again
        self._cookie = COOKIES + _short("\0".join((name, *sorted(self._kept))))
        self.hides = rule.claims.names
        self._client = cast("Outside", context.outside).client(rule.authorities)
        seconds = context.timers.seconds
        self._metadata = Fetched(f"what {rule.issuer} says of itself", self._fetch_metadata, seconds)
        self._keys = Fetched(f"the key set of {rule.issuer}", self._fetch_keys, seconds)

    def check(self, exchange: Exchange) -> LocalAnswer | Deferred[LocalAnswer | None] | None:
        """See IGate."""
        head = exchange.head
        assert head is not None
        path, _, query = head.target.partition(b"?")
        if exchange.facts.forwarding.scheme != "https":
            return _NOT_SECURE
        if path == self._rule.callback.encode():
            return Deferred.fromCoroutine(self._came_back(head, query))
        if path == self._sign_out:
            return self._signed_out(head)
        for sealed in cookies_named(head, self._cookie):
            claims = self._sealer.open("session", sealed)
            if claims is not None:
                return self._judged(exchange, claims)
        if not _is_page(head):
            return _NOT_SIGNED_IN
        return Deferred.fromCoroutine(self._send_away(head))

    def close(self) -> None:
        """See IGate."""
        self._metadata.stop()
        self._keys.stop()

    def _judged(self, exchange: Exchange, claims: dict[str, Any]) -> LocalAnswer | None:
        rules = self._rule.claims
        if rules.refused(claims):
            out = self._sign_out.decode()
            message = f"This is not for the account that you signed in with; {out} signs you out."
            return LocalAnswer(403, (_NEVER_STORED,), reason="not-allowed", message=message)
        if exchange.forward is not None:
            exchange.forward = tell(exchange.forward, names=self.hides, lines=rules.lines(claims), prefix=COOKIES)
        return None

    # there

    async def _send_away(self, head: RequestHead) -> LocalAnswer:
        try:
            metadata = await self._metadata.newest()
        except IssuerUnavailable:
            return UNAVAILABLE
        if not metadata.authorization or not metadata.token:
            log.error("{issuer} names no endpoint for signing in", issuer=self._rule.issuer)
            return UNAVAILABLE
        state, nonce, verifier = token_urlsafe(24), token_urlsafe(24), token_urlsafe(48)
        target = head.target.decode("latin-1") if len(head.target) <= MOST_TARGET else "/"
        way = {"state": state, "nonce": nonce, "verifier": verifier, "to": target, "at": _authority(head)}
        wanted = {
            "response_type": "code",
            "client_id": self._rule.client_id,
            "redirect_uri": self._callback(head),
            "scope": " ".join(self._rule.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        mark = "&" if "?" in metadata.authorization else "?"
        location = f"{metadata.authorization}{mark}{urlencode(wanted, quote_via=quote)}"
        sealed = self._sealer.seal("way", way, WAY_SECONDS)
        if len(sealed) > MOST_COOKIE:  # what is no ASCII, and some signs, are written longer
            sealed = self._sealer.seal("way", {**way, "to": "/"}, WAY_SECONDS)
        cookies = [self._set(self._way_of(state), sealed, WAY_SECONDS)]
        begun = cookie_names(head, self._cookie + b"-")
        if len(begun) >= MOST_WAYS:
            cookies += [self._set(name, b"", 0) for name in begun]
        return _redirect(location, *cookies)

    def _way_of(self, state: str) -> bytes:
        return self._cookie + b"-" + state[:8].encode()

    def _callback(self, head: RequestHead) -> str:
        return f"https://{_authority(head)}{self._rule.callback}"

    # and back

    async def _came_back(self, head: RequestHead, query: bytes) -> LocalAnswer:
        try:
            said = {name: values[0] for name, values in parse_qs(query.decode("latin-1"), max_num_fields=20).items()}
        except ValueError:  # an issuer says less
            return _STALE
        state = said.get("state", "")
        if not state.isascii() or len(state) < 8:
            return _STALE
        name = self._way_of(state)
        ways = [self._sealer.open("way", sealed) for sealed in cookies_named(head, name)]
        way = next((way for way in ways if way is not None and compare_digest(way["state"], state)), None)
        if way is None or way["at"] != _authority(head):
            return _STALE
        over = self._set(name, b"", 0)
        if "code" not in said:
            error = said.get("error", "")
            word = error if error.replace("_", "").isalpha() and error.isascii() and len(error) < 40 else "no code"
            message = f"The sign-in was not completed: {word}."
            return LocalAnswer(403, (_NEVER_STORED, over), reason="sign-in-refused", message=message)
        try:
            claims = await self._claims(said, way, self._callback(head))
        except IssuerUnavailable as error:
            log.warn("a sign-in failed: {error}", error=error)
            return _FAILED
        except Unsigned as error:
            log.warn(
                "a sign-in failed: the token of {issuer} is not good: {error}", issuer=self._rule.issuer, error=error
            )
            return _FAILED
        kept = {name: value for name, value in claims.items() if name in self._kept}
        sealed = self._sealer.seal("session", kept, self._rule.session)
        if len(sealed) > MOST_COOKIE:
            log.warn("a sign-in failed: its claims make a cookie of {octets} octets", octets=len(sealed))
            return _TOO_MUCH
        location = f"https://{way['at']}{way['to']}"
        return _redirect(location, self._set(self._cookie, sealed, self._rule.session), over)

    async def _claims(self, answer: dict[str, str], way: dict[str, Any], callback: str) -> dict[str, Any]:
        metadata = await self._metadata.newest()
        if answer.get("iss", metadata.issuer) != metadata.issuer:  # RFC 9207: an answer of somebody else
            raise Unsigned("issuer")
        rule = self._rule
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": callback,
            "code_verifier": way["verifier"],
        }
        secret = rule.secret.decode("utf-8", "replace")
        credentials = None
        if metadata.by_form:
            form |= {"client_id": rule.client_id, "client_secret": secret}
        else:
            credentials = (quote(rule.client_id, safe=""), quote(secret, safe=""))  # RFC 6749 §2.3.1
        said = await self._client.post(metadata.token, form, credentials)
        token = said.get("id_token")
        if not isinstance(token, str):
            raise IssuerUnavailable(f"{metadata.token}: it gave no id_token")
        judge = Judge(_ALGORITHMS, metadata.issuer, (rule.client_id,), _LEEWAY)
        claims = judge.claims(token, await self._keys.newest(), self._wall())
        if claims is None:
            claims = judge.claims(token, await self._keys.newest(anew=True), self._wall())
        if claims is None:
            raise Unsigned("its key is not in the key set")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not compare_digest(nonce, way["nonce"]):
            raise Unsigned("nonce")
        party = claims.get("azp", rule.client_id)  # Core §3.1.3.7
        if party != rule.client_id or (
            isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1 and "azp" not in claims
        ):
            raise Unsigned("authorized party")
        return claims

    async def _fetch_metadata(self) -> Metadata:
        return await metadata_of(self._rule.issuer, self._client)

    async def _fetch_keys(self) -> KeySet:
        url = (await self._metadata.newest()).keys
        return read_keys(await self._client.get(url), url)

    # cookies

    def _set(self, name: bytes, value: bytes, seconds: int) -> tuple[bytes, bytes]:
        return (b"Set-Cookie", b"%s=%s; Max-Age=%d%s" % (name, value, seconds, _FLAGS))

    def _signed_out(self, head: RequestHead) -> LocalAnswer:
        """Out of all that was signed in to at this host: another route may have a session of its own."""
        others = {*cookie_names(head, COOKIES)} - {self._cookie}
        over = (self._set(name, b"", 0) for name in (*sorted(others), self._cookie))
        fields = (_NEVER_STORED, (b"Content-Type", b"text/plain; charset=utf-8"), *over)
        return LocalAnswer(200, fields, b"You are signed out here.\n")


def _short(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=4).hexdigest().encode()


def _authority(head: RequestHead) -> str:
    return head.authority.decode("latin-1")


def _is_page(head: RequestHead) -> bool:
    """Somebody looks at it: a redirect to another site would be of no use to a script."""
    if head.method not in (b"GET", b"HEAD") or head.upgrade is not None:
        return False
    fields = {name.lower(): value for name, value in head.fields}
    mode = fields.get(b"sec-fetch-mode")
    return mode == b"navigate" if mode is not None else b"text/html" in fields.get(b"accept", b"")


def _redirect(location: str, *cookies: tuple[bytes, bytes]) -> LocalAnswer:
    fields = ((b"Location", location.encode("latin-1")), _NEVER_STORED, *cookies)
    return LocalAnswer(302, fields, b"")


def make(settings: SignInRule, context: EdgeContext) -> SignInGate:
    """See :mod:`wormhole_tw.edge.gates`."""
    return SignInGate(settings, context)
