"""``twistd wormhole-edge``: options, and the service that they describe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python import usage

from wormhole_tw.cli.logs import FORMATS, LEVELS
from wormhole_tw.cli.names import look_names_up_aside
from wormhole_tw.cli.process import TwistdOptions, choose_log_format, choose_log_level, fail_start, settle
from wormhole_tw.cli.successor import Succession
from wormhole_tw.control.config import Override
from wormhole_tw.control.environment import environment_overrides
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.errors import ConfigError, WormholeError
from wormhole_tw.net.inherited import inherit

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    from wormhole_tw.admin.control import ControlService
    from wormhole_tw.admin.service import AdminService
    from wormhole_tw.edge.service import EdgeService

__all__ = ["Options", "makeService"]

log = Logger()


class Options(TwistdOptions):
    """What the command line says; it wins over the environment, which wins over the file."""

    synopsis = "[options]"
    longdesc = (
        "The public side of the tunnel: ends TLS, takes agents in, routes requests to them by host name and path. "
        "SIGHUP reads the file again (--watch does so by itself); SIGUSR1 opens the access log anew; "
        "SIGUSR2 starts a new process in the place of this one, which fails no request; "
        "SIGTERM finishes what runs, then ends with status 0."
    )
    optParameters = [
        ["config", "c", "edge.toml", "the configuration file"],
        ["state", None, None, "the folder for certificates and other state (edge.state)"],
        ["log-level", None, None, f"one of {', '.join(LEVELS)} (default: info)"],
        ["log-format", None, None, f"one of {', '.join(FORMATS)}: lines for people, or JSON (default: text)"],
    ]

    optFlags = [["watch", None, "read the file again whenever it changes, or one that it names (edge.watch)"]]

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"{args[0]!r} is one argument too many; options begin with --")


class _Edge(MultiService):
    """The edge, its admin listener and its control socket.

    :param foreground: whether standard error is there to be read
    """

    def __init__(self, edge: EdgeService, admin: AdminService, control: ControlService, *, foreground: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._edge = edge
        self._admin = admin
        self._control = control
        self._foreground = foreground
        for service in (admin, edge, control):
            self.addService(service)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Start both.  A failure is one line, where twistd would print a traceback."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except ConfigError as error:
            if self._foreground:
                raise fail_start(error) from None
            # A daemon has no standard error: the log gets the line, and twistd's parent, which waits for the start,
            # prints a hundred octets of an Exception (of a SystemExit nothing, and the pid file would stay).
            log.error("{error}", error=error)
            raise RuntimeError(str(error)) from None

    def ports(self) -> list[tuple[str, IListeningPort]]:
        """What another process that replaces this one has to have."""
        return [*self._admin.ports(), *self._edge.ports()]  # as they are opened, for two that are described alike

    def hand_over(self) -> None:
        """It has them, and serves."""
        self._edge.hand_over()
        self._admin.hand_over()

    def stopService(self) -> Deferred[None]:
        """Admin listener and control socket go last: while the edge drains, it is alive, and serves what it keeps."""
        self.running = 0
        stopped = maybeDeferred(self._edge.stopService)
        stopped.addBoth(lambda _: self._control.stopService())
        return stopped.addBoth(lambda _: self._admin.stopService())


def makeService(options: Options) -> IService:
    """The edge that the options, the environment and the file describe.  Opens nothing: twistd may fork after it.

    :raises SystemExit: something in them is wrong; one line, status 1
    """
    from twisted.internet import reactor

    from wormhole_tw.admin.control import ControlService
    from wormhole_tw.admin.service import AdminService
    from wormhole_tw.edge.service import EdgeService

    look_names_up_aside(reactor)
    choose_log_level(options["log-level"])
    choose_log_format(options["log-format"])
    try:
        overrides = environment_overrides(os.environ)
        if options["state"]:
            overrides["edge.state"] = Override(os.path.abspath(options["state"]), "--state")
        if options["watch"]:
            overrides["edge.watch"] = Override(value=True, source="--watch")
        store = FileStore(options["config"], overrides)
        config, _ = store.load()
        inherited, predecessor = inherit(os.environ)
    except WormholeError as error:
        raise fail_start(str(error)) from None
    edge = EdgeService(reactor, config, store, inherited=inherited)
    foreground = options.parent is None or bool(options.parent.get("nodaemon"))
    admin = AdminService(reactor, config, edge, inherited=inherited)
    services = _Edge(edge, admin, ControlService(reactor, edge), foreground=foreground)

    def reload() -> Deferred[None]:
        return edge.reload()

    def serves() -> None:
        if left := inherited.close():
            log.info("nobody listens any more on {left}, which edge.toml does not name", left=", ".join(left))
        if predecessor is not None:
            predecessor.tell()

    own = _process_reactor(reactor)
    succession = Succession(own, ports=services.ports, hand_over=services.hand_over, foreground=foreground)
    settle(own, reload=reload, reopen=edge.reopen_logs, succession=succession)
    own.callWhenRunning(serves)
    return services


def _process_reactor(reactor: Any) -> Any:
    return reactor
