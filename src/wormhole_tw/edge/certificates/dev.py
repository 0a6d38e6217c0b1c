"""``[tls] mode = "dev"``: a local CA in the state folder, and certificates made as they are needed."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tls import CertificateMap

if TYPE_CHECKING:
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.net.pem import KeyMaterial

__all__ = ["DevCertificates"]


class DevCertificates:
    """Certificates of the local CA in ``<state>/dev``: one for the edge's own names, one a site.

    Keys of certificates live in memory alone and are new with each start; only the CA is kept.

    :raises ConfigError: the state folder or a file in it cannot be used
    """

    def __init__(self, config: EdgeConfig) -> None:
        self._ca = DevCa(config.state / "dev", source=f"{config.source}: $.edge.state")
        self._made: dict[tuple[str, ...], KeyMaterial] = {}

    def load(self, config: EdgeConfig, now: datetime.datetime | None = None) -> CertificateMap:
        """The map for a configuration.  What was made before and has a third of its life left is kept.

        :raises ConfigError: a name that no certificate can hold
        """
        groups = [config.names, *(site.hostnames for site in config.terminated)]
        made = {}
        for names in groups:
            material = self._made.get(names)
            if material is None or DevCa.needs_renewal(material, now):
                material = self._ca.certificate_for(names, now)
            made[names] = material
        self._made = made
        return CertificateMap(made.values(), made[config.names])

    def stale(self, now: datetime.datetime | None = None) -> bool:
        """Whether a certificate is due to be renewed."""
        return any(DevCa.needs_renewal(material, now) for material in self._made.values())
