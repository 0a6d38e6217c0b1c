"""``tls = "passthrough"`` of a site: what it cannot have, for the edge sees nothing of what its visitors say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from wormhole_tw.errors import ConfigError
from wormhole_tw.structs import NODEFAULT, fields

from .names import is_address

if TYPE_CHECKING:
    from .tables import SiteTable

__all__ = ["check_passthrough"]

#: What such a site may have.
_KEYS = frozenset({"hostnames", "routes", "name", "tls", "limits"})

#: Of [sites.limits], what a connection has that nobody here looks into.
_LIMITS = frozenset({"connect", "upgrade_idle", "requests_per_site"})


_fields = cache(fields)
"""Of a table's type: worked out from its annotations, which takes a while, and is the same for ten thousand sites."""


def _usual(field: Any) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def check_passthrough(table: SiteTable, hostnames: Sequence[str], source: str, key: str) -> None:
    """Refuse what would have no effect.

    :param hostnames: the site's, normalised
    :raises ConfigError: an address for a host name, routes that want to see a path, or anything that is for answers of
        the edge
    """
    for index, hostname in enumerate(hostnames):
        if is_address(hostname):
            reason = f"{hostname} is an address: TLS names none (RFC 6066 §3), so that nobody would be passed through"
            raise ConfigError(source, f"{key}.hostnames[{index}]", reason)
    first = table.routes[0].backend
    for index, route in enumerate(table.routes):
        where = f"{key}.routes[{index}]"
        if route.backend != first:
            reason = (
                f'a site with tls = "passthrough" leads to one backend, and that is {first}: its service ends TLS, and '
                "the edge sees no path to choose by"
            )
            raise ConfigError(source, f"{where}.backend", reason)
        for field in _fields(type(route)):
            name, value = field.encode_name, getattr(route, field.encode_name)
            if name in ("backend", "name") or value == _usual(field) or (name == "path" and value == "/"):
                continue
            if name == "path":
                reason = 'the edge sees no path on a site with tls = "passthrough": its one route is "/"'
            else:
                reason = 'the edge sees no request on a site with tls = "passthrough": its one route is a backend alone'
            raise ConfigError(source, f"{where}.{name}", reason)
    if len(table.routes) > 1:
        raise ConfigError(source, f"{key}.routes", 'more than one route: a site with tls = "passthrough" has one, "/"')
    for field in _fields(type(table)):
        # whatever there may ever be: a rule that was silently left out would let in whom it is to keep out
        name = field.encode_name
        if name not in _KEYS and getattr(table, name) != _usual(field):
            reason = 'the edge neither ends TLS nor answers on a site with tls = "passthrough": this is its service\'s'
            raise ConfigError(source, f"{key}.{name}", reason)
    limits = table.limits
    if limits is not None:
        for name in limits.__struct_fields__:
            if name not in _LIMITS and getattr(limits, name) is not None:
                reason = f'the edge sees no request on a site with tls = "passthrough": only {_listed()} hold for it'
                raise ConfigError(source, f"{key}.limits.{name}", reason)


def _listed() -> str:
    *names, last = sorted(_LIMITS)
    return f"{', '.join(names)} and {last}"
