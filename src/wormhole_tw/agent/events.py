"""What an agent tells its application: :meth:`wormhole_tw.agent.service.AgentService.on_event`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AgentEvent",
    "AgentSession",
    "Connected",
    "Draining",
    "Failed",
    "Lost",
    "NotReady",
    "Ready",
    "Refused",
    "ServiceReached",
    "Stopped",
]


@dataclass(frozen=True, slots=True)
class AgentSession:
    """A link that stands, as the edge named it.

    :ivar session_id: the edge's name for it
    :ivar edge: the edge's name
    :ivar region: where the edge is
    :ivar urls: the public URLs that lead to the service
    :ivar address: the edge's ``host:port``, as it was dialled
    :ivar granted: wanted options that the edge does (``visitor_per_stream``)
    :ivar carrier: what it goes over, ``tls`` or ``websocket``
    """

    session_id: str
    edge: str
    region: str
    urls: tuple[str, ...]
    address: str
    granted: tuple[str, ...] = ()
    carrier: str = "tls"

    def __str__(self) -> str:
        name = self.edge or self.address
        return f"{name} ({self.region})" if self.region else name


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """The root of what may happen."""


@dataclass(frozen=True, slots=True)
class Connected(AgentEvent):
    """An edge welcomed us. Where another link to it stands, by another carrier, this one takes its place."""

    session: AgentSession


@dataclass(frozen=True, slots=True)
class Draining(AgentEvent):
    """An edge takes nothing new on this link; the next one is dialled while what runs goes on.

    :ivar reason: the edge's sentence
    """

    session: AgentSession
    reason: str


@dataclass(frozen=True, slots=True)
class Lost(AgentEvent):
    """A link that stood is gone.

    :ivar retry_in: seconds until the next try
    """

    session: AgentSession
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Failed(AgentEvent):
    """An edge could not be reached, or what answered is none, or its certificate was not accepted.

    :ivar address: the edge's ``host:port``
    :ivar reason: one sentence that says which
    :ivar retry_in: seconds until the next try
    :ivar repeated: the try before failed for the same reason
    """

    address: str
    reason: str
    retry_in: float
    repeated: bool


@dataclass(frozen=True, slots=True)
class Refused(AgentEvent):
    """An edge was reached, and said no.

    :ivar code: a :class:`~wormhole_tw.wire.codes.GoawayCode`
    :ivar reason: the edge's sentence
    :ivar final: a retry does not heal it: the token, or the version, is wrong. Retries go on all the same, slowly
    """

    address: str
    code: int
    reason: str
    retry_in: float
    repeated: bool
    final: bool


@dataclass(frozen=True, slots=True)
class ServiceReached(AgentEvent):
    """The private service was reached for the first time, and passes its health check where there is one.

    :ivar service: what it is called
    """

    service: str


@dataclass(frozen=True, slots=True)
class Ready(AgentEvent):
    """The agent serves: it is connected and its service was reached."""


@dataclass(frozen=True, slots=True)
class NotReady(AgentEvent):
    """It was ready, and has no link now, or a service that fails its health check."""


@dataclass(frozen=True, slots=True)
class Stopped(AgentEvent):
    """The service has stopped, and nothing of it is left."""
