"""An edge of this machine alone, for ``wormhole-tw expose`` and ``demo``."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.tokens import digest_line, generate
from wormhole_tw.edge.service import EdgeService
from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["LocalEdge"]

PORT = 8443
"""Its https port where that is free and no other was asked for: a bookmark works again next time."""

DRAIN = 3.0
"""Seconds for what runs at the end: Ctrl-C should not wait for an open event stream for half a minute."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_BACKEND = "local"


class LocalEdge:
    """Listens on loopback, with a CA of its own, for one ``*.localhost`` name and one agent.

    :param label: the name's first label
    :param port: the https port; None for 8443, or any where that is taken
    :param state: the folder that keeps the CA; None for the user's own
    :raises ConfigError: one of them cannot be used; it names the option
    """

    def __init__(self, reactor: Any, label: str, *, port: int | None, state: str | None) -> None:
        if _LABEL.fullmatch(label.lower()) is None:
            raise ConfigError("--name", "", f"{label!r} is no label: 1 to 63 letters, digits and hyphens within")
        self._reactor = reactor
        self._token = generate()
        self._state = _state_folder(state)
        self.hostname = f"{label.lower()}.localhost"
        try:
            self._edge = self._started(port or PORT)
        except ConfigError as error:
            if not error.key.startswith("$.edge.https"):
                raise ConfigError("--state", "", error.reason) from None
            if port is not None:
                raise ConfigError("--port", "", error.reason) from None
            self._edge = self._started(0)

    def _started(self, port: int) -> EdgeService:
        config = EdgeConfig.from_dict(
            {
                "edge": {
                    "name": "this-machine",
                    "names": ["localhost", "127.0.0.1", "::1"],
                    "https": [f"tcp:{port}:interface=127.0.0.1"],
                    "state": str(self._state),
                },
                "backends": [{"name": _BACKEND, "tokens": [digest_line(self._token)]}],
                "sites": [{"hostnames": [self.hostname], "routes": [{"path": "/", "backend": _BACKEND}]}],
                "limits": {"drain": DRAIN},
            },
            source="the local edge",
        )
        edge = EdgeService(self._reactor, config)
        edge.startService()
        return edge

    @property
    def port(self) -> int:
        """Its https port."""
        return self._edge.public_port

    @property
    def ca_file(self) -> Path:
        """The certificate of its CA."""
        assert self._edge.ca_file is not None, "the local edge is in dev mode"
        return self._edge.ca_file

    @property
    def urls(self) -> tuple[str, ...]:
        """The https URLs of its one site."""
        return tuple(self._edge.urls(_BACKEND))

    def agent(self, target: str, options: argparse.Namespace) -> AgentConfig:
        """The configuration of an agent that serves ``target`` here."""
        return AgentConfig(
            token=self._token,
            edges=[f"127.0.0.1:{self.port}"],
            local=target,
            ca_file=str(self.ca_file),
            local_ca_file=getattr(options, "local_ca_file", None),
            local_insecure=getattr(options, "local_insecure", False),
            drain=DRAIN,
            sources={"local": "TARGET", "local_ca_file": "--local-ca-file"},
        )

    def hints(self) -> list[str]:
        """How to try it, and how to trust it, a line each."""
        return [
            f"try it:    curl --cacert {shlex.quote(str(self.ca_file))} {self.urls[0]}/",
            f"trust it:  import {self.ca_file} into your browser as an authority, once",
        ]

    def stop(self) -> Deferred[None]:
        """Stop; fires when nothing of it is left."""
        return self._edge.stopService()


def _state_folder(given: str | None) -> Path:
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_STATE_HOME") or ""
    root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return root / "wormhole-tw"
