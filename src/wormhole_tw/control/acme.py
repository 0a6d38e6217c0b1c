"""``[tls] mode = "acme"``: what an operator says of the CA, checked, and which names may be asked for.

The tables are part of ``[tls]`` (:mod:`.tables`); what they mean is judged here, apart from :mod:`.config`, which is
long enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Struct

from .dns import DnsConfig, check_provable, read_dns

if TYPE_CHECKING:
    from .model import Site
    from .tables import TlsTable

__all__ = [
    "ACME_KEYS",
    "LETS_ENCRYPT",
    "AcmeConfig",
    "ExternalAccount",
    "ExternalAccountTable",
    "acme_names",
    "challenge_kind",
    "check_names",
    "is_acme_name",
    "read_acme",
    "refuse_acme_keys",
]

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""The directory of Let's Encrypt's production service."""

_PUBLIC_CA = "letsencrypt.org"

_NOWHERE = ("alt", "example", "home.arpa", "internal", "invalid", "lan", "local", "onion", "test")
"""Ends of names that are in nobody's public DNS (RFC 6761, 6762, 7686, 8375, 9476): Let's Encrypt refuses them, and
each refusal counts against the account. A CA of one's own may well know them."""

_EMAIL = re.compile(r"[^@\s,?]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_KEY_ID = re.compile(r"[\x21-\x7e]{1,512}", re.ASCII)

ACME_KEYS = ("email", "directory", "directory_ca_file", "agree_tos", "external_account", "challenge", "dns")
"""What ``[tls]`` may say with this mode only."""

Challenge = Literal["http-01", "dns-01"]


class ExternalAccountTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls.external_account]``: an account that one has at the CA already (RFC 8555 section 7.3.4)."""

    key_id: str
    hmac_key_file: str


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """An account at the CA that the ACME account is bound to.

    :ivar key_id: the CA's name for the key
    :ivar hmac_key_file: absolute; holds the key as the CA gives it, base64url
    """

    key_id: str
    hmac_key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeConfig:
    """Where certificates come from.

    :ivar email: where the CA may write to, or an empty string
    :ivar directory: the URL that everything at the CA is found from (RFC 8555 section 7.1.1)
    :ivar directory_ca_file: PEM, absolute: who vouches for the CA's own server, in place of the public CAs
    :ivar external_account: None where the CA wants none
    :ivar challenge: how names are proved; wildcards are always proved by ``dns-01``
    :ivar dns: who writes the records of ``dns-01``; None where nobody does
    """

    email: str = ""
    directory: str = LETS_ENCRYPT
    directory_ca_file: Path | None = None
    external_account: ExternalAccount | None = None
    challenge: Challenge = "http-01"
    dns: DnsConfig | None = None


def read_acme(table: TlsTable, source: str, folder: Path) -> AcmeConfig:
    """Check what ``[tls]`` says besides its mode.

    :raises ConfigError: something in it is wrong
    """

    def error(key: str, reason: str) -> ConfigError:
        return ConfigError(source, f"$.tls.{key}", reason)

    def path(key: str, text: str) -> Path:
        if not text or "\0" in text:
            raise error(key, "no path")
        return folder / text

    if not table.agree_tos:
        reason = "the CA's terms of service have to be agreed to: read them, then write agree_tos = true"
        raise error("agree_tos", reason)
    if table.email is not None and _EMAIL.fullmatch(table.email) is None:
        raise error("email", 'one address, as "admin@example.com"')
    directory = LETS_ENCRYPT if table.directory is None else table.directory
    try:
        parts = urlsplit(directory)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not directory.isascii() or any(char.isspace() for char in directory):
        raise error("directory", "the https URL of an ACME directory")
    external = None
    if table.external_account is not None:
        if _KEY_ID.fullmatch(table.external_account.key_id) is None:
            raise error("external_account.key_id", "1 to 512 printable ASCII characters without a space")
        file = path("external_account.hmac_key_file", table.external_account.hmac_key_file)
        external = ExternalAccount(table.external_account.key_id, file)
    if table.challenge == "dns-01" and table.dns is None:
        raise error("challenge", "who writes the DNS? set [tls.dns]")
    ca_file = table.directory_ca_file
    return AcmeConfig(
        email=table.email or "",
        directory=directory,
        directory_ca_file=None if ca_file is None else path("directory_ca_file", ca_file),
        external_account=external,
        challenge=table.challenge or "http-01",
        dns=None if table.dns is None else read_dns(table.dns, folder, source),
    )


def acme_names(config: AcmeConfig, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the (normalised) names that the CA is asked for; the others get a certificate of the local CA."""
    return tuple(name for name in names if is_acme_name(config, name))


def is_acme_name(config: AcmeConfig, name: str) -> bool:
    """Whether the CA is asked for a certificate of this name: no address, nothing that only this machine knows.

    :param name: normalised; a wildcard counts as what is under its asterisk
    """
    bare = name.removeprefix("*.")
    if "." not in bare or bare.endswith(".localhost"):
        return False
    try:
        ip_address(bare)
    except ValueError:
        pass
    else:
        return False
    host = urlsplit(config.directory).hostname or ""
    if host == _PUBLIC_CA or host.endswith("." + _PUBLIC_CA):
        return not any(bare == end or bare.endswith("." + end) for end in _NOWHERE) and "_" not in bare
    return True


def refuse_acme_keys(table: TlsTable, source: str) -> None:
    """See to it that nothing of this mode is said with another one.

    :raises ConfigError: something is
    """
    if table.mode != "acme":
        for key in ACME_KEYS:
            if getattr(table, key) is not None:
                raise ConfigError(source, f"$.tls.{key}", 'only with mode = "acme"')


def check_names(config: AcmeConfig, names: Sequence[str], sites: Sequence[Site], source: str, *, plain: bool) -> None:
    """See to it that every name that the CA is asked for can be proved.

    :param names: the edge's own
    :param plain: there is a listener without TLS
    :raises ConfigError: a wildcard, and nobody writes the DNS; a name that is too long for that; nothing that answers
        HTTP-01
    """
    keys = [(name, f"$.edge.names[{index}]") for index, name in enumerate(names)]
    for number, site in enumerate(sites):
        if not site.passthrough:
            keys += [(name, f"$.sites[{number}].hostnames[{index}]") for index, name in enumerate(site.hostnames)]
    for name, key in keys:
        if not is_acme_name(config, name):
            continue
        if challenge_kind(config, name) == "dns-01":
            check_provable(name, config.dns, source, key)
        elif not plain:
            reason = (
                f"the CA asks for {name} on port 80, and there is no listener without TLS: "
                'http = ["tcp:80"], or challenge = "dns-01"'
            )
            raise ConfigError(source, "$.edge.http", reason)


def challenge_kind(config: AcmeConfig, name: str) -> Challenge:
    """How a name is proved: a wildcard can be by ``dns-01`` alone (RFC 8555 section 7.1.3)."""
    return "dns-01" if name.startswith("*.") else config.challenge
