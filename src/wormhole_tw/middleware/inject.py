"""HTML that a page gets before the end of its head: a script, a style, a notice."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator
from hashlib import sha256

from wormhole_tw.errors import HttpError
from wormhole_tw.http.coding import DIGESTS
from wormhole_tw.middleware.body import Body
from wormhole_tw.middleware.coding import decoder, encoder, narrowed
from wormhole_tw.middleware.headers import Headers
from wormhole_tw.middleware.html import HeadEnd
from wormhole_tw.middleware.messages import Next, Request, Response

__all__ = ["MAX_HTML", "InjectHtml"]

MAX_HTML = 64 * 1024
"""Octets that are injected at most: more is a file of its own, which a browser keeps."""

_DIGESTS = tuple(sorted(name.decode() for name in DIGESTS))

_ETAG = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')
_MARKED = re.compile(r"(.*)(~i[0-9a-f]{8})")

_CHARSET = re.compile(r'charset\s*=\s*"?([A-Za-z0-9._:-]{1,40})', re.I)


class InjectHtml:
    """Puts HTML before ``</head>`` (or before ``<body>``, where a page leaves that end tag out).

    Pages stream through: what has come goes on at once.  Only answers of type ``text/html`` are changed, not those to
    HEAD (whose fields are, so that they are those of a GET), no 204, 206 or 304, and none that says ``no-transform``.
    A page without a head passes as it is.

    The service is asked for gzip, deflate, brotli, zstd or no coding; a coded page is decoded and coded again as it
    was.  One that is coded in another way all the same passes as it is.  Lengths and digests of changed
    answers go, and ranges are not offered.  ETags become weak ones that name what was put there, so that a page in a
    browser's cache is asked for anew when that changes; a page without an ETag loses its ``Last-Modified``.

    :param html: what to put there
    :raises ValueError: it is nothing, or too long
    """

    def __init__(self, *, html: str) -> None:
        if not isinstance(html, str) or not html:
            raise ValueError("html: expected text")
        if len(html.encode()) > MAX_HTML:
            raise ValueError(f"html: more than {MAX_HTML} octets; put it into a file of the site and name that")
        self._html = html
        self._mark = f"~i{sha256(html.encode()).hexdigest()[:8]}"

    async def __call__(self, request: Request, next: Next) -> Response:
        """Ask for what can be read, and change it where it is a page."""
        accept = narrowed(request.headers.get("Accept-Encoding"))
        request.headers["Accept-Encoding"] = accept
        ours = self._ask_as_the_service_knows_it(request.headers)
        response = await next(request)
        if response.status == 304 and ours:
            self._restate(response.headers)
            response.declared = None
            return response
        insert = self._insertion(response)
        if insert is None:
            return response
        coding = response.headers.get("Content-Encoding") or "identity"
        if coding.strip().lower() != "identity" and decoder(coding) is None:
            return response
        self._restate(response.headers)
        if request.method == "HEAD":
            response.declared = None  # the length of the page as the service has it
            return response
        response.body = _changed(response.body, insert, coding)
        return response

    def _insertion(self, response: Response) -> bytes | None:
        """What to put into it; None where it is left alone."""
        headers = response.headers
        if response.status in (101, 204, 205, 206, 304):
            return None
        if "no-transform" in (headers.get("Cache-Control") or "").lower():
            # RFC 9110 §7.7
            return None
        kind = headers.get("Content-Type")
        if kind is None:
            return None
        if kind.partition(";")[0].strip().lower() != "text/html":
            return None
        named = _CHARSET.search(kind)
        charset = named[1] if named is not None else "utf-8"
        try:
            name = codecs.lookup(charset).name
            if "</head>".encode(name) != b"</head>":
                return None  # UTF-16: no octet of it is what it seems
            return self._html.encode(name, "xmlcharrefreplace")
        except (LookupError, UnicodeError):
            return None

    def _restate(self, headers: Headers) -> None:
        """Say of the page as it is now what was said of the service's."""
        headers.remove("Accept-Ranges", *_DIGESTS)
        found = _ETAG.fullmatch(headers.get("ETag") or "")
        if found is None:
            # what a cache keeps by its time alone would stay when what was put there has changed
            headers.remove("ETag", "Last-Modified")
        else:
            # the same page by its meaning, not by its octets (RFC 9110 §8.8.1)
            headers["ETag"] = f'W/"{found[1]}{self._mark}"'

    def _ask_as_the_service_knows_it(self, headers: Headers) -> bool:
        """Ask the service by its own ETags whether pages that were changed here have changed there.

        :returns: a 304 may be for such a page
        """
        asked = headers.get("If-None-Match")
        if asked is None or "~i" not in asked:
            return False
        ours = False
        tags: list[str] = []
        for found in _ETAG.finditer(asked):
            marked = _MARKED.fullmatch(found[1])
            if marked is None:
                tags.append(found[0])
            elif marked[2] == self._mark:
                tags.append(f'W/"{marked[1]}"')
                ours = True
        if tags:
            headers["If-None-Match"] = ", ".join(tags)
        else:
            # of another time: the page is wanted whole, whatever its date
            headers.remove("If-None-Match", "If-Modified-Since")
        return ours


async def _changed(body: Body, insert: bytes, coding: str) -> AsyncIterator[bytes]:
    head = HeadEnd(insert)
    decoding = decoder(coding)
    if decoding is None:
        async for piece in body:
            if out := head.feed(piece):
                yield out
        if held := head.finish():
            yield held
    else:
        encoding = encoder(coding)
        try:
            async for piece in body:
                for part in decoding.decode(piece):
                    if out := head.feed(part):
                        yield encoding.encode(out)
            decoding.finish()
        except ValueError:
            # the service's fault, and no failure of what has found it
            text = "The service's answer is not of its content coding, or was cut."
            raise HttpError(502, "bad-answer", text) from None
        yield (encoding.encode(held) if (held := head.finish()) else b"") + encoding.finish()
    body.trailers.remove(*_DIGESTS)
