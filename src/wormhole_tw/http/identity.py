"""What a service is told of who was let in, so that nobody else can have said it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import RequestHead

__all__ = ["alike", "cookie_names", "cookies_named", "tell"]

_COOKIE = b"cookie"


_SIGNS = bytes(octet if bytes((octet,)).isalnum() else 0x2D for octet in range(256))


def alike(name: bytes) -> bytes:
    """What names of fields that a service could take for the same have in common."""
    return name.lower().translate(_SIGNS)


def tell(
    head: RequestHead,
    *,
    names: Collection[bytes] = (),
    lines: Iterable[tuple[bytes, bytes]] = (),
    cookies: Collection[bytes] = (),
    prefix: bytes = b"",
) -> RequestHead:
    """A request as it goes on: fields of these names are ours alone, and some cookies stay here.

    A field whose name differs in signs alone goes too: CGI and WSGI call ``X-User`` and ``X_User`` the same, and some
    servers ``X.User``.

    :param names: as :func:`alike` gives them
    :param lines: what is said instead
    :param cookies: names of cookies that do not go on
    :param prefix: nor do those whose names begin with it; empty for none
    """
    fields = []
    for line in head.fields:
        name = line[0].lower()
        if names and alike(name) in names:
            continue
        if name == _COOKIE and (cookies or prefix):
            kept = []
            for pair in line[1].split(b";"):
                cookie = pair.partition(b"=")[0].strip(b" \t")
                if cookie not in cookies and not (prefix and cookie.startswith(prefix)):
                    kept.append(pair)
            if not kept:
                continue
            fields.append((line[0], b";".join(kept).strip(b" \t")))
            continue
        fields.append(line)
    fields += lines
    return replace(head, fields=fields, common=False)


def cookies_named(head: RequestHead, name: bytes) -> list[bytes]:
    """The values of all cookies of a name, as sent: a domain above can set one that comes first (RFC 6265 §8.6)."""
    return [value for found, value in _cookies(head) if found == name]


def cookie_names(head: RequestHead, prefix: bytes) -> list[bytes]:
    """The names of cookies that begin with this, in order."""
    return [name for name, _ in _cookies(head) if name.startswith(prefix)]


def _cookies(head: RequestHead) -> Iterator[tuple[bytes, bytes]]:
    for field, value in head.fields:
        if len(field) == len(_COOKIE) and field.lower() == _COOKIE:
            for pair in value.split(b";"):
                key, equals, text = pair.partition(b"=")
                if equals:
                    yield key.strip(b" \t"), text.strip(b" \t")
