"""What of a new configuration a running edge takes over, and what has to wait for a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

from .acme import AcmeConfig
from .config import EdgeConfig
from .limits import Limits
from .tcp import merge_tcp

__all__ = ["merge", "restart_needed"]

#: What a running edge cannot take over from a new file: it is bound, written down or handed out already.
_FIXED = ("name", "names", "region", "public_https_port", "admin", "state", "listeners")


def restart_needed(old: EdgeConfig, new: EdgeConfig) -> list[str]:
    """Name the keys whose change needs a restart; a reload applies sites, backends, tokens, certificates, and who is
    trusted where; of a TCP service everything but its port."""
    keys = [f"$.edge.{name}" for name in _FIXED if _fixed_part(old, name) != _fixed_part(new, name)]
    if old.tls.mode != new.tls.mode:
        keys.append("$.tls.mode")
    elif old.tls.acme != new.tls.acme:
        keys += [
            f"$.tls.{field.name}"
            for field in fields(AcmeConfig)
            if getattr(old.tls.acme, field.name) != getattr(new.tls.acme, field.name)
        ]
    keys += [f"$.{name}" for name in ("access_log", "cache") if getattr(old, name) != getattr(new, name)]
    keys += [
        f"$.limits.{name}"
        for name in Limits.__struct_fields__
        if getattr(old.limits, name) != getattr(new.limits, name)
    ]
    return keys + list(merge_tcp(old.tcp, new.tcp).keys)


def _fixed_part(config: EdgeConfig, name: str) -> object:
    value = getattr(config, name)
    return [listener.untrusting for listener in config.listeners] if name == "listeners" else value


def merge(old: EdgeConfig, new: EdgeConfig, restart: Iterable[str]) -> EdgeConfig:
    """A new configuration as it holds before the next start: what needs that stays what it is, also for those who ask.

    :param restart: what :func:`restart_needed` said; of TCP services somebody else takes care
    """
    kept = {key.split(".")[2]: getattr(old, key.split(".")[2]) for key in restart if key.startswith("$.edge.")}
    keep_tls = any(key.startswith("$.tls.") for key in restart)
    tls = replace(old.tls, policy=new.tls.policy) if keep_tls else new.tls
    return replace(new, limits=old.limits, access_log=old.access_log, cache=old.cache, tls=tls, **kept)
