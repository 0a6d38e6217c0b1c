"""Which files a configuration depends on, and whether they are what they were."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from wormhole_tw.control.files import Look, files_named, look, signatures

TOML = """
[edge]
name = "app"
https = ["tcp:443"]
state = "state"
[tls]
certificates = [{ certificate = "chain.pem", key = "/etc/key.pem" }]
directory_ca_file = "ca.pem"
[access_log]
path = "access.log"
[[sites]]
hostnames = ["app.example.test"]
client_ca = "visitors.pem"
error_pages = { 404 = "404.html", 5xx = "<p>sorry</p>" }
routes = [{ path = "/", backend = "app" }]
[[sites]]
hostnames = ["b.example.test"]
error_pages = "pages"
"""


def test_the_files_that_it_names(tmp_path: Path) -> None:
    named = {"chain.pem", "ca.pem", "visitors.pem", "404.html", "pages"}
    wanted = {tmp_path / name for name in named} | {Path("/etc/key.pem")}
    assert files_named(tomllib.loads(TOML), tmp_path) == wanted


@pytest.mark.parametrize("value", ["", "x" * 5000, "<p>a page</p>", "a\nb", "a\0b", 7, True, None])
def test_what_can_be_no_path_is_left_out(tmp_path: Path, value: object) -> None:
    assert files_named({"certificate": value, "file": [value]}, tmp_path) == frozenset()


def beside(path: Path, text: str) -> None:
    """As editors do: a new file, and then its name."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("longer"),
        lambda file: beside(file, "1"),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o600),
    ],
)
def test_a_change_is_seen(tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("1")
    other = tmp_path / "other.toml"
    before = signatures([file, other])
    assert look(before) == Look((), frozenset({os.path.realpath(tmp_path)}))
    change(file)
    assert look(before).changed == (file,)
    other.write_text("there")
    assert look(before).changed == (file, other)


def test_a_folder_is_what_is_in_it(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("x")
    (pages / "dangling").symlink_to("nowhere")
    before = signatures([pages])
    assert look(before) == Look((), frozenset({os.path.realpath(tmp_path), os.path.realpath(pages)}))
    (pages / "404.html").write_text("xy")
    assert look(before).changed == (pages,)


def test_links_are_followed_and_watched_where_they_stand(tmp_path: Path) -> None:
    """A ConfigMap of Kubernetes, mounted under a folder that is a link, too."""
    real = tmp_path / "real"
    (real / "..1").mkdir(parents=True)
    (real / "..1" / "edge.toml").write_text("1")
    (real / "..data").symlink_to("..1")
    (real / "edge.toml").symlink_to("..data/edge.toml")
    (tmp_path / "etc").symlink_to("real")
    file = tmp_path / "etc" / "edge.toml"
    before = signatures([file])
    here = {os.path.realpath(folder) for folder in (tmp_path, real, real / "..1")}
    assert look(before) == Look((), frozenset(here))
    (real / "..2").mkdir()
    (real / "..2" / "edge.toml").write_text("1")
    (real / "..tmp").symlink_to("..2")
    (real / "..tmp").replace(real / "..data")
    assert look(before).changed == (file,)


def test_links_in_a_circle_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert look(signatures([tmp_path / "a"])) == Look((), frozenset({os.path.realpath(tmp_path)}))
