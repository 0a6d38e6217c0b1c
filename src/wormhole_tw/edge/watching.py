"""Reloading by itself when a file of the configuration changes (``edge.watch``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from wormhole_tw.edge.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.interfaces import IStore

__all__ = ["ReloadWatch"]

SHOWN = 3
"""Names of changed files in a line of the log."""

log = Logger()


class ReloadWatch:
    """Has an edge reload while its configuration says that it shall.

    :param store: whose files are looked at; None where nothing can be read anew
    :param reload: reads it anew
    """

    def __init__(self, reactor: Any, store: IStore | None, reload: Callable[[], Deferred[None]]) -> None:
        self._reactor = reactor
        self._store = store
        self._reload = reload
        self._watch: FileWatch | None = None

    def adopt(self, config: EdgeConfig) -> None:
        """Watch, or not, as this configuration says."""
        if config.watch and self._watch is None and self._store is not None:
            self._watch = FileWatch(self._reactor, self._store.look, self._changed)
            self._watch.start()
        elif not config.watch:
            self.stop()

    def stop(self) -> Deferred[None]:
        """Watch no more; fires when nothing of it is left. Safe to call twice."""
        watch, self._watch = self._watch, None
        return succeed(None) if watch is None else watch.stop()

    def _changed(self, files: tuple[Path, ...]) -> Deferred[None]:
        names = ", ".join(path.name for path in files[:SHOWN])
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        log.info("{files} changed: reloading", files=f"{names}{more}")
        return self._reload()
