"""Names of requests: one stands in the access log, on the error page and, as ``X-Request-Id``, at the service.

They are unique and cheap, and no secret: whoever has seen one can guess its neighbours, so nothing may be opened by
knowing one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields

__all__ = ["given_id", "request_ids"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, as in the names of sessions."""

_RANDOM_BYTES = 10
"""Eighty bits for each start of an edge: no two starts anywhere ever have the same."""

_GIVEN = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a trusted proxy's id may be: every form in use (UUIDs, trace ids, base 64), and nothing that has a meaning in a
page, a log line or a shell."""


def request_ids(random: Callable[[int], bytes]) -> Callable[[], bytes]:
    """What gives the next name each time it is called: sixteen random characters of this start, and a number that
    counts up: ``3k9xq2m8d0v5w7ab-1f``.

    :param random: gives that many random bytes (``os.urandom``)
    """
    number = int.from_bytes(random(_RANDOM_BYTES))
    text = "".join(_ALPHABET[number >> shift & 31] for shift in range(75, -1, -5))
    # formatted and counted in C: each request asks for one
    return map((text.encode("ascii") + b"-%x").__mod__, count(1)).__next__


def given_id(fields: Fields) -> bytes | None:
    """The id that a trusted proxy gave, or None where it gave none, several, or one that is not as it should be."""
    found = [value for name, value in fields if len(name) == 12 and name.lower() == b"x-request-id"]
    return found[0] if len(found) == 1 and _GIVEN.fullmatch(found[0]) else None
