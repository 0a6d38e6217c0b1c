"""Tokens: which keys are taken, and which tokens are good."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from wormhole_tw.control.keys import MOST_TOKEN, Judge, Unsigned, read_keys
from wormhole_tw.errors import IssuerUnavailable

EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000
GOOD = {"iss": "https://id.test", "aud": "app", "exp": NOW + 600, "sub": "ann"}


def jwk(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    made = {
        "ES256": jwt.algorithms.ECAlgorithm,
        "RS256": jwt.algorithms.RSAAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }
    return {**json.loads(made[algorithm].to_jwk(key.public_key())), **more}


KEYS = {
    "keys": [
        jwk(EC, "ES256", kid="ec", use="sig", alg="ES256"),
        jwk(OTHER_EC, "ES256", kid="ec"),
        jwk(RSA, "RS256", kid="rsa"),
        jwk(ED, "EdDSA"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        jwk(EC, "ES256", kid="enc", use="enc"),
        {"kty": "EC", "crv": "P-256", "x": "no"},
        "no key",
    ]
}
ALL = ("RS256", "ES256", "EdDSA", "PS256")


def judge(*algorithms: str, issuer: str = "https://id.test", audiences: tuple[str, ...] = ("app", "b")) -> Judge:
    return Judge(algorithms or ALL, issuer, audiences, 30.0)


def token(key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={} if kid is None else {"kid": kid})


def _encoded(value: dict[str, Any]) -> bytes:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(EC, "ES256", "ec"), (OTHER_EC, "ES256", "ec"), (RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (ED, "EdDSA", None)],
)
def test_a_good_token(key: Any, algorithm: str, kid: str | None) -> None:
    claims = judge().claims(token(key, algorithm, kid), read_keys(KEYS, "here"), NOW)
    assert claims is not None
    assert claims["sub"] == "ann"


def test_a_secret() -> None:
    text = jwt.encode(GOOD, SECRET, "HS256")
    assert judge("HS256").claims(text, SECRET, NOW) is not None
    with pytest.raises(Unsigned, match="signature"):
        judge("HS256").claims(text, b"x" * 32, NOW)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": NOW - 30}, "expired"),
        ({"exp": "soon"}, "claim"),
        ({"exp": None}, "claim missing"),
        ({"exp": float("inf")}, "claim"),
        ({"exp": float("nan")}, "claim"),
        ({"exp": 10**400}, "claim"),
        ({"nbf": NOW + 31}, "not yet"),
        ({"nbf": [1]}, "claim"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "claim missing"),
        ({"iss": "https://evil.test"}, "issuer"),
        ({"iss": None}, "claim missing"),
    ],
)
def test_one_that_is_not_for_here(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Unsigned, match=why):
        judge().claims(token(EC, "ES256", "ec", **changes), read_keys(KEYS, "here"), NOW)


def test_anybody_may_have_made_it_where_no_issuer_is_named() -> None:
    text = token(EC, "ES256", "ec", iss="https://somebody.test")
    assert judge(issuer="").claims(text, read_keys(KEYS, "here"), NOW) is not None


def test_a_key_that_nobody_has() -> None:
    keys = read_keys(KEYS, "here")
    assert judge().claims(token(EC, "ES256", "new"), keys, NOW) is None
    assert judge().claims(token(EC, "ES256", "oct"), keys, NOW) is None
    assert judge().claims(token(EC, "ES256", "enc"), keys, NOW) is None
    with pytest.raises(Unsigned, match="signature"):
        judge().claims(token(ec.generate_private_key(ec.SECP256R1()), "ES256", "ec"), keys, NOW)


def test_what_an_attacker_would_try() -> None:
    keys = read_keys(KEYS, "here")
    public = KEYS["keys"][2]
    none = jwt.encode(GOOD, None, "none")  # type: ignore[arg-type]
    # the public key as the secret of an HMAC; the library that judges does not make one
    signed = b".".join(_encoded(part) for part in ({"alg": "HS256", "kid": "rsa"}, GOOD))
    confused = (signed + b"." + _base64(hmac.digest(json.dumps(public).encode(), signed, "sha256"))).decode()
    for text in (none, confused, "", "a.b.c", "x" * (MOST_TOKEN + 1), token(RSA, "RS256", "ec") + "x"):
        with pytest.raises(Unsigned):
            judge().claims(text, keys, NOW)
    # an EC token under the id of an RSA key
    assert judge().claims(token(EC, "ES256", "rsa"), keys, NOW) is None
    with pytest.raises(Unsigned, match="algorithm"):
        judge("RS256").key_id(token(EC, "ES256", "ec"))
    nested = b'{"alg":"ES256","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    headers = ({"alg": "ES256", "kid": 7}, {"alg": ["ES256"]}, {"alg": "ES256", "crit": ["b64"], "b64": True})
    for header in map(_encoded, headers):
        parts = token(EC, "ES256").split(".")
        parts[0] = header.decode()
        with pytest.raises(Unsigned):
            judge().key_id(".".join(parts))
    parts[0] = _base64(nested).decode()
    with suppress(Unsigned):  # Python 3.14 reads what is nested so deeply; this one names no key then
        assert judge().key_id(".".join(parts)) is None


def test_a_key_that_does_not_fit_its_algorithm() -> None:
    """ES384 wants another curve than the key has."""
    keys = read_keys({"keys": [jwk(EC, "ES256", kid="ec")]}, "here")
    made = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(Unsigned):
        judge("ES384").claims(token(made, "ES384", "ec"), keys, NOW)


def test_claims_that_are_nested_too_deeply() -> None:
    signed = _encoded({"alg": "HS256"}) + b"." + _base64(b"[" * 5000 + b"]" * 5000)
    text = (signed + b"." + _base64(hmac.digest(SECRET, signed, "sha256"))).decode()
    with pytest.raises(Unsigned, match="no token"):
        judge("HS256").claims(text, SECRET, NOW)


def test_a_private_key_that_somebody_put_into_the_set() -> None:
    shown = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)), "kid": "rsa"}
    assert "d" in shown
    assert judge().claims(token(RSA, "RS256", "rsa"), read_keys({"keys": [shown]}, "here"), NOW) is not None


@pytest.mark.parametrize("said", [{}, {"keys": 1}, {"keys": []}, {"keys": KEYS["keys"][4:]}])
def test_no_key_set(said: dict[str, Any]) -> None:
    with pytest.raises(IssuerUnavailable, match="here"):
        read_keys(said, "here")
