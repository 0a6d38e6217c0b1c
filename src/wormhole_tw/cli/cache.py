"""``wormhole-tw cache``: throw away what a running edge keeps of answers, and see how much that is.

It asks over the socket in the edge's state folder.  Where no edge runs, purges are written down for the next one.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wormhole_tw.admin.local_client import ask, sockets
from wormhole_tw.control.config import Override
from wormhole_tw.control.environment import environment_overrides
from wormhole_tw.control.purging import Order, Wish, read_wish
from wormhole_tw.control.sizes import show_size
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.errors import WormholeError

if TYPE_CHECKING:
    from wormhole_tw.control.catalog import Catalog
    from wormhole_tw.control.config import EdgeConfig

__all__ = ["purge", "status"]

_GONE = (errno.ENOENT, errno.ECONNREFUSED)


class CacheCommandError(WormholeError):
    """It could not be done."""


class NoEdgeError(CacheCommandError):
    """No edge runs with this state folder."""


class Place:
    """Where the edge is, as the command line says.

    :param file: its configuration, read when it is needed
    :param state: its state folder, where that is not the configuration's
    """

    def __init__(self, file: str, state: str | None) -> None:
        self._file = file
        self._state = state
        self._loaded: tuple[EdgeConfig, Catalog] | None = None

    def load(self) -> tuple[EdgeConfig, Catalog]:
        """:raises ConfigError: the configuration is wrong"""
        if self._loaded is None:
            overrides = environment_overrides(os.environ)
            if self._state:
                overrides["edge.state"] = Override(os.path.abspath(self._state), "--state")
            config, catalog = FileStore(self._file, overrides).load()
            self._loaded = config, catalog
        return self._loaded

    @property
    def folder(self) -> Path:
        """The state folder.

        :raises ConfigError: only the configuration says where it is, and that is wrong
        """
        return Path(os.path.abspath(self._state)) if self._state else self.load()[0].state

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """Ask the edge.

        :raises NoEdgeError: none runs
        :raises CacheCommandError: it cannot be asked
        """
        folder = self.folder
        for path in sockets(folder):
            try:
                return ask(path, method, target, body)
            except TimeoutError:
                raise CacheCommandError(f"the edge at {path} does not answer") from None
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise CacheCommandError(_not_asked(path, error)) from None
        try:
            os.listdir(folder)
        except PermissionError:
            raise CacheCommandError(
                f"{folder} is not for you to read: run this as the user who runs the edge"
            ) from None
        except OSError:
            raise NoEdgeError(f"there is no state folder {folder}: where is the edge? (--config, --state)") from None
        raise NoEdgeError(f"no edge runs with the state folder {folder}")


def _not_asked(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path} is not for you to ask: run this as the user who runs the edge"
    return f"{path}: {error.strerror or error}"


def purge(wishes: Sequence[Wish], *, config: str, state: str | None) -> int:
    """Purge, and say what was.

    :returns: 0; 1 where the edge did something else than was asked for
    :raises WormholeError: it could not be done; what stands before it in ``wishes`` was
    """
    place = Place(config, state)
    status = 0
    for wish in wishes:
        body = {"kind": wish.kind, "value": wish.value, "site": wish.site, "everywhere": wish.everywhere}
        try:
            said = place.ask("POST", "/cache/purge", body)
        except NoEdgeError as error:
            said = _offline(place, wish, error)
        print(f"purged: {said['purged']}{said.get('how', '')}")
        if not said["cached"]:
            print("wormhole-tw: it has no cache: nothing of it is kept now", file=sys.stderr)
        for silent in said.get("silent", ()):
            print(f"wormhole-tw: a process that is leaving was not reached: {silent}", file=sys.stderr)
            status = 1
    return status


def _offline(place: Place, wish: Wish, error: NoEdgeError) -> dict[str, Any]:
    if not place.folder.is_dir():
        raise error
    config, catalog = place.load()
    order = read_wish(catalog, wish)
    if not config.cache.disk:
        raise NoEdgeError(f"{error}; nothing is kept without one") from None
    try:
        _as_owner(config.state)
        _write(config, order)
    except OSError as failed:
        reason = failed.strerror or failed
        raise CacheCommandError(f"{error}, and the purge cannot be written down for the next one: {reason}") from None
    try:
        # one that has started meanwhile may have read what there was before
        place.ask("POST", "/cache/follow")
    except NoEdgeError:
        pass
    return {"purged": order.said, "cached": order.cached, "how": " (no edge runs; the next one heeds it)"}


def _write(config: EdgeConfig, order: Order) -> None:
    # seldom needed, and a moment to import
    from wormhole_tw.edge.caching.journal import purge_offline
    from wormhole_tw.edge.caching.kept import journal_of

    path = journal_of(config)
    for value in order.values:
        purge_offline(path, order.kind, order.site, value, time.time())


def _as_owner(folder: Path) -> None:
    """What root writes there has to be the edge's to read and write."""
    if os.geteuid() == 0:
        found = folder.stat()
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)


def status(*, config: str, state: str | None, as_json: bool) -> int:
    """Print how the cache of a running edge stands.

    :raises WormholeError: there is none, or it cannot be asked
    """
    said = Place(config, state).ask("GET", "/cache")
    if as_json:
        print(json.dumps(said, indent=2))
        return 0
    sites = said["sites"]
    what = (
        f"answers of {_count(len(sites), 'site')}: {', '.join(sites)}" if sites else "no answers: no site has a cache"
    )
    print(f"edge {said['edge']} keeps {what}")
    for store in said["stores"]:
        share = 100 * store["octets"] / store["limit"] if store["limit"] else 0.0
        line = (
            f"{store['place']:<8} {_count(store['entries'], 'answer')}, {show_size(store['octets'])} "
            f"of {show_size(store['limit'])} ({share:.0f} %), {store['evicted']} made room for others"
        )
        print(line + (f", {_count(store['faults'], 'fault')}" if store["faults"] else ""))
    for name in ("requests", "purges"):
        counted = [f"{number} {word}" for word, number in said[name].items() if number]
        print(f"{name:<9}{', '.join(counted) or 'none'} since the edge started")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
