"""``wormhole-tw edge check FILE``: everything that starting would check, without starting."""

from __future__ import annotations

from pathlib import Path

from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.edge.balancers import check_balancers
from wormhole_tw.edge.certificates.acme_files import check_needs
from wormhole_tw.edge.certificates.files import load_certificates
from wormhole_tw.edge.middleware.stacks import check_middleware

__all__ = ["check"]


def check(file: str) -> int:
    """Check ``file``, print what it says, and give the exit status.

    :raises ConfigError: what is wrong
    """
    config, catalog = FileStore(Path(file)).load()
    check_balancers(config.backends, config.source)
    if config.tls.mode == "files":
        load_certificates(config)
    elif config.tls.acme is not None:
        check_needs(config.tls.acme, config.source)
    check_middleware(catalog)
    for warning in catalog.warnings:
        print(f"warning: {warning}")
    print(
        f"{file}: good. {_count(len(config.sites), 'site')} with "
        f"{_count(sum(len(site.hostnames) for site in config.sites), 'host name')}, "
        f"{_count(len(config.backends), 'backend')}, {_count(len(config.listeners), 'listener')}"
        f"{', ' + _count(len(config.tcp), 'TCP service') if config.tcp else ''}"
    )
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
