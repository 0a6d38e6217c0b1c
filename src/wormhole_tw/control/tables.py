"""The tables of edge.toml as they are written: names, types and defaults, nothing more.

Keys that are not here are refused. What a value means, and what it has to fit, :mod:`.config` knows.
"""

from __future__ import annotations

from typing import Literal

from wormhole_tw.structs import Struct

from .access_tables import AccessTable
from .acme import ExternalAccountTable
from .balancing import BalanceTable, BreakerTable, EjectionTable, HealthTable, QueueTable, RetriesTable
from .cache_tables import CacheTable, StoreTable
from .compression import CompressTable
from .dns import DnsTable
from .limits import Count, CountOrOff, Limits, Seconds, SecondsOrOff, SiteLimits
from .middleware import MiddlewareTable
from .origins import OriginTable
from .route_tables import RouteTable
from .security import SecurityTable

__all__ = [
    "AccessLogTable",
    "BackendTable",
    "CertificateTable",
    "EdgeFile",
    "EdgeTable",
    "ListenerTable",
    "RouteTable",
    "SiteTable",
    "TcpTable",
    "TlsTable",
]

#: Where the edge keeps what it makes, beside edge.toml.
DEFAULT_STATE = "state"

#: Reported to agents; it means something only where there are several.
DEFAULT_REGION = "local"


#: Connections of one TCP service at once: an ordinary database takes a hundred, and others have room beside it.
DEFAULT_TCP_CONNECTIONS = 1000

#: Seconds without an octet either way, as for a WebSocket: pools of databases and terminals are silent for long.
DEFAULT_TCP_IDLE = 3600.0

#: Which field proxies write the visitor's address into; the other one passes through them as the visitor made it up.
TrustedHeader = Literal["x-forwarded-for", "forwarded"]


class ListenerTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[edge.listeners]]``."""

    endpoint: str
    tls: bool = True
    proxy_protocol: bool = False
    trusted: list[str] | None = None
    trusted_header: TrustedHeader | None = None
    on_plain: Literal["redirect", "serve"] | None = None
    tunnels: bool | None = None


class EdgeTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[edge]``."""

    name: str | None = None
    names: list[str] | None = None
    region: str = DEFAULT_REGION
    https: list[str] = []
    http: list[str] = []
    listeners: list[ListenerTable] = []
    trusted_proxies: list[str] = []
    trusted_header: TrustedHeader = "x-forwarded-for"
    resolvers: list[str] = []
    public_https_port: int | None = None
    admin: str | None = None
    state: str = DEFAULT_STATE
    watch: bool = False


class CertificateTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[tls.certificates]]``."""

    certificate: str
    key: str


class TlsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls]``."""

    mode: Literal["dev", "files", "acme"] = "dev"
    policy: Literal["intermediate", "modern"] = "intermediate"
    certificates: list[CertificateTable] = []
    email: str | None = None
    directory: str | None = None
    directory_ca_file: str | None = None
    agree_tos: bool | None = None
    external_account: ExternalAccountTable | None = None
    challenge: Literal["http-01", "dns-01"] | None = None
    dns: DnsTable | None = None


class AccessLogTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[access_log]``."""

    path: str
    format: Literal["json", "combined"] = "json"


class BackendTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[backends]]``."""

    name: str
    tokens: list[str] = []
    origin: str | None = None
    origins: list[OriginTable] | None = None
    preset: Literal["github_pages", "gitlab_pages", "ghost", "heroku", "netlify", "s3"] | None = None
    site: str | None = None
    host: str | None = None
    index: str | None = None
    ca_file: str | None = None
    server_name: str | None = None
    allow_networks: list[str] | None = None
    rewrite_links: bool | None = None
    keep_alive: Seconds | None = None
    proxy_protocol: Literal["v1", "v2"] | None = None
    protocol: Literal["http/1.1", "h2c"] = "http/1.1"
    failover: str | None = None
    balance: BalanceTable = BalanceTable()
    health: HealthTable | None = None
    ejection: EjectionTable = EjectionTable()
    breaker: BreakerTable | None = None
    retries: RetriesTable = RetriesTable()
    queue: QueueTable | None = None


class SiteTable(AccessTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[sites]]``."""

    hostnames: list[str]
    routes: list[RouteTable]
    name: str | None = None
    tls: Literal["passthrough"] | None = None
    error_pages: str | dict[str, str] | None = None
    security: SecurityTable | None = None
    limits: SiteLimits | None = None
    client_ca: str | None = None
    client_certificate: Literal["required", "optional"] | None = None
    client_fingerprints: list[str] | None = None
    middleware: list[MiddlewareTable] = []
    cache: CacheTable | bool | None = None
    compress: CompressTable | bool | None = None


class TcpTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[tcp]]``."""

    listen: str
    backend: str
    name: str | None = None
    allow: list[str] | None = None
    deny: list[str] = []
    connections: Count = DEFAULT_TCP_CONNECTIONS
    connections_per_address: CountOrOff = 0
    connect: Seconds | None = None
    idle: SecondsOrOff = DEFAULT_TCP_IDLE
    proxy_protocol: bool = False
    trusted: list[str] | None = None


class EdgeFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    edge: EdgeTable = EdgeTable()
    tls: TlsTable = TlsTable()
    limits: Limits = Limits()
    access_log: AccessLogTable | None = None
    cache: StoreTable = StoreTable()
    backends: list[BackendTable] = []
    sites: list[SiteTable] = []
    tcp: list[TcpTable] = []
