"""The files that a configuration is made of, and whether they are still what they were when it was read.

What decides is always a look at the files themselves, which goes through every symbolic link.  So it does not matter
how a file changes: written in place, replaced by another one as editors do, or by a folder that a link points to, as
Kubernetes does with a ConfigMap.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from wormhole_tw.errors import ConfigError

__all__ = ["Look", "Signatures", "files_named", "look", "read_toml", "signatures"]

#: Keys whose values are files or folders that are read with the configuration; so is every key that ends in "file".
#: What an edge writes itself (state, the access log) is not among them.
_KEYS = frozenset({"certificate", "key", "client_ca", "error_pages", "page"})

#: Characters of a value that is still looked up on the disk: what is longer is a text, and no path.
_LONGEST = 4096

#: Symbolic links on the way to one file; Linux itself follows 40.
_MOST_LINKS = 64

Signatures = Mapping[Path, tuple[object, ...] | None]
"""Each file or folder with what tells it from a later one; None where there is nothing."""


class Look(NamedTuple):
    """How it stands with files.

    :ivar changed: those that are not what they were
    :ivar folders: the real folders in which a change would be seen
    """

    changed: tuple[Path, ...]
    folders: frozenset[str]


def read_toml(path: str | Path, source: str) -> dict[str, object]:
    """What a TOML file holds.

    :param source: what errors call it
    :raises ConfigError: it cannot be read, or is no TOML
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(source, "", f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, "", f"not UTF-8 text (octet {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, "", f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(source, "", "not valid TOML: nested too deeply") from error
    except ValueError as error:  # from Python itself: a number of thousands of digits
        raise ConfigError(source, "", f"not valid TOML: {error}") from error


def files_named(raw: Mapping[str, object], folder: Path) -> frozenset[Path]:
    """The files and folders that a configuration names, absolute, there or not.

    It need not be right: one whose certificate is missing is read again when that appears.

    :param raw: what the file holds
    :param folder: what relative paths are relative to
    """
    return frozenset(folder / text for text in _texts(raw, named=False))


def _texts(value: object, *, named: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # under error_pages stand statuses, each with a file or a text
            yield from _texts(inner, named=named or key in _KEYS or key.endswith("file"))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, named=named)
    elif named and isinstance(value, str) and _may_be_path(value):
        yield value


def _may_be_path(text: str) -> bool:
    return bool(text) and len(text) <= _LONGEST and not text.lstrip().startswith("<") and text.isprintable()


def signatures(files: Iterable[Path]) -> Signatures:
    """Look at files and folders. It blocks; what cannot be read counts as not there."""
    return {path: _signature(path) for path in files}


def look(before: Signatures) -> Look:
    """Look at them again. It blocks."""
    now = signatures(before)
    folders = {os.path.realpath(folder) for path in now for folder in _on_the_way(path)}
    return Look(
        tuple(sorted(path for path in now if now[path] != before[path])),
        frozenset(folder for folder in folders if os.path.isdir(folder)),
    )


def _signature(path: Path) -> tuple[object, ...] | None:
    try:
        own = _of_status(path.stat())
        if not path.is_dir():
            return own
        with os.scandir(path) as entries:
            return (*own, *sorted((entry.name, _of_entry(entry)) for entry in entries))
    except (OSError, ValueError):
        return None


def _of_entry(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        return _of_status(os.stat(entry.path))  # its own stat() would be that of the link
    except OSError:
        return ()


def _of_status(status: os.stat_result) -> tuple[int, ...]:
    # the time of change too: a file that may be read at last is a change
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _on_the_way(path: Path) -> set[Path]:
    """The folders in which something that leads to a file stands: itself, and each symbolic link."""
    found, todo, links = set(), [path], 0
    if os.path.isdir(path):
        found.add(path)
    while todo:
        here = todo.pop()
        found.add(here.parent)
        for part in (here, *here.parents):
            if links < _MOST_LINKS and os.path.islink(part):
                links += 1
                found.add(part.parent)
                with suppress(OSError):  # gone meanwhile
                    todo.append(Path(os.path.normpath(part.parent / os.readlink(part))))
    return found
