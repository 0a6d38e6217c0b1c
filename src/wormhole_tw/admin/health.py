"""``/healthz``: the process is there and its reactor turns.  Whether it can *serve* is another question (readiness)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.resource import Resource

if TYPE_CHECKING:
    from twisted.web.server import Request

__all__ = ["HealthResource"]


class HealthResource(Resource):
    """Answers ``ok`` with 200 to GET and HEAD; a probe reads the status, a person the word."""

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return b"ok\n"
