"""``/healthz``: the process is there and its reactor turns.  ``/readyz``: whether it can serve new visitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.web.server import Request

__all__ = ["HealthResource", "ReadyResource"]


def _plain(request: Request) -> None:
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")


class HealthResource(Resource):
    """Answers ``ok`` with 200 to GET and HEAD; a probe reads the status, a person the word."""

    def render_GET(self, request: Request) -> bytes:
        _plain(request)
        return b"ok\n"


class ReadyResource(Resource):
    """Answers ``ok`` with 200, or ``not ready`` with 503; ``?verbose`` adds why.

    :param unready: gives the reasons, one sentence each; none when it is ready
    :param besides: gives what ``?verbose`` adds in any case, a line each: how certificates stand
    """

    def __init__(self, unready: Callable[[], Sequence[str]], besides: Callable[[], Sequence[str]] = tuple) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unready = unready
        self._besides = besides

    def render_GET(self, request: Request) -> bytes:
        _plain(request)
        reasons = self._unready()
        if reasons:
            request.setResponseCode(503)
        lines = ["not ready" if reasons else "ok"]
        # twisted.web's own reading of a query knows no name without a value
        if b"verbose" in request.uri.partition(b"?")[2].split(b"&"):
            lines += reasons or ["ports are open and the configuration is loaded"]
            lines += self._besides()
        return "".join(f"{line}\n" for line in lines).encode()
