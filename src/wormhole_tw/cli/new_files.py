"""Writing several new files into a folder: all of them or none, whole, and over nothing that is there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wormhole_tw.errors import ConfigError

__all__ = ["NewFile", "write_new"]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written.

    :ivar mode: its permissions, whatever the umask
    :ivar what: what it is, for people
    """

    name: str
    content: bytes
    mode: int
    what: str


def write_new(directory: Path, files: Sequence[NewFile]) -> None:
    """Write ``files`` into ``directory``, which is made where it is missing.

    Each appears whole, under its name or not at all, also after a crash: it is written under another name first and
    then linked, which the system refuses where something has the name by then.

    :raises ConfigError: one is there already, or cannot be written; then none is there that was not before
    """
    taken = [file.name for file in files if os.path.lexists(directory / file.name)]
    if taken:
        raise _exists(directory, taken)
    made = not directory.exists()
    drafts: list[tuple[Path, NewFile]] = []
    done: list[Path] = []
    try:
        directory.mkdir(exist_ok=True)
        for file in files:
            draft = directory / f".{file.name}.{secrets.token_hex(8)}"
            drafts.append((draft, file))
            _write(draft, file)
        for draft, file in drafts:
            os.link(draft, directory / file.name)
            done.append(directory / file.name)
        _sync(directory)
    except OSError as error:
        for path in done:
            path.unlink(missing_ok=True)
        _remove(drafts)
        if made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        if isinstance(error, FileExistsError) and directory.is_dir():
            raise _exists(directory, [file.name for _, file in drafts[len(done) : len(done) + 1]]) from None
        raise ConfigError(str(directory), "", f"cannot be written: {error.strerror}; nothing was") from None
    _remove(drafts)


def _write(path: Path, file: NewFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, file.mode)
        stream.write(file.content)
        stream.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(drafts: Sequence[tuple[Path, NewFile]]) -> None:
    for draft, _ in drafts:
        draft.unlink(missing_ok=True)


def _exists(directory: Path, names: Sequence[str]) -> ConfigError:
    said = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    reason = f"{said} {'are' if len(names) > 1 else 'is'} there already, and nothing was written"
    return ConfigError(
        str(directory), "", f"{reason}; move {'them' if len(names) > 1 else 'it'} away, or choose another --directory"
    )
