"""``twistd wormhole-agent``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wormhole_tw.cli.agent_options import AgentOptions as Options
from wormhole_tw.cli.agent_options import config_from
from wormhole_tw.cli.process import fail_start, settle
from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from twisted.application.service import IService

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The agent, for the reactor of this process. Opens nothing: twistd forks after it.

    :raises SystemExit: something is configured wrong, in one line
    """
    from twisted.internet import reactor as installed

    from wormhole_tw.agent.service import AgentService

    reactor: Any = installed
    config = config_from(os.environ, options)
    try:
        service = AgentService(reactor, config)
    except ConfigError as error:
        raise fail_start(error) from None
    settle(reactor)
    return service
