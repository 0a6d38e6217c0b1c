"""The store that is one TOML file, ``edge.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig, Override
from wormhole_tw.control.interfaces import IStore, Snapshot

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorThreads

__all__ = ["FileStore"]


@implementer(IStore)
class FileStore:
    """Reads ``path`` anew each time it is asked; ``overrides`` (options, environment) win over the file each time.

    A relative path is relative to the folder in which the store is made: a daemon may change its own later.

    :ivar path: the file, as the operator named it
    """

    def __init__(self, path: str | Path, overrides: Mapping[str, Override] | None = None) -> None:
        self.path = path
        self._file = Path(path).absolute()
        self._overrides = dict(overrides or {})

    def load(self) -> Snapshot:
        """Read and check the file; see :meth:`IStore.load`."""
        config = EdgeConfig.load(self._file, self._overrides, source=str(self.path))
        return Snapshot(config, build_catalog(config))

    def read(self, reactor: IReactorThreads) -> Deferred[Snapshot]:
        """The same in a thread of the reactor's pool: ten thousand sites take seconds to parse."""
        return deferToThreadPool(reactor, reactor.getThreadPool(), self.load)
