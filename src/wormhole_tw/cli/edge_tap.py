"""``twistd wormhole-edge``: options, and the service that they describe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.python import usage

from wormhole_tw.cli.logs import LEVELS
from wormhole_tw.cli.process import TwistdOptions, choose_log_level, fail_start, settle
from wormhole_tw.control.config import Override
from wormhole_tw.control.environment import environment_overrides
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.internet.defer import Deferred

__all__ = ["Options", "makeService"]


class Options(TwistdOptions):
    """What the command line says; it wins over the environment, which wins over the file."""

    synopsis = "[options]"
    longdesc = (
        "The public side of the tunnel: ends TLS, takes agents in, routes requests to them by host name and path. "
        "SIGHUP reads the file again; SIGTERM finishes what runs, then ends with status 0."
    )
    optParameters = [
        ["config", "c", "edge.toml", "the configuration file"],
        ["state", None, None, "the folder for certificates and other state (edge.state)"],
        ["log-level", None, None, f"one of {', '.join(LEVELS)} (default: info)"],
    ]

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"{args[0]!r} is one argument too many; options begin with --")


class _Edge(MultiService):
    """The edge and its admin listener.  A failure to start is one line, for twistd would print a traceback."""

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except ConfigError as error:
            raise fail_start(error) from None


def makeService(options: Options) -> IService:
    """The edge that the options, the environment and the file describe.  Opens nothing: twistd may fork after it.

    :raises SystemExit: something in them is wrong; one line, status 1
    """
    from twisted.internet import reactor

    from wormhole_tw.admin.service import AdminService
    from wormhole_tw.edge.service import EdgeService

    choose_log_level(options["log-level"])
    try:
        overrides = environment_overrides(os.environ)
        if options["state"]:
            overrides["edge.state"] = Override(os.path.abspath(options["state"]), "--state")

        store = FileStore(options["config"], overrides)
        config, _ = store.load()
    except ConfigError as error:
        raise fail_start(error) from None
    edge = EdgeService(reactor, config, store)
    services = _Edge()  # type: ignore[no-untyped-call]
    AdminService(reactor, config).setServiceParent(services)  # type: ignore[no-untyped-call]
    edge.setServiceParent(services)  # type: ignore[no-untyped-call]

    def reload() -> Deferred[None]:
        return edge.reload()

    settle(_process_reactor(reactor), reload=reload)
    return services


def _process_reactor(reactor: Any) -> Any:
    return reactor
