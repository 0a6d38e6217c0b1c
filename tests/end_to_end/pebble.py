"""A real CA: Pebble, with a DNS of its own where every name is 127.0.0.1 (``pebble-challtestsrv``)."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.end_to_end.certificates import Authority
from tests.end_to_end.programs import Program, Programs, free_port, need_program


class Pebble:
    """One CA; it forgets everything where it is started anew.

    :param http_port: where it looks for HTTP-01
    :param life: seconds for which its certificates are valid; five years by default
    :param settings: more of its configuration
    :param resolver: ``ADDRESS:PORT`` of another DNS in place of its own
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        http_port: int,
        *,
        life: int | None = None,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        resolver: str | None = None,
    ) -> None:
        self.folder = folder
        self.http_port = http_port
        self._programs = programs
        self.port, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        authority = Authority(folder, "pebble-api")
        self.ca_file = authority.file
        certificate, key = authority.issue("pebble", "localhost", "127.0.0.1")
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "externalAccountBindingRequired": False,
            **({} if life is None else {"certificateValidityPeriod": life}),
            **(settings or {}),
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self._environment = {"PEBBLE_WFE_NONCEREJECT": "20", "PEBBLE_VA_NOSLEEP": "1", **(environment or {})}
        self._program: Program | None = None
        self._names: Program | None = None
        self._resolver = resolver

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    def tls(self, **changes: object) -> dict[str, object]:
        """``[tls]`` of an edge that has its certificates from here."""
        return {
            "mode": "acme",
            "email": "admin@example.com",
            "directory": self.directory,
            "directory_ca_file": str(self.ca_file),
            "agree_tos": True,
            **changes,
        }

    def start(self) -> Program:
        """Start it, and wait until it takes requests."""
        if self._names is None and self._resolver is None:
            argv = [
                need_program("pebble-challtestsrv"),
                *("-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.dns_management}"),
                *("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""),
            ]
            self._names = self._programs.start("dns", argv, cwd=self.folder)
            self._names.wait_for("Starting management server")
        argv = [
            need_program("pebble"),
            "-config",
            "pebble.json",
            "-dnsserver",
            self._resolver or f"127.0.0.1:{self.dns}",
        ]
        self._program = self._programs.start("pebble", argv, cwd=self.folder, env=self._environment)
        self._program.wait_for("ACME directory available")
        return self._program

    @property
    def program(self) -> Program:
        assert self._program is not None, "the CA was not started"
        return self._program

    def stop(self) -> None:
        self.program.end()

    def write_root(self, file: Path) -> Path:
        """Write the root of its certificates, which is new with each start."""
        file.write_bytes(self._get(f"https://127.0.0.1:{self.management}/roots/0"))
        return file

    def point(self, name: str, address: str) -> None:
        """Let a name of its DNS be this address, in place of 127.0.0.1; an empty one to make none of it."""
        url = f"http://127.0.0.1:{self.dns_management}"
        for path, body in (
            ("clear-a", {"host": f"{name}."}),
            *([("add-a", {"host": f"{name}.", "addresses": [address]})] if address else []),
        ):
            with urllib.request.urlopen(f"{url}/{path}", json.dumps(body).encode(), timeout=10):
                pass

    def issued(self) -> int:
        """How many certificates it has given."""
        return self.program.count(r"Issued certificate serial")

    def orders(self) -> int:
        """How many orders it has taken."""
        return self.program.count("Added order")

    def _get(self, url: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            body: bytes = answer.read()
            return body
