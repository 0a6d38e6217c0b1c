"""The control socket: what those who may read an edge's state folder can have it do, over HTTP on a Unix socket.

``wormhole-tw cache`` asks here.  While one process takes over from another, both serve: the one that came last has the
path, and what is asked of it holds for the others too, which it finds beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from wormhole_tw.admin.local_client import LEAVING, SOCKET, ask, sockets
from wormhole_tw.control.purging import Wish, read_wish
from wormhole_tw.edge.caching.counting import WORDS
from wormhole_tw.errors import MisuseError, WormholeError
from wormhole_tw.net.local_sockets import is_alive, listen_local, owns, serve_local
from wormhole_tw.net.threads import call_in_thread
from wormhole_tw.structs import Struct, ValidationError, convert

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twisted.internet.interfaces import IListeningPort
    from twisted.web.server import Request

    from wormhole_tw.edge.caching.kept import KeptAnswers
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.service import EdgeService

__all__ = ["ControlService"]

IDLE_SECONDS = 60
"""Seconds that a connection may idle."""

PASS_ON_SECONDS = 5.0
"""Seconds for another process to say that it has heard: it reads some lines of a file."""

MAX_BODY = 65536
"""Octets of a request's body: a URL has a few hundred."""

log = Logger()


class PurgeBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``POST /cache/purge`` says."""

    kind: str
    value: str = ""
    site: str | None = None
    everywhere: bool = False


class ControlService(Service):
    """Serves the control socket of an edge, ``control.sock`` in its state folder.

    Whatever goes wrong with it is said in the log, and the edge serves without it.

    :param reactor: a reactor with threads
    :param edge: started before this, and stopped after it has begun to stop
    """

    def __init__(self, reactor: Any, edge: EdgeService) -> None:
        self._reactor = reactor
        self._edge = edge
        self._folder = edge.config.state
        self._port: IListeningPort | None = None
        self._identity = (0, 0)
        self._connections: WrappingFactory | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._folder / SOCKET

    def startService(self) -> None:
        """Take the path, also from a process that has it: that one is told what is asked from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._port is not None:
            return
        try:
            self._keep_other()
            listening = listen_local(self.path)
        except OSError as error:
            log.warn(
                "nobody can purge the cache of this edge: {path}: {error}", path=str(self.path), error=error.strerror
            )
            return
        with listening:
            self._listen(listening)
        _kept(self._edge.context).follow()  # what was asked of the other process before we had the path

    def _listen(self, listening: socket.socket) -> None:
        root = Resource()
        cache = CacheResource(self._edge)
        root.putChild(b"cache", cache)
        cache.putChild(b"purge", PurgeResource(self._edge, self.tell_others))
        cache.putChild(b"follow", FollowResource(self._edge))
        site = Site(root, timeout=IDLE_SECONDS, reactor=self._reactor)
        site.noisy = False
        site.log = lambda request: None  # type: ignore[method-assign]
        self._connections = WrappingFactory(site)
        self._connections.noisy = False
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        self._port = serve_local(self._reactor, listening, cast(Factory, self._connections))

    def _keep_other(self) -> None:
        """Let the process that has the path be found beside it."""
        if is_alive(self.path):
            try:
                os.link(self.path, self._folder / LEAVING.format(os.urandom(4).hex()))
            except OSError as error:
                # a file system without links: it looks at the journal itself, once a second
                log.info("the process before this one hears of purges a second later: {error}", error=error)

    def _others(self) -> list[Path]:
        """The sockets of other processes that serve with this state folder; those of dead ones are taken away."""
        alive = []
        for path in sockets(self._folder):
            if owns(path, self._identity):
                continue
            if is_alive(path):
                alive.append(path)
            elif path != self.path:
                path.unlink(missing_ok=True)
        return alive

    def tell_others(self) -> Deferred[list[str]]:
        """Have the other processes heed what was written down.  Gives which of them did not say that they do."""
        waiting = [
            call_in_thread(self._reactor, ask, path, "POST", "/cache/follow", timeout=PASS_ON_SECONDS)
            for path in self._others()
        ]
        done: Deferred[Any] = DeferredList(waiting, consumeErrors=True)
        return done.addCallback(
            lambda results: [str(result.value) for well, result in results if not well and not _is_gone(result)]
        )

    def stopService(self) -> Deferred[None]:
        """Take the path away, unless another process has it by now, and close; fires when that is done."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        connections, self._connections = self._connections, None
        if port is None or connections is None:
            return maybeDeferred(lambda: None)
        for path in sockets(self._folder):
            if owns(path, self._identity):
                path.unlink(missing_ok=True)
        for protocol in list(connections.protocols):
            protocol.transport.abortConnection()
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)


def _is_gone(failure: Failure) -> bool:
    """The process has ended meanwhile: there is nothing that it could serve."""
    return failure.check(ConnectionError, FileNotFoundError) is not None


def _kept(context: EdgeContext) -> KeptAnswers:
    assert context.kept is not None, "an EdgeService makes it"
    return context.kept


class _JsonResource(Resource):
    """What is asked and answered in JSON."""

    def __init__(self, edge: EdgeService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._edge = edge

    @staticmethod
    def _say(request: Request, said: object, status: int = 200) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return json.dumps(said).encode() + b"\n"

    def _later(self, request: Request, waited: Deferred[Any]) -> int:
        """Answer when it is there."""
        left: list[object] = []
        request.notifyFinish().addBoth(left.append)

        def answer(result: object) -> None:
            if left:
                return
            if not isinstance(result, Failure):
                body = self._say(request, result)
            elif result.check(WormholeError):
                body = self._say(request, {"error": str(result.value)}, 409)
            else:
                log.failure("a request of the control socket failed", result)
                body = self._say(request, {"error": "the edge failed; its log says more"}, 500)
            request.write(body)
            request.finish()

        waited.addBoth(answer)
        return NOT_DONE_YET


class CacheResource(_JsonResource):
    """How the cache stands: ``GET /cache``."""

    def render_GET(self, request: Request) -> bytes:
        edge = self._edge
        try:
            context = edge.context
        except MisuseError:
            return self._say(request, {"error": "the edge is not running"}, 503)
        kept = _kept(context)
        sites = context.catalogs.current.sites
        said: dict[str, Any] = {
            "edge": edge.config.name,
            "sites": [site.name for site in sites if any(route.cache is not None for route in site.routes)],
            "stores": [{name: getattr(usage, name) for name in usage.__slots__} for usage in kept.store.usage()],
            "requests": {word: getattr(context.cache.counters, word) for word in WORDS},
            "purges": dict(kept.purged),
        }
        return self._say(request, said)


class PurgeResource(_JsonResource):
    """``POST /cache/purge``: kind, value, site, everywhere, as :class:`~wormhole_tw.control.purging.Wish` has them."""

    isLeaf = True

    def __init__(self, edge: EdgeService, tell_others: Callable[[], Deferred[list[str]]]) -> None:
        super().__init__(edge)
        self._tell_others = tell_others

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        data = request.content.read(MAX_BODY + 1)
        try:
            if len(data) > MAX_BODY:
                raise ValueError("too long")
            body = convert(json.loads(data), PurgeBody)
        except (ValueError, ValidationError) as error:
            return self._say(request, {"error": f"no purge: {error}"}, 400)
        try:
            context = self._edge.context
            order = read_wish(context.catalogs.current, Wish(body.kind, body.value, body.site, body.everywhere))
        except WormholeError as error:
            return self._say(request, {"error": str(error)}, 409)
        said = {"purged": order.said, "cached": order.cached}
        return self._later(
            request, _kept(context).purge(order.kind, order.site, order.values).addCallback(self._tell, said)
        )

    def _tell(self, _: None, said: dict[str, Any]) -> Deferred[Any]:
        def told(silent: list[str]) -> dict[str, Any]:
            return {**said, "silent": silent} if silent else said

        return self._tell_others().addCallback(told)


class FollowResource(_JsonResource):
    """``POST /cache/follow``: another process has purged something, and written it down."""

    isLeaf = True

    def render_POST(self, request: Request) -> bytes | int:
        try:
            kept = _kept(self._edge.context)
        except MisuseError:
            return self._say(request, {})  # nothing is served any more
        return self._later(request, kept.follow().addCallback(lambda _: {}))
