"""A public https site out of one process: an edge, an agent and a twisted.web site on one reactor.

    python docs/examples/one_process.py            until Ctrl-C
    twistd -ny docs/examples/one_process.py        the same under twistd

    curl --cacert one_process/dev/ca.pem https://app.localhost:8443/

Everything lives in the folder ``one_process`` where it is started.  The site listens on a Unix socket there, so the
edge's port (HTTPS_PORT, 8443 unless it is set) is the only one.  In real life the edge runs elsewhere, with a
certificate that everybody trusts; then the agent's lines are all that an application needs.
"""

import os
import sys
from pathlib import Path

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application, IService, Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.task import deferLater, react
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import Site

from wormhole_tw import AgentConfig, AgentService, EdgeConfig, EdgeService
from wormhole_tw.control.tokens import digest_line, generate

FOLDER = Path("one_process")
PORT = int(os.environ.get("HTTPS_PORT", "8443"))
SOCKET = FOLDER / "site.sock"

log = Logger("one_process")


class Page(Resource):
    isLeaf = True

    def render_GET(self, request):
        visitor = request.getHeader("x-forwarded-for") or "nobody"
        request.setHeader("content-type", "text/plain; charset=utf-8")
        return f"Hello {visitor}, this site shares its process with the agent and the edge.\n".encode()


# The edge takes agents that know this token, and sends them what visitors ask of app.localhost.
token = generate()
edge = EdgeService(
    reactor,
    EdgeConfig.from_dict(
        {
            "edge": {"names": ["localhost"], "https": [f"tcp:{PORT}:interface=127.0.0.1"], "state": str(FOLDER)},
            "tls": {"mode": "dev"},
            "backends": [{"name": "app", "tokens": [digest_line(token)]}],
            "sites": [{"hostnames": ["app.localhost"], "routes": [{"path": "/", "backend": "app"}]}],
        }
    ),
)

# The agent serves whatever its endpoint connects to. It reads the edge's CA when it starts, after the edge.
agent = AgentService(
    reactor,
    AgentConfig(
        token=token,
        edges=[f"localhost:{PORT}"],
        local=UNIXClientEndpoint(reactor, str(SOCKET)),
        ca_file=str(edge.ca_file),
    ),
)


class Announcement(Service):
    """Says under which addresses the site is reached, once it is."""

    def startService(self):
        super().startService()
        self._saying = Deferred.fromCoroutine(self._say())
        self._saying.addErrback(lambda failure: log.error("not connected: {reason}", reason=failure.value))

    async def _say(self):
        session = await agent.when_ready()
        for url in session.urls:
            log.info("the site is at {url}", url=url)

    def stopService(self):
        self._saying.cancel()
        return super().stopService()


# Stopping happens the other way round. Each waits for what still runs.
FOLDER.mkdir(mode=0o700, exist_ok=True)
application = Application("one_process")
for service in (
    StreamServerEndpointService(UNIXServerEndpoint(reactor, str(SOCKET), wantPID=True), Site(Page())),
    edge,
    agent,
    Announcement(),
):
    service.setServiceParent(application)


async def main(reactor):
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    await deferLater(reactor, 0)  # from here on the reactor runs and hears signals
    services = IService(application)
    services.privilegedStartService()
    services.startService()
    reactor.addSystemEventTrigger("before", "shutdown", services.stopService)
    await Deferred()  # a signal ends it


if __name__ == "__main__":
    react(main)
