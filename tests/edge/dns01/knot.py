"""A real name server for the tests: Knot DNS on a free port of 127.0.0.1, with zones and keys of its own."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype

from tests._support import require_program
from tests.end_to_end.programs import Programs, free_port

KEY = base64.b64encode(b"knows it all, for the tests here").decode()
"""The secret of the key ``edge``, which may write TXT records in ``example.test`` and ``other.test``."""

ZONE = """\
$TTL 60
@ SOA ns.{zone}. admin.{zone}. 1 60 60 600 5
@ NS ns
ns A 127.0.0.1
app A 127.0.0.1
moved.{zone}. CNAME app.{zone}.
"""

EXAMPLE = """\
_acme-challenge.elsewhere CNAME token.other.test.
_acme-challenge.far CNAME one
one CNAME two.other.test.
_acme-challenge.round CNAME circle
circle CNAME _acme-challenge.round
_acme-challenge.taken TXT "somebody else's"
"""

ZONES = ("example.test", "other.test", "half.test", "closed.test")

CONFIGURATION = """\
server:
    rundir: "{folder}"
    listen: [127.0.0.1@{port}]
log:
  - target: stderr
    any: info
database:
    storage: "{folder}"
control:
    listen: "{folder}/knot.sock"
key:
  - id: edge
    algorithm: hmac-sha256
    secret: {key}
  - id: stranger
    algorithm: hmac-sha256
    secret: {key}
acl:
  - id: edge
    key: edge
    action: update
    update-type: [TXT]
  - id: half
    key: edge
    action: update
    update-owner: name
    update-owner-match: equal
    update-owner-name: [_acme-challenge.b.half.test.]
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
    zonefile-sync: -1
    journal-content: all
zone:
  - domain: example.test
    acl: edge
  - domain: other.test
    acl: edge
  - domain: half.test
    acl: half
  - domain: closed.test
"""


class Knot:
    """The server, and what it has.

    :ivar socket: of its control program
    :ivar address: ``127.0.0.1:PORT``
    """

    def __init__(self, programs: Programs, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder
        self.socket = folder / "knot.sock"
        self.address = f"127.0.0.1:{self.port}"
        for zone in ZONES:
            more = EXAMPLE if zone == "example.test" else ""
            (folder / f"{zone}.zone").write_text(ZONE.format(zone=zone) + more)
        (folder / "knot.conf").write_text(CONFIGURATION.format(folder=folder, port=self.port, key=KEY))
        self.program = programs.start("knot", [require_program("knotd"), "-c", str(folder / "knot.conf")])
        # Before its zones are loaded it would answer SERVFAIL.
        self.program.wait_for("server started")
        for zone in ZONES:
            self.program.wait_for(rf"\[{zone}\.\] loaded")

    def values(self, name: str) -> set[str]:
        """The TXT values at a name, as anybody sees them."""
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        answer = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=5)
        return {
            b"".join(rdata.strings).decode()
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for rdata in rrset
        }

    def control(self, *words: str) -> str:
        """What ``knotc`` says."""
        command = [require_program("knotc"), "-s", str(self.socket), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def key_file(self, secret: str = KEY, name: str = "edge") -> Path:
        """A key file, as ``keymgr -t`` writes it."""
        path = self.folder / f"{name}-{secret[:4]}.key"
        path.write_text(f"key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n")
        path.chmod(0o600)
        return path
