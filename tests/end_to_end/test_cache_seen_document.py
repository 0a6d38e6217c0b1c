"""The session of ``docs/caching.md``, as it is typed there, gives what stands there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests._support import ROOT, program_environment, require_program
from tests.end_to_end.house import APP, House
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import TWISTD

PAGE = ROOT / "docs" / "caching.md"

VARIES = [(r"\bttl=\d+", "ttl=N"), (r"(?i)^age: \d+", "age: N"), (r" [\d.]+ KiB", " N KiB")]
"""What a clock says, and what tables take with this Python."""


def session() -> list[tuple[str, str]]:
    """The commands under "See it happen", each with what it prints."""
    part = PAGE.read_text().partition("\n## See it happen\n")[2].partition("\n## ")[0]
    block = part.partition("```console\n")[2].partition("```")[0]
    found = []
    for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = typed.partition("\n")
        found.append((command, output))
    return found


def alike(text: str) -> str:
    for pattern, form in VARIES:
        text = re.sub(pattern, form, text, flags=re.MULTILINE)
    return text.strip()


def test_the_session_of_the_document(house: House, origin: Origin) -> None:
    def style(call: Call) -> None:
        b"".join(call.body())
        fields = {"Cache-Control": "max-age=600, stale-if-error=86400", "ETag": '"v1"', "Content-Type": "text/css"}
        if call.headers.get("If-None-Match") == '"v1"':
            call.send_response(304)
            for name, value in fields.items():
                call.send_header(name, value)
            call.end_headers()
        else:
            call.answer(b"p { color: red }\n" * 100, headers=fields)

    origin.routes["/style.css"] = style
    house.config["sites"][0]["cache"] = True
    house.write()
    house.start_edge()
    house.agent("agent", origin.port)
    (house.folder / ".curlrc").write_text(
        f'cacert = "{house.ca_file}"\nhttp1.1\nresolve = "{APP}:{house.port}:127.0.0.1"\n'
    )
    require_program("curl")
    written = session()
    assert len(written) > 10
    script = "".join(f"{command}\necho ---\n" for command, _ in written).replace(":8443", f":{house.port}")
    home = {"HOME": str(house.folder), "PATH": os.pathsep.join((str(Path(TWISTD[1]).parent), os.environ["PATH"]))}
    done = subprocess.run(
        [require_program("bash"), "-c", script],
        capture_output=True, text=True, timeout=60, cwd=house.folder, env=program_environment(**home), check=False,
    )  # fmt: skip
    printed = done.stdout.replace(f":{house.port}", ":8443").split("---\n")
    for (command, output), got in zip(written, printed, strict=False):
        assert alike(got) == alike(output), f"{command}\n{got}{done.stderr}"
    assert done.stderr == ""
