"""Helpers that tests of several floors share: sizes, programs and the recorded corpus."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

SRC = ROOT / "src"

TRANSPORTS = "WORMHOLE_TRANSPORTS"
"""The variable that says whose transports are used, which ``--transports`` sets."""

FULL = os.environ.get("WORMHOLE_FULL") == "1"
"""Whether the full sizes and counts are asked for (``make test-full``)."""

IN_CI = os.environ.get("CI", "").lower() in ("true", "1")


def sized(ordinary: T, full: T) -> T:
    """A size or count: the ordinary one, or under ``make test-full`` the full one."""
    return full if FULL else ordinary


def missing(what: str) -> NoReturn:
    """End a test for want of something: a skip on a person's machine, a failure where CI promises to have it."""
    if IN_CI:
        pytest.fail(f"{what} is missing here, and CI must have it", pytrace=False)
    pytest.skip(f"needs {what}")


def require_program(name: str) -> str:
    """The path of a program (``nginx``, ``curl`` …), or the end of the test by :func:`missing`."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        missing(f"the program {name}")
    return found


def require_corpus(*parts: str) -> Path:
    """A path in the folder of recordings shared beside the checkout (``WORMHOLE_SHARED``, else ``../shared``)."""
    path = Path(os.environ.get("WORMHOLE_SHARED") or ROOT.parent / "shared").joinpath(*parts)
    if not path.exists():
        missing(f"the corpus {'/'.join(parts)}")
    return path


def program_environment(**changes: str) -> dict[str, str]:
    """The environment for a subprocess that imports the package from this checkout.

    Every ``FLY_*`` and ``WORMHOLE_*`` variable of the person who runs the tests is left out, and so are that person's
    proxies; whose transports are used was decided for the whole run.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLY_", "WORMHOLE_", "COVERAGE_")) and not name.lower().endswith("_proxy")
    }
    paths = [str(SRC), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if TRANSPORTS in os.environ:
        environment[TRANSPORTS] = os.environ[TRANSPORTS]
    environment.update(changes)
    return environment
