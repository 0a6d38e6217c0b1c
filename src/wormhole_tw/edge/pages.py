"""The page of an answer of the edge's own: HTML, JSON or text, as the visitor would have it (RFC 9110 §12.5.1).

A site may have pages of its own.  What stands in them of a request is its id, which holds nothing but letters, digits
and a few signs; nothing else of what a visitor or an origin sent is repeated.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wormhole_tw.control.model import ErrorPages

__all__ = ["MAX_RANGES", "accept_of", "chosen_kind", "error_page"]

MAX_RANGES = 32
"""Members of an ``Accept`` that are looked at: browsers send eight."""

_TYPES = {"text": "text/plain", "html": "text/html", "json": "application/json"}
"""The kinds, in the order in which they are given to those who take anything: curl, and a person who looks at logs."""

_CONTENT_TYPES = {
    "text": b"text/plain; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "json": b"application/json",
}

_QUALITY = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE | re.ASCII)

_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{status} {phrase}</title>
<h1>{status} {phrase}</h1>
<p>{message}</p>
<p><small>{reason} · {request_id}</small></p>
</html>
"""


def accept_of(fields: list[tuple[bytes, bytes]]) -> str | None:
    """The value of ``Accept``, several lines joined; None where there is none."""
    values = [value for name, value in fields if len(name) == 6 and name.lower() == b"accept"]
    return b",".join(values).decode("latin-1") if values else None


def chosen_kind(accept: str | None, first: Mapping[str, bytes] | tuple[str, ...] = ()) -> str:
    """``html``, ``json`` or ``text``: what the visitor likes best, and text where it likes none of them.

    :param accept: the field's value, or None
    :param first: kinds that win where the visitor likes several equally well (a site has pages of its own of them)
    """
    if accept is None:
        return next(iter(first), "text")
    ranges: dict[str, float] = {}
    for member in accept.split(",", MAX_RANGES)[:MAX_RANGES]:
        name, *parameters = member.split(";")
        quality = 1.0
        for parameter in parameters:
            if (match := _QUALITY.fullmatch(parameter.strip())) is not None:
                quality = float(match[1])
        ranges[name.strip().lower()] = quality
    best, best_quality = "text", 0.0
    for kind in (*first, *_TYPES):
        media = _TYPES[kind]
        # the most specific range that matches says how much it is liked
        quality = next(
            (ranges[name] for name in (media, f"{media.partition('/')[0]}/*", "*/*") if name in ranges),
            0.0,
        )
        if quality > best_quality:
            best, best_quality = kind, quality
    return best


def error_page(
    status: int, phrase: str, reason: str, message: str, request_id: bytes, accept: str | None, own: ErrorPages | None
) -> tuple[bytes, bytes]:
    """The value of ``Content-Type``, and the page.

    :param own: the site's own pages, where it has some
    """
    pages = own.kinds(status) if own is not None else {}
    kind = chosen_kind(accept, pages)
    facts = {"status": str(status), "reason": reason, "message": message, "request_id": request_id.decode("ascii")}
    page = pages.get(kind)
    if page is not None:
        for name, value in facts.items():
            page = page.replace(b"{%s}" % name.encode(), value.encode())
    elif kind == "html":
        page = _HTML.format(phrase=phrase, **facts).encode()
    elif kind == "json":
        values = {"status": status, "error": reason, "message": message, "request_id": facts["request_id"]}
        page = json.dumps(values).encode() + b"\n"
    else:
        request = f"request {facts['request_id']}\n" if request_id else ""
        page = f"{status} {phrase}\n\n{message}\n({reason})\n{request}".encode()
    return _CONTENT_TYPES[kind], page
