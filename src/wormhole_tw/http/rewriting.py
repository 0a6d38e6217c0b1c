"""Other paths for a request: what a service gets in place of what the visitor asked for, and where a redirect leads.

What comes of it is brought to the canonical form again, so that the rules of paths hold behind a rewrite too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wormhole_tw.http.patterns import Part, Template
from wormhole_tw.http.targets import normalise_target

__all__ = ["PathRewrite", "PrefixSwap", "Redirect"]

_UNSAFE = re.compile(rb"[^!#-;=?-\[\]_a-z~]")
"""In a query, for Location: what no URL carries as such (RFC 3986, and ``\\`` for browsers)."""


def _joined(path: str, query: str, own: bytes | None) -> bytes:
    """A target of a path, the query of a template (without its ``?``, perhaps none) and the visitor's."""
    target = path.encode("latin-1")
    parts = [part for part in (query.encode("latin-1"), own) if part]
    if parts:
        return target + b"?" + b"&".join(parts)
    return target if own is None else target + b"?"


def _canonical(target: bytes) -> bytes:
    path, query = normalise_target(target)
    return path if query is None else b"%s?%s" % (path, query)


@dataclass(frozen=True, slots=True)
class PrefixSwap:
    """Put another prefix in the place of a route's.

    :ivar old: what goes, without a slash at its end; empty for ``/``
    :ivar new: what comes, likewise
    """

    old: str
    new: str

    def target(self, path: str, values: Mapping[str, str], query: bytes | None) -> bytes:
        """The target that the service gets.

        :param path: canonical, with the old prefix
        :param query: of the request, or None
        :raises HttpError: 400, it climbs above ``/``
        """
        swapped = self.new + path[len(self.old) :]
        return _canonical(_joined(swapped or "/", "", query))

    def prefixes(self, asked: bytes, sent: bytes) -> tuple[bytes, bytes] | None:
        """The old one and the new one, where they are what a request's paths begin with; None where somebody has led it
        elsewhere.

        :param asked: the path that a visitor asked for, canonical
        :param sent: the path that went to the service
        """
        old, new = self.old.encode("latin-1"), self.new.encode("latin-1")
        if (asked + b"/").startswith(old + b"/") and (sent + b"/").startswith(new + b"/"):
            return old, new
        return None


@dataclass(frozen=True, slots=True)
class PathRewrite:
    """Put together another path, and what of a query stands before the request's own."""

    path: Template
    query: Template

    @classmethod
    def of(cls, text: str, known: Collection[str]) -> PathRewrite:
        """
        :param text: a path with names, and perhaps a query
        :raises ValueError: see :class:`~wormhole_tw.http.patterns.Template`
        """
        path, _, query = text.partition("?")
        return cls(Template(path, known, Part.FORWARDED), Template(query, known, Part.QUERY))

    def target(self, path: str, values: Mapping[str, str], query: bytes | None) -> bytes:
        """See :meth:`PrefixSwap.target`."""
        return _canonical(_joined(self.path.fill(values), self.query.fill(values), query))


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a visitor is sent.

    :ivar base: scheme and authority, or empty for the same ones
    :ivar path: begins with ``/``
    :ivar query: without its ``?``
    :ivar fragment: without its ``#``
    :ivar keep_query: the request's query goes along, behind ``query``
    """

    status: int
    base: str
    path: Template
    query: Template
    fragment: Template
    keep_query: bool = True

    def location(self, values: Mapping[str, str], query: bytes | None) -> bytes:
        """The value of ``Location``: printable ASCII, whatever the visitor asked for.

        :param query: of the request, or None
        """
        path = self.path.fill(values)
        if not self.base and path[1:2] == "/":
            # two slashes would be the beginning of a host name, and the visitor's to choose (RFC 3986 §4.2)
            path = "/." + path
        own = None
        if self.keep_query and query is not None:
            own = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], query)
        url = self.base.encode("ascii") + _joined(path, self.query.fill(values), own)
        fragment = self.fragment.fill(values)
        return url + b"#" + fragment.encode("ascii") if fragment else url
