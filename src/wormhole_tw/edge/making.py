"""What the data path shares, made of a configuration."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from wormhole_tw.edge.caching.kept import KeptAnswers
from wormhole_tw.edge.compressing import Compressors
from wormhole_tw.edge.context import EdgeContext
from wormhole_tw.edge.outside import Outside
from wormhole_tw.edge.upstreams.origins import OriginUpstreams
from wormhole_tw.net.timers import TimerWheel
from wormhole_tw.net.turn import turn_end_of

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import CatalogHolder
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.registry import Registry
    from wormhole_tw.edge.certificates.keeper import CertificateKeeper

__all__ = ["HTTPS", "make_context"]

HTTPS = 443


def make_context(
    reactor: Any, config: EdgeConfig, catalogs: CatalogHolder, registry: Registry, keeper: CertificateKeeper
) -> EdgeContext:
    """A context for one start of an edge."""
    timers = TimerWheel(reactor)
    kept = KeptAnswers(reactor, config)
    kept.serve(catalogs.current)
    return EdgeContext(
        catalogs=catalogs,
        registry=registry,
        timers=timers,
        turn=turn_end_of(reactor),
        limits=config.limits,
        random=random.Random(),
        wall=time.time,
        names=frozenset(config.names),
        public_port=config.public_https_port or HTTPS,
        region=config.region,
        awaited=keeper.awaited if config.tls.mode == "acme" else None,
        outside=Outside(reactor),
        origins=OriginUpstreams.of(reactor, config, catalogs, timers),
        kept=kept,
        compressors=Compressors.of(reactor, timers),
    )
