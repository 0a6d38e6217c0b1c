"""Which certificates the edge serves now: made or read at start, swapped on reload, renewed before they end."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from wormhole_tw.edge.accept import ALPN
from wormhole_tw.edge.certificates.acme import AcmeCertificates
from wormhole_tw.edge.certificates.dev import DevCertificates
from wormhole_tw.edge.certificates.files import load_certificates, uncovered_names
from wormhole_tw.edge.certificates.status import configured_names, says
from wormhole_tw.edge.certificates.visitors import VisitorsAsked, expired_authorities
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.tickets import TICKET_PERIOD
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.net.tls_policy import POLICIES

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.edge.certificates.plan import Pace

__all__ = ["RENEWAL_CHECK", "CertificateKeeper"]

RENEWAL_CHECK = 3600.0
"""Seconds between two looks at the clock: the shortest life that is renewed here is 90 days."""

log = Logger()


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)


class CertificateKeeper:
    """Holds the one :class:`ServerTls` of an edge.

    :param clock: the reactor's timers, and with ``mode = "acme"`` its threads
    :param wall: what time it is; the certificates' clock is the wall's, for the reactor's stands still while a machine
        sleeps
    :param pace: how patient it is with a CA
    :raises ConfigError: the certificates of the configuration cannot be read or made

    :ivar awaited: token → what plain listeners answer to a CA that asks for it (HTTP-01)
    :ivar acme: with that mode; else None
    """

    def __init__(
        self,
        clock: IReactorTime,
        config: EdgeConfig,
        *,
        wall: Callable[[], datetime.datetime] = _now,
        pace: Pace | None = None,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._config = config
        self.awaited: dict[bytes, bytes] = {}
        self._dev = DevCertificates(config, wall) if config.tls.mode == "dev" else None
        self.acme: AcmeCertificates | None = None
        if config.tls.mode == "acme":
            self.acme = AcmeCertificates(
                clock,
                config,
                wall=lambda: wall().timestamp(),
                changed=self._serve_anew,
                awaited=self.awaited,
                pace=pace,
            )
        self._check: IDelayedCall | None = None
        certificates = self.prepare(config)
        self._visitors = VisitorsAsked()
        self._rotation: IDelayedCall | None = None
        self.tls = ServerTls(certificates, ALPN, tls=POLICIES[config.tls.policy], visitors=self._visitors.load(config))
        self._warn(config, certificates)

    def prepare(self, config: EdgeConfig) -> CertificateMap:
        """Read or make the certificates of a configuration; nothing changes yet.

        :raises ConfigError: one cannot be read or made
        """
        if self.acme is not None:
            return self.acme.load(config)
        return self._dev.load(config) if self._dev is not None else load_certificates(config)

    def serve(self, config: EdgeConfig, certificates: CertificateMap) -> None:
        """Serve these from the next handshake on.

        :raises ConfigError: OpenSSL refuses one of them; the old ones go on serving
        """
        self.tls.swap(certificates, tls=POLICIES[config.tls.policy], visitors=self._visitors.load(config))
        self._config = config
        if self.acme is not None:
            self.acme.adopt(config)
        self._warn(config, certificates)

    def start(self) -> None:
        """Begin to look for what is due to be renewed, the keys of session tickets too."""
        if self._rotation is None:
            self._rotation = self._clock.callLater(TICKET_PERIOD, self._rotate)
        if self.acme is not None:
            self.acme.start()
        if (self._dev is not None or self.acme is not None) and self._check is None:
            self._check = self._clock.callLater(RENEWAL_CHECK, self._renew)

    def stop(self) -> None:
        """Stop looking; safe to call twice."""
        if self.acme is not None:
            self.acme.stop()
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if self._rotation is not None:
            self._rotation.cancel()
            self._rotation = None

    def _rotate(self) -> None:
        self._rotation = self._clock.callLater(TICKET_PERIOD, self._rotate)
        self.tls.rotate_tickets()

    def days_left(self) -> dict[str, float]:
        """Days until the certificate ends that a name is served with; negative afterwards. Names without one are not
        in it."""
        now, found = self._wall(), {}
        for group in configured_names(self._config):
            for name in group:
                material = self.tls.certificates.serves(name)
                if material is not None:
                    found[name] = (material.not_after - now).total_seconds() / 86400
        return found

    def lines(self) -> list[str]:
        """How each name stands, a line each; nothing but with ``mode = "acme"``."""
        if self.acme is None:
            return []
        now = self._wall().timestamp()
        return [f"certificate {status.name}: {says(status, now)}" for status in self.acme.statuses()]

    def _renew(self) -> None:
        self._check = self._clock.callLater(RENEWAL_CHECK, self._renew)
        stale = self._dev.stale() if self._dev is not None else self.acme is not None and self.acme.stale
        if stale and self._serve_anew():
            log.info("the certificates of the local CA were renewed")

    def _serve_anew(self) -> bool:
        """There are other certificates for the same configuration."""
        try:
            self.tls.swap(self.prepare(self._config))
        except ConfigError as error:
            log.error("the certificates could not be renewed, the old ones stay: {error}", error=error)
            return False
        return True

    def _warn(self, config: EdgeConfig, certificates: CertificateMap) -> None:
        if config.tls.mode == "files":
            for line in uncovered_names(config, certificates):
                log.warn("{line}", line=line)
        elif self.acme is not None:
            for line in self.acme.concerns(config):
                log.warn("{line}", line=line)
        for line in expired_authorities(config, self._wall()):
            log.warn("{line}", line=line)
