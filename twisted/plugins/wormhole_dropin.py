"""The two ``twistd`` commands.  Nothing heavy is imported here: ``twistd --help`` reads this file."""

from twisted.application.service import ServiceMaker

wormhole_edge = ServiceMaker(
    "wormhole-edge",
    "wormhole_tw.cli.edge_tap",
    "The public side: ends TLS, routes by host name and path, sends requests down the agents' tunnels.",
    "wormhole-edge",
)
wormhole_agent = ServiceMaker(
    "wormhole-agent",
    "wormhole_tw.cli.agent_tap",
    "The private side: dials out to an edge and serves a local service through it.",
    "wormhole-agent",
)
