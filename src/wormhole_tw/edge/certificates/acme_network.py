"""How the ``acme`` library asks a CA's server: with deadlines, with patience for nonces, remembering what it said."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from acme import messages
from acme.client import ClientNetwork
from josepy.jwa import ES256
from josepy.jwk import JWK

from wormhole_tw import __version__

__all__ = ["Network"]

TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and to wait for octets of an answer.  A thread that waits cannot be ended from outside."""

NONCE_TRIES = 8
"""How often a request is sent that is refused for its nonce (RFC 8555 section 6.5). The library does it twice; of a CA
that forgets its nonces (a restart, several servers) one in five is lost, and two in a row are no rarity."""


class Network(ClientNetwork):
    """The library's, with more patience for nonces; it remembers the last answer's status and header fields."""

    def __init__(self, key: JWK, verify: bool | str) -> None:
        super().__init__(
            key,
            alg=ES256,
            verify_ssl=verify,  # type: ignore[arg-type]  # requests takes a CA file too
            user_agent=f"wormhole-tw/{__version__}",
            timeout=TIMEOUT,  # type: ignore[arg-type]  # and two numbers
        )
        self.status = 0
        self.seen: Mapping[str, str] = {}
        self.skew: float | None = None

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for attempt in range(1, NONCE_TRIES + 1):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce" or attempt == NONCE_TRIES:
                    raise
                self._nonces.clear()  # of the same batch, and no better
        raise AssertionError("unreachable")

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.status, self.seen = 0, {}
        response = super()._send_request(method, url, *args, **kwargs)
        self.status, self.seen = response.status_code, response.headers
        try:
            self.skew = time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            self.skew = None
        return response
