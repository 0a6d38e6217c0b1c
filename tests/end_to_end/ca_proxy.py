"""Between an edge and its CA: adds what Pebble lacks (renewal information, limits), and passes on the rest."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import secrets
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.end_to_end.certificates import Authority
from tests.end_to_end.pebble import Pebble


class CaProxy:
    """A CA's front.

    :ivar limit_orders: how many orders are still to be refused as one too many, with ``Retry-After: 1``
    :ivar refusals: what the next requests for a path are answered with: a status, and a problem's type or an empty
        string for a page of somebody in between
    :ivar renew: every certificate is to be renewed now
    :ivar replaced: what orders said that they replace (RFC 9773 section 5)
    """

    def __init__(self, ca: Pebble, folder: Path) -> None:
        self.limit_orders = 0
        self.refusals: dict[str, list[tuple[int, str]]] = {}
        self.renew = False
        self.replaced: list[str] = []
        self._ca = ca
        authority = Authority(folder, f"proxy-{secrets.token_hex(4)}")  # several may stand in one file
        pair = authority.issue("proxy", "localhost", "127.0.0.1")
        # The edge trusts one file: both servers' CAs are in it.
        ca.ca_file.write_bytes(ca.ca_file.read_bytes() + authority.file.read_bytes())
        upstream = ssl.create_default_context(cafile=str(ca.ca_file))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = proxy._answer(self.command, self.path, body) or self._passed_on(body)
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPSConnection("localhost", ca.port, context=upstream, timeout=20)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                answer = response.read()
                kept = [
                    (name, value)
                    for name, value in response.getheaders()
                    if name.lower() not in ("content-length", "connection", "transfer-encoding")
                ]
                connection.close()
                if self.path == "/dir":
                    directory = json.loads(answer)
                    directory["renewalInfo"] = f"{proxy.origin}/renewal"
                    answer = json.dumps(directory).encode()
                return response.status, kept, answer

            do_GET = do_POST = do_HEAD = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.origin = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def directory(self) -> str:
        return f"{self.origin}/dir"

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
        if refusals := self.refusals.get("/renewal/" if path.startswith("/renewal/") else path):
            status, kind = refusals.pop(0)
            if not kind:
                return status, [("Content-Type", "text/html"), ("Retry-After", "1")], b"<h1>Not now</h1>"
            problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": "says the test"}
            headers = [("Content-Type", "application/problem+json"), ("Retry-After", "1")]
            return status, headers, json.dumps(problem).encode()
        if path.startswith("/renewal/"):
            day = datetime.timedelta(days=1)
            now = datetime.datetime.now(datetime.UTC)
            start = now - 2 * day if self.renew else now + 100 * day
            window = {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{start + day:%Y-%m-%dT%H:%M:%SZ}"}
            return 200, [("Content-Type", "application/json")], json.dumps({"suggestedWindow": window}).encode()
        if path == "/order-plz":
            if self.limit_orders > 0:
                self.limit_orders -= 1
                problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many,\nsays the test"}
                headers = [("Content-Type", "application/problem+json"), ("Retry-After", "1")]
                return 429, headers, json.dumps(problem).encode()
            payload: dict[str, Any] = json.loads(_decoded(json.loads(body)["payload"]))
            if "replaces" in payload:
                self.replaced.append(payload["replaces"])
        return None

    def __enter__(self) -> CaProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
