"""edge.toml: what may stand in it, and the checked, resolved form that the edge works with.

The tables of the file stand in :mod:`.tables`, where types and unknown keys are checked. What only makes sense together
(a route and its backend, two sites and one host name) is checked here, and :class:`EdgeConfig` is the result: frozen,
defaults filled in, paths absolute, names normalised.
Every error is a :class:`~wormhole_tw.errors.ConfigError` of one line that names the file and the key.

Nothing here imports Twisted, so checking a file needs no reactor.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from wormhole_tw.errors import ConfigError

from .access import read_access
from .acme import AcmeConfig, check_names, read_acme, refuse_acme_keys
from .balancing import check_failovers, read_policy
from .caching import Stores, read_stores, with_caches
from .callbacks import check_callbacks
from .client_certificates import read_client_certificates
from .compression import with_compression
from .dns import DnsServer, read_resolvers
from .endpoints import check_endpoint, endpoint_port
from .files import read_toml
from .held_back import hold_back
from .limits import Limits
from .listeners import Listener, read_listeners
from .middleware import with_middleware
from .model import Backend, GateSettings, Site
from .names import normalise_hostname
from .origins import read_origins
from .pages import read_pages
from .passthrough import check_passthrough
from .prefixes import tell_prefixes
from .routes import OfSite, read_route, set_branches
from .schema import check_table, closest, place
from .security import compile_security
from .tables import AccessLogTable, BackendTable, EdgeFile, EdgeTable, SiteTable, TlsTable
from .tcp import Checks, TcpService, read_tcp
from .tokens import parse_digest
from .trust import read_trusted

__all__ = [
    "AccessLogConfig",
    "CertificateFiles",
    "EdgeConfig",
    "Limits",
    "Listener",
    "Override",
    "TlsConfig",
]

#: Names that always reach an edge on this machine, where edge.names does not say otherwise.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

#: Names of edges, regions, backends and sites stand in logs, metrics and the Via header (a token, RFC 9110 §5.6.2).
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)
_NAME_HINT = "1 to 64 letters, digits, dots, hyphens and underscores"


class Override(NamedTuple):
    """A value from outside the file that wins over it.

    :ivar source: the option or variable, for errors (``--state``, ``WORMHOLE_EDGE_STATE``)
    """

    value: object
    source: str


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate chain and its key, PEM, absolute paths; ``where`` is the table's key, for errors."""

    certificate: Path
    key: Path
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """``dev``: a local CA in the state folder. ``files``: the given files, the first one also for unknown names.

    :ivar acme: with ``acme``: where certificates come from; None otherwise
    :ivar policy: which versions and ciphers, by Mozilla's name
    """

    mode: Literal["dev", "files", "acme"] = "dev"
    certificates: tuple[CertificateFiles, ...] = ()
    acme: AcmeConfig | None = None
    policy: Literal["intermediate", "modern"] = "intermediate"


@dataclass(frozen=True, slots=True)
class AccessLogConfig:
    """Where each request is written down: ``path`` is absolute, or ``-`` for standard output."""

    path: str
    format: Literal["json", "combined"] = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """A checked edge.toml. Make one with :meth:`load` or :meth:`from_dict`, which do the checking.

    :ivar source: the file as it was named, for errors
    :ivar names: what agents dial, normalised; the first one's certificate is the default
    :ivar public_https_port: what visitors see; None where it is known only when the first TLS listener is bound
    :ivar admin: endpoint description of the admin listener, or None
    :ivar state: folder for what the edge makes; absolute
    :ivar access_log: None where requests are not written down
    :ivar tcp: public TCP ports that lead to backends as they are
    :ivar watch: reload when a file of the configuration changes
    :ivar cache: where answers are kept
    :ivar resolvers: who is asked for the addresses of origins; empty for those of the machine
    """

    source: str
    name: str
    names: tuple[str, ...]
    region: str
    listeners: tuple[Listener, ...]
    public_https_port: int | None
    admin: str | None
    state: Path
    tls: TlsConfig
    limits: Limits
    backends: tuple[Backend, ...]
    sites: tuple[Site, ...]
    cache: Stores
    access_log: AccessLogConfig | None = None
    tcp: tuple[TcpService, ...] = ()
    watch: bool = False
    resolvers: tuple[DnsServer, ...] = ()

    @property
    def terminated(self) -> tuple[Site, ...]:
        """The sites whose TLS ends here: those that need a certificate of ours."""
        return tuple(site for site in self.sites if not site.passthrough)

    @classmethod
    def load(
        cls, path: str | Path, overrides: Mapping[str, Override] | None = None, *, source: str | None = None
    ) -> EdgeConfig:
        """Read and check a file.

        :param source: what errors call it; by default ``path`` as it is given
        :param overrides: what wins over the file: ``{"edge.state": Override("/var/lib/edge", "--state")}``
        :raises ConfigError: it cannot be read, is no TOML, or something in it is wrong
        """
        source = str(path) if source is None else source
        raw = read_toml(path, source)
        return cls.from_dict(raw, source=source, folder=Path(path).parent, overrides=overrides)

    @classmethod
    def from_dict(
        cls,
        raw: Mapping[str, object],
        *,
        source: str = "configuration",
        folder: str | Path = ".",
        overrides: Mapping[str, Override] | None = None,
        hostname: str | None = None,
    ) -> EdgeConfig:
        """Check what a file would hold.

        :param source: what errors call it
        :param folder: what relative paths are relative to
        :param hostname: this machine's name, where it is not to be asked for
        :raises ConfigError: something in it is wrong
        """
        overrides = overrides or {}
        try:
            table = check_table(place(raw, {key: o.value for key, o in overrides.items()}), EdgeFile, source)
            return _Resolver(source, Path(folder).absolute(), hostname or socket.gethostname()).resolve(table)
        except ConfigError as error:
            # An error in what came from outside the file names where it came from.
            for key, override in overrides.items():
                if error.key == f"$.{key}" or error.key.startswith((f"$.{key}[", f"$.{key}.")):
                    raise type(error)(override.source, "", error.reason) from error
            raise


class _Resolver:
    """From the tables to :class:`EdgeConfig`: one method a section, each raises the first error that it finds."""

    def __init__(self, source: str, folder: Path, hostname: str) -> None:
        self._source = source
        self._folder = folder
        self._hostname = hostname

    def resolve(self, table: EdgeFile) -> EdgeConfig:
        edge = table.edge
        general = read_trusted(edge.trusted_proxies, self._source, "$.edge.trusted_proxies")
        listeners = read_listeners(edge, self._source, general)
        taken: dict[str, str] = {}
        for listener in listeners:
            self._endpoint(listener.endpoint_key, listener.endpoint, taken)
        backends = self._backends(table.backends)
        known = [backend.name for backend in backends]
        sites = tell_prefixes(self._sites(table.sites, known), backends)
        sites = with_caches(sites, table.sites, backends, self._source)
        names = self._edge_names(edge, sites)
        checks = Checks(
            name=self._name,
            endpoint=lambda key, text: self._endpoint(key, text, taken),
            backend=lambda key, name: self._known(key, name, known),
        )
        tcp = read_tcp(table.tcp, self._source, general, checks)
        if table.limits.target_bytes > table.limits.head_bytes:
            raise self._error("$.limits.target_bytes", "more than head_bytes, which holds the target too")
        return EdgeConfig(
            source=self._source,
            name=self._edge_name(edge),
            names=names,
            region=self._name("$.edge.region", edge.region),
            listeners=listeners,
            public_https_port=self._public_port(edge, listeners),
            admin=self._admin(edge, taken),
            state=self._path("$.edge.state", edge.state),
            cache=read_stores(table.cache, self._source),
            tls=self._tls(table.tls, names, listeners, sites),
            limits=table.limits,
            backends=backends,
            sites=sites,
            access_log=self._access_log(table.access_log),
            tcp=tcp,
            watch=edge.watch,
            resolvers=read_resolvers(edge.resolvers, self._source, "$.edge.resolvers"),
        )

    # [edge]

    def _edge_name(self, edge: EdgeTable) -> str:
        if edge.name is not None:
            return self._name("$.edge.name", edge.name)
        return _NOT_IN_NAME.sub("-", self._hostname)[:64] or "edge"

    def _edge_names(self, edge: EdgeTable, sites: Sequence[Site]) -> tuple[str, ...]:
        owners = {hostname: (i, j) for i, site in enumerate(sites) for j, hostname in enumerate(site.hostnames)}
        names: dict[str, None] = {}
        if edge.names is None:
            names.update(dict.fromkeys(LOCAL_NAMES))
            try:
                own = normalise_hostname(self._hostname)
            except ValueError:
                own = "localhost"  # a machine's name need not be a host name; nobody asked for it
            if own not in owners:  # nor did anybody ask to take a site's name away from it
                names[own] = None
        elif not edge.names:
            raise self._error("$.edge.names", "empty: agents need a name to dial; leave it out for the default")
        else:
            for index, text in enumerate(edge.names):
                key = f"$.edge.names[{index}]"
                name = self._host(key, text, wildcard=False)
                if name in names:
                    raise self._error(key, f"{name} stands there twice")
                names[name] = None
        for name in names:
            if name in owners:
                i, j = owners[name]
                reason = f"{name} is the edge's own name (edge.names), which is never a site"
                raise self._error(f"$.sites[{i}].hostnames[{j}]", reason)
        return tuple(names)

    def _endpoint(self, key: str, text: str, seen: dict[str, str]) -> None:
        try:
            check_endpoint(text)
        except ValueError as error:
            raise self._error(key, str(error)) from error
        if text in seen and endpoint_port(text) != 0:
            raise self._error(key, f"{text} is taken by {seen[text]}")
        seen[text] = key

    def _public_port(self, edge: EdgeTable, listeners: Sequence[Listener]) -> int | None:
        port = edge.public_https_port
        if port is not None:
            if not 1 <= port <= 65535:
                raise self._error("$.edge.public_https_port", "a port is 1 to 65535")
            return port
        return next((listener.port for listener in listeners if listener.tls), None) or None

    def _admin(self, edge: EdgeTable, taken: dict[str, str]) -> str | None:
        if edge.admin is not None:
            self._endpoint("$.edge.admin", edge.admin, taken)
        return edge.admin

    # [tls]

    def _tls(
        self, table: TlsTable, names: Sequence[str], listeners: Sequence[Listener], sites: Sequence[Site]
    ) -> TlsConfig:
        refuse_acme_keys(table, self._source)
        if table.mode == "files" and not table.certificates:
            raise self._error("$.tls.certificates", 'mode = "files" needs at least one [[tls.certificates]]')
        if table.mode != "files" and table.certificates:
            raise self._error("$.tls.certificates", 'only with mode = "files"')
        certificates = tuple(
            CertificateFiles(
                self._path(f"$.tls.certificates[{index}].certificate", pair.certificate),
                self._path(f"$.tls.certificates[{index}].key", pair.key),
                f"$.tls.certificates[{index}]",
            )
            for index, pair in enumerate(table.certificates)
        )
        acme = None
        if table.mode == "acme":
            acme = read_acme(table, self._source, self._folder)
            check_names(acme, names, sites, self._source, plain=any(not listener.tls for listener in listeners))
        return TlsConfig(table.mode, certificates, acme, policy=table.policy)

    # [access_log]

    def _access_log(self, table: AccessLogTable | None) -> AccessLogConfig | None:
        if table is None:
            return None
        if table.path == "-":
            return AccessLogConfig("-", table.format)
        path = self._path("$.access_log.path", table.path)
        if not path.parent.is_dir():
            raise self._error("$.access_log.path", f"there is no folder {path.parent}")
        if path.is_dir():
            raise self._error("$.access_log.path", f"{path} is a folder")
        return AccessLogConfig(str(path), table.format)

    # [[backends]] and [[sites]]

    def _backends(self, tables: Sequence[BackendTable]) -> tuple[Backend, ...]:
        backends: dict[str, Backend] = {}
        owners: dict[bytes, str] = {}
        for number, table in enumerate(tables):
            key = f"$.backends[{number}]"
            name = self._name(f"{key}.name", table.name)
            if name in backends:
                raise self._error(f"{key}.name", f"there are two backends named {name}")
            origins = read_origins(table, self._folder, self._source, key)
            if not table.tokens and not origins:
                raise self._error(f"{key}.tokens", "a backend needs a token, or an origin: nobody could ever serve it")
            digests = set()
            for index, text in enumerate(table.tokens):
                token_key = f"{key}.tokens[{index}]"
                try:
                    digest = parse_digest(text)
                except ValueError as error:
                    raise self._error(token_key, str(error)) from None  # the text may be a token: nothing of it goes on
                owner = owners.setdefault(digest, name)
                if owner != name:
                    raise self._error(token_key, f"this token opens backend {owner}; a token opens one backend only")
                digests.add(digest)
            backends[name] = Backend(
                name,
                frozenset(digests),
                origins,
                protocol=table.protocol,
                proxy_protocol=table.proxy_protocol,
                policy=read_policy(table, self._source, key),
            )
        check_failovers(backends, self._source, self._known)
        return tuple(backends.values())

    def _sites(self, tables: Sequence[SiteTable], backends: Sequence[str]) -> tuple[Site, ...]:
        sites: list[Site] = []
        names: set[str] = set()
        owners: dict[str, str] = {}
        there = dict.fromkeys(backends)  # of ten thousand backends, none is looked for one after the other

        def known(key: str, backend: str) -> None:
            if backend not in there:
                self._known(key, backend, backends)

        for number, table in enumerate(tables):
            key = f"$.sites[{number}]"
            if not table.hostnames:
                raise self._error(f"{key}.hostnames", "a site needs a host name")
            hostnames: list[str] = []
            for index, text in enumerate(table.hostnames):
                host_key = f"{key}.hostnames[{index}]"
                hostname = self._host(host_key, text, wildcard=True)
                if hostname in owners:
                    raise self._error(host_key, f"{hostname} is taken by {owners[hostname]}")
                owners[hostname] = host_key
                hostnames.append(hostname)
            name = hostnames[0] if table.name is None else self._name(f"{key}.name", table.name)
            if name in names:
                raise self._error(f"{key}.name", f"there are two sites named {name}")
            names.add(name)
            security = None
            if table.security is not None:
                security = compile_security(table.security, self._source, f"{key}.security")
            if not table.routes:
                raise self._error(f"{key}.routes", "a site needs a route")
            if table.tls is not None:
                check_passthrough(table, hostnames, self._source, key)
            gates = self._gates(table, key)
            of_site = OfSite(
                name, hostnames, table.limits, security, gates, self._folder, self._source, known, self._name
            )
            routes = tuple(
                read_route(route, of_site, f"{key}.routes[{index}]") for index, route in enumerate(table.routes)
            )
            check_callbacks(routes, self._source, key)
            routes = hold_back(routes)
            routes = with_middleware(routes, table, self._folder, self._source, key)
            routes = with_compression(routes, table, self._source, key)
            pages = table.error_pages
            own = None if pages is None else read_pages(pages, self._folder, self._source, f"{key}.error_pages")
            asked = read_client_certificates(table, hostnames, self._folder, self._source, key)
            passthrough = table.tls is not None
            sites.append(Site(name, tuple(hostnames), routes, own, security, asked, passthrough, frozenset(gates)))
        return set_branches(sites)

    def _gates(self, table: SiteTable, key: str) -> tuple[GateSettings, ...]:
        """What is asked of every request to a site; who signs in there comes back to the first of its prefixes."""
        prefixes = [route.path or "/" for route in table.routes if route.exact is None and route.pattern is None]
        return read_access(table, self._folder, self._source, key, prefix=min(prefixes, key=len, default=None))

    # what they share

    def _known(self, key: str, name: str, backends: Sequence[str]) -> None:
        if name in backends:
            return
        if guess := closest(name, backends):
            hint = f"did you mean {guess}?"
        elif backends:
            hint = f"there are {', '.join(sorted(backends)[:5])}{' …' if len(backends) > 5 else ''}"
        else:
            hint = "there is none at all"
        raise self._error(key, f"there is no backend {name!r}; {hint}")

    def _name(self, key: str, text: str) -> str:
        if _NAME.fullmatch(text) is None:
            raise self._error(key, f"a name is {_NAME_HINT}")
        return text

    def _host(self, key: str, text: str, *, wildcard: bool) -> str:
        try:
            return normalise_hostname(text, wildcard=wildcard)
        except ValueError as error:
            raise self._error(key, f"{text!r} is no host name: {error}") from error

    def _path(self, key: str, text: str) -> Path:
        if not text or "\0" in text:
            raise self._error(key, "no path")
        return self._folder / text

    def _error(self, key: str, reason: str) -> ConfigError:
        return ConfigError(self._source, key, reason)
