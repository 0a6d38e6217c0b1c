"""What a site or a route says of codings, compiled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["CODINGS", "DEFAULT_TYPES", "SMALLEST", "CodingRules", "MediaTypes"]

CODINGS = (b"zstd", b"br", b"gzip")
"""Those there are, in the order in which they are given to who takes several.  At the levels that are used (figures in
:mod:`.encoders`) all three make a page as small as each other, and zstd and br an API's JSON by two fifths smaller than
gzip; zstd takes a third of the time."""

SMALLEST = 1024
"""Octets of an answer that is not worth it: with its head it is one packet either way."""

DEFAULT_TYPES = (
    "text/*",
    "+json",
    "+xml",
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/json-seq",
    "application/jsonlines",
    "application/ndjson",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-sh",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
    "font/collection",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
)
"""Text in all its shapes, and the few binary ones that nobody has compressed before: woff2, JPEG, PNG, video and
archives are not among them."""

_NEVER = b"application/grpc"
"""gRPC and gRPC-Web, whatever stands behind (``+proto``, ``+json``, ``-web``): messages have a coding of their own, and
its clients know no other."""

_TOKEN = "[a-z0-9!#$&^_.+-]+"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_WILD = re.compile(rf"({_TOKEN}/)\*")
_SUFFIX = re.compile(r"\+[a-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """A set of media types.

    :ivar exact: ``application/json``
    :ivar families: ``text/``, of ``text/*``
    :ivar suffixes: ``json``, of ``+json`` (RFC 6839)
    """

    exact: frozenset[bytes] = frozenset()
    families: frozenset[bytes] = frozenset()
    suffixes: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, texts: Iterable[str]) -> MediaTypes:
        """Read them as they are written: ``text/html``, ``text/*``, ``+json``.

        :raises ValueError: one is none of these; it says which
        """
        exact, families, suffixes = set(), set(), set()
        for text in texts:
            lower = text.lower()
            if (wild := _WILD.fullmatch(lower)) is not None:
                families.add(wild[1].encode())
            elif _TYPE.fullmatch(lower) is not None:
                exact.add(lower.encode())
            elif _SUFFIX.fullmatch(lower) is not None:
                suffixes.add(lower[1:].encode())
            else:
                raise ValueError(f'{text!r} is no media type: "text/html", "text/*", or "+json" for all that end so')
        return cls(frozenset(exact), frozenset(families), frozenset(suffixes))

    def take(self, content_type: bytes) -> bool:
        """Whether a ``Content-Type``, with or without parameters, is of one of them.  gRPC never is."""
        return _takes(self, content_type)


@lru_cache(maxsize=1024)
def _takes(types: MediaTypes, content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if kind.startswith(_NEVER):
        return False
    family, _, rest = kind.partition(b"/")
    if kind in types.exact or (rest and family + b"/" in types.families):
        return True
    return rest.rpartition(b"+")[2] in types.suffixes if b"+" in rest else False


@dataclass(frozen=True, slots=True)
class CodingRules:
    """What answers get, equal where it says the same.

    :ivar codings: in the order in which they are given
    :ivar types: of answers that get one
    :ivar smallest: octets; an answer that is said to have fewer gets none, unless its visitor takes no other
    """

    codings: tuple[bytes, ...] = CODINGS
    types: MediaTypes = field(default_factory=lambda: MediaTypes.of(DEFAULT_TYPES))
    smallest: int = SMALLEST

    @property
    def said(self) -> tuple[object, ...]:
        """The same for equal rules in every process, as octets of it are."""
        types = self.types
        return self.codings, *map(sorted, (types.exact, types.families, types.suffixes)), self.smallest
