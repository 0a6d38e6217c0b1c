"""The keys of an issuer: JWK sets (RFC 7517), and what a token is judged by (RFC 7515, 7519, 8725)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jwt

from wormhole_tw.errors import IssuerUnavailable

__all__ = ["MOST_TOKEN", "Judge", "KeySet", "Unsigned", "read_keys"]

MOST_KEYS = 64
"""Keys of a set that are looked at."""

MOST_TOKEN = 16384
"""Octets of a token; a header field has no more, and a cookie less."""

_NEVER = 1e15
"""Seconds since 1970 that are no time any more."""

KeySet = Mapping[str, Sequence["_Key"]]
"""Keys by their ids; under an empty one, all."""


class Unsigned(Exception):
    """A token that is not good: a word for logs."""


class _Key(NamedTuple):
    key: Any
    kind: str
    algorithm: str


_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


def read_keys(said: Mapping[str, Any], where: str) -> KeySet:
    """The signing keys of a JWK set that can be used here; others are passed over, as RFC 7517 §5 wants.

    Symmetric ones are passed over too: who can read them could sign.

    :raises IssuerUnavailable: it is none, or holds none
    """
    listed = said.get("keys")
    if not isinstance(listed, list):
        raise IssuerUnavailable(f"{where}: no JWK set")
    found: dict[str, list[_Key]] = {"": []}
    for one in listed[:MOST_KEYS]:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            key = jwt.PyJWK(one)
            own = key.key
            if hasattr(own, "public_key"):  # a private one, which nobody should show: what is public of it checks
                own = own.public_key()
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        entry = _Key(own, str(one["kty"]), str(one.get("alg") or ""))
        found[""].append(entry)
        if isinstance(one.get("kid"), str) and one["kid"]:
            found.setdefault(one["kid"], []).append(entry)
    if not found[""]:
        raise IssuerUnavailable(f"{where}: no key in it can be used to check a signature")
    return found


class Judge:
    """What a token has to be.

    :param algorithms: those that are taken
    :param issuer: who made it; empty for anybody whose key it is
    :param audiences: one of them is whom it is for
    :param leeway: seconds by which clocks may differ
    """

    def __init__(self, algorithms: Sequence[str], issuer: str, audiences: Sequence[str], leeway: float) -> None:
        self._algorithms = frozenset(algorithms)
        self._issuer = issuer
        self._audiences = list(audiences)
        self._leeway = leeway

    def key_id(self, token: str) -> tuple[str, str]:
        """The algorithm and the id of the key of a token, unverified.

        :raises Unsigned: it is no token, or of an algorithm that is not taken
        """
        if len(token) > MOST_TOKEN:
            raise Unsigned("too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:  # the last of what is nested too deeply
            raise Unsigned("no token") from error
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms or not isinstance(key_id, str):
            raise Unsigned("algorithm")
        if "crit" in header:  # RFC 7515 §4.1.11: an extension must not be passed over, and none is known here
            raise Unsigned("extension")
        return algorithm, key_id

    def claims(self, token: str, keys: KeySet | bytes, now: float) -> dict[str, Any] | None:
        """The claims of a token; None where the key that it names is not there.

        :param keys: or the secret of an HMAC
        :param now: seconds since 1970
        :raises Unsigned: it is not good
        """
        algorithm, key_id = self.key_id(token)
        if isinstance(keys, bytes):
            return self._timely(self._decoded(token, keys, algorithm), now)
        fitting = [
            key.key
            for key in keys.get(key_id, ())
            if key.kind == _KINDS[algorithm[:2]] and key.algorithm in ("", algorithm)
        ]
        if not fitting:
            return None
        for key in fitting[:-1]:
            try:
                return self._timely(self._decoded(token, key, algorithm), now)
            except _WrongSignature:
                continue
        return self._timely(self._decoded(token, fitting[-1], algorithm), now)

    def _decoded(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        # the library looks at the clock itself; here time is an argument
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        options["require"] = ["exp", "iss"] if self._issuer else ["exp"]
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audiences,
                issuer=self._issuer or None,
                options=options,
            )
        except jwt.InvalidSignatureError as error:
            raise _WrongSignature("signature") from error
        except (jwt.PyJWTError, RecursionError) as error:
            raise Unsigned(_word(error)) from error

    def _timely(self, claims: dict[str, Any], now: float) -> dict[str, Any]:
        """RFC 7519 §4.1.4 and §4.1.5."""
        ends, begins = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(time, int | float) and abs(time) < _NEVER for time in (ends, begins)):
            raise Unsigned("claim")
        if now >= ends + self._leeway:
            raise Unsigned("expired")
        if now < begins - self._leeway:
            raise Unsigned("not yet")
        return claims


class _WrongSignature(Unsigned):
    pass


def _word(error: Exception) -> str:
    words: dict[type, str] = {
        jwt.InvalidAudienceError: "audience",
        jwt.InvalidIssuerError: "issuer",
        jwt.MissingRequiredClaimError: "claim missing",
    }
    return words.get(type(error), "no token")
