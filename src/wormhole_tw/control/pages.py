"""A site's own error pages, read, checked and bounded with the configuration: no request waits for a disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wormhole_tw.errors import ConfigError

from .model import ErrorPages

__all__ = ["MAX_PAGE", "read_page", "read_pages", "read_text"]

#: Octets of one page: ten times a plain one with its style in it; a thousand sites with five pages stay in memory.
MAX_PAGE = 65536

#: How the name of a file says what it holds.
_KINDS = {".html": "html", ".txt": "text", ".json": "json"}

_FOR = re.compile(r"[45](?:[0-9][0-9]|xx)", re.ASCII)
_FOR_HINT = "a page is for a status (404) or a class of them (4xx, 5xx)"

#: What stands in place of a page and is a file's name: one word with an ending that says what the page is.
_FILE = re.compile(r"\S+\.(?:html|txt|json)", re.ASCII)


def read_pages(value: str | Mapping[str, str], folder: Path, source: str, key: str) -> ErrorPages:
    """Read the pages that ``error_pages`` names: a folder of them, or a table of files and inline texts.

    :param folder: what relative paths are relative to
    :raises ConfigError: a file or folder that is not there; a page that is empty, too long or no UTF-8; no page at all
    """
    pages: dict[tuple[str, str], bytes] = {}
    if isinstance(value, str):
        for path in _files(folder / value, value, source, key):
            pages[path.stem, _KINDS[path.suffix]] = read_text(path, source, key)
        if not pages:
            raise ConfigError(source, key, f"there is no page in {value}: 404.html, 5xx.html, 503.txt, 4xx.json …")
        return ErrorPages(pages)
    for name, text in value.items():
        page_key = f"{key}.{name}"
        if _FOR.fullmatch(name) is None:
            raise ConfigError(source, page_key, _FOR_HINT)
        suffix, page = read_page(text, folder, source, page_key)
        pages[name, _KINDS[suffix]] = page
    if not pages:
        raise ConfigError(source, key, "there is no page in it")
    return ErrorPages(pages)


def read_page(text: str, folder: Path, source: str, key: str) -> tuple[str, bytes]:
    """Read a page that is the name of a file, or the page itself.

    :returns: the ending of such a file (``.html``, ``.txt`` or ``.json``), and the page
    :raises ConfigError: a file that is not there; a page that is empty, too long or no UTF-8
    """
    if _FILE.fullmatch(text):
        path = folder / text
        return path.suffix, read_text(path, source, key)
    suffix = ".html" if text.lstrip().startswith("<") else ".txt"
    return suffix, _checked(text.encode(errors="surrogatepass"), "it", source, key)


def _files(folder: Path, name: str, source: str, key: str) -> list[Path]:
    if not name or "\0" in name:
        raise ConfigError(source, key, "no path")
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(source, key, f"the folder {name} cannot be read: {error.strerror}") from error
    return [path for path in files if path.suffix in _KINDS and _FOR.fullmatch(path.stem)]


def read_text(path: Path, source: str, key: str) -> bytes:
    """Read a file of text, as long as a page may be.

    :raises ConfigError: it cannot be read, is empty, too long or no UTF-8
    """
    try:
        with path.open("rb") as file:
            page = file.read(MAX_PAGE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(source, key, f"the page {path.name} cannot be read: {reason}") from error
    return _checked(page, path.name, source, key)


def _checked(page: bytes, name: str, source: str, key: str) -> bytes:
    if not page.strip():
        raise ConfigError(source, key, f"{name} is empty")
    if len(page) > MAX_PAGE:
        raise ConfigError(source, key, f"{name} is longer than {MAX_PAGE} octets")
    try:
        page.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(source, key, f"{name} is not UTF-8 text (octet {error.start})") from error
    return page
