"""Answers made of what is stored: 200, 304, 206, 416, and to HEAD (RFC 9111 §4, §4.3.2; RFC 9110 §13, §14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.records import Answer, Stored

if TYPE_CHECKING:
    from wormhole_tw.http.caching.question import Question

__all__ = ["serve", "wanted"]


def serve(asked: Question, stored: Stored, size: int, now: float) -> Answer | None:
    """The answer to a request from a stored one, which :func:`.judge` allowed.

    With ``Age``; ``Date`` and everything else as it was stored.  The visitor's ``If-None-Match`` (else
    ``If-Modified-Since``) gets a 304 where it matches; one ``Range`` (with ``If-Range``) gets a 206 or 416; several
    ranges, another unit, or a range of anything but a 200 get the whole.

    :param size: octets of the body that are kept; the whole is where ``stored.first == 0`` and ``size ==
        stored.length``
    :param now: epoch seconds
    :returns: None where octets are asked for that are not kept
    """
    raise NotImplementedError


def wanted(asked: Question, stored: Stored) -> tuple[int, int] | None:
    """The octets of the representation that a request is for, as (start, end), end excluded; None where that needs a
    length that is not known.  (0, 0) where no octet is needed (HEAD, a 304, a 416).
    """
    raise NotImplementedError
