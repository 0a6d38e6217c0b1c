"""Request targets and host names in one canonical form, so that what is routed is what is forwarded.

RFC 3986 §6.2.2, RFC 9112 §3.2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NoReturn

from wormhole_tw.errors import HttpError
from wormhole_tw.http.grammar import HASH

__all__ = ["normalise_host", "normalise_target", "reduce_target"]

_PLAIN_PATH = re.compile(rb"(?:/(?:[!$&-\-0-~][!$&-.0-~]*)?)+|\*")
"""Paths that are canonical as they are: no percent sign, no segment that begins with a dot."""

_ESCAPE = re.compile(rb"%(.{0,2})", re.DOTALL)
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)([^#]*)")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,254})(?::([0-9]{1,5}))?")

_MAX_HOST = 253
"""RFC 1035 §2.3.4, without the trailing dot."""


def _bad_target(message: str) -> NoReturn:
    raise HttpError(400, "bad-target", message)


def _bad_host() -> NoReturn:
    raise HttpError(400, "bad-host", "The host name is not valid.")


def reduce_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Reduce an absolute-form to its origin-form and authority; pass ``*`` of OPTIONS and origin-form.

    :returns: the target, and the authority where the target named one
    :raises HttpError: 400 for any other form
    """
    if target.startswith(b"/") and HASH not in target:
        return target, None
    if target == b"*":
        if method != b"OPTIONS":
            _bad_target("The target * is for OPTIONS alone.")
        return target, None
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1]:
        _bad_target("The request target is neither a path nor an http URL.")
    authority, rest = match.groups()
    if not rest:
        return (b"*" if method == b"OPTIONS" else b"/"), authority
    if rest.startswith(b"?"):
        rest = b"/" + rest
    return rest, authority


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if not _HEX.fullmatch(digits):
        _bad_target("The path has a percent sign that begins no escape.")
    octet = int(digits, 16)
    return bytes((octet,)) if octet in _UNRESERVED else b"%" + digits.upper()


def normalise_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Split an origin-form target (or ``*``) into its canonical path and its query.

    Escapes of unreserved octets are decoded, others get upper-case digits, then dot-segments are removed; ``//`` and
    ``%2F`` stay as they are.  The query (without its ``?``) is not touched; None where there is none.

    :raises HttpError: 400 for a broken escape, or for a path that climbs above ``/``
    """
    path, mark, query = target.partition(b"?")
    found = query if mark else None
    if _PLAIN_PATH.fullmatch(path):
        return path, found
    if not path.startswith(b"/"):
        _bad_target("The request target is not a path.")
    if b"%" in path:
        path = _ESCAPE.sub(_unescape, path)
    segments: list[bytes] = []
    parts = path.split(b"/")[1:]
    last = len(parts) - 1
    for index, part in enumerate(parts):
        if part == b"..":
            if not segments:
                _bad_target("The path climbs above its root.")
            segments.pop()
        elif part != b".":
            segments.append(part)
            continue
        if index == last:
            segments.append(b"")
    return b"/" + b"/".join(segments), found


@lru_cache(maxsize=1024)
def normalise_host(authority: bytes) -> tuple[str, int | None]:
    """Judge ``host[:port]`` and give the host in lower case without a trailing dot, and the port or None.

    An IPv6 address keeps its brackets, in its shortest form.

    :raises HttpError: 400 for anything else (empty, user information, not ASCII, not a number, out of range …)
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        _bad_host()
    name = match[1].decode("ascii").lower()
    port = None if match[2] is None else int(match[2])
    if port is not None and not 0 < port < 65536:
        _bad_host()
    if name.startswith("["):
        try:
            return f"[{IPv6Address(name[1:-1])}]", port
        except AddressValueError:
            _bad_host()
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        _bad_host()
    if labels[-1].isdigit():
        # RFC 3986 §3.2.2: what ends in a number is an IPv4 address or nothing.
        try:
            IPv4Address(name)
        except AddressValueError:
            _bad_host()
    return name, port
