"""``twistd wormhole-agent``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from wormhole_tw.cli.agent_options import AgentOptions as Options
from wormhole_tw.cli.agent_options import config_from
from wormhole_tw.cli.names import look_names_up_aside
from wormhole_tw.cli.process import end_with, fail_start, raise_descriptor_limit, settle
from wormhole_tw.cli.successor import Succession
from wormhole_tw.errors import WormholeError
from wormhole_tw.net.inherited import Predecessor, inherit

if TYPE_CHECKING:
    from twisted.application.service import IService

    from wormhole_tw.agent.service import AgentService

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The agent, for the reactor of this process. Opens nothing: twistd forks after it.

    :raises SystemExit: something is configured wrong, in one line; 127 or 126 where a command cannot be run
    """
    from twisted.internet import reactor as installed

    from wormhole_tw.agent.service import AgentService

    reactor: Any = installed
    look_names_up_aside(reactor)
    config = config_from(os.environ, options)
    try:
        service = AgentService(reactor, config)
        inherited, predecessor = inherit(os.environ)
    except WormholeError as error:
        raise fail_start(str(error)) from None
    inherited.close()  # it listens nowhere
    if options.command:
        return _supervise(reactor, options, service)
    settle(reactor, succession=Succession(reactor, hand_over=service.hand_over, foreground=_in_foreground(options)))
    if predecessor is not None:
        reactor.callWhenRunning(_tell_when_ready, service, predecessor)
    return service


def _in_foreground(options: Options) -> bool:
    return options.parent is None or bool(options.parent.get("nodaemon"))


def _tell_when_ready(service: AgentService, predecessor: Predecessor) -> None:
    """The agent that this one replaces may go when visitors are served here."""
    service.when_ready().addCallbacks(lambda _: predecessor.tell(), lambda _: None)


def _supervise(reactor: Any, options: Options, agent: AgentService) -> IService:
    """The agent with a command beside it."""
    from twisted.internet.error import ReactorNotRunning

    from wormhole_tw.agent.command import trouble_with
    from wormhole_tw.agent.supervisor import Supervisor

    trouble = trouble_with(options.command, os.environ)
    if trouble is not None:
        print(trouble.sentence, file=sys.stderr)
        sys.exit(trouble.status)
    supervisor = Supervisor(
        reactor,
        agent,
        options.command,
        log_output=not _in_foreground(options),  # whose standard streams lead nowhere
        descriptors=raise_descriptor_limit(),
    )

    def ended(status: int) -> None:
        end_with(status)
        try:
            reactor.stop()
        except ReactorNotRunning:
            pass  # it was stopped, and the command with it

    supervisor.when_ended().addCallback(ended)
    settle(reactor, command=supervisor)
    return supervisor
