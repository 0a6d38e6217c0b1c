"""The agent's options, the same for ``twistd wormhole-agent`` and ``wormhole-tw agent``.

There is no ``--token``: everybody on the machine could read it in ``ps``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import cast

from twisted.logger import Logger
from twisted.python import usage

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.cli.logs import LEVELS, known_level
from wormhole_tw.cli.process import TwistdOptions, choose_log_format, choose_log_level, fail_start
from wormhole_tw.errors import ConfigError

__all__ = ["AgentOptions", "config_from"]

_log = Logger()

_EPILOGUE = """
The token comes from FLY_TOKEN, FLY_TOKEN_FILE or --token-file. Whatever is not given as an option comes from the
environment: FLY_REMOTE_ENDPOINT (--edge), FLY_EDGES (--edges), FLY_PROTO (--carrier), FLY_PROXY (--proxy; without it
HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl reads them), FLY_LOCAL_ENDPOINT, or FLY_LOCALHOST and FLY_PORT (--local),
FLY_TLS_CERT_FILE (--ca-file), FLY_LOCAL_ENDPOINT_USE_TLS, FLY_LOCAL_ENDPOINT_CA_CERT_FILE (--local-ca-file),
FLY_LOCAL_ENDPOINT_INSECURE_SKIP_VERIFY (--local-insecure), FLY_LOG_LEVEL (--log-level), FLY_READY_FILE (--ready-file),
FLY_DRAIN (--drain), FLY_HEALTH_CHECK (--health-check), FLY_HEALTH_INTERVAL and so on, FLY_START_TIMEOUT,
FLY_STOP_TIMEOUT, FLY_RELEASE_ID, FLY_RELEASE_DESC, FLY_RELEASE_BRANCH. What the environment leaves unset,
./wormhole.yaml may set, in lower case and without FLY_.
"""


_END_OF_OPTIONS = "--"


class AgentOptions(TwistdOptions):
    """What an agent can be told on its command line.

    :ivar command: the program to run beside it and its arguments, what stands behind ``--``; empty without
    """

    synopsis = "[options] [-- COMMAND [ARGUMENTS]]"
    longdesc = (
        "Dials out to an edge, and serves a private service through it. With a COMMAND it starts that service too, "
        "hands signals on to it, and ends with it and its exit status. Without one, SIGUSR2 starts a new agent in the "
        "place of this one, which fails no request." + _EPILOGUE
    )

    optParameters = [
        ["local", "l", None, "the private service: a port, HOST:PORT, a URL, unix:/PATH, or a Twisted client endpoint"],
        ["token-file", None, None, "file that holds the token"],
        ["edges", None, None, "of several edges: a link to all of them, or to the nearest (all)"],
        ["carrier", None, None, "tls, websocket where only HTTP passes, or auto: tls where it works (tls)"],
        ["proxy", None, None, "the way to the edges: http://, https://, socks5:// or socks5h://HOST:PORT, or none"],
        ["ca-file", None, None, "PEM file of CAs for the edge, added to the system's"],
        ["local-ca-file", None, None, "PEM file of CAs for the private service, added to the system's"],
        ["ready-file", None, None, "file that is there while the agent is connected and its service was reached"],
        ["drain", None, None, "seconds for running requests to finish when the agent stops (30)"],
        ["health-check", None, None, "how to look whether the service is well: tcp, or a path as /healthz (off)"],
        ["start-timeout", None, None, "seconds for COMMAND to be reached, or it is ended; 0: for ever (60)"],
        ["stop-timeout", None, None, "seconds for COMMAND to end when the agent stops, or it is killed (10)"],
        ["health-interval", None, None, "seconds from one check to the next (5)"],
        ["health-timeout", None, None, "seconds for a check (3)"],
        ["health-rise", None, None, "checks in a row that pass before the service gets requests (2)"],
        ["health-fall", None, None, "checks in a row that fail before it gets none (3)"],
        ["health-status", None, None, "statuses of a service that is well, as 200,301-302 (200-399)"],
        ["health-host", None, None, "the Host of the check (the service's address)"],
        ["log-level", None, None, "debug, info, warn or error (info)"],
        ["log-format", None, None, "text, lines for people, or json (text)"],
    ]
    optFlags = [
        ["local-insecure", None, "do not verify the certificate of the private service"],
    ]
    compData = usage.Completions(
        optActions={
            "token-file": usage.CompleteFiles(),
            "ca-file": usage.CompleteFiles("*.pem"),
            "local-ca-file": usage.CompleteFiles("*.pem"),
            "ready-file": usage.CompleteFiles(),
            "edges": usage.CompleteList(["all", "nearest"]),
            "carrier": usage.CompleteList(["tls", "websocket", "auto"]),
            "log-level": usage.CompleteList(["debug", "info", "warn", "error"]),
            "log-format": usage.CompleteList(["text", "json"]),
        }
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["edge"] = []
        self.command: list[str] = []
        self._given: list[str] = []

    def opt_edge(self, host: str) -> None:
        """an edge to serve through, HOST[:443]; may be given several times, or with commas"""
        self["edge"].append(host)

    opt_e = opt_edge

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        self._given = list(sys.argv[1:] if options is None else options)
        # getopt takes --token for a short form of --token-file, and its error would show the token as a file's name
        for option in self._given:
            if option == _END_OF_OPTIONS:
                break  # what follows is the command's
            if option == "--token" or option.startswith("--token="):
                raise fail_start("there is no --token, it would show in ps: set FLY_TOKEN, or give --token-file FILE")
        super().parseOptions(self._given)

    def parseArgs(self, *rest: str) -> None:
        before = self._given[: len(self._given) - len(rest)]
        ended = before[-1:] == [_END_OF_OPTIONS]
        if rest and not ended:
            # not repeated: somebody may have put a token there
            raise usage.UsageError("the agent takes options only; a command stands behind --")
        if ended and not rest:
            raise usage.UsageError("there is no command behind --")
        self.command = list(rest)


def config_from(environ: Mapping[str, str], options: Mapping[str, object]) -> AgentConfig:
    """The configuration of this process, and its log's level.

    :raises SystemExit: something is wrong; its text is one line that names the option or variable
    """
    try:
        config = AgentConfig.from_environment(environ, options)
    except ConfigError as error:
        raise fail_start(error) from None
    if not known_level(config.log_level):
        _log.warn(
            "{setting}: there is no level {name}, so it is info; there are {levels}",
            setting=config.source("log_level"),
            name=config.log_level[:40],
            levels=", ".join(LEVELS),
        )
    choose_log_level(config.log_level)
    choose_log_format(cast("str | None", options.get("log-format")))
    return config
