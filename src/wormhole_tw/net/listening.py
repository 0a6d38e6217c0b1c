"""Opening ports from endpoint descriptions, so that a failure is one clear error that names the setting."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import unix
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.immediate import immediate_port
from wormhole_tw.net.inherited import NOTHING, Inherited

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.internet.protocol import Factory

__all__ = ["descriptor_of", "leave_open", "open_port"]


def open_port(
    reactor: Any, description: str, factory: Factory, *, source: str, key: str, inherited: Inherited = NOTHING
) -> IListeningPort:
    """Listen now, and give the port.

    :param description: a Twisted server endpoint description (``tcp:8443:interface=127.0.0.1``, ``unix:/run/x``)
    :param source: the file or option that it stands in, for the error
    :param key: its key there
    :param inherited: sockets that listen already; the one for this endpoint is taken
    :raises ConfigError: the description is not one, the port is taken or not allowed, or the endpoint takes its time
        (none of Twisted's own does)
    """
    try:
        endpoint = serverFromString(reactor, description)
    except TypeError as error:
        # Twisted takes what stands between colons for arguments of its own: too many of them, or unknown ones.
        reason = r"is no endpoint description; the colons of an IPv6 address are escaped: tcp6:443:interface=\:\:1"
        raise ConfigError(source, key, f"{description!r} {reason}") from error
    except (ValueError, KeyError, LookupError) as error:
        raise ConfigError(source, key, f"{description!r} is no endpoint description: {error}") from error
    given = inherited.take(description, endpoint)
    if given is not None:
        return immediate_port(_adopt(reactor, given, factory))
    outcome: list[Any] = []
    listening = endpoint.listen(factory)
    listening.addBoth(outcome.append)
    if not outcome:
        listening.cancel()
        raise ConfigError(source, key, f"{description!r} does not listen at once, which this service needs")
    result = outcome[0]
    if not isinstance(result, Failure):
        port: IListeningPort = result
        return immediate_port(port)
    failed: object = result.value
    if isinstance(failed, CannotListenError):
        failed = failed.socketError
    reason = getattr(failed, "strerror", None) or str(failed)
    raise ConfigError(source, key, f"cannot listen on {description!r}: {reason}")


def _adopt(reactor: Any, given: socket.socket, factory: Factory) -> IListeningPort:
    """A port on a socket that listens already."""
    with given:
        if given.family != socket.AF_UNIX:
            port: IListeningPort = reactor.adoptStreamPort(given.fileno(), given.family, factory)
            return port
        # As adoptStreamPort() does it, but that lets everybody in, whoever the path lets in.
        own: Any = unix.Port._fromListeningDescriptor(reactor, given.fileno(), factory)
        name = given.getsockname()
        if isinstance(name, str) and name:
            own.mode = stat.S_IMODE(os.stat(name).st_mode)
        own.startListening()
        return cast("IListeningPort", own)


def descriptor_of(port: IListeningPort) -> int | None:
    """The descriptor of a port, to be given to another process; None where it is no port of Twisted's with a socket."""
    own = getattr(port, "socket", None)
    return own.fileno() if isinstance(own, socket.socket) else None


def leave_open(port: Any) -> None:
    """Another process has this port too: when it is closed here, that one goes on.

    Twisted would shut the socket down, whoever else has it, and take the path of a Unix socket away.
    """
    port._shouldShutdown = False
    if hasattr(port, "_bindPath"):
        port._bindPath = b"\0"
        port.lockFile = None
