"""The worked example of docs/programmable-edge.md: its own tests run."""

from __future__ import annotations

import subprocess
import sys

from tests._support import ROOT, program_environment


def test_the_examples_own_tests_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_members.py"],
        cwd=ROOT / "docs" / "examples",
        env=program_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
