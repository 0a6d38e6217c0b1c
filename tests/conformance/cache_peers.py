"""nginx and Varnish in the place of the edge's cache, as the authors of the tests set them up."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.peers import listening, nginx
from tests.end_to_end.programs import Programs, free_port, need_program

__all__ = ["CACHE_PEERS", "start_cache_peer"]

CACHE_PEERS = {"nginx": "nginx", "varnish": "varnishd"}
"""Name → program."""

NGINX = """\
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
    folder.mkdir()
    port = free_port()
    if name == "nginx":
        argv = nginx(folder, NGINX, port=port, service=service)
    else:
        config = folder / "config"
        config.write_text(VARNISH.format(service=service))
        settings = ("default_ttl=0", "default_grace=0", "default_keep=3600")
        argv = [need_program(CACHE_PEERS[name]), "-j", "none", "-F", "-n", str(folder / "work")]
        argv += ["-a", f"127.0.0.1:{port}", "-f", str(config), "-s", "malloc,64M"]
        argv += [word for setting in settings for word in ("-p", setting)]
    return listening(programs.start(name, argv, cwd=folder), port)
