"""``origin`` and ``origins`` of a backend, and what belongs to them: from the tables of edge.toml to values."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import Meta, Struct

from .client_certificates import read_authorities
from .model import H2C
from .names import normalise_hostname, normalise_prefix
from .origin import KEEP_ALIVE, Origin, Target
from .presets import PRESETS
from .special_addresses import Network, special_kind, special_name
from .trust import UNIX, read_networks

if TYPE_CHECKING:
    from .tables import BackendTable

__all__ = ["OriginTable", "read_origins"]

#: Of an origin with no share at all nobody should have to be told twice: leave it out. A thousand to one is enough.
Weight = Annotated[float, Meta(gt=0, le=1000)]

_PORTS = {"http": 80, "https": 443}

#: What a backend with agents alone has no use for.
_ONLY_WITH_ORIGINS = (
    *("site", "host", "index", "ca_file", "server_name"),
    *("allow_networks", "rewrite_links", "keep_alive"),
)


class OriginTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[backends.origins]]``."""

    url: str
    weight: Weight = 1.0
    region: str = ""


class _Place(NamedTuple):
    key: str
    url: str
    weight: float
    region: str


def read_origins(table: BackendTable, folder: Path, source: str, key: str) -> tuple[Origin, ...]:
    """The origins of a backend, in the order of the file; empty for one with agents alone.

    :param folder: what relative paths are relative to
    :param key: the backend's, for errors
    :raises ConfigError: something is wrong, or stands there for nothing
    """
    places = _places(table, source, key)
    if not places:
        for name in _ONLY_WITH_ORIGINS:
            if getattr(table, name) is not None:
                raise ConfigError(source, f"{key}.{name}", "only for a backend with origin, origins or preset")
        return ()
    if table.proxy_protocol is not None:
        reason = "only for services behind agents: an origin on the web would take the header for a broken request"
        raise ConfigError(source, f"{key}.proxy_protocol", reason)
    preset = PRESETS[table.preset] if table.preset is not None else None
    index = table.index if table.index is not None else preset.default_index if preset is not None else ""
    if "/" in index or "?" in index or "#" in index or any(not 0x20 < ord(char) < 0x7F for char in index):
        raise ConfigError(source, f"{key}.index", 'the name of a file, as "index.html"')
    allowed = _allowed(table.allow_networks, source, f"{key}.allow_networks")
    authorities = b""
    if table.ca_file is not None:
        found = read_authorities(folder, table.ca_file, source, f"{key}.ca_file")
        authorities = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)
    server_name = table.server_name
    if server_name is not None:
        server_name = _name(server_name, source, f"{key}.server_name")
    origins: list[Origin] = []
    urls: set[str] = set()
    for place in places:
        url, host, port, base = _read_url(place, source)
        secure = url.scheme == "https"
        _check_address(host, allowed, source, place.key)
        if secure and table.protocol == H2C:
            reason = "h2c is HTTP/2 without TLS, and this origin has https: leave it out"
            raise ConfigError(source, f"{key}.protocol", reason)
        target = Target(
            url.scheme,
            host,
            port,
            server_name=(server_name or host) if secure else "",
            authorities=authorities if secure else b"",
            allowed=allowed,
        )
        says = table.host or "origin"
        if says == "origin":
            sent: str | None = target.authority
        elif says == "visitor":
            sent = None
        else:
            sent = _authority(says, source, f"{key}.host")
        origin = Origin(
            target,
            base,
            sent,
            index,
            rewrite=table.rewrite_links is not False,
            keep_alive=table.keep_alive or KEEP_ALIVE,
            weight=place.weight,
            region=place.region,
        )
        if origin.url in urls:
            raise ConfigError(source, place.key, f"{origin.url} stands there twice")
        urls.add(origin.url)
        origins.append(origin)
    if not any(origin.target.secure for origin in origins):
        for name in ("ca_file", "server_name"):
            if getattr(table, name) is not None:
                raise ConfigError(source, f"{key}.{name}", "only for https, and no origin of this backend has it")
    return tuple(origins)


def _places(table: BackendTable, source: str, key: str) -> list[_Place]:
    if table.origin is not None and table.origins is not None:
        reason = "either origin, for one, or origins, a list of tables with url"
        raise ConfigError(source, f"{key}.origins", reason)
    if table.origins is not None:
        if not table.origins:
            raise ConfigError(source, f"{key}.origins", "empty: leave it out, or name an origin by its url")
        if table.site is not None:
            raise ConfigError(source, f"{key}.site", "origins names them already: leave one of the two out")
        return [
            _Place(f"{key}.origins[{index}].url", origin.url, origin.weight, origin.region)
            for index, origin in enumerate(table.origins)
        ]
    if table.origin is not None:
        if table.site is not None:
            raise ConfigError(source, f"{key}.site", "origin names it already: leave one of the two out")
        return [_Place(f"{key}.origin", table.origin, 1.0, "")]
    if table.preset is None:
        return []
    preset = PRESETS[table.preset]
    if table.site is None:
        raise ConfigError(source, f"{key}.site", f"missing: {preset.form}, or the whole URL as origin")
    match = preset.pattern.fullmatch(table.site)
    if match is None:
        raise ConfigError(source, f"{key}.site", f'with preset = "{table.preset}" this is {preset.form}')
    return [_Place(f"{key}.site", preset.url(match), 1.0, "")]


def _read_url(place: _Place, source: str) -> tuple[SplitResult, str, int, str]:
    """The parts of an origin's URL: itself, host, port, base path without a slash at its end."""

    def wrong(reason: str) -> ConfigError:
        return ConfigError(source, place.key, reason)

    try:
        url = urlsplit(place.url)
        port = url.port
    except ValueError:
        raise wrong("not a URL: its host or port is damaged") from None
    if url.scheme not in _PORTS or not url.netloc:
        raise wrong('a URL with its scheme: "https://example.com", "http://example.com:8080/base"')
    if "@" in url.netloc:
        # the text may be a password: nothing of it goes on
        raise wrong("a URL without user and password; an Authorization field is the request's")
    if "?" in place.url or "#" in place.url:
        raise wrong("a URL without query and fragment")
    if port == 0:
        raise wrong("a port is 1 to 65535")
    try:
        host = normalise_hostname(url.hostname or "")
    except ValueError as error:
        raise wrong(f"no host name: {error}") from error
    try:
        base = normalise_prefix(url.path or "/").rstrip("/")
    except ValueError as error:
        raise wrong(f"its path is none: {error}") from error
    return url, host, port or _PORTS[url.scheme], base


def _check_address(host: str, allowed: Sequence[Network], source: str, key: str) -> None:
    """Refuse now what could never be dialled."""
    try:
        kind = special_kind(host, allowed)
        names = f'"{host}"'
    except ValueError:
        if not special_name(host):
            return
        kind = special_kind("127.0.0.1", allowed) and special_kind("::1", allowed)
        names = '"127.0.0.1", "::1"'
    if kind is not None:
        reason = f"{host} is a {kind} address, which is refused unless it is named: allow_networks = [{names}]"
        raise ConfigError(source, key, reason)


def _allowed(texts: Sequence[str] | None, source: str, key: str) -> tuple[Network, ...]:
    for index, text in enumerate(texts or ()):
        if text == UNIX:
            raise ConfigError(source, f"{key}[{index}]", 'no network ("10.0.0.0/8", "192.168.1.10", "fd00::/8")')
    return read_networks(texts or (), source, key, mapped=True).networks


def _name(text: str, source: str, key: str) -> str:
    try:
        return normalise_hostname(text)
    except ValueError as error:
        raise ConfigError(source, key, f"no host name: {error}") from error


def _authority(text: str, source: str, key: str) -> str:
    """What Host says: a name with or without a port."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    if colon and port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(source, key, "a port is 1 to 65535")
    name = _name(host, source, key)
    try:
        bare = f"[{name}]" if ip_address(name).version == 6 else name
    except ValueError:
        bare = name
    return f"{bare}:{port}" if port else bare
