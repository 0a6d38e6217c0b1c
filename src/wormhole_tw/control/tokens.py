"""Tokens: what an agent holds, and the SHA-256 by which the edge knows it.

A token made here has 256 random bits, so it needs no slow hash: guessing is hopeless at any speed, and whoever reads
edge.toml gets digests that open nothing. The edge finds a token by looking its digest up in a dict. That lookup is not
constant-time in the *digest*, and need not be: a caller who varies the token cannot steer its SHA-256, so what timing
says of the digest says nothing of the token. Where two digests are compared all the same, use :func:`same_digest`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256

__all__ = [
    "DIGEST_PREFIX",
    "MAX_TOKEN",
    "TOKEN_PREFIX",
    "digest",
    "digest_line",
    "generate",
    "parse_digest",
    "same_digest",
    "valid_token",
]

#: What a generated token begins with, so that people and secret scanners know one when they see it.
TOKEN_PREFIX = "wh_"

#: What a digest begins with in edge.toml; another hash would get another word.
DIGEST_PREFIX = "sha256:"

#: The longest token in characters (protocol, HELLO): far beyond any generated one, far below a message's 16 KiB.
MAX_TOKEN = 512

_SECRET_BYTES = 32  # 256 bits
_TOKEN = re.compile(r"[ -~]+", re.ASCII)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


def generate() -> str:
    """Make a token: ``wh_`` and 256 random bits in URL-safe base64 (46 characters in all)."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def valid_token(text: str) -> bool:
    """Say whether ``text`` can be a token: 1–512 printable ASCII characters."""
    return len(text) <= MAX_TOKEN and _TOKEN.fullmatch(text) is not None


def digest(token: str) -> bytes:
    """Give the SHA-256 (32 bytes) of a token. Text that is no valid token has a digest too: it opens nothing."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def digest_line(token: str) -> str:
    """Give what stands in edge.toml for this token: ``sha256:`` and 64 hex digits."""
    return DIGEST_PREFIX + digest(token).hex()


def parse_digest(text: str) -> bytes:
    """Read ``sha256:<64 hex digits>`` (either case) into 32 bytes.

    :raises ValueError: it is something else; the message never repeats the text, which may be a token by mistake
    """
    match = _DIGEST.fullmatch(text)
    if match is None:
        if text.startswith(TOKEN_PREFIX):
            raise ValueError("this is a token itself; write the sha256: line that was printed with it")
        raise ValueError("write sha256: and the 64 hex digits of the token's SHA-256, never the token itself")
    return bytes.fromhex(match[1])


def same_digest(one: bytes, other: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(one, other)
