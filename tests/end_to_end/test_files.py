"""Real files through the whole path, and bodies of a gigabyte in a bounded amount of memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import quote

import pytest

from tests._support import sized
from tests.end_to_end.house import House
from tests.end_to_end.origin import Call, Origin

MIB = 1024 * 1024
SIZE = sized(64, 1024) * MIB
"""Octets of the large body, either way."""

MOST_MEMORY = 200_000_000
"""What edge and agent may each hold resident, whatever passes through them."""


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_file(path: Path, size: int) -> Path:
    """A file of random octets: nothing on the way may shrink it."""
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(os.urandom(min(left, MIB)))
    return path


def serve_folder(house: House, folder: Path) -> int:
    """``python -m http.server``, as anybody starts it; gives its port."""
    server = house.programs.python("files", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder))
    return int(server.wait_for(r"Serving HTTP on .* port (\d+)")[1])


def test_a_tree_of_files_by_curl(house: House, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    # Real files of many kinds and sizes: two packages of the standard library, with names that need escapes beside.
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library / "email", tree / "email", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(library / "asyncio", tree / "asyncio", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "a name with spaces & ümläuts #1.txt").write_text("here\n")
    (tree / "empty").touch()
    shutil.copy(sys.executable, tree / "python")
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert len(files) > 50

    house.start_edge()
    house.agent("agent", serve_folder(house, tree))
    wishes = []
    for path in files:
        wishes += [f'url = "{house.url("/" + quote(path.as_posix()))}"', f'output = "{house.folder / "got" / path}"']
    (house.folder / "wishes").write_text("\n".join(wishes))
    fetched = house.curl("--fail", "--create-dirs", "--parallel", "--config", "wishes")
    assert fetched.returncode == 0, fetched
    different = subprocess.run(
        ["diff", "--recursive", "--brief", str(tree), str(house.folder / "got")], capture_output=True, check=False
    )
    assert different.stdout == b""
    assert house.get("/no-such-file").status == 404


@pytest.mark.deadline(sized(60, 600))
def test_a_large_file_down(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    expected = digest_of(make_file(folder / "large", SIZE))
    edge = house.start_edge()
    agent = house.agent("agent", serve_folder(house, folder))

    fetched = house.curl("--fail", "--output", "large", house.url("/large"), deadline=500)
    assert fetched.returncode == 0, fetched
    assert digest_of(house.folder / "large") == expected
    assert edge.peak_memory() < MOST_MEMORY
    assert agent.peak_memory() < MOST_MEMORY


@pytest.mark.deadline(sized(60, 600))
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_body_up_to_a_service_that_hashes_it(house: House, origin: Origin, chunked: bool) -> None:
    def take(call: Call) -> None:
        digest, size = hashlib.sha256(), 0
        for piece in call.body():
            digest.update(piece)
            size += len(piece)
        call.answer(f"{size} {digest.hexdigest()}".encode())

    origin.routes["/up"] = take
    expected = digest_of(make_file(house.folder / "large", SIZE))
    edge = house.start_edge()
    agent = house.agent("agent", origin.port)

    extra = ["--header", "Transfer-Encoding: chunked"] if chunked else []
    sent = house.curl("--fail", "--upload-file", "large", *extra, house.url("/up"), deadline=500)
    assert sent.stdout.decode() == f"{SIZE} {expected}", sent
    assert edge.peak_memory() < MOST_MEMORY
    assert agent.peak_memory() < MOST_MEMORY
