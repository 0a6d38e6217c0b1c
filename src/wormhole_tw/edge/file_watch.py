"""Finding out that files have changed: at once where the system tells (inotify), by looking now and then everywhere.

What the system tells only says when to look; a look at the files decides.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath

try:
    from twisted.internet import inotify
except ImportError:  # another system than Linux, or a C library without it
    inotify = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twisted.internet.interfaces import IDelayedCall

    from wormhole_tw.control.files import Look

__all__ = ["LOOK_ALONE", "LOOK_BESIDE", "MOST", "QUIET", "FileWatch"]

log = Logger()

QUIET = 0.25
"""Seconds without news before a look: several files that are written together are one change."""

MOST = 2.0
"""Seconds after the first news at the latest, however many follow."""

LOOK_ALONE = 1.0
"""Seconds between two looks where the system tells nothing."""

LOOK_BESIDE = 10.0
"""The same where it does: it says nothing of what another machine writes over a network, or of a folder above."""


class FileWatch:
    """Calls somebody when files have changed.

    :param reactor: time, threads, and where there is inotify descriptors
    :param look: looks at the files, in a thread: which are not what they were when they were read last, and the folders
        where a change would be seen
    :param changed: reads the files that it is called with; there is no other look before its Deferred has fired
    """

    def __init__(
        self, reactor: Any, look: Callable[[], Look], changed: Callable[[tuple[Path, ...]], Deferred[None]]
    ) -> None:
        self._reactor = reactor
        self._look_at_files = look
        self._changed = changed
        self._told = inotify is not None
        self._notify: Any = None
        self._folders: frozenset[str] = frozenset()
        self._stale = False
        self._call: IDelayedCall | None = None
        self._first_news: float | None = None
        self._busy: Deferred[None] | None = None  # a look, and what comes of it
        self._again = False
        self._running = False

    def start(self) -> None:
        """Look from now on."""
        self._running = True
        self._look()

    def stop(self) -> Deferred[None]:
        """Look no more; fires when a look that is under way has ended. Safe to call twice."""
        self._running = False
        self._cancel()
        self._drop()
        return succeed(None) if self._busy is None else self._busy

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        self._first_news = None
        if self._busy is not None:
            self._again = True
            return
        self._busy = Deferred()
        looking = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._look_at_files)
        looking.addCallback(self._looked).addErrback(self._failed).addCallback(self._looked_and_told)

    def _looked(self, seen: Look) -> Deferred[None] | None:
        if not self._running:
            return None
        self._listen_to(seen.folders)
        if not seen.changed:
            return None
        # it may stop us, and must not wait for itself then
        return self._changed(seen.changed) if self._running else None

    def _failed(self, failure: Failure) -> None:
        log.failure("the files of the configuration could not be looked at", failure)

    def _looked_and_told(self, _: object) -> None:
        busy, self._busy = self._busy, None
        assert busy is not None
        if self._running:
            if self._again:
                self._again = False
                self._news()
            elif self._call is None:
                self._call = self._reactor.callLater(LOOK_ALONE if self._notify is None else LOOK_BESIDE, self._look)
        busy.callback(None)

    # what the system tells

    def _news(self, *_: object) -> None:
        """Something has happened beside the files: look when it is quiet."""
        if not self._running:
            return
        now = self._reactor.seconds()
        if self._first_news is None:
            self._first_news = now
        self._cancel()
        wait = min(QUIET, max(0.0, self._first_news + MOST - now))
        self._call = self._reactor.callLater(wait, self._look)

    def _happened(self, _ignored: object, path: FilePath[bytes], mask: int) -> None:
        if mask & (inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF):
            self._stale = True  # Twisted ends the whole of it for one folder that is gone
        self._news()

    def _listen_to(self, folders: frozenset[str]) -> None:
        """Be told of changes in these folders, and no others."""
        if not self._told or (self._notify is not None and not self._stale and folders == self._folders):
            return
        self._drop()
        mask = inotify.IN_CLOSE_WRITE | inotify.IN_ATTRIB | inotify.IN_MOVED | inotify.IN_CREATE | inotify.IN_DELETE
        try:
            notify = self._notify = inotify.INotify(self._reactor)
            notify.startReading()
            for folder in folders:
                notify.watch(FilePath(os.fsencode(folder)), mask | inotify.IN_MOVE_SELF, callbacks=[self._happened])
            self._folders = folders
        except inotify.INotifyError as error:
            self._drop()
            if all(os.path.isdir(folder) for folder in folders):  # else the next look knows better
                self._told = False
                log.warn(
                    "changed files are found within {seconds:.0f} s, for the system does not tell of them: {error}",
                    seconds=LOOK_ALONE,
                    error=error,
                )
        self._again = True  # what happened between the look and now

    def _drop(self) -> None:
        notify, self._notify = self._notify, None
        self._stale = False
        if notify is not None and notify.connected:
            notify.connectionLost(Failure(ConnectionDone()))
