"""Host names and path prefixes as an operator writes them, brought to the one form in which requests are looked up."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

__all__ = ["is_address", "normalise_hostname", "normalise_prefix"]

#: The longest host name and label in octets (RFC 1035 §2.3.4), without the root's dot.
MAX_HOSTNAME = 253
MAX_LABEL = 63

#: Letters, digits and hyphen inside (RFC 1123 §2.1), and the underscore, which RFC 1123 does not know but browsers,
#: DNS and preview names of branches use.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.ASCII)

_PORT = re.compile(r"[^:]*:[0-9]*|\[.*\]:[0-9]*", re.ASCII)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_HARD = frozenset('"<>[\\]^`{|}')  # browsers escape some of these and some not, so that a guess would miss requests
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_OCTETS = _UNRESERVED | frozenset(b"/!$&'()*+,;=:@%")  # RFC 3986 §3.3, and the escapes themselves


def normalise_hostname(text: str, *, wildcard: bool = False) -> str:
    """Bring a host name to lower case without the root's dot; an IP address to its shortest form, without brackets.

    :param wildcard: allow ``*.`` in front of a name, for one left-most label
    :raises ValueError: it is no host name; the message says what to write instead
    """
    if not text.isascii():
        raise ValueError("not ASCII: write the name in its xn-- form (IDNA)")
    if "/" in text:
        raise ValueError("a host name alone: no scheme and no path")
    name = text.lower()
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        address = ip_address(bare)
    except ValueError:
        pass
    else:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise ValueError("an address without a zone")
        return str(address)
    if _PORT.fullmatch(name):
        raise ValueError("a host name alone: the port is the listener's")
    name = name.removesuffix(".")
    labels = name
    if name.startswith("*"):
        if not wildcard:
            raise ValueError("no wildcard here: write every name")
        if not name.startswith("*.") or "*" in name[1:]:
            raise ValueError('a wildcard is one whole left-most label: "*.example.com"')
        labels = name[2:]
    elif "*" in name:
        raise ValueError('a wildcard is one whole left-most label: "*.example.com"')
    if len(name) > MAX_HOSTNAME:
        raise ValueError(f"longer than {MAX_HOSTNAME} characters")
    for label in labels.split("."):
        if not label:
            raise ValueError("an empty label" if labels else "empty")
        if len(label) > MAX_LABEL:
            raise ValueError(f"a label longer than {MAX_LABEL} characters")
        if _LABEL.fullmatch(label) is None:
            raise ValueError("a host name has letters, digits, hyphens (not at an end) and dots only")
    if label.isdigit():  # WHATWG URL, "ends in a number": browsers take such a name for an address, and a wrong one
        raise ValueError("a name that ends in a number is read as an IP address, and this is none")
    return name


def normalise_prefix(text: str) -> str:
    """Bring a route's path to the form in which requests are routed: unreserved octets decoded, hex in upper case.

    What a URL cannot carry as such (a space, ``é``) is escaped as UTF-8; ``//`` and ``%2F`` stay (RFC 3986 §6.2.2).

    :raises ValueError: it is no path prefix; the message says why
    """
    if not text.startswith("/"):
        raise ValueError('a path begins with "/"')
    if "?" in text or "#" in text:
        raise ValueError("a path alone: no query and no fragment")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise ValueError("a control character")
    if hard := next((char for char in text if char in _HARD), None):
        raise ValueError(f"a URL cannot carry {hard} as such: write %{ord(hard):02X}")
    if text.count("%") != len(_ESCAPE.findall(text)):
        raise ValueError('"%" stands before two hex digits; a percent sign itself is "%25"')
    escaped = "".join(chr(octet) if octet in _PATH_OCTETS else f"%{octet:02X}" for octet in text.encode())
    path = _ESCAPE.sub(_canonical_escape, escaped)
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError('a path without "." and ".." segments')
    return path


def _canonical_escape(match: re.Match[str]) -> str:
    octet = int(match[0][1:], 16)
    return chr(octet) if octet in _UNRESERVED else match[0].upper()


def is_address(hostname: str) -> bool:
    """Whether a normalised host name is an IP address."""
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True
