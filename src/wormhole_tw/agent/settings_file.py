"""``./wormhole.yaml``: the agent's variables as lower-case keys without ``FLY_``, where the environment has none.

::

    token: wh_…
    remote_endpoint: edge.example.com
    local_endpoint: 127.0.0.1:8080

A value is the text that stands there: YAML's own idea of ``0123`` or ``yes`` changes no token.  Nothing in the file is
executed, and a reference is never followed further than to one value.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from wormhole_tw.errors import ConfigError

__all__ = ["FILE_NAME", "VARIABLES", "SettingsFile", "read_settings_file"]

_log = Logger()

FILE_NAME = "wormhole.yaml"

MAX_FILE = 64 * 1024
"""Octets of the file that are read: it holds a few dozen lines."""

VARIABLES = frozenset(
    {
        "FLY_DRAIN",
        "FLY_EDGES",
        "FLY_HEALTH_CHECK",
        "FLY_HEALTH_FALL",
        "FLY_HEALTH_HOST",
        "FLY_HEALTH_INTERVAL",
        "FLY_HEALTH_RISE",
        "FLY_HEALTH_STATUS",
        "FLY_HEALTH_TIMEOUT",
        "FLY_LOCALHOST",
        "FLY_LOCAL_ENDPOINT",
        "FLY_LOCAL_ENDPOINT_CA_CERT_FILE",
        "FLY_LOCAL_ENDPOINT_INSECURE_SKIP_VERIFY",
        "FLY_LOCAL_ENDPOINT_USE_TLS",
        "FLY_LOG_LEVEL",
        "FLY_PORT",
        "FLY_PROTO",
        "FLY_PROXY",
        "FLY_READY_FILE",
        "FLY_RELEASE_BRANCH",
        "FLY_RELEASE_BRANCH_VAR",
        "FLY_RELEASE_DESC",
        "FLY_RELEASE_DESC_VAR",
        "FLY_RELEASE_ID",
        "FLY_RELEASE_ID_VAR",
        "FLY_REMOTE_ENDPOINT",
        "FLY_START_TIMEOUT",
        "FLY_STOP_TIMEOUT",
        "FLY_TLS_CERT_FILE",
        "FLY_TOKEN",
        "FLY_TOKEN_FILE",
    }
)
"""What an agent reads from its environment, and so what the file may set."""

_NULL = "tag:yaml.org,2002:null"
_TOKENS = ("FLY_TOKEN", "FLY_TOKEN_FILE")


@dataclass(frozen=True)
class SettingsFile:
    """What the file says.

    :ivar name: how messages call it
    :ivar values: variable → text, for keys with a value
    """

    name: str = FILE_NAME
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def under(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment, with the file's values where it has none; an empty variable is none.

        The two that give the token are one setting: a ``FLY_TOKEN_FILE`` of the environment wins over a ``token`` here.
        """
        own = dict(self.values)
        if any(environ.get(name) for name in _TOKENS):
            for name in _TOKENS:
                own.pop(name, None)
        merged = dict(environ)
        merged.update((name, text) for name, text in own.items() if not environ.get(name))
        return merged

    def called(self, variable: str, environ: Mapping[str, str]) -> str:
        """How the operator called a setting: the variable, or the file and its key where the value came from there."""
        if variable in self.values and not environ.get(variable):
            return f"{self.name}: {_key(variable)}"
        return variable

    def renamed(self, error: ConfigError, environ: Mapping[str, str]) -> ConfigError:
        """The error, with the source that the operator knows."""
        source = self.called(error.source, environ)
        return error if source == error.source else type(error)(source, error.key, error.reason)


def read_settings_file(folder: str | os.PathLike[str] | None) -> SettingsFile:
    """Read ``wormhole.yaml`` in ``folder``; one without values where there is no such file, or no folder.

    A file with the token in it that others than its owner may read is worth a line in the log.

    :raises ConfigError: it cannot be read, is no YAML, or has a key or a value that is none; it names line and key,
        and never a value
    """
    if folder is None:
        return SettingsFile()
    path = Path(folder) / FILE_NAME
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return SettingsFile()
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
        if not _may_enter(path.parent):  # `sudo -u` in somebody's home: there may be no such file at all
            reason = "this user may not enter the folder where it is looked for; start the agent in another one"
        raise _wrong(reason) from None
    if len(data) > MAX_FILE:
        raise ConfigError(FILE_NAME, "", f"it is longer than {MAX_FILE} bytes, and can hardly be the agent's settings")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(FILE_NAME, "", "it is no UTF-8 text") from None
    values = _values(text)
    readers = [who for who, bit in (("its group", stat.S_IRGRP), ("everybody", stat.S_IROTH)) if mode & bit]
    if readers and "FLY_TOKEN" in values:
        _log.warn(
            "{file} holds the token, and may be read by {readers}: chmod 600 {file}",
            file=FILE_NAME,
            readers=" and ".join(readers),
        )
    return SettingsFile(FILE_NAME, values)


def _may_enter(folder: Path) -> bool:
    try:
        os.stat(os.path.join(folder, "."))
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def _values(text: str) -> dict[str, str]:
    """The variables that a text sets."""
    import yaml  # only who has a file needs it

    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        if isinstance(error, yaml.composer.ComposerError):  # its text may repeat a value that begins with * or &
            reason = "write one document of KEY: VALUE lines, and quotes round a value that begins with *"
            raise _wrong(where + reason) from None
        raise _wrong(f"{where}it is no YAML: {error.problem or error.context or 'it ends too soon'}") from None
    except yaml.YAMLError:
        raise _wrong("it is no YAML: it holds characters that no text has") from None
    except RecursionError:
        raise _wrong("it is nested too deeply; write KEY: VALUE lines") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise _wrong("write KEY: VALUE lines, as remote_endpoint: edge.example.com")
    values: dict[str, str] = {}
    seen: set[str] = set()
    for key, value in root.value:
        line = f"line {key.start_mark.line + 1}: "
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        variable = f"FLY_{name.upper()}"
        if not name or name != name.lower() or variable not in VARIABLES:
            raise _wrong(f"{line}unknown key{_shown(name)}")
        if name in seen:
            raise _wrong(f"{line}{name} stands here a second time")
        seen.add(name)
        text_value = _text(value, name, line)
        if text_value:
            values[variable] = text_value
    return values


def _text(node: Any, name: str, line: str) -> str:
    import yaml

    edges = name == "remote_endpoint"
    if edges and isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return ",".join(str(item.value) for item in node.value)
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(f"{line}{name}: give {'an edge, or a list of them' if edges else 'one value'}")
    if node.tag == _NULL:
        return ""
    if "\0" in node.value:
        raise _wrong(f"{line}{name}: it holds a NUL")
    return str(node.value)


def _key(variable: str) -> str:
    return variable.removeprefix("FLY_").lower()


def _shown(name: str) -> str:
    """What is known of an unknown key; its text only where it looks like a key: it may be a value out of its place."""
    if not name or len(name) > 40 or not name.replace("_", "").replace("-", "").isalnum():
        return "; write the names of the variables in lower case without FLY_"
    near = difflib.get_close_matches(
        name.lower().removeprefix("fly_").replace("-", "_"), [_key(variable) for variable in sorted(VARIABLES)], n=1
    )
    return f" {name}; did you mean {near[0]}?" if near else f" {name}"


def _wrong(reason: str) -> ConfigError:
    return ConfigError(FILE_NAME, "", reason)
