from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import sample
from tests.control.store_contract import StoreContract
from wormhole_tw.control.config import Override
from wormhole_tw.control.interfaces import IStore, Snapshot
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.errors import ConfigError


def to_toml(value: Any) -> str:
    """Write a value as TOML's inline form, which is JSON but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {to_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(value)


class Threads:
    """A reactor and the pool of its threads, which work when they are told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *args: Any
    ) -> None:
        self.jobs.append(lambda: done(True, call(*args)))

    def callFromThread(self, call: Callable[..., object], *args: Any) -> None:
        call(*args)

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


class TestFileStore(StoreContract):
    @pytest.fixture
    def where(self, tmp_path: Path) -> Path:
        return tmp_path / "edge.toml"

    def put(self, where: Path, raw: dict[str, Any]) -> None:
        where.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in raw.items()))

    def store(self, where: Path) -> IStore:
        return FileStore(where)

    def test_the_reactors_threads_read_it(self, where: Path) -> None:
        self.put(where, sample())
        store, threads = FileStore(where), Threads()
        found: list[Snapshot] = []
        store.read(threads).addCallback(found.append)  # type: ignore[arg-type]
        assert not found
        threads.work()
        assert [snapshot.config for snapshot in found] == [store.load().config]

    def test_overrides_win_each_time(self, where: Path) -> None:
        store = FileStore(where, {"edge.name": Override("from-outside", "--name")})
        for name in ("one", "two"):
            self.put(where, sample(**{"edge.name": name}))
            assert store.load().config.name == "from-outside"

    def test_a_file_that_is_not_there(self, where: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            FileStore(where).load()

    def test_a_change_is_seen_until_it_is_read_though_it_be_a_broken_one(self, where: Path) -> None:
        self.put(where, sample())
        store = FileStore(where)
        store.load()
        assert store.look().changed == ()
        where.write_text("[edge")
        assert store.look().changed == (where,)
        with pytest.raises(ConfigError, match="not valid TOML"):
            store.load()
        assert store.look().changed == ()
        where.write_text("[edge]\n")
        assert store.look().changed == (where,)

    def test_a_file_that_a_refused_configuration_names_is_waited_for(self, where: Path) -> None:
        pages = where.with_name("404.html")
        self.put(where, sample(**{"sites.0.error_pages": {"404": pages.name}}))
        store = FileStore(where)
        with pytest.raises(ConfigError, match="cannot be read"):
            store.load()
        pages.write_text("<p>not here</p>")
        assert store.look().changed == (pages,)
        store.load()
        assert store.look().changed == ()
