"""What an issuer says of itself (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from wormhole_tw.errors import IssuerUnavailable

if TYPE_CHECKING:
    from wormhole_tw.edge.outside import JsonClient

__all__ = ["Metadata", "metadata_of"]

METADATA = "/.well-known/openid-configuration"


class Metadata(NamedTuple):
    """Where its parts are: https URLs.

    :ivar issuer: as its tokens name it
    :ivar authorization: empty, as the next may be, where it does not sign people in
    :ivar by_form: the client says its secret in the form; otherwise in the ``Authorization`` field
    """

    issuer: str
    authorization: str
    token: str
    keys: str
    by_form: bool


async def metadata_of(issuer: str, client: JsonClient) -> Metadata:
    """Ask an issuer.

    :param issuer: its URL
    :raises IssuerUnavailable: it cannot be had, or says something else than Discovery §4.2 wants
    """
    url = issuer.rstrip("/") + METADATA
    said = await client.get(url)
    named = said.get("issuer")
    # Discovery §4.3: exactly the same; with or without the last slash, which people leave out
    if not isinstance(named, str) or named.rstrip("/") != issuer.rstrip("/"):
        raise IssuerUnavailable(f"{url}: it is of another issuer")
    authorization, token, keys = (
        _place(said, url, name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
    )
    if not keys:
        raise IssuerUnavailable(f"{url}: it names no jwks_uri")
    methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    by_form = isinstance(methods, list) and "client_secret_basic" not in methods
    return Metadata(named, authorization, token, keys, by_form)


def _place(said: Mapping[str, object], url: str, name: str) -> str:
    place = said.get(name) or ""
    if not isinstance(place, str) or (place and not _is_https(place)):
        raise IssuerUnavailable(f"{url}: {name} is no https URL")
    return place


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and url.isascii() and url.isprintable() and " " not in url
