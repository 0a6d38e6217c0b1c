"""Keys that sign dynamic DNS updates (TSIG, RFC 8945), read from the files in which name servers' tools write them.

A key lets its holder rewrite a zone: the file must be closed to others, and no error repeats anything that is in it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from wormhole_tw.errors import ConfigError

__all__ = ["TsigAlgorithm", "TsigKey", "read_key_file"]

#: Those of RFC 8945 §6 that are not weakened; md5 and sha1 are what nobody should begin with.
TsigAlgorithm = Literal["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224"]

DEFAULT_ALGORITHM: TsigAlgorithm = "hmac-sha256"

#: Octets: the longest that a tool writes is 300.
MAX_KEY_FILE = 4096

#: What others than the owner may do with the file: its group may read it, as name servers' packages set it up.
_TOO_OPEN = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO

_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_BIND = re.compile(r'\s*key\s+"?([^\s"{;]+)"?\s*\{(.*)\}\s*;?\s*', re.DOTALL)
_STATEMENT = re.compile(r'(algorithm|secret)\s+"?([^\s"{;]+)"?\s*;')
_KNOT = re.compile(r"\s*key:\s*\n\s*-(.*)", re.DOTALL)
_PAIR = re.compile(r'\b(id|algorithm|secret):\s*"?([^\s"]+)"?')
_SECRET = re.compile(r"\s*([A-Za-z0-9+/]+={0,2})\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared key.

    :ivar name: without the root's dot, lower case
    """

    name: str
    algorithm: TsigAlgorithm
    secret: bytes = field(repr=False)


def read_key_file(path: Path, name: str | None, algorithm: str | None, source: str, table: str) -> TsigKey:
    """Read a key: what ``tsig-keygen`` or ``keymgr -t`` wrote, or the secret alone, in base64.

    :param name: what the configuration says; None where the file has to
    :param algorithm: the same; with neither, :data:`DEFAULT_ALGORITHM`
    :param table: the key of the configuration's table, for errors
    :raises ConfigError: the file is not there, open to others, too long or no key; the file and the configuration
        do not say the same
    """
    key = f"{table}.key_file"
    text = _COMMENT.sub("", _read(path, source, key))
    said: dict[str, str] = {}
    if bare := _SECRET.fullmatch(text):
        said["secret"] = bare[1]
    elif bind := _BIND.fullmatch(text):
        said = {"id": bind[1], **dict(_STATEMENT.findall(bind[2]))}
    elif knot := _KNOT.fullmatch(text):
        said = dict(_PAIR.findall(knot[1]))
    try:
        secret = base64.b64decode(said.get("secret", ""), validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        reason = f"{path.name} holds no key: what tsig-keygen or keymgr -t writes, or its secret alone, in base64"
        raise ConfigError(source, key, reason)
    file_name = said.get("id", "").removesuffix(".").lower()
    if name is None and not file_name:
        raise ConfigError(source, f"{table}.key_name", f"missing, and {path.name} does not say it either")
    if name is not None and file_name and file_name != name:
        raise ConfigError(source, f"{table}.key_name", f"{path.name} holds a key of another name")
    file_algorithm = said.get("algorithm", "").removesuffix(".").lower()
    if algorithm is not None and file_algorithm and file_algorithm != algorithm:
        raise ConfigError(source, f"{table}.algorithm", f"{path.name} holds a key for another algorithm")
    chosen = algorithm or file_algorithm or DEFAULT_ALGORITHM
    for known in get_args(TsigAlgorithm):
        if chosen == known:
            return TsigKey(name or file_name, known, secret)
    known_ones = ", ".join(get_args(TsigAlgorithm))
    raise ConfigError(source, key, f"{path.name} holds a key for an algorithm that is not one of {known_ones}")


def _read(path: Path, source: str, key: str) -> str:
    try:
        # Not blocking, lest a pipe of that name hold up everything.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)  # of what was opened, whoever renames what in the meantime
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigError(source, key, f"{path.name} is no file")
            if facts.st_mode & _TOO_OPEN:
                mode = f"{stat.S_IMODE(facts.st_mode):04o}"
                reason = f"others may use {path.name} (mode {mode}): chmod 600, or 640 for a group that reads it"
                raise ConfigError(source, key, reason)
            data = os.read(descriptor, MAX_KEY_FILE + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(source, key, f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE:
        raise ConfigError(source, key, f"{path.name} is longer than {MAX_KEY_FILE} octets")
    return data.decode("ascii", errors="replace")
