"""What visitors have to show in TLS, by host name, as OpenSSL is told."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from cryptography import x509

from wormhole_tw.edge.connection import Connection
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.visitor_certificates import VisitorPolicies, VisitorPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.model import ClientCertificates

__all__ = ["VisitorsAsked", "expired_authorities", "let_go"]


def let_go(connections: Iterable[object], catalog: Catalog) -> int:
    """Let connections end when what runs on them has, where their visitors would now be asked for something else.

    No request of theirs gets any further anyhow; this spares visitors the refusal.

    :returns: how many
    """
    found = []
    for connection in connections:
        if isinstance(connection, Connection):
            served = connection.facts.served
            if served is not None and served.server_name is not None:
                site = catalog.site_for(served.server_name)
                if connection.facts.visitors != (site.client_certificates if site is not None else None):
                    found.append(connection)
    for connection in found:
        connection.drain()
    return len(found)


class VisitorsAsked:
    """The policies of an edge's sites.

    Sites that ask for the same share one, and it stays the same over reloads that do not change it: sessions begun
    under it can be resumed.
    """

    def __init__(self) -> None:
        self._made: dict[ClientCertificates, VisitorPolicy] = {}

    def load(self, config: EdgeConfig) -> VisitorPolicies:
        """The policies of a configuration.

        :raises ConfigError: OpenSSL cannot read a CA; then nothing has changed
        """
        made: dict[ClientCertificates, VisitorPolicy] = {}
        for number, site in enumerate(config.sites):
            asked = site.client_certificates
            if asked is not None and asked not in made:
                try:
                    made[asked] = self._made.get(asked) or _policy(asked)
                except ValueError as error:
                    raise ConfigError(config.source, f"$.sites[{number}].client_ca", str(error)) from None
        self._made = made
        named: dict[str, VisitorPolicy | None] = {
            hostname: self._made.get(site.client_certificates) if site.client_certificates is not None else None
            for site in config.sites
            for hostname in site.hostnames
        }
        # the edge's own names are never a site, whatever a wildcard says
        return VisitorPolicies(named | dict.fromkeys(config.names)) if self._made else VisitorPolicies({})


def _policy(asked: ClientCertificates) -> VisitorPolicy:
    authorities = [x509.load_der_x509_certificate(authority) for authority in asked.authorities]
    return VisitorPolicy(authorities, required=asked.required, fingerprints=asked.fingerprints, owner=asked)


def expired_authorities(config: EdgeConfig, now: datetime.datetime) -> Iterator[str]:
    """One line for each certificate of a ``client_ca`` by which nobody can come in any more, or yet."""
    for number, site in enumerate(config.sites):
        for encoded in site.client_certificates.authorities if site.client_certificates is not None else ():
            authority = x509.load_der_x509_certificate(encoded)
            reason = ""
            if authority.not_valid_after_utc < now:
                reason = f"expired at {authority.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            elif authority.not_valid_before_utc > now:
                reason = f"is not valid before {authority.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            if reason:
                name = f"{authority.subject.rfc4514_string()} (serial number {authority.serial_number:x})"
                yield str(ConfigError(config.source, f"$.sites[{number}].client_ca", f"{name} {reason}"))
