"""The ends of children whom nobody waits for."""

from __future__ import annotations

import subprocess
import sys

from tests._support import program_environment

SCRIPT = """
import os, subprocess
from wormhole_tw.cli.reaper import reap_strays
from wormhole_tw.net import children

def ends(process):
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

hook = children.start(lambda: subprocess.Popen(["sh", "-c", "exit 7"]))
ends(hook)
stray = subprocess.Popen(["sh", "-c", "exit 8"])
ends(stray)
print("while a thread waits for one:", reap_strays())
print("its status:", hook.wait())
children.forget(hook)
with children._starting:
    print("while one starts:", reap_strays())
print("then:", reap_strays(), reap_strays())
print("what Python makes of a status that was taken:", stray.poll())
"""


def test_what_a_thread_waits_for_is_left_to_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "while a thread waits for one: 0",
        "its status: 7",
        "while one starts: 0",
        "then: 1 0",
        "what Python makes of a status that was taken: 0",
    ]
