"""Programs between agents and edges, as people run them: each with a configuration of its own on a free port."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.end_to_end.programs import LINE_DEADLINE, Program, Programs, need_program

__all__ = ["USER", "haproxy", "microsocks", "nginx", "tinyproxy", "wait_for_port"]

USER = "agent-7"


def wait_for_port(program: Program, port: int) -> None:
    """Until it takes connections: these programs do not say so."""
    until = time.monotonic() + LINE_DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            assert program.running, program.output
            assert time.monotonic() < until, f"{program.name} does not listen on {port}:\n{program.output}"
            with suppress(subprocess.TimeoutExpired):  # it still runs, as it should
                program.process.wait(0.02)


def tinyproxy(programs: Programs, folder: Path, port: int, password: str) -> Program:
    """An HTTP proxy that wants a user and a password."""
    file = folder / "tinyproxy.conf"
    file.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 600\nLogLevel Connect\nBasicAuth {USER} {password}\n")
    program = programs.start("tinyproxy", [need_program("tinyproxy"), "-d", "-c", str(file)], cwd=folder)
    wait_for_port(program, port)
    return program


def microsocks(programs: Programs, port: int, password: str) -> Program:
    """A SOCKS5 proxy that wants a user and a password."""
    argv = [need_program("microsocks"), "-i", "127.0.0.1", "-p", str(port), "-u", USER, "-P", password]
    program = programs.start("microsocks", argv)
    wait_for_port(program, port)
    return program


def haproxy(programs: Programs, folder: Path, text: str) -> Program:
    """HAProxy in TCP mode."""
    file = folder / "haproxy.cfg"
    defaults = "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
    file.write_text(defaults + text)
    program = programs.start("haproxy", [need_program("haproxy"), "-W", "-db", "-f", str(file)])
    program.wait_for("Loading success")
    return program


def nginx(programs: Programs, folder: Path, servers: str) -> Program:
    """nginx with the servers that are given."""
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr notice;
        events {{}}
        http {{
            access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
            fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
            {servers}
        }}
        """
    )
    program = programs.start("nginx", [need_program("nginx"), "-c", str(folder / "nginx.conf")])
    program.wait_for("nginx/")
    return program
