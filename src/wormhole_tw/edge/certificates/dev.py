"""``[tls] mode = "dev"``: a local CA in the state folder; a certificate is made when the first visitor asks for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wormhole_tw.net.certificate_map import CertificateMap, Promised
from wormhole_tw.net.dev_ca import DevCa

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.net.pem import KeyMaterial

__all__ = ["DevCertificates"]


class DevCertificates:
    """Certificates of the local CA in ``<state>/dev``: one for the edge's own names, one a site.

    Keys of certificates live in memory alone and are new with each start; only the CA is kept.

    :param wall: gives the time, UTC
    :raises ConfigError: the state folder or a file in it cannot be used
    """

    def __init__(self, config: EdgeConfig, wall: Callable[[], datetime.datetime]) -> None:
        self._wall = wall
        self._ca = DevCa(config.state / "dev", source=f"{config.source}: $.edge.state")
        self._promised: dict[tuple[str, ...], Promised] = {}

    def load(self, config: EdgeConfig) -> CertificateMap:
        """The map for a configuration.  What was made before and has a third of its life left is kept.

        :raises ConfigError: a name that no certificate can hold
        """
        groups = [config.names, *(site.hostnames for site in config.terminated)]
        promised = {}
        for names in groups:
            known = self._promised.get(names)
            if known is None or self._ends(known):
                known = Promised(self._ca.names_for(names), partial(self._make, names))
            promised[names] = known
        self._promised = promised
        return CertificateMap(promised.values(), promised[config.names])

    def stale(self) -> bool:
        """Whether a certificate is due to be renewed."""
        return any(map(self._ends, self._promised.values()))

    def _make(self, names: tuple[str, ...]) -> KeyMaterial:
        return self._ca.certificate_for(names, self._wall())

    def _ends(self, promised: Promised) -> bool:
        return promised.made is not None and DevCa.needs_renewal(promised.made, self._wall())
