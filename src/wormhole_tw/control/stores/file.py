"""The store that is one TOML file, ``edge.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig, Override
from wormhole_tw.control.files import Look, Signatures, files_named, look, read_toml, signatures
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
        self._seen: Signatures = signatures([self._file])

    def load(self) -> Snapshot:
        """Read and check the file; see :meth:`IStore.load`."""
        # What is looked at before it is read: a change that comes meanwhile is found later.
        own = signatures([self._file])
        self._seen = {**self._seen, **own}
        source = str(self.path)
        raw = read_toml(self._file, source)
        folder = self._file.parent
        self._seen = {**signatures(files_named(raw, folder)), **own}
        config = EdgeConfig.from_dict(raw, source=source, folder=folder, overrides=self._overrides)
        return Snapshot(config, build_catalog(config))

    def read(self, reactor: IReactorThreads) -> Deferred[Snapshot]:
        """The same in a thread of the reactor's pool: ten thousand sites take seconds to parse."""
        return deferToThreadPool(reactor, reactor.getThreadPool(), self.load)

    def look(self) -> Look:
        """Look at the file, and at those that it names; see :meth:`IStore.look`."""
        return look(self._seen)
