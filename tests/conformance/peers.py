"""nginx and HAProxy in the edge's place: the same TLS, the same origin, the same short timeouts."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from tests.end_to_end.programs import Program, Programs, free_port, need_program

__all__ = ["PEERS", "listening", "nginx", "start_peer"]

NGINX_FIRST = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
"""
"""What any nginx of a test begins with; the rest of its ``http`` follows, and a brace."""

NGINX = """\
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 1s;
    upstream service {{ server 127.0.0.1:{service}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""

HAPROXY = """\
global
    maxconn 1000
    ssl-server-verify none
defaults
    mode http
    timeout connect 5s
    timeout server 5s
    timeout client 1s
    timeout http-request 1s
    timeout http-keep-alive 1s
frontend visitors
    bind 127.0.0.1:{port} ssl crt {bundle}
    http-request set-header X-Forwarded-For %[src]
    default_backend service
backend service
    server one 127.0.0.1:{service}
"""

PEERS = ("nginx", "haproxy")


def start_peer(name: str, folder: Path, programs: Programs, certificate: Path, key: Path, service: int) -> int:
    """Start one of :data:`PEERS` as a TLS proxy before a port; gives its port."""
    folder.mkdir()
    port = free_port()
    if name == "nginx":
        argv = nginx(folder, NGINX, port=port, service=service, certificate=certificate, key=key)
    else:
        bundle = folder / "both.pem"
        bundle.write_text(certificate.read_text() + key.read_text())
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(port=port, service=service, bundle=bundle))
        argv = [need_program("haproxy"), "-db", "-f", str(config)]
    return listening(programs.start(name, argv, cwd=folder), port)


def nginx(folder: Path, config: str, **what: object) -> list[str]:
    """Write its configuration, of which ``config`` is what stands behind :data:`NGINX_FIRST`; gives its command."""
    path = folder / "nginx.conf"
    path.write_text((NGINX_FIRST + config).format(folder=folder, **what))
    argv = [need_program("nginx"), "-p", str(folder), "-c", str(path)]
    # as root its workers would be nobody's, who may not enter the folder of a test
    return [*argv, "-g", "user root;"] if os.getuid() == 0 else argv


def listening(started: Program, port: int) -> int:
    """The port, when a program listens there."""
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            if time.monotonic() > until or not started.running:
                raise AssertionError(f"{started.name} does not listen:\n{started.output}") from None
            time.sleep(0.05)
