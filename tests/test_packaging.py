"""What is installed: from a wheel, an sdist and an editable checkout alike, with both ``twistd`` commands found."""

from __future__ import annotations

import email.message
import email.parser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import _support

pytestmark = pytest.mark.deadline(120)

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "_build", "htmlcov"
)

COMMANDS = ("wormhole-edge", "wormhole-agent")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of this checkout; its failure fails the test with its output."""
    environment = _support.program_environment(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INDEX="1")
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, so that building leaves nothing in it and nothing built before gets in."""
    return Path(
        shutil.copytree(
            _support.ROOT, tmp_path_factory.mktemp("checkout") / "wormhole", symlinks=True, ignore=NOT_COPIED
        )
    )


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of the checkout, and the wheel of that sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, checkout, cwd=out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


class Home:
    """A new virtual environment that holds only our package; its dependencies are read from the running one's.

    The running environment's folder is named in a ``.pth`` file: ``.pth`` files in *that* folder are then not read, so
    that an editable install there does not reach in here, and no network is needed.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        (site,) = (folder / "lib").glob("python*/site-packages")
        lines = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
        (site / "dependencies.pth").write_text("\n".join(lines) + "\n")

    def install(self, *what: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet"]
        run(*pip, "--no-deps", "--no-build-isolation", "--ignore-installed", *what, cwd=self.folder)

    def twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = Path(sysconfig.get_path("scripts"), "twistd")
        return run(self.python, script, *arguments, cwd=self.folder)


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_an_install_has_both_commands(
    kind: str, checkout: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    home = Home(tmp_path / "venv")
    if kind == "editable":
        home.install("--editable", checkout)
    else:
        home.install(getattr(request.getfixturevalue("built"), kind))

    seen = run(
        home.python,
        "-c",
        "import json, wormhole_tw\n"
        "from importlib.metadata import version\n"
        "from twisted.application.service import IServiceMaker\n"
        "from twisted.plugin import getPlugins\n"
        "names = sorted(plugin.tapname for plugin in getPlugins(IServiceMaker) if 'wormhole' in plugin.tapname)\n"
        "print(json.dumps([wormhole_tw.__file__, wormhole_tw.__version__, version('wormhole-tw'), names]))\n",
        cwd=tmp_path,
    )
    assert "Traceback" not in seen.stderr
    place, version, installed_version, names = json.loads(seen.stdout)
    assert Path(place).is_relative_to(checkout / "src" if kind == "editable" else home.folder)
    assert version == installed_version
    assert names == sorted(COMMANDS)

    shown = home.twistd("--help")
    assert "Traceback" not in shown.stderr
    for command in COMMANDS:
        assert command in shown.stdout
        assert "Usage: " in home.twistd(command, "--help").stdout
        assert version in home.twistd(command, "--version").stdout


def test_the_console_script(built: Built, tmp_path: Path) -> None:
    home = Home(tmp_path / "venv")
    home.install(built.wheel)
    assert "demo" in run(home.folder / "bin" / "wormhole-tw", "--help", cwd=tmp_path).stdout


def _metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def test_what_is_in_the_wheel(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    assert {"wormhole_tw/py.typed", "twisted/plugins/wormhole_dropin.py"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    # An __init__.py there would hide Twisted's own plugins; tests and docs are no part of what runs.
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/wormhole_dropin.py"}
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"wormhole_tw", "twisted"}
    sources = {path.relative_to(_support.SRC).as_posix() for path in (_support.SRC / "wormhole_tw").rglob("*.py")}
    assert sources <= names


def test_what_the_wheel_says(built: Built) -> None:
    metadata = _metadata(built.wheel)
    assert metadata["License-Expression"] == "MIT"
    requirements = metadata.get_all("Requires-Dist") or []
    for name in ("Twisted[tls]", "pyOpenSSL", "service-identity", "treq", "httptools", "msgspec"):
        assert any(line.startswith(name) and "extra" not in line for line in requirements), name
    # The dev extra takes in the test extra by setup.cfg's interpolation.
    for extra in ("test", "dev"):
        assert any(line.startswith("pytest-twisted") and f'extra == "{extra}"' in line for line in requirements)
    assert not any("%(" in line for line in requirements)


def test_what_is_in_the_sdist(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    needed = {
        "Makefile",
        "CHANGELOG.md",
        "LICENSE",
        "setup.cfg",
        "pyproject.toml",
        ".ci/run",
        "docs/conf.py",
        "docs/index.md",
        "tests/conftest.py",
        "tests/test_packaging.py",
        "tests/wire/__init__.py",
        "twisted/plugins/wormhole_dropin.py",
        "src/twisted/plugins/wormhole_dropin.py",
        "src/wormhole_tw/py.typed",
    }
    assert needed <= names
    vectors = {path.relative_to(_support.ROOT).as_posix() for path in (_support.ROOT / "tests/vectors").glob("*.json")}
    assert vectors <= names
    assert not [name for name in names if name.endswith((".pyc", "dropin.cache")) or "_build" in name]


def test_the_plugins_folder_is_one_and_has_no_init() -> None:
    """An editable install shows the plugins because ``src/twisted`` is the folder beside ``setup.cfg``."""
    inside = _support.SRC / "twisted"
    assert os.path.samefile(inside, _support.ROOT / "twisted") or not (_support.ROOT / ".git").exists()
    assert not list((_support.ROOT / "twisted").rglob("__init__.py"))
