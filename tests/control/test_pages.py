"""Error pages and the access log, as edge.toml tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.config import AccessLogConfig, EdgeConfig
from wormhole_tw.control.model import ErrorPages
from wormhole_tw.control.pages import MAX_PAGE
from wormhole_tw.control.reload import restart_needed
from wormhole_tw.errors import ConfigError


def pages(value: Any, folder: Path) -> ErrorPages:
    found = make(sample(**{"sites.0.error_pages": value}), folder=str(folder)).sites[0].error_pages
    assert found is not None
    return found


def refused(value: Any, folder: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        pages(value, folder)
    assert caught.value.key.startswith("$.sites[0].error_pages")
    return caught.value


def test_none_is_the_default() -> None:
    assert make().sites[0].error_pages is None


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("404.html", "404.json", "4xx.txt", "5xx.html", "style.css", "500.html~", "index.html"):
        (folder / name).write_text(name)
    found = pages("pages", tmp_path)
    assert found.kinds(404) == {"html": b"404.html", "json": b"404.json", "text": b"4xx.txt"}
    assert found.kinds(403) == {"text": b"4xx.txt"}
    assert found.kinds(503) == {"html": b"5xx.html"}
    assert found.kinds(302) == {}


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "busy.json").write_text('{"busy": true}')
    found = pages({"404": "<h1>Nothing here</h1>", "4xx": "No.", "503": "busy.json"}, tmp_path)
    assert found.kinds(404) == {"html": b"<h1>Nothing here</h1>", "text": b"No."}
    assert found.kinds(503) == {"json": b'{"busy": true}'}


def test_what_is_wrong_names_its_key(tmp_path: Path) -> None:
    assert "expected a string or a table" in str(refused(7, tmp_path))
    assert "there is no page" in str(refused({}, tmp_path))
    assert "a page is for a status" in str(refused({"200": "x"}, tmp_path))
    missing = refused({"404": "missing.html"}, tmp_path)
    assert missing.key == "$.sites[0].error_pages.404"
    assert "missing.html cannot be read: No such file" in missing.reason
    assert "cannot be read" in str(refused({"404": "a\0b.html"}, tmp_path))
    assert "is empty" in str(refused({"404": " \n"}, tmp_path))
    assert "longer than" in str(refused({"404": "x" * (MAX_PAGE + 1)}, tmp_path))
    assert "the folder nowhere cannot be read" in str(refused("nowhere", tmp_path))
    assert "no path" in str(refused("", tmp_path))
    (tmp_path / "empty").mkdir()
    assert "there is no page in empty" in str(refused("empty", tmp_path))
    (tmp_path / "empty" / "404.html").write_bytes(b"\xff")
    assert "404.html is not UTF-8" in str(refused("empty", tmp_path))


def log_of(folder: Path, **table: str) -> EdgeConfig:
    return make(sample(access_log=table), folder=str(folder))


def test_the_access_log(tmp_path: Path) -> None:
    assert make().access_log is None
    assert log_of(tmp_path, path="-").access_log == AccessLogConfig("-", "json")
    found = log_of(tmp_path, path="access.log", format="combined").access_log
    assert found == AccessLogConfig(str(tmp_path / "access.log"), "combined")
    assert restart_needed(make(folder=str(tmp_path)), log_of(tmp_path, path="-")) == ["$.access_log"]


@pytest.mark.parametrize(
    ("table", "key", "reason"),
    [
        ({}, "$.access_log.path", "missing"),
        ({"path": ""}, "$.access_log.path", "no path"),
        ({"path": "logs/access.log"}, "$.access_log.path", "there is no folder"),
        ({"path": "."}, "$.access_log.path", "is a folder"),
        ({"path": "-", "format": "xml"}, "$.access_log.format", 'expected one of "combined", "json"'),
        ({"path": "-", "fromat": "json"}, "$.access_log.fromat", "did you mean format?"),
    ],
)
def test_an_access_log_that_cannot_be(tmp_path: Path, table: dict[str, str], key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        log_of(tmp_path, **table)
    assert caught.value.key == key
    assert reason in caught.value.reason
