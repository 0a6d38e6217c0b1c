"""Who may come in: from the tables of a site and a route to the settings of their gates.

A gate is asked before a request goes on (``edge/gates``); the order is that of what a refusal costs: address, rate,
password, token, sign-in, and, for those who are let in, the copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from wormhole_tw.errors import ConfigError, IssuerUnavailable
from wormhole_tw.http.edits import may_change
from wormhole_tw.http.grammar import is_token

from .access_tables import AccessTable, BasicAuthTable, JwtTable, MirrorTable, OidcTable, RateLimitTable
from .balancing import Key, read_key
from .claims import Claims
from .client_certificates import read_authorities
from .keys import read_keys
from .model import GateSettings
from .trust import Trusted, read_networks

__all__ = [
    "AddressRule",
    "BasicRule",
    "MirrorRule",
    "RateRule",
    "SignInRule",
    "TokenRule",
    "check_together",
    "read_access",
    "read_mirror",
]

#: Octets of a file of users, keys or a secret: ten thousand users.
MAX_FILE = 1024 * 1024

#: Rounds of bcrypt are 2 to the power of this; above 14 one check takes a second.
MAX_COST = 14

#: Below this a list of hashes that got lost is soon read.
MIN_COST = 8

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)

_SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})

_ASYMMETRIC = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""What is taken where nothing is said: what issuers use, and nothing that a key which everybody knows could sign."""

#: Octets of a shared secret, at least: RFC 7518 §3.2 wants as many as the hash has.
_SHORTEST_SECRET = 32

#: Issuers make longer ones.  Every visitor gets something that was sealed with it, to try guesses on at home.
_SHORTEST_CLIENT_SECRET = 16

_NO_NETWORK = Trusted()
_NO_CLAIMS = Claims()

_SCOPES = ("openid", "email", "profile")

SIGNED_IN = "/.wormhole/signed-in"
"""Behind the prefix of a route: where the issuer sends visitors back to."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """``allow`` and ``deny``.

    :ivar allow: None for everybody
    :ivar deny: whatever ``allow`` says
    """

    kind: ClassVar[str] = "address"
    allow: Trusted | None = None
    deny: Trusted = _NO_NETWORK


@dataclass(frozen=True, slots=True)
class RateRule:
    """``rate_limit``."""

    kind: ClassVar[str] = "rate"
    requests: int
    seconds: float
    burst: int
    by: Key


@dataclass(frozen=True, slots=True)
class BasicRule:
    """``basic_auth``: passwords as bcrypt hashed them.

    :ivar users: (name, hash), sorted
    :ivar user_header: the field in which the service is told the name; empty for none
    :ivar keep: the service gets ``Authorization`` too
    """

    kind: ClassVar[str] = "basic"
    users: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    realm: bytes = b"Restricted"
    user_header: bytes = b""
    keep: bool = False


@dataclass(frozen=True, slots=True)
class TokenRule:
    """``jwt``: a token of somebody else, RFC 7519.

    :ivar keys: a JWK set as JSON, or None where it comes from the web
    :ivar secret: of HMAC algorithms, or None
    :ivar jwks_url: where the keys are; empty for what the issuer's metadata say
    :ivar authorities: who vouches for that server beside the system's CAs, DER
    :ivar cookie: where the token is too; empty for the ``Authorization`` field alone
    :ivar keep: the service gets the token too
    """

    kind: ClassVar[str] = "token"
    algorithms: tuple[str, ...]
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_url: str = ""
    keys: bytes | None = field(default=None, repr=False)
    secret: bytes | None = field(default=None, repr=False)
    authorities: tuple[bytes, ...] = field(default=(), repr=False)
    cookie: bytes = b""
    claims: Claims = _NO_CLAIMS
    leeway: float = 30.0
    keep: bool = True


@dataclass(frozen=True, slots=True)
class SignInRule:
    """``oidc``: visitors sign in at an issuer (OpenID Connect Core, code flow with PKCE).

    :ivar secret: what the issuer knows this client by; the key of the session's cookie is derived from it too
    :ivar callback: the path that the issuer sends visitors back to
    :ivar session: seconds
    """

    kind: ClassVar[str] = "sign_in"
    issuer: str
    client_id: str
    secret: bytes = field(repr=False)
    callback: str
    authorities: tuple[bytes, ...] = field(default=(), repr=False)
    scopes: tuple[str, ...] = _SCOPES
    session: int = 12 * 3600
    claims: Claims = _NO_CLAIMS


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """``mirror``: requests go to another backend too, whose answer nobody sees."""

    kind: ClassVar[str] = "mirror"
    backend: str
    percent: float = 100.0


class _Reader(NamedTuple):
    source: str
    folder: Path
    key: str

    def refuse(self, name: str, reason: str) -> ConfigError:
        return ConfigError(self.source, f"{self.key}.{name}" if name else self.key, reason)

    def at(self, name: str) -> _Reader:
        return self._replace(key=f"{self.key}.{name}")


def read_access(
    table: AccessTable, folder: Path, source: str, key: str, *, prefix: str | None
) -> tuple[GateSettings, ...]:
    """The gates of a site or a route, in order.

    :param key: of its table, for errors
    :param prefix: of the paths that come here; None where they have none in common, as far as it is known
    :raises ConfigError: something in it is wrong
    """
    read = _Reader(source, folder, key)
    gates: list[GateSettings] = []
    if table.allow is not None or table.deny:
        if table.allow is not None and not table.allow:
            raise read.refuse("allow", "empty: nobody could come; leave it out for everybody")
        allow = None if table.allow is None else read_networks(table.allow, source, f"{key}.allow")
        gates.append(AddressRule(allow, read_networks(table.deny, source, f"{key}.deny")))
    if table.rate_limit is not None:
        gates.append(_rate(table.rate_limit, read.at("rate_limit")))
    if table.basic_auth is not None:
        if table.jwt is not None:
            raise read.refuse("jwt", "beside basic_auth: both want the Authorization field")
        gates.append(_basic(table.basic_auth, read.at("basic_auth")))
    if table.jwt is not None:
        gates.append(_token(table.jwt, read.at("jwt")))
    if table.oidc is not None:
        gates.append(_sign_in(table.oidc, read.at("oidc"), prefix))
    return tuple(gates)


def check_together(of_site: Sequence[GateSettings], own: Sequence[GateSettings], source: str, key: str) -> None:
    """Refuse what nobody could come through.

    :param key: of the route's table
    :raises ConfigError: the site wants a password and the route a token, or the other way round, in one field
    """
    there, here = _wants_field(of_site), _wants_field(own)
    if there | here == {BasicRule, TokenRule}:
        name, other = ("jwt", "basic_auth") if TokenRule in here else ("basic_auth", "jwt")
        raise ConfigError(source, f"{key}.{name}", f"beside the site's {other}: both want the Authorization field")


def _wants_field(gates: Sequence[GateSettings]) -> set[type]:
    return {
        type(rule) for rule in gates if isinstance(rule, BasicRule) or (isinstance(rule, TokenRule) and not rule.cookie)
    }


def read_mirror(table: MirrorTable, key: str, known: Callable[[str, str], None]) -> MirrorRule:
    """The copy of a route's requests.

    :param known: raises ConfigError for a backend that is not there: ``known(key, name)``
    """
    known(f"{key}.backend", table.backend)
    return MirrorRule(table.backend, table.percent)


def _rate(table: RateLimitTable, read: _Reader) -> RateRule:
    by = read_key(table.by, read.source, f"{read.key}.by")
    return RateRule(table.requests, table.seconds, table.burst or table.requests, by)


def _basic(table: BasicAuthTable, read: _Reader) -> BasicRule:
    users = {name: (hashed, f"users.{name}") for name, hashed in table.users.items()}
    if table.users_file is not None:
        text = _file(read, "users_file", table.users_file).decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            name, colon, hashed = line.strip().partition(":")
            if not name or name.startswith("#"):
                continue
            if not colon:
                raise read.refuse("users_file", f"line {number} is no NAME:HASH, as htpasswd -B writes them")
            if name in users:
                raise read.refuse("users_file", f"line {number} names {name} again")
            users[name] = (hashed, f"users_file, line {number}")
    if not users:
        raise read.refuse("", "nobody could come: give users_file (htpasswd -B makes it) or users")
    for name, (hashed, where) in users.items():
        _check_user(name, hashed, where, read)
    return BasicRule(
        tuple(sorted((name.encode(), hashed.encode()) for name, (hashed, _) in users.items())),
        _quoted(table.realm, read.at("realm")),
        b"" if table.user_header is None else _field(table.user_header, read.at("user_header")),
        table.keep_authorization,
    )


def _check_user(name: str, hashed: str, where: str, read: _Reader) -> None:
    # what was given is never repeated: it may be a password in the wrong place
    if not name or ":" in name or not name.isprintable():
        raise read.refuse(
            where.partition(",")[0].partition(".")[0], "a user's name has no colon and no control character"
        )
    match = _BCRYPT.fullmatch(hashed)
    if match is None:
        where, comma, rest = where.partition(", ")
        reason = "no bcrypt hash: htpasswd -nB NAME makes one, and no other kind is taken"
        raise read.refuse(where, f"{rest}: {reason}" if comma else reason)
    if not MIN_COST <= int(match[1]) <= MAX_COST:
        where, comma, rest = where.partition(", ")
        reason = f"a cost of {MIN_COST} to {MAX_COST} is taken (htpasswd -B -C 10)"
        raise read.refuse(where, f"{rest}: {reason}" if comma else reason)


def _token(table: JwtTable, read: _Reader) -> TokenRule:
    sources = [name for name in ("jwks_url", "jwks_file", "secret_file") if getattr(table, name) is not None]
    if len(sources) > 1:
        raise read.refuse(sources[1], f"beside {sources[0]}: the keys come from one place")
    if not sources and table.issuer is None:
        raise read.refuse("", "whose tokens? give issuer, jwks_url, jwks_file or secret_file")
    if table.issuer is not None and not sources:
        _url(table.issuer, read.at("issuer"))
    if table.jwks_url is not None:
        _url(table.jwks_url, read.at("jwks_url"))
    if table.audience is None:
        raise read.refuse("audience", "missing: whom a token is for; one for somebody else must not be taken here")
    audiences = (table.audience,) if isinstance(table.audience, str) else tuple(table.audience)
    if not audiences or not all(audiences):
        raise read.refuse("audience", "empty")
    secret = None
    if table.secret_file is not None:
        secret = _file(read, "secret_file", table.secret_file).strip()
        if len(secret) < _SHORTEST_SECRET:
            raise read.refuse("secret_file", f"shorter than {_SHORTEST_SECRET} octets: it could be guessed")
    algorithms = _algorithms(table.algorithms, read, symmetric=secret is not None)
    return TokenRule(
        algorithms,
        table.issuer or "",
        audiences,
        table.jwks_url or "",
        None if table.jwks_file is None else _key_file(table.jwks_file, read),
        secret,
        _authorities(table.ca_file, read),
        b"" if table.cookie is None else _cookie(table.cookie, read.at("cookie")),
        _claims(table.claims, table.headers, read),
        table.leeway,
        table.keep_token,
    )


def _key_file(path: str, read: _Reader) -> bytes:
    data = _file(read, "jwks_file", path)
    try:
        said = json.loads(data)
        read_keys(said if isinstance(said, dict) else {}, path)
    except ValueError:
        raise read.refuse("jwks_file", f"{path} is no JSON") from None
    except IssuerUnavailable as error:
        raise read.refuse("jwks_file", str(error)) from None
    return data


def _algorithms(given: Sequence[str] | None, read: _Reader, *, symmetric: bool) -> tuple[str, ...]:
    if given is None:
        return ("HS256",) if symmetric else _ASYMMETRIC
    if not given:
        raise read.refuse("algorithms", "empty: no token could be taken")
    for index, name in enumerate(given):
        if (name in _SYMMETRIC) is not symmetric:
            reason = f"{name} goes with {'secret_file' if name in _SYMMETRIC else 'an issuer, jwks_url or jwks_file'}"
            raise read.refuse(f"algorithms[{index}]", reason)
    return tuple(given)


def _sign_in(table: OidcTable, read: _Reader, prefix: str | None) -> SignInRule:
    _url(table.issuer, read.at("issuer"))
    secret = _file(read, "client_secret_file", table.client_secret_file).strip()
    if not secret or b"\n" in secret:
        raise read.refuse("client_secret_file", "has to hold the client's secret, in one line")
    if len(secret) < _SHORTEST_CLIENT_SECRET:
        reason = (
            f"shorter than {_SHORTEST_CLIENT_SECRET} octets: who guesses it makes sessions of anybody; get a longer one"
        )
        raise read.refuse("client_secret_file", reason)
    scopes = _SCOPES if table.scopes is None else tuple(table.scopes)
    if "openid" not in scopes or not all(_scope(scope) for scope in scopes):
        raise read.refuse("scopes", 'a list of scopes, with "openid" among them')
    callback = table.callback
    if callback is None:
        if prefix is None:
            raise read.refuse(
                "callback", "missing: a path that comes here too, which the issuer sends visitors back to"
            )
        callback = prefix.rstrip("/") + SIGNED_IN
    elif re.fullmatch(r"/[!-~]*", callback, re.ASCII) is None or re.search(r"[?#%\\]|//|/\.\.?(/|$)", callback):
        raise read.refuse("callback", "has to be a path: /signed-in")
    return SignInRule(
        table.issuer.rstrip("/"),
        table.client_id,
        secret,
        callback,
        _authorities(table.ca_file, read),
        scopes,
        table.session,
        _claims(table.claims, table.headers, read),
    )


def _scope(text: str) -> bool:
    return re.fullmatch(r"[!#-\[\]-~]+", text, re.ASCII) is not None  # RFC 6749 §3.3


def _claims(wanted: Mapping[str, str | list[str]], headers: Mapping[str, str], read: _Reader) -> Claims:
    rules = []
    for name, values in wanted.items():
        listed = (values,) if isinstance(values, str) else tuple(values)
        if not name or not listed or not all(listed):
            raise read.refuse("claims", "each claim has a value, or a list of those of which one is enough")
        rules.append((name, listed))
    told = []
    for header, claim in headers.items():
        if not claim:
            raise read.refuse(f"headers.{header}", "empty; give the name of a claim")
        told.append((_field(header, read.at("headers")), claim))
    return Claims(tuple(rules), tuple(told))


def _field(name: str, read: _Reader) -> bytes:
    encoded = name.encode("ascii", "replace")
    if not is_token(encoded):
        raise read.refuse("", "no name of a header field")
    if not may_change(encoded, of_request=True) or encoded.lower() in (b"authorization", b"cookie"):
        raise read.refuse("", f"{name} is not for this: the edge, or the visitor, has its own")
    return encoded


def _cookie(name: str, read: _Reader) -> bytes:
    encoded = name.encode("ascii", "replace")
    if not is_token(encoded):
        raise read.refuse("", "no name of a cookie")
    return encoded


def _quoted(text: str, read: _Reader) -> bytes:
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise read.refuse("", "has to be ASCII, without quotes and backslashes")
    return text.encode("ascii")


def _url(text: str, read: _Reader) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and bool(parts.hostname) and not parts.username and not parts.fragment
        port = parts.port
    except ValueError:
        good, port = False, None
    if not good or port == 0 or not text.isascii() or not text.isprintable() or " " in text:
        raise read.refuse("", "has to be an https URL")


def _authorities(name: str | None, read: _Reader) -> tuple[bytes, ...]:
    if name is None:
        return ()
    found = read_authorities(read.folder, name, read.source, f"{read.key}.ca_file")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _file(read: _Reader, name: str, path: str) -> bytes:
    if not path or "\0" in path:
        raise read.refuse(name, "no path")
    try:
        with (read.folder / path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise read.refuse(name, f"the file {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise read.refuse(name, f"the file {path} is longer than {MAX_FILE} octets: it is not what is meant")
    return data
