"""Visitors that have made one request each and stay connected.

Settings: ``port``, ``host``, ``steps``: after each number of connections it says ``step N`` and waits for ``pause``
seconds; it stays until it is ended.
"""

from __future__ import annotations

import socket
import ssl
import time

from benchmarks.helpers import raise_descriptor_limit, say, settings


def main() -> None:
    """Connect, ask once each, and stay."""
    raise_descriptor_limit()
    wanted = settings()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host = wanted["host"]
    request = f"GET /small HTTP/1.1\r\nHost: {host}:{wanted['port']}\r\n\r\n".encode()
    visitors: list[ssl.SSLSocket] = []
    for step in wanted["steps"]:
        while len(visitors) < step:
            raw = socket.create_connection(("127.0.0.1", wanted["port"]), 10)
            visitor = context.wrap_socket(raw, server_hostname=host)
            visitor.sendall(request)
            answer = b""
            while b"x" * 100 not in answer:
                received = visitor.recv(65536)
                if not received or (answer and not answer.startswith(b"HTTP/1.1 200")):
                    raise SystemExit(f"no answer: {answer[:200]!r}")
                answer += received
            visitors.append(visitor)
        time.sleep(wanted["pause"])
        say(f"step {step}")
        time.sleep(wanted["pause"])
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
