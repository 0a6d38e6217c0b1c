"""URLs of an origin in the fields of its answers, turned into those by which its visitors reach it.

An origin on the web knows itself by its own name and path.  Where it sends its visitors there (``Location``,
``Content-Location``, ``Link``, ``Refresh``), or keeps a cookie for it (``Domain``, ``Path``), a visitor would leave the
site that it came to, or its browser would refuse the cookie.  What leads elsewhere stays as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wormhole_tw.errors import HttpError
from wormhole_tw.http.events import Fields
from wormhole_tw.http.targets import normalise_target

__all__ = ["Links", "bare_authority", "moved", "rewrite_fields", "safe", "visitors_cookie", "visitors_reference"]

_REFERENCE = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(.*)", re.DOTALL)
"""Scheme, authority, path, the rest (RFC 3986 appendix B)."""

_PORTS = {b"http": b":80", b"https": b":443"}

_OPENING = re.compile(rb'["<]')
_QUOTED = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
"""RFC 9110 §5.6.4."""

_QUOTES = re.compile(rb"""["']""")

_UNSAFE = re.compile(rb"[^!#-&(-;=?-\[\]_a-z~]")
"""What of a path no URL carries as such (RFC 3986), or what ends one where it stands in brackets or quotes."""

_ADDRESS = re.compile(rb"\[.*\]|[0-9.]+")


class Links(NamedTuple):
    """What an origin's URLs are to a visitor.

    :ivar origin: scheme and authority of the origin, ``https://pages.example``
    :ivar names: every authority that is the origin's, in lower case, without the port of its scheme
    :ivar below: what stands before its paths there: empty, or ``/base``
    :ivar site: scheme and authority by which the visitor came, ``https://app.example.test:8443``
    :ivar above: what stands before the same paths here: empty, or ``/blog``
    """

    origin: bytes
    names: frozenset[bytes]
    below: bytes
    site: bytes
    above: bytes


def bare_authority(scheme: bytes, authority: bytes) -> bytes:
    """In lower case, without the port that goes without saying.

    :param scheme: ``http`` or ``https``, in any case
    """
    return authority.lower().removesuffix(_PORTS[scheme.lower()])


def moved(asked: bytes, sent: bytes) -> tuple[bytes, bytes]:
    """What a path begins with here, and what in its place there; both empty where it was not changed, or not in front.

    :param asked: the path that a visitor asked for, in canonical form
    :param sent: what the route has made of it
    """
    if asked == sent:
        return b"", b""
    if sent == b"/":
        return asked.rstrip(b"/"), b""
    ours, theirs = asked.split(b"/"), sent.split(b"/")
    same = 0
    while same < min(len(ours), len(theirs)) - 1 and ours[-1 - same] == theirs[-1 - same]:
        same += 1
    if not same:
        return b"", b""
    return b"/".join(ours[:-same]), b"/".join(theirs[:-same])


def safe(path: bytes) -> bytes:
    """A path that a visitor asked for, as it may stand in a field of an answer."""
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], path)


def visitors_reference(links: Links, value: bytes) -> bytes:
    """A URL, or a reference that is relative to one."""
    match = _REFERENCE.fullmatch(value)
    assert match is not None, "the pattern takes everything"
    scheme, authority, path, rest = match.groups()
    if authority is None:
        if scheme is not None or not path.startswith(b"/"):
            return value
        mapped = _mapped(links, path)
        # what lies beside the base has no address here, and must not be taken for what has
        return (links.origin + path if mapped is None else mapped) + rest
    if scheme is not None and scheme.lower() not in _PORTS:
        return value
    if bare_authority(scheme or links.origin.partition(b":")[0], authority) not in links.names:
        return value
    mapped = _mapped(links, path or b"/", named=True)
    return value if mapped is None else links.site + mapped + rest


def _mapped(links: Links, path: bytes, *, named: bool = False) -> bytes | None:
    """A path of the origin as it is here, or None where it is not below the base.

    :param named: a scheme and a host name stand before it
    """
    below = links.below
    if not below and not links.above:
        return path
    if b"/." in path or b"%" in path:
        try:
            path, _ = normalise_target(path)
        except HttpError:
            return None
    if path != below and not path.startswith(below + b"/"):
        return None
    found = links.above + path[len(below) :] or b"/"
    if not named and found[1:2] in (b"/", b"\\"):
        # behind "/base", "//evil.example" was a path; alone it would be the beginning of a host name
        return b"/." + found
    return found


def _location(links: Links, value: bytes, asked: bytes, sent: bytes) -> bytes:
    """Where it would send the visitor to what it has just asked for, though the origin means something else (https in
    place of http, mostly), it stays as it is: better there than in a circle."""
    turned = visitors_reference(links, value)
    if turned is value or turned != links.site + asked:
        return turned
    return turned if value == links.origin + sent else value


def visitors_links(links: Links, value: bytes) -> bytes:
    """The targets of a ``Link`` field (RFC 8288 §3), up to a quote or a bracket that nothing closes."""
    found: list[bytes] = []
    at = 0
    while opening := _OPENING.search(value, at):
        start = opening.start()
        if opening[0] == b'"':
            quoted = _QUOTED.match(value, start)
            if quoted is None:
                break
            found.append(value[at : quoted.end()])
            at = quoted.end()
        else:
            end = value.find(b">", start)
            if end < 0:
                break
            found += (value[at:start], b"<", visitors_reference(links, value[start + 1 : end]), b">")
            at = end + 1
    return b"".join((*found, value[at:]))


def _refresh(links: Links, value: bytes) -> bytes:
    """Seconds, then a URL with or without quotes (HTML, "shared declarative refresh steps")."""
    rest = value.lstrip(b"0123456789. \t").lstrip(b";,").lstrip()
    if rest[:3].lower() != b"url":
        return value
    rest = rest[3:].lstrip()
    if not rest.startswith(b"="):
        return value
    rest = rest[1:].lstrip()
    before = value[: len(value) - len(rest)]
    quote = rest[:1] if rest[:1] in (b'"', b"'") else b""
    url = _QUOTES.split(rest[len(quote) :], maxsplit=1)[0]
    after = rest[len(quote) + len(url) :]
    return b"".join((before, quote, visitors_reference(links, url.strip()), after))


def visitors_cookie(links: Links, value: bytes) -> bytes:
    """A ``Set-Cookie`` (RFC 6265 section 4.1): its Domain where it is the origin's, its Path."""
    cookie, *attributes = value.split(b";")
    host = _host(links.site.partition(b"://")[2])
    found = []
    for attribute in attributes:
        name, _, text = attribute.partition(b"=")
        kind = name.strip().lower()
        if kind == b"domain":
            domain = text.strip().lstrip(b".").lower()
            if not _within(host, domain) and any(_within(_host(own), domain) for own in links.names):
                if _ADDRESS.fullmatch(host):
                    continue  # an address has no domain: the cookie is for whom it was set by
                attribute = b" Domain=%s" % host
        elif kind == b"path" and not cookie.lstrip().startswith(b"__Host-"):
            attribute = _cookie_path(links, attribute, text.strip())
            if b";" in attribute:
                continue  # of the visitor's own making, as "/x;Domain=…": the browser keeps the cookie for its path
        found.append(attribute)
    return b";".join((cookie, *found))


def _cookie_path(links: Links, attribute: bytes, path: bytes) -> bytes:
    if not path.startswith(b"/") or not (links.below or links.above):
        return attribute
    if (links.below + b"/").startswith(path.rstrip(b"/") + b"/"):
        # the whole of what is served here, or more than that
        return b" Path=%s" % (links.above or b"/")
    mapped = _mapped(links, path, named=True)
    return attribute if mapped is None else b" Path=%s" % mapped


def _host(authority: bytes) -> bytes:
    return authority if authority.endswith(b"]") else authority.rpartition(b":")[0] or authority


def _within(host: bytes, domain: bytes) -> bool:
    host = host.lower()
    return bool(domain) and (host == domain or host.endswith(b"." + domain))


def rewrite_fields(fields: Fields, links: Links, asked: bytes, sent: bytes, *, named: bool) -> Fields:
    """The fields of an answer as they are for a visitor: a new list.

    :param asked: the target that the visitor asked for
    :param sent: the target that the origin was asked for
    :param named: the origin was asked by a name of its own: what it says of that name (how it is reached, that it is
        reached by TLS alone) does not hold for the visitor's
    """
    changed: Fields = []
    for line in fields:
        kind = line[0].lower()
        if kind == b"location":
            line = (line[0], _location(links, line[1], asked, sent))
        elif kind == b"content-location":
            line = (line[0], visitors_reference(links, line[1]))
        elif kind == b"link":
            line = (line[0], visitors_links(links, line[1]))
        elif kind == b"refresh":
            line = (line[0], _refresh(links, line[1]))
        elif kind == b"set-cookie":
            line = (line[0], visitors_cookie(links, line[1]))
        elif named and kind in (b"alt-svc", b"strict-transport-security"):
            continue
        changed.append(line)
    return changed
