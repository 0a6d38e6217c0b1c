"""``[tls] mode = "files"``: the operator's own PEM files, several, chosen by SNI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import KeyMaterial, load_key_material
from wormhole_tw.net.tls import CertificateMap

if TYPE_CHECKING:
    from wormhole_tw.control.config import EdgeConfig

__all__ = ["load_certificates", "uncovered_names"]


def load_certificates(config: EdgeConfig) -> CertificateMap:
    """Read every certificate of the configuration; the one for the edge's first name is the default.

    :raises ConfigError: a file is missing, unreadable, damaged, or a key belongs to another certificate; the
        error names the configuration file, the key in it and the file
    """
    materials = [
        load_key_material(
            pair.certificate,
            pair.key,
            source=config.source,
            certificate_key=f"{pair.where}.certificate",
            private_key_key=f"{pair.where}.key",
        )
        for pair in config.tls.certificates
    ]
    return CertificateMap(materials, _default(materials, config.names))


def _default(materials: list[KeyMaterial], names: tuple[str, ...]) -> KeyMaterial | None:
    """Whom visitors get that send no SNI or an unknown one: the edge under its first name, else the file's first."""
    first = names[0] if names else ""
    return next((material for material in materials if material.covers(first)), None)


def uncovered_names(config: EdgeConfig, certificates: CertificateMap) -> list[str]:
    """One line for each host name of a site that no certificate is good for: its visitors will see a warning."""
    return [
        str(
            ConfigError(
                config.source,
                f"$.sites[{number}].hostnames[{index}]",
                f"no certificate of [[tls.certificates]] is good for {hostname}",
            )
        )
        for number, site in enumerate(config.sites)
        if not site.passthrough
        for index, hostname in enumerate(site.hostnames)
        if not _covered(hostname, certificates)
    ]


def _covered(hostname: str, certificates: CertificateMap) -> bool:
    # A wildcard is covered by the same wildcard only; it is not a name that a certificate's own wildcard could match.
    if hostname.startswith("*."):
        return any(hostname in material.names for material in certificates.materials)
    return certificates.find(hostname) is not None
