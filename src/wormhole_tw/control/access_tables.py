"""Who may come in, as it stands in ``[[sites]]`` and ``[[sites.routes]]``; what it means :mod:`.access` knows."""

from __future__ import annotations

from typing import Annotated, Literal

from wormhole_tw.structs import Meta, Struct

__all__ = ["AccessTable", "BasicAuthTable", "JwtTable", "MirrorTable", "OidcTable", "RateLimitTable"]

#: A day: who counts over longer wants a quota, and a store that outlives the process.
_MOST_SECONDS = 86400

#: Requests in one period; more than this in a day is no limit any more.
_MOST_REQUESTS = 1_000_000_000

#: Seconds of a session of who has signed in: from a minute to thirty days.
_SHORTEST_SESSION = 60
_LONGEST_SESSION = 30 * 86400

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
]

_Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class BasicAuthTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``basic_auth``."""

    users: dict[str, str] = {}
    users_file: str | None = None
    realm: _Text = "Restricted"
    user_header: str | None = None
    keep_authorization: bool = False


class RateLimitTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``rate_limit``."""

    requests: Annotated[int, Meta(ge=1, le=_MOST_REQUESTS)]
    seconds: Annotated[float, Meta(gt=0, le=_MOST_SECONDS)] = 1.0
    burst: Annotated[int, Meta(ge=1, le=_MOST_REQUESTS)] | None = None
    by: str = "address"


class JwtTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``jwt``."""

    issuer: _Text | None = None
    audience: str | list[str] | None = None
    jwks_url: _Text | None = None
    jwks_file: str | None = None
    secret_file: str | None = None
    ca_file: str | None = None
    algorithms: list[Algorithm] | None = None
    cookie: str | None = None
    claims: dict[str, str | list[str]] = {}
    headers: dict[str, str] = {}
    leeway: Annotated[float, Meta(ge=0, le=600)] = 30.0
    keep_token: bool = True


class OidcTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``oidc``."""

    issuer: _Text
    client_id: _Text
    client_secret_file: str
    ca_file: str | None = None
    scopes: list[str] | None = None
    callback: str | None = None
    session: Annotated[int, Meta(ge=_SHORTEST_SESSION, le=_LONGEST_SESSION)] = 12 * 3600
    claims: dict[str, str | list[str]] = {}
    headers: dict[str, str] = {}


class MirrorTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``mirror``."""

    backend: str
    percent: Annotated[float, Meta(gt=0, le=100)] = 100.0


class AccessTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sites and routes have alike."""

    allow: list[str] | None = None
    deny: list[str] = []
    rate_limit: RateLimitTable | None = None
    basic_auth: BasicAuthTable | None = None
    jwt: JwtTable | None = None
    oidc: OidcTable | None = None
