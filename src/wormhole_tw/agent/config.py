"""What an agent is told: the token, its edges, its private service, and a few times.

An option wins over the environment, the environment over ``./wormhole.yaml``, that over the default; an empty variable
counts as unset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from twisted.internet.interfaces import IStreamClientEndpoint

from wormhole_tw.agent.health_settings import HealthCheck, read_health_check
from wormhole_tw.agent.release import find_release
from wormhole_tw.agent.settings_file import read_settings_file
from wormhole_tw.agent.targets import parse_target
from wormhole_tw.control.tokens import MAX_TOKEN, valid_token
from wormhole_tw.errors import ConfigError, NotAvailableError
from wormhole_tw.net.addresses import parse_host_port
from wormhole_tw.net.pem import load_ca_certificates, read_file
from wormhole_tw.net.proxy_settings import ProxySettings, parse_proxy
from wormhole_tw.wire.messages import Release

__all__ = ["DEFAULT_EDGE_PORT", "AgentConfig"]

DEFAULT_EDGE_PORT = 443
DEFAULT_LOCAL = "127.0.0.1:5000"

MAX_EDGES = 16
"""One link each; an agent on more edges than this is a mistake in a list."""

_MAX_SECONDS = 86400.0
_MAY_BE_ZERO = ("drain", "start_timeout", "stop_timeout")
_TIMES = (*_MAY_BE_ZERO, "edge_timeout", "local_timeout", "backoff_min", "backoff_max", "refused_retry")
_PORT = re.compile(r"0{0,9}[0-9]{1,5}", re.ASCII)
_YES = frozenset({"1", "t", "true", "yes", "y", "on"})
_NO = frozenset({"0", "f", "false", "no", "n", "off"})
_CARRIERS = ("tls", "websocket", "auto")
_OLD_CARRIERS = frozenset({"ssh", "tcp", "http2"})
_EDGES_USED = ("all", "nearest")


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The settings of an :class:`~wormhole_tw.agent.service.AgentService`; times are in seconds.

    :ivar token: the backend's token, 1–512 printable ASCII characters; in no log and no ``repr``
    :ivar edges: the edges, each ``host[:443]``
    :ivar edges_used: hold a link to ``all`` of them, or to the ``nearest`` by round trip
    :ivar carrier: ``tls``; ``websocket``, for networks that let only HTTP pass; ``auto``, the second where the first
        does not come through
    :ivar proxy: the way to the edges: a URL (``http://user:password@proxy:3128``, ``https://``, ``socks5://``,
        ``socks5h://``), a :class:`~wormhole_tw.net.proxy_settings.ProxySettings`, or None; its password is in no log
        and no ``repr``
    :ivar local: the private service: a TARGET (a port, ``host:port``, ``http://…``, ``https://…``, ``unix:/path``, a
        Twisted client endpoint description), or an :class:`~twisted.internet.interfaces.IStreamClientEndpoint`
    :ivar local_tls: speak TLS with the private service; ``https://`` says the same
    :ivar local_insecure: do not verify its certificate
    :ivar local_ca_file: PEM file of CAs for it, added to the system's
    :ivar ca_file: PEM file of CAs for the edge, added to the system's
    :ivar ready_file: a file that is there while the agent is connected and its service was reached
    :ivar release: what the service was built from, or None
    :ivar health: how to look whether the service is well, or None: it is, from the first connection on
    :ivar hostname: a host name to ask the edge for, or None
    :ivar visitor_per_stream: ask for streams that belong to one visitor each and carry its address
    :ivar edge_timeout: for a connection to an edge to stand, and again for its welcome
    :ivar local_timeout: for a connection to the private service to stand, TLS included
    :ivar drain: for what runs to finish when the agent stops
    :ivar start_timeout: for the command of a :class:`~wormhole_tw.agent.supervisor.Supervisor` to be reached; 0: any
    :ivar stop_timeout: for that command to end by itself, once it was told to
    :ivar backoff_min: the first wait between two tries of an edge, before jitter
    :ivar backoff_max: the longest
    :ivar refused_retry: the wait after a refusal (a wrong token, a proxy's password), where the edge names none
    :ivar log_level: for a process that serves this config alone; a service heeds it not
    :ivar sources: what the operator called a setting (``FLY_TOKEN``, ``--edge``), for errors

    :raises ConfigError: a value is out of its range; it names the setting as the operator wrote it
    """

    token: str = field(repr=False)
    edges: Sequence[str]
    edges_used: str = "all"
    carrier: str = "tls"
    proxy: str | ProxySettings | None = field(default=None, repr=False)
    local: str | IStreamClientEndpoint = DEFAULT_LOCAL
    local_tls: bool = False
    local_insecure: bool = False
    local_ca_file: str | None = None
    ca_file: str | None = None
    ready_file: str | None = None
    release: Release | None = None
    health: HealthCheck | None = None
    hostname: str | None = None
    visitor_per_stream: bool = False
    edge_timeout: float = 10.0
    local_timeout: float = 5.0
    drain: float = 30.0
    start_timeout: float = 60.0
    stop_timeout: float = 10.0
    backoff_min: float = 0.1
    backoff_max: float = 5.0
    refused_retry: float = 30.0
    log_level: str = "info"
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.edges, str):  # a str is a sequence too, of letters
            object.__setattr__(self, "edges", _split(self.edges))
        if not isinstance(self.token, str) or not self.token:
            raise self.error("token", "no token is given: set FLY_TOKEN or FLY_TOKEN_FILE, or give --token-file FILE")
        if not valid_token(self.token):
            raise self.error("token", f"a token is 1–{MAX_TOKEN} printable ASCII characters, in one line")
        if not self.edges:
            raise self.error("edges", "no edge is given: set it to HOST[:443] of the edge, or give --edge HOST")
        if len(self.edges) > MAX_EDGES:
            raise self.error("edges", f"{len(self.edges)} edges are given, {MAX_EDGES} is the most")
        self.edge_addresses()
        self._choice("edges_used", _EDGES_USED)
        self._choice("carrier", _CARRIERS)
        if not isinstance(self.proxy, ProxySettings):
            proxy = parse_proxy(self.proxy, self.source("proxy")) if self.proxy else None
            object.__setattr__(self, "proxy", ProxySettings(proxy))
        self._check_local()
        if self.local_insecure and self.local_ca_file:
            raise self.error("local_ca_file", "there is no use for a CA file where the certificate is not verified")
        for name in _TIMES:
            value = getattr(self, name)
            if not 0 <= value <= _MAX_SECONDS or (value == 0 and name not in _MAY_BE_ZERO):
                raise self.error(name, f"{value!r} is out of range; give seconds, at most {_MAX_SECONDS:.0f}")

    def _check_local(self) -> None:
        tls = self.local_tls
        if isinstance(self.local, str):
            try:
                target = parse_target(self.local)
            except ValueError as error:
                raise self.error("local", str(error)) from None
            if self.local_tls and target.tls is False:
                raise self.error(
                    "local_tls", f"it asks for TLS with the service, and {self.local} for none; write https://"
                )
            tls = tls or target.tls is True
        elif not IStreamClientEndpoint.providedBy(self.local):
            raise self.error("local", "it is neither text nor an IStreamClientEndpoint")
        if self.local_ca_file and not tls:
            raise self.error(
                "local_ca_file", "a CA file is given for a service without TLS; write its address as https://HOST:PORT"
            )

    def _choice(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise self.error(name, f"{str(value)[:40]!r} is none of {', '.join(known)}")

    @property
    def proxies(self) -> ProxySettings:
        """Which proxy leads to an edge."""
        assert isinstance(self.proxy, ProxySettings)
        return self.proxy

    def source(self, name: str) -> str:
        """How the operator called the setting ``name``."""
        return self.sources.get(name, name)

    def error(self, name: str, reason: str) -> ConfigError:
        """A :class:`ConfigError` about the setting ``name``."""
        return ConfigError(self.source(name), "", reason)

    def edge_addresses(self) -> list[tuple[str, int]]:
        """The edges as (host, port).

        :raises ConfigError: one is not ``host[:port]``
        """
        try:
            return [parse_host_port(edge, DEFAULT_EDGE_PORT) for edge in self.edges]
        except ValueError as error:
            raise self.error("edges", str(error)) from None

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        options: Mapping[str, object] | None = None,
        *,
        folder: str | os.PathLike[str] | None = ".",
    ) -> AgentConfig:
        """Read the ``FLY_*`` variables, ``wormhole.yaml``, options of the same meaning, and the usual variables for
        proxies.

        :param options: ``edge`` (a list of text, or text with commas), ``edges``, ``carrier``, ``proxy``, ``local``,
            ``token_file``, ``ca_file``, ``local_ca_file``, ``local_insecure``, ``ready_file``, ``drain``,
            ``log_level``, and what is asked of the reader below; hyphens in the place of underscores are fine; None, an
            empty text or list, and False count as not given
        :param folder: where to look for ``wormhole.yaml`` and ``.git``; None looks nowhere
        :raises ConfigError: a value is wrong or a file cannot be read; it names the variable, option or key
        :raises NotAvailableError: a carrier that this version does not have
        """
        file = read_settings_file(folder)
        read = _Reader(file.under(environ), options or {})
        try:
            config = cls._read(read, folder)
        except ConfigError as error:
            raise file.renamed(error, environ) from None
        sources = {name: file.called(source, environ) for name, source in read.sources.items()}
        proxies = config.proxies
        if proxies.proxy is not None:  # what goes wrong with it is told later, by the name that the operator knows
            named = file.called(proxies.proxy.source, environ)
            proxies = replace(proxies, proxy=replace(proxies.proxy, source=named))
        return replace(config, sources=MappingProxyType(sources), proxy=proxies)

    @classmethod
    def _read(cls, read: _Reader, folder: str | os.PathLike[str] | None) -> AgentConfig:
        environ = read.environ
        carrier = read.text("carrier", "FLY_PROTO").lower() or "tls"
        if carrier in _OLD_CARRIERS:
            reason = f"the carrier {carrier!r} is not available in this version; give {', '.join(_CARRIERS)}"
            raise NotAvailableError(read.sources["carrier"], "", reason)
        token = read.token()
        local = read.text("local", "FLY_LOCAL_ENDPOINT")
        if not local:
            local = read.host_and_port()
        # an option that says http:// or https:// has the last word over the variable
        local_tls = read.flag("local_tls", "FLY_LOCAL_ENDPOINT_USE_TLS")
        if read.given("local") and local.startswith(("http://", "https://")):
            local_tls = False
        ca_file = read.ca_file("ca_file", "FLY_TLS_CERT_FILE")
        local_ca_file = read.ca_file("local_ca_file", "FLY_LOCAL_ENDPOINT_CA_CERT_FILE")
        return cls(
            token=token,
            edges_used=read.edges_used(),
            edges=read.edges(),
            carrier=carrier,
            proxy=read.proxies(),
            local=local,
            local_tls=local_tls,
            local_insecure=read.flag("local_insecure", "FLY_LOCAL_ENDPOINT_INSECURE_SKIP_VERIFY"),
            local_ca_file=local_ca_file,
            ca_file=ca_file,
            ready_file=read.text("ready_file", "FLY_READY_FILE") or None,
            release=find_release(environ, Path(folder) if folder is not None else None),
            health=read_health_check(read),
            drain=read.seconds("drain", cls.drain, "FLY_DRAIN"),
            start_timeout=read.seconds("start_timeout", cls.start_timeout, "FLY_START_TIMEOUT"),
            stop_timeout=read.seconds("stop_timeout", cls.stop_timeout, "FLY_STOP_TIMEOUT"),
            log_level=read.text("log_level", "FLY_LOG_LEVEL") or "info",
            sources=MappingProxyType(read.sources),
        )


class _Reader:
    """Looks a setting up among options and variables, and remembers where it was found."""

    def __init__(self, environ: Mapping[str, str], options: Mapping[str, object]) -> None:
        self.environ = environ
        self._options = {name.replace("-", "_"): value for name, value in options.items()}
        self.sources: dict[str, str] = {}

    def given(self, name: str) -> bool:
        """Whether the option was given."""
        return self._options.get(name) not in (None, "", False, [], ())

    def text(self, name: str, variable: str | None) -> str:
        if self.given(name):
            self.sources[name] = "--" + name.replace("_", "-")
            return str(self._options[name])
        if variable is not None:
            self.sources[name] = variable
            return self.environ.get(variable, "").strip()
        return ""

    def flag(self, name: str, variable: str) -> bool:
        text = self.text(name, variable).lower()
        if text in _YES:
            return True
        if not text or text in _NO:
            return False
        raise ConfigError(self.sources[name], "", f"{text!r} is neither true nor false")

    def seconds(self, name: str, default: float, variable: str | None = None) -> float:
        text = self.text(name, variable)
        if not text:
            return default
        try:
            return float(text)
        except ValueError:
            raise ConfigError(self.sources[name], "", f"{text!r} is no number of seconds") from None

    def count(self, name: str, default: int, variable: str) -> int:
        text = self.text(name, variable)
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ConfigError(self.sources[name], "", f"{text[:40]!r} is no whole number")
        return int(text) if text else default

    def edges(self) -> list[str]:
        value = self._options.get("edge")
        if isinstance(value, str) or not isinstance(value, Sequence):
            value = [str(value)] if value else []
        edges = [edge for item in value for edge in _split(str(item))]
        if edges:
            self.sources["edges"] = "--edge"
            return edges
        self.sources["edges"] = "FLY_REMOTE_ENDPOINT"
        return _split(self.environ.get("FLY_REMOTE_ENDPOINT", ""))

    def edges_used(self) -> str:
        used = self.text("edges", "FLY_EDGES").lower()
        self.sources["edges_used"] = self.sources.pop("edges")
        return used or "all"

    def proxies(self) -> ProxySettings:
        text = self.text("proxy", "FLY_PROXY")
        if text.lower() == "none":
            return ProxySettings()
        if text:
            return ProxySettings(parse_proxy(text, self.sources["proxy"]))
        return ProxySettings.from_environment(self.environ)

    def host_and_port(self) -> str:
        port = self.environ.get("FLY_PORT", "").strip() or "5000"
        host = self.environ.get("FLY_LOCALHOST", "").strip() or "127.0.0.1"
        self.sources["local"] = "FLY_LOCALHOST, FLY_PORT"
        if _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65535:
            raise ConfigError("FLY_PORT", "", f"{port[:40]!r} is no port; give a number from 1 to 65535")
        return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"

    def token(self) -> str:
        file = ""
        if self.given("token_file"):
            source, file = "--token-file", str(self._options["token_file"])
        elif self.environ.get("FLY_TOKEN"):
            source = "FLY_TOKEN"
        else:
            source, file = "FLY_TOKEN_FILE", self.environ.get("FLY_TOKEN_FILE", "")
            if not file:
                source = "FLY_TOKEN"
        self.sources["token"] = source
        if not file:
            return _without_line_end(self.environ.get("FLY_TOKEN", ""))
        # decoded so that any byte survives: what is no token is refused by its rule, and never shown
        token = _without_line_end(read_file(file, source=source, key="").decode("latin-1"))
        if not token:
            raise ConfigError(source, "", f"the file {file} is empty; it has to hold the token")
        return token

    def ca_file(self, name: str, variable: str) -> str | None:
        path = self.text(name, variable)
        if not path:
            return None
        load_ca_certificates(path, source=self.sources[name], key="")
        return path


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
