"""TLS reverse proxies straight to the origin: nginx and HAProxy, one worker or thread each. No tunnel in between."""

from __future__ import annotations

from benchmarks.processes import find, free_port
from benchmarks.world import HOST, Front, World

__all__ = ["haproxy", "nginx"]

# proxy_max_temp_file_size 0: an answer that comes faster than the visitor takes it is not written to disk.
_NGINX = """
worker_processes 1; daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
  access_log off; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 600;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  {store}
  fastcgi_temp_path {folder}/nginx-fcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} ssl{http2} backlog=1024; server_name {host};
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      {use}
    }}
  }}
}}
"""
_STORE = "proxy_cache_path {folder}/nginx-cache levels=1:2 keys_zone=kept:16m max_size=256m inactive=1h;"
_USE = 'proxy_cache kept; add_header Cache-Status "nginx; $upstream_cache_status";'
"""The kernel keeps its files in memory; the field says whether an answer came from there."""
_HAPROXY = """
global
  maxconn 9000
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
frontend visitors
  bind 127.0.0.1:{port} ssl crt {folder}/haproxy.pem
  option forwardfor
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
"""


def nginx(world: World, origin: int, *, http2: bool = False, cache: bool = False) -> Front:
    """nginx with keep-alive to the origin.

    :param http2: whether visitors may have that
    :param cache: whether it keeps answers (``proxy_cache``)
    """
    port = free_port()
    text = _NGINX.format(
        port=port,
        http2=" http2" if http2 else "",
        origin=origin,
        host=HOST,
        folder=world.folder,
        store=_STORE.format(folder=world.folder) if cache else "",
        use=_USE if cache else "",
        certificate=world.certificate,
        key=world.key,
    )
    config = world.write("nginx.conf", text)
    pid = world.running.start("nginx", [find("nginx"), "-c", str(config)], port)
    return Front("https", port, {"nginx": pid}, "nginx")


def haproxy(world: World, origin: int) -> Front:
    """HAProxy with keep-alive to the origin."""
    port = free_port()
    world.write("haproxy.pem", world.certificate.read_text() + world.key.read_text(), 0o600)
    config = world.write("haproxy.cfg", _HAPROXY.format(port=port, origin=origin, folder=world.folder))
    pid = world.running.start("haproxy", [find("haproxy"), "-db", "-f", str(config)], port)
    return Front("https", port, {"haproxy": pid}, "haproxy")
