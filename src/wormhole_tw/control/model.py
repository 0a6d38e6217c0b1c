"""What should be (sites, routes, backends, tokens) and who is here (the facts of a session): frozen values.

Nothing in this module does anything: it is read by the catalog, the registry, the edge and later by stores and feeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from wormhole_tw.http.patterns import REST

from .balancing import USUAL, Policy
from .limits import SiteLimits
from .middleware import MiddlewareSettings
from .origin import Origin

if TYPE_CHECKING:
    from wormhole_tw.http.coding import CodingRules
    from wormhole_tw.http.edits import FieldEdits
    from wormhole_tw.http.patterns import PathPattern
    from wormhole_tw.http.rewriting import PathRewrite, PrefixSwap, Redirect

    from .caching import CacheSettings
    from .conditions import Condition

__all__ = [
    "H2C",
    "HTTP1",
    "MAINTENANCE",
    "AddedFields",
    "Backend",
    "ClientCertificates",
    "ErrorPages",
    "GateSettings",
    "LocalAnswer",
    "Release",
    "Route",
    "Security",
    "Selection",
    "ServiceOffer",
    "SessionFacts",
    "Site",
    "Token",
]

HTTP1 = "http/1.1"
H2C = "h2c"
"""What a backend's services speak: HTTP/1.1, or HTTP/2 with prior knowledge (RFC 9113 §3.3)."""


@dataclass(frozen=True, slots=True)
class AddedFields:
    """Header fields that a site's answers get.

    :ivar defaults: each where the answer has none of that name
    :ivar besides: in any case, beside others of that name
    """

    defaults: tuple[tuple[bytes, bytes], ...] = ()
    besides: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Security:
    """What a site has switched on to protect its visitors.

    :ivar secure: for visitors who came by TLS
    :ivar plain: for the others: without Strict-Transport-Security (RFC 6797 §7.2)
    """

    secure: AddedFields
    plain: AddedFields


MAINTENANCE = "maintenance"
"""The reason of an answer that stands for a service which is being worked on."""


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """An answer that the edge gives itself because the configuration says so.

    :ivar fields: what it says besides Date and the framing of its body
    :ivar body: None for the page that the edge, or the site, shows for such a status
    :ivar reason: a token for programs: ``X-Wormhole-Error`` of errors, the access log; empty for none
    :ivar message: one sentence for people, for that page
    """

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    reason: str = ""
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a backend's upstreams the requests of a route may go to.

    :ivar branch: agents of this release branch and no others; None for the rest
    :ivar apart: for the rest: branches that other routes name for the backend, whose agents get nothing else
    """

    branch: str | None = None
    apart: frozenset[str] = frozenset()

    def takes(self, branch: str) -> bool:
        """Say whether an upstream of this release branch (empty for one without) may be taken."""
        return branch not in self.apart if self.branch is None else branch == self.branch


class GateSettings(Protocol):
    """What a gate of a route is made of: a frozen value, equal where it says the same.

    :cvar kind: the name of the module in ``edge/gates`` that makes it
    """

    kind: ClassVar[str]

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a site: what requests it takes, and what becomes of them.

    With ``kind`` "prefix" (the default) ``path`` is a prefix at segment bounds, in the form that requests are routed in
    (:func:`normalise_prefix`): ``/docs`` takes ``/docs``, ``/docs/`` and ``/docs/a``, never ``/docsx``; ``/docs/``
    takes what is below it only.
    With "exact" it is the whole path, with "pattern" the text of one.

    :ivar site: the name of the site it belongs to
    :ivar path: beginning with ``/``
    :ivar backend: the name of the backend; empty where the edge answers itself
    :ivar limits: of its site, where that has limits of its own
    :ivar security: what its site's answers get besides; None for nothing
    :ivar selection: which of the backend's upstreams its requests may go to; None for any
    :ivar gates: the settings of what is asked before a request goes on, in order; None for nothing
    :ivar middleware: the Python that its requests go through, its site's first; None for nothing
    :ivar cache: how its answers are kept; None where they are not
    :ivar compress: the codings that its answers get; None for none
    :ivar name: what logs call it; an empty string for its path
    :ivar kind: what ``path`` is
    :ivar pattern: with "pattern": it, compiled
    :ivar conditions: what a request needs besides its path
    :ivar answer: what the edge answers itself; None where a backend is asked
    :ivar rewrite: how the service's target comes about; None: it is the visitor's, canonical
    :ivar request_edits: changes to the fields of requests; None for none
    :ivar response_edits: changes to the fields of its answers; None for none
    :ivar label: what it is called: its name, or its path
    :ivar plain: it is a prefix and a backend, and what becomes of its answers: nothing more
    :ivar below: the prefix of every path that is below ``path`` (it ends in ``/``); compiled once
    """

    site: str
    path: str
    backend: str
    limits: SiteLimits | None = None
    security: Security | None = None
    selection: Selection | None = None
    gates: tuple[GateSettings, ...] | None = None
    name: str = ""
    kind: Literal["prefix", "exact", "pattern"] = "prefix"
    pattern: PathPattern | None = None
    conditions: tuple[Condition, ...] = ()
    answer: LocalAnswer | Redirect | None = None
    rewrite: PrefixSwap | PathRewrite | None = None
    request_edits: FieldEdits | None = None
    response_edits: FieldEdits | None = None
    middleware: tuple[MiddlewareSettings, ...] | None = None
    cache: CacheSettings | None = None
    compress: CodingRules | None = None
    label: str = field(init=False, repr=False, compare=False)
    plain: bool = field(init=False, repr=False, compare=False)
    below: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.name or self.path)
        object.__setattr__(self, "below", self.path if self.path.endswith("/") else self.path + "/")

        made = (self.answer, self.rewrite, self.request_edits)
        object.__setattr__(self, "plain", self.kind == "prefix" and not self.conditions and made == (None,) * 3)

    def takes(self, path: str) -> bool:
        """Say whether this route would take ``path`` (normalised, without the query), if its conditions hold."""
        if self.pattern is not None:
            return self.pattern.match(path) is not None
        if self.kind == "exact":
            return path == self.path
        return self.path == "/" or path == self.path or path.startswith(self.below)

    def values(self, path: str) -> Mapping[str, str]:
        """Give what the names of its path stand for in one that it takes; of a prefix, ``rest`` is what is below it."""
        if self.pattern is not None:
            return self.pattern.match(path) or {}
        return {} if self.kind == "exact" else {REST: path[len(self.below) :]}


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """A site's own pages for what the edge answers itself.

    :ivar pages: (``"404"`` or ``"4xx"``, ``"html"``, ``"text"`` or ``"json"``) → the page, UTF-8
    """

    pages: Mapping[tuple[str, str], bytes]

    def kinds(self, status: int) -> dict[str, bytes]:
        """The kinds of page that there are for a status; one of the very status wins over its class's."""
        found = {}
        for name in (f"{status // 100}xx", str(status)):
            for kind in ("html", "text", "json"):
                page = self.pages.get((name, kind))
                if page is not None:
                    found[kind] = page
        return found


@dataclass(frozen=True, slots=True)
class ClientCertificates:
    """What the visitors of a site have to show in TLS. Equal where it asks for the same.

    :ivar authorities: the certificates, DER, that a visitor's is verified by
    :ivar required: nobody comes in without; otherwise who has none is served too
    :ivar fingerprints: SHA-256, 32 bytes each: one certificate of the chain has to be among them; empty for any
    """

    authorities: tuple[bytes, ...] = field(repr=False)
    required: bool = True
    fingerprints: frozenset[bytes] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """A group of host names that share their routes.

    :ivar hostnames: normalised (lower case, no trailing dot, no port); ``*.parent`` stands for one left-most label
    :ivar routes: in order; the first that matches wins
    :ivar error_pages: what the site shows where the edge answers itself; None for the edge's own
    :ivar security: what its answers get besides, those of the edge too; None for nothing
    :ivar client_certificates: what its visitors have to show in TLS; None for nothing
    :ivar passthrough: its TLS is not ended here: visitors' connections go as they are to the backend of its one route
    :ivar gates: of its routes' gates, those which are the whole site's: each is one for all routes
    :ivar plain: all its routes are prefixes and backends
    """

    name: str
    hostnames: tuple[str, ...]
    routes: tuple[Route, ...]
    error_pages: ErrorPages | None = None
    security: Security | None = None
    client_certificates: ClientCertificates | None = None
    passthrough: bool = False
    gates: frozenset[GateSettings] = frozenset()
    plain: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", all(route.plain for route in self.routes))


@dataclass(frozen=True, slots=True)
class Token:
    """What the edge knows of a token: its SHA-256 (32 bytes) and the one backend that it opens."""

    digest: bytes = field(repr=False)
    backend: str


@dataclass(frozen=True, slots=True)
class Backend:
    """Something that serves requests: the agents that hold one of its tokens, and its origins on the web.

    :ivar tokens: SHA-256 digests, 32 bytes each
    :ivar origins: on the web; empty where agents alone serve it
    :ivar proxy_protocol: connections to the service begin with a header of this version; None for none
    :ivar protocol: :data:`HTTP1` or :data:`H2C`
    :ivar policy: how its requests find their upstream
    """

    name: str
    tokens: frozenset[bytes] = field(default=frozenset(), repr=False)
    origins: tuple[Origin, ...] = ()
    proxy_protocol: Literal["v1", "v2"] | None = None
    protocol: str = HTTP1
    policy: Policy = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What runs behind an agent, as its HELLO said; every field may be empty."""

    id: str = ""
    branch: str = ""
    description: str = ""
    vcs_type: str = ""
    vcs_revision: str = ""
    vcs_revision_message: str = ""
    vcs_revision_time: str = ""
    vcs_revision_author_name: str = ""
    vcs_revision_author_email: str = ""


@dataclass(frozen=True, slots=True)
class ServiceOffer:
    """A service that an agent offers, and the kinds of OPEN (``http``, ``tcp``) that it takes."""

    name: str = "default"
    kinds: tuple[str, ...] = ("http", "tcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What is known of an agent's session. Its place is (``backend``, ``instance``, ``slot``).

    :ivar session_id: short, sortable, unique
    :ivar instance: 128 random bits of the agent's service object, never shown
    :ivar slot: which of its links this is
    :ivar generation: rises with every new link of the same place, from 1
    :ivar moves: it opens its next link when the edge says that it takes nothing new soon
    :ivar previous_draining: HELLO said that the place's last link is still there and drains; otherwise it is gone
    :ivar host: the agent's host name, as it says
    :ivar software: the agent's program and version, as it says
    :ivar address: the peer's address, for logs
    :ivar connected_at: seconds since the epoch
    :ivar visitor_per_stream: every stream towards this agent is dedicated to one visitor connection
    :ivar writes_proxy_header: the agent can begin its connections to the service with the PROXY protocol's header
    :ivar region: the region of the edge that holds the session
    :ivar token_digest: SHA-256 of the token it came with, so that a token taken away ends it; empty where none was used
    """

    session_id: str
    backend: str
    instance: bytes = field(repr=False)
    slot: int = 0
    generation: int = 1
    previous_draining: bool = False
    moves: bool = False
    host: str = ""
    software: str = ""
    release: Release | None = None
    services: tuple[ServiceOffer, ...] = (ServiceOffer(),)
    address: str = ""
    connected_at: float = 0.0
    visitor_per_stream: bool = False
    writes_proxy_header: bool = False
    region: str = ""
    token_digest: bytes = field(default=b"", repr=False)

    @property
    def place(self) -> tuple[str, bytes, int]:
        """The place that this session holds or wants."""
        return (self.backend, self.instance, self.slot)
