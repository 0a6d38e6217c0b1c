"""What a service is told of who was let in, so that nobody else can have said it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import RequestHead

__all__ = ["cookies_named", "tell"]

_COOKIE = b"cookie"


def tell(
    head: RequestHead,
    *,
    names: Collection[bytes] = (),
    lines: Iterable[tuple[bytes, bytes]] = (),
    cookies: Collection[bytes] = (),
) -> RequestHead:
    """A request as it goes on: fields of these names are ours alone, and some cookies stay here.

    A field whose name differs by underscores for hyphens goes too: CGI and WSGI call both the same.

    :param names: lower-case, with hyphens
    :param lines: what is said instead
    :param cookies: names of cookies that do not go on
    """
    fields = []
    for line in head.fields:
        name = line[0].lower()
        if name.replace(b"_", b"-") in names:
            continue
        if cookies and name == _COOKIE:
            kept = [pair for pair in line[1].split(b";") if pair.partition(b"=")[0].strip(b" \t") not in cookies]
            if not kept:
                continue
            fields.append((line[0], b";".join(kept).strip(b" \t")))
            continue
        fields.append(line)
    fields += lines
    return replace(head, fields=fields, common=False)


def cookies_named(head: RequestHead, name: bytes) -> list[bytes]:
    """The values of all cookies of a name, as sent: a domain above can set one that comes first (RFC 6265 §8.6)."""
    found = []
    for field, value in head.fields:
        if len(field) == len(_COOKIE) and field.lower() == _COOKIE:
            for pair in value.split(b";"):
                key, equals, text = pair.partition(b"=")
                if equals and key.strip(b" \t") == name:
                    found.append(text.strip(b" \t"))
    return found
