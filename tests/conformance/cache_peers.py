"""nginx and Varnish in the place of the edge's cache, as the authors of the tests set them up."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from tests.end_to_end.programs import Programs, free_port, need_program

__all__ = ["CACHE_PEERS", "start_cache_peer"]

CACHE_PEERS = {"nginx": "nginx", "varnish": "varnishd"}
"""Name → program."""

NGINX = """\
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
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=cache:8m max_size=1000m inactive=600m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{service};
            proxy_cache cache;
            proxy_cache_revalidate on;
        }}
    }}
}}
"""

VARNISH = 'vcl 4.0;\nbackend default {{ .host = "127.0.0.1"; .port = "{service}"; }}\n'


def start_cache_peer(name: str, folder: Path, programs: Programs, service: int) -> int:
    """Start one of :data:`CACHE_PEERS` before the service at a port; gives its own, which speaks plain HTTP."""
    program = need_program(CACHE_PEERS[name])
    folder.mkdir()
    port = free_port()
    config = folder / "config"
    if name == "nginx":
        config.write_text(NGINX.format(folder=folder, port=port, service=service))
        argv = [program, "-p", str(folder), "-c", str(config)]
        if os.getuid() == 0:
            argv += ["-g", "user root;"]  # its workers would be nobody's, who may not enter the folder of a test
    else:
        config.write_text(VARNISH.format(service=service))
        settings = ("default_ttl=0", "default_grace=0", "default_keep=3600")
        argv = [program, "-j", "none", "-F", "-n", str(folder / "work"), "-a", f"127.0.0.1:{port}", "-f", str(config)]
        argv += ["-s", "malloc,64M", *(word for setting in settings for word in ("-p", setting))]
    started = programs.start(name, argv, cwd=folder)
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            if time.monotonic() > until or not started.running:
                raise AssertionError(f"{name} does not listen:\n{started.output}") from None
            time.sleep(0.05)
