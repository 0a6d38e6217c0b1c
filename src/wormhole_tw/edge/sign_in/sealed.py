"""What is given to a browser to keep, and can neither be read nor changed there."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from os import urandom
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["Sealer"]

_NONCE = 12


class Sealer:
    """Makes and opens values of cookies: AES-256-GCM, with a time at which each ends.

    :param secret: what the key is derived from (HKDF, RFC 5869)
    :param name: what it is for; another name makes another key
    :param wall: seconds since 1970
    """

    def __init__(self, secret: bytes, name: str, wall: Callable[[], float]) -> None:
        key = HKDF(SHA256(), 32, None, b"wormhole-tw sign-in\0" + name.encode()).derive(secret)
        self._cipher = AESGCM(key)
        self._wall = wall

    def seal(self, purpose: str, value: dict[str, Any], seconds: float) -> bytes:
        """
        :param purpose: a value for another one does not open
        :param seconds: how long it is good
        """
        text = json.dumps([int(self._wall() + seconds), value], separators=(",", ":")).encode()
        nonce = urandom(_NONCE)
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text, purpose.encode())).rstrip(b"=")

    def open(self, purpose: str, sealed: bytes) -> dict[str, Any] | None:
        """What was sealed; None where that is over, or was never sealed here."""
        try:
            octets = urlsafe_b64decode(sealed + b"=" * (-len(sealed) % 4))
            until, value = json.loads(self._cipher.decrypt(octets[:_NONCE], octets[_NONCE:], purpose.encode()))
        except (binascii.Error, ValueError, InvalidTag):
            return None
        return value if self._wall() < until else None
