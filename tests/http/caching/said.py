"""Requests and answers in a line each, for the tests beside this file."""

from __future__ import annotations

from wormhole_tw.http.caching import CachePolicy, Question, Refusal, Stored, question, storable
from wormhole_tw.http.caching.dates import write_date
from wormhole_tw.http.events import Fields, Framing, RequestHead, ResponseHead

__all__ = ["DATE", "NOW", "STANDARD", "answer", "asked", "at", "kept", "lines", "refused", "request"]

NOW = 1_795_000_000.0
"""When every conversation begins: Wed, 18 Nov 2026 11:06:40 GMT."""

STANDARD = CachePolicy()


def at(seconds: float) -> str:
    """An HTTP-date so many seconds from the beginning."""
    return write_date(NOW + seconds).decode()


DATE = f"Date: {at(0)}"


def lines(*said: str) -> Fields:
    """Field lines from ``"Name: value"``."""
    return [
        (name.encode("latin-1"), value.strip(" ").encode("latin-1"))
        for name, _, value in (s.partition(":") for s in said)
    ]


def request(*said: str, method: str = "GET", target: str = "/", body: int = 0, common: bool = False) -> RequestHead:
    framing = Framing.LENGTH if body else Framing.NONE
    return RequestHead(
        method.encode(), target.encode(), b"a.test", (1, 1), lines(*said), framing, body or None, common=common
    )


def asked(*said: str, method: str = "GET", personal: bool = False) -> Question:
    return question(request(*said, method=method), personal=personal)


def answer(*said: str, status: int = 200, length: int | None = 10) -> ResponseHead:
    """An answer that was made when the conversation began, if it does not say when."""
    dated = said if any(line.lower().startswith("date:") for line in said) else (DATE, *said)
    framing = Framing.CHUNKED if length is None else Framing.LENGTH
    return ResponseHead(status, b"OK", lines(*dated), framing=framing, length=length)


def decided(
    *said: str,
    status: int = 200,
    length: int | None = 10,
    by: Question | None = None,
    policy: CachePolicy = STANDARD,
    took: float = 0.0,
    born: int = 0,
) -> Stored | Refusal:
    head = answer(*said, status=status, length=length)
    return storable(by or asked(), head, policy, NOW - took, NOW, born)


def kept(*said: str, **how: object) -> Stored:
    """The record of an answer that is stored."""
    made = decided(*said, **how)  # type: ignore[arg-type]
    assert isinstance(made, Stored), made
    return made


def refused(*said: str, **how: object) -> str:
    """Why an answer is not stored."""
    made = decided(*said, **how)  # type: ignore[arg-type]
    assert isinstance(made, Refusal), made
    return made.reason
