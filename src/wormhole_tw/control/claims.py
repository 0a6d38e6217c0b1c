"""What is asked of the claims of a token (RFC 7519), and which of them a service is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wormhole_tw.http.identity import alike

__all__ = ["MAX_FIELD", "Claims"]

MAX_FIELD = 4096
"""Octets of a claim as a service is told it: the groups of somebody in many, and as many of them as fit."""

_EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Claims:
    """Rules over claims.

    :ivar wanted: (claim, values): one of the values has to be the claim, or in it where it is a list.  A claim within
        another is written with a dot (``realm_access.roles``); a value ``*@example.com`` is any with that end
    :ivar told: (field name, claim): what the service gets
    """

    wanted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    told: tuple[tuple[bytes, str], ...] = ()

    @property
    def names(self) -> frozenset[bytes]:
        """The fields that a service is told claims in, as :func:`~wormhole_tw.http.identity.alike` gives them."""
        return frozenset(alike(name) for name, _ in self.told)

    def refused(self, claims: Mapping[str, object]) -> str:
        """The first claim that is not as it has to be; an empty string where all are.

        An address of mail that the issuer says is not verified is nobody's (OpenID Connect Core §5.7).
        """
        for name, values in self.wanted:
            if name == _EMAIL and claims.get("email_verified", True) is not True:
                return name
            if not any(_is(value, held) for held in _texts(_find(claims, name)) for value in values):
                return name
        return ""

    def lines(self, claims: Mapping[str, object]) -> list[tuple[bytes, bytes]]:
        """What the service is told of them: UTF-8, several values joined by commas.

        A question mark stands for each character that cannot be seen: left out, two names could become one. For the
        same reason no value is cut: what does not fit is left out as a whole.
        """
        lines = []
        for field, name in self.told:
            value = b""
            for one in _texts(_find(claims, name)):
                text = "".join(char if char.isprintable() else "?" for char in one.strip(" "))
                more = text.encode("utf-8", "replace")
                more = b"%s,%s" % (value, more) if value else more
                if len(more) <= MAX_FIELD:
                    value = more
            if value:
                lines.append((field, value))
        return lines


def _find(claims: Mapping[str, object], name: str) -> object:
    if name in claims:  # some issuers use URLs as names
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, str | int | float):
        yield str(value)
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, str | int | float):
                yield from _texts(one)


def _is(wanted: str, held: str) -> bool:
    if wanted.startswith("*@"):
        name, _, domain = held.partition("@")
        # beyond ASCII another letter may become the same by its case, as the sign of kelvin does
        same = domain == wanted[2:] or (domain.isascii() and domain.lower() == wanted[2:].lower())
        return same and bool(name)
    return wanted == held
