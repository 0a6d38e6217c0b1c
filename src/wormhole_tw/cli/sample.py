"""The private service of ``wormhole-tw demo``: one page that shows what a service behind a tunnel gets to see."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from twisted.web.server import Site

if TYPE_CHECKING:
    from twisted.web.server import Request

__all__ = ["PAGE_MARK", "sample_site"]

PAGE_MARK = "Hello from a private service"
"""What stands in the page, so that whoever fetches it knows that it is the right one."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>wormhole-tw demo</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
  body {{ max-width: 44rem; margin: 4rem auto; padding: 0 1rem }}
  h1 {{ font-size: 1.6rem }}
  table {{ border-collapse: collapse; width: 100%; font-family: ui-monospace, monospace; font-size: .85rem }}
  th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884;
           overflow-wrap: anywhere }}
</style>
<h1>{mark}</h1>
<p>This page comes from a plain HTTP server on <code>{local}</code>, which nobody outside this process can reach but
through the tunnel: your browser → edge (TLS ends there) → the agent's one outgoing connection → this service.</p>
<p>Your request was <code>{method} {path}</code>, with these fields:</p>
<table>{rows}</table>
</html>
"""


class _SamplePage(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        host = request.getHost()
        rows = "".join(
            f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>"
            for name, values in sorted(request.requestHeaders.getAllRawHeaders())
            for value in values
        )
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        page = _PAGE.format(
            mark=PAGE_MARK,
            local=escape(f"{host.host}:{host.port}"),
            method=_text(request.method),
            path=_text(request.uri),
            rows=rows,
        )
        return page.encode("utf-8")


def _text(octets: bytes) -> str:
    return escape(octets.decode("latin-1"))


def sample_site(reactor: object) -> Site:
    """A factory for the sample service."""
    site = Site(_SamplePage(), reactor=reactor)  # type: ignore[no-untyped-call]
    site.noisy = False
    site.log = lambda request: None  # type: ignore[method-assign]
    return site
