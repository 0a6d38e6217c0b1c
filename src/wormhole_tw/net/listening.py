"""Opening ports from endpoint descriptions, so that a failure is one clear error that names the setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.immediate import immediate_port

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.internet.protocol import Factory

__all__ = ["open_port"]


def open_port(reactor: Any, description: str, factory: Factory, *, source: str, key: str) -> IListeningPort:
    """Listen now, and give the port.

    :param description: a Twisted server endpoint description (``tcp:8443:interface=127.0.0.1``, ``unix:/run/x``)
    :param source: the file or option that it stands in, for the error
    :param key: its key there
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
