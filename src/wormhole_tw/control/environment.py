"""The edge's environment: variables that win over edge.toml and lose to options. An empty one counts as unset."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wormhole_tw.errors import ConfigError

from .config import Override

__all__ = ["EDGE_VARIABLES", "environment_overrides"]

#: Variable → the key it sets. Lists are written with commas.
EDGE_VARIABLES: Mapping[str, str] = {
    "WORMHOLE_EDGE_NAME": "edge.name",
    "WORMHOLE_EDGE_NAMES": "edge.names",
    "WORMHOLE_EDGE_REGION": "edge.region",
    "WORMHOLE_EDGE_HTTPS": "edge.https",
    "WORMHOLE_EDGE_HTTP": "edge.http",
    "WORMHOLE_EDGE_PUBLIC_HTTPS_PORT": "edge.public_https_port",
    "WORMHOLE_EDGE_ADMIN": "edge.admin",
    "WORMHOLE_EDGE_STATE": "edge.state",
    "WORMHOLE_EDGE_TLS_MODE": "tls.mode",
}

_LISTS = frozenset({"edge.names", "edge.https", "edge.http"})
_NUMBERS = frozenset({"edge.public_https_port"})

#: Python reads no number of more than 4300 digits, and nobody means one of more than 18.
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def environment_overrides(environ: Mapping[str, str]) -> dict[str, Override]:
    """Read the edge's variables into overrides for :meth:`~wormhole_tw.control.config.EdgeConfig.load`.

    :raises ConfigError: a number is none
    """
    overrides: dict[str, Override] = {}
    for variable, key in EDGE_VARIABLES.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        value: object = text
        if key in _LISTS:
            value = [part for part in (part.strip() for part in text.split(",")) if part]
        elif key in _NUMBERS:
            if _NUMBER.fullmatch(text) is None:
                raise ConfigError(variable, "", "expected a whole number")
            value = int(text)
        overrides[key] = Override(value, variable)
    return overrides
