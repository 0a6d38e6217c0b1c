"""Middleware from its module or file: read anew where that has changed, and refused with the line of its mistake."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wormhole_tw.errors import ConfigError

if TYPE_CHECKING:
    from wormhole_tw.control.middleware import MiddlewareSettings
    from wormhole_tw.middleware import Middleware

__all__ = ["Loaded", "Loader", "make"]

_PACKAGE = __name__.partition(".")[0] + "."
"""What is ours is never read anew: a new version of it comes with a restart."""

MAX_SOURCE = 1 << 22
"""Octets of a file that is read as Python: more is no program, and it would hold the reactor up."""


class Loaded:
    """A module, and the text that it was made of (None where it has none, or is ours)."""

    __slots__ = ("module", "source")

    def __init__(self, module: ModuleType, source: bytes | None) -> None:
        self.module = module
        self.source = source


class Loader:
    """Loads modules for one configuration: each once, however many sites name it."""

    __slots__ = ("_loaded", "_undo")

    def __init__(self) -> None:
        self._loaded: dict[str | Path, Loaded] = {}
        self._undo: list[tuple[str, ModuleType | None]] = []

    def undo(self) -> None:
        """The configuration is refused: the modules from before stand where they stood."""
        for name, before in reversed(self._undo):
            if before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before
        self._undo.clear()

    def load(self, settings: MiddlewareSettings) -> Loaded:
        """The module of a middleware.

        :raises ConfigError: it cannot be had, with the file and line of its mistake
        """
        place: str | Path | None = settings.module or settings.file
        assert place is not None
        loaded = self._loaded.get(place)
        if loaded is None:
            loaded = self._file(place, settings) if isinstance(place, Path) else self._module(place, settings)
            self._loaded[place] = loaded
        return loaded

    def _file(self, path: Path, settings: MiddlewareSettings) -> Loaded:
        try:
            source = _read(path)
        except (OSError, ValueError) as error:
            reason = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
            raise ConfigError(settings.source, f"{settings.key}.file", reason) from None
        name = f"wormhole_middleware_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        known = sys.modules.get(name)
        if known is not None and getattr(known, "__wormhole_source__", None) == source:
            return Loaded(known, source)
        module = ModuleType(name)
        module.__file__ = str(path)
        self._execute(module, source, settings, "file")
        return Loaded(module, source)

    def _module(self, name: str, settings: MiddlewareSettings) -> Loaded:
        known = sys.modules.get(name)
        if known is not None and not name.startswith(_PACKAGE):
            path = getattr(known, "__file__", None)
            before = getattr(known, "__wormhole_source__", None)
            if path is not None and path.endswith(".py") and before is not None:
                return self._again(known, Path(path), before, settings)
        importlib.invalidate_caches()  # its folder may be one that was not there when it was looked for before
        try:
            module = importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a module does when it is imported
            missing = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
            reason = f"there is no module {error.name}" if missing else _mistake(error, None)  # type: ignore[attr-defined]
            raise ConfigError(settings.source, f"{settings.key}.use", reason) from None
        return Loaded(module, _note_source(module))

    def _again(self, known: ModuleType, path: Path, before: bytes, settings: MiddlewareSettings) -> Loaded:
        """A module that was imported, in the text that its file has now."""
        try:
            source = _read(path)
        except (OSError, ValueError):
            source = before  # it is gone from the disk, and here
        if source == before:
            return Loaded(known, source)
        module = ModuleType(known.__name__, known.__doc__)
        for attribute in ("__file__", "__path__", "__package__", "__spec__", "__loader__"):
            if hasattr(known, attribute):
                setattr(module, attribute, getattr(known, attribute))
        self._execute(module, source, settings, "use")
        return Loaded(module, source)

    def _execute(self, module: ModuleType, source: bytes, settings: MiddlewareSettings, key: str) -> None:
        name = module.__name__
        path = str(module.__file__)
        self._undo.append((name, sys.modules.get(name)))
        # dataclasses, pickle and typing look a class's module up by its name
        sys.modules[name] = module
        module.__wormhole_source__ = source  # type: ignore[attr-defined]
        try:
            exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a module does when it is run
            raise ConfigError(settings.source, f"{settings.key}.{key}", _mistake(error, path)) from None


def make(loaded: Loaded, settings: MiddlewareSettings) -> Middleware:
    """The object: a class (or another factory) called with the settings, or what stands there already.

    :raises ConfigError: it is not there, the settings do not fit it, or it is no middleware
    """
    key = f"{settings.key}.use"
    if not hasattr(loaded.module, settings.name):
        file = f"{settings.file} has" if settings.file is not None else f"module {settings.module} has"
        hint = "" if settings.file is None else ': name what it has with use = "…"'
        raise ConfigError(settings.source, key, f"{file} no {settings.name}{hint}")
    found: Any = getattr(loaded.module, settings.name)
    if not inspect.isclass(found) and _is_middleware(found):
        if settings.settings:
            reason = f"{settings.shown} stands there ready made, and takes no settings"
            raise ConfigError(settings.source, f"{settings.key}.settings", reason)
        return found  # type: ignore[no-any-return]
    if inspect.iscoroutinefunction(found):
        raise ConfigError(
            settings.source, key, f"{settings.shown} is no middleware: async def, but not (request, next)"
        )
    if not callable(found):
        raise ConfigError(settings.source, key, f"{settings.shown} is no middleware: {_WANTED}")
    try:
        # its own: what it does to a list of them must not make the next reload believe that they have changed
        made = found(**deepcopy(dict(settings.settings)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever its code does
        kind = f"{settings.key}.settings"
        text = str(error) if isinstance(error, TypeError | ValueError) else _mistake(error, None)
        raise ConfigError(settings.source, kind, f"{settings.shown}: {text}{_line_of(error)}") from None
    if not _is_middleware(made):
        raise ConfigError(settings.source, key, f"{settings.shown} makes no middleware: {_WANTED}")
    return made  # type: ignore[no-any-return]


_WANTED = "it has no async def __call__(self, request, next)"


def _is_middleware(found: object) -> bool:
    if not inspect.iscoroutinefunction(found) and not inspect.iscoroutinefunction(_call_of(found)):
        return False
    try:
        inspect.signature(found).bind(None, None)  # type: ignore[arg-type]
    except TypeError:
        return False
    except ValueError:
        pass  # nobody can say what it takes
    return True


def _call_of(found: object) -> object:
    return next((vars(kind)["__call__"] for kind in type(found).__mro__ if "__call__" in vars(kind)), None)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_SOURCE + 1)
    if len(data) > MAX_SOURCE:
        raise ValueError(f"more than {MAX_SOURCE} octets")
    return data


def _note_source(module: ModuleType) -> bytes | None:
    """Remember what a module was made of, so that a change is seen."""
    if module.__name__.startswith(_PACKAGE):
        return None
    path = getattr(module, "__file__", None)
    if path is None or not path.endswith(".py"):
        return None
    try:
        source = _read(Path(path))
    except (OSError, ValueError):
        return None
    module.__wormhole_source__ = source  # type: ignore[attr-defined]
    return source


def _mistake(error: BaseException, path: str | None) -> str:
    """What is wrong, with file and line."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}, line {error.lineno}: {error.msg}"
    kind = type(error).__name__
    text = str(error)
    return f"{kind}{f': {text}' if text else ''}{_line_of(error)}"


def _line_of(error: BaseException) -> str:
    """The last line of code outside Python's and this package's own."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith("<") and frame.filename != __file__:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""
