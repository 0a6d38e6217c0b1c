"""``[sites.security]``: header fields that protect a site's visitors, from the table to octets that are made once."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Meta, Struct

from .model import AddedFields, Security

__all__ = ["HstsTable", "SecurityTable", "compile_security"]

#: Ten years of Strict-Transport-Security: more is a slip (milliseconds).
_TEN_YEARS = 315360000

#: What the lists that browsers are built with ask for (hstspreload.org).
_PRELOAD_AGE = 31536000

#: CSP 3 §6.4.2: 'self', 'none', a scheme, or a host with what may stand round it. No space, comma or semicolon.
_ANCESTOR = re.compile(
    r"'self'|'none'|[a-z][a-z0-9+.-]*:|(?:[a-z][a-z0-9+.-]*://)?(?:\*|(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::(?:[0-9]{1,5}|\*))?",
    re.ASCII | re.IGNORECASE,
)

ReferrerPolicy = Literal[
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
]


class HstsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``hsts``: Strict-Transport-Security (RFC 6797)."""

    max_age: Annotated[int, Meta(ge=0, le=_TEN_YEARS)]
    include_subdomains: bool = False
    preload: bool = False


class SecurityTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sites.security]``."""

    hsts: HstsTable | None = None
    content_type_options: bool = False
    frame_options: Literal["deny", "sameorigin"] | None = None
    frame_ancestors: list[str] | None = None
    referrer_policy: ReferrerPolicy | None = None


def compile_security(table: SecurityTable, source: str, key: str) -> Security | None:
    """Give the fields of a site's answers, or None where nothing is switched on.

    :raises ConfigError: values that make no sense, or not together
    """
    lines: list[tuple[bytes, bytes]] = []
    if table.content_type_options:
        lines.append((b"X-Content-Type-Options", b"nosniff"))
    if table.frame_options is not None:
        lines.append((b"X-Frame-Options", table.frame_options.upper().encode()))
    if table.referrer_policy is not None:
        lines.append((b"Referrer-Policy", table.referrer_policy.encode()))
    besides: list[tuple[bytes, bytes]] = []
    if table.frame_ancestors is not None:
        besides.append((b"Content-Security-Policy", _ancestors(table.frame_ancestors, source, key)))
    secure = list(lines)
    if table.hsts is not None:
        secure.insert(0, (b"Strict-Transport-Security", _hsts(table.hsts, source, f"{key}.hsts")))
    if not secure and not besides:
        return None
    return Security(AddedFields(tuple(secure), tuple(besides)), AddedFields(tuple(lines), tuple(besides)))


def _hsts(table: HstsTable, source: str, key: str) -> bytes:
    if table.preload and not (table.include_subdomains and table.max_age >= _PRELOAD_AGE):
        reason = f"the preload lists want include_subdomains = true and a max_age of {_PRELOAD_AGE} (a year) at least"
        raise ConfigError(source, f"{key}.preload", reason)
    value = f"max-age={table.max_age}"
    if table.include_subdomains:
        value += "; includeSubDomains"
    if table.preload:
        value += "; preload"
    return value.encode()


def _ancestors(sources: list[str], source: str, key: str) -> bytes:
    key = f"{key}.frame_ancestors"
    if not sources:
        raise ConfigError(source, key, "empty: \"'none'\" is for nobody, leave it out for everybody")
    for index, text in enumerate(sources):
        if _ANCESTOR.fullmatch(text) is None:
            reason = 'none of "\'self\'", "\'none\'", "https:" or a host ("https://*.example.com")'
            raise ConfigError(source, f"{key}[{index}]", reason)
        if text == "'none'" and len(sources) > 1:
            raise ConfigError(source, f"{key}[{index}]", "'none' stands alone")
    return f"frame-ancestors {' '.join(sources)}".encode()
