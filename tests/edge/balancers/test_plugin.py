"""A balancer that comes as a plugin of Twisted's: the one on the page, in a program that has nothing but its folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests._support import ROOT, program_environment
from wormhole_tw.control.tokens import digest_line

PAGE = (ROOT / "docs" / "balancing.md").read_text()

CONFIG = f"""
[edge]
https = ["tcp:8443"]
[[backends]]
name = "app"
tokens = ["{digest_line("a-token-of-a-test")}"]
[backends.balance]
method = "METHOD"
[[sites]]
hostnames = ["app.example.test"]
[[sites.routes]]
path = "/"
backend = "app"
"""

USE = """
from random import Random
from wormhole_tw.control.balancing import Balance
from wormhole_tw.edge.balancers import balancer
found = balancer(Balance(method="first_come", settings=(("a", "1"),)), Random(1))
print(type(found).__name__, found.pick(["first", "second"], None, 0.0))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    found = re.search(r"```python\n# twisted/plugins/first_come.py\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (plugins / "first_come.py").write_text(found[1])
    return tmp_path


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = program_environment()
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), environment["PYTHONPATH"]))
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=environment, cwd=folder, timeout=60, check=False
    )


def test_the_one_on_the_page_is_found_and_used(folder: Path) -> None:
    ran = run(folder, "-c", USE)
    assert ran.stdout == "FirstCome first\n", ran.stderr


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("first_come", "edge.toml: good."),
        (
            "last_come",
            "$.backends[0].balance.method: no balancer is called last_come; there are first_come, hash, least_busy",
        ),
    ],
)
def test_edge_check_knows_it(folder: Path, method: str, said: str) -> None:
    (folder / "edge.toml").write_text(CONFIG.replace("METHOD", method))
    ran = run(folder, "-m", "wormhole_tw.cli.main", "edge", "check", "edge.toml")
    assert said in ran.stdout + ran.stderr
    assert (ran.returncode == 0) is (method == "first_come")
