"""Changed files are found however they change, with inotify and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests._harness import LogLines
from wormhole_tw.control.files import Look, look, signatures
from wormhole_tw.edge import file_watch
from wormhole_tw.edge.file_watch import FileWatch


class Watched:
    """A watch of files, on the real clock; who is told reads them, as a reload does."""

    def __init__(self, reactor: Any, *files: Path) -> None:
        self.told: list[tuple[Path, ...]] = []
        self._seen = signatures(files)
        self._waiting: Deferred[tuple[Path, ...]] | None = None
        self.watch = FileWatch(reactor, lambda: look(self._seen), self._changed)
        self.watch.start()

    def _changed(self, files: tuple[Path, ...]) -> Deferred[None]:
        self._seen = signatures(self._seen)
        self.told.append(files)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(files)
        return succeed(None)

    def next(self) -> Deferred[tuple[Path, ...]]:
        """Fires when the next change is told of."""
        self._waiting = Deferred()
        return self._waiting


@pytest.fixture(params=["inotify", "looking"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of finding out, whatever this system has."""
    if request.param == "inotify":
        pytest.importorskip("twisted.internet.inotify")
        monkeypatch.setattr(file_watch, "LOOK_BESIDE", 300.0)
    else:
        monkeypatch.setattr(file_watch, "inotify", None)
        monkeypatch.setattr(file_watch, "LOOK_ALONE", 0.05)
    return str(request.param)


def beside(path: Path, text: str) -> None:
    """As editors do: a new file, and then its name."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


async def test_written_in_place_replaced_taken_away_and_put_back(reactor: Any, tmp_path: Path, way: str) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("1")
    watched = Watched(reactor, file)
    changes = [lambda: file.write_text("22"), lambda: beside(file, "333"), file.unlink, lambda: beside(file, "4444")]
    for change in changes:
        told = watched.next()
        change()
        assert await told == (file,)
    await watched.watch.stop()
    assert len(watched.told) >= len(changes)  # whoever looks in the middle of a write tells of it twice


async def test_a_configmap_is_swapped_by_one_link(reactor: Any, tmp_path: Path, way: str) -> None:
    """Kubernetes: each file is a link into ``..data``, which is a link to a folder with the time in its name."""

    def folder(version: str) -> None:
        (tmp_path / version).mkdir()
        for name in ("edge.toml", "tls.crt"):
            (tmp_path / version / name).write_text(version)

    folder("..1")
    (tmp_path / "..data").symlink_to("..1")
    for name in ("edge.toml", "tls.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    files = [tmp_path / "edge.toml", tmp_path / "tls.crt"]
    watched = Watched(reactor, *files)
    for number in (2, 3):
        told = watched.next()
        folder(f"..{number}")
        (tmp_path / "..tmp").symlink_to(f"..{number}")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        for name in ("edge.toml", "tls.crt"):
            (tmp_path / f"..{number - 1}" / name).unlink()
        (tmp_path / f"..{number - 1}").rmdir()
        assert await told == tuple(files)
    await watched.watch.stop()


async def test_a_folder_of_pages_is_what_is_in_it(reactor: Any, tmp_path: Path, way: str) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    watched = Watched(reactor, pages)
    told = watched.next()
    (pages / "404.html").write_text("<p>not here</p>")
    assert await told == (pages,)
    await watched.watch.stop()


async def test_a_folder_that_goes_and_comes_back(reactor: Any, tmp_path: Path, way: str) -> None:
    file = tmp_path / "inner" / "edge.toml"
    file.parent.mkdir()
    file.write_text("1")
    watched = Watched(reactor, tmp_path / "other", file)
    told = watched.next()
    file.parent.rename(tmp_path / "away")
    assert await told == (file,)
    told = watched.next()
    (tmp_path / "away").rename(file.parent)
    assert await told == (file,)
    await watched.watch.stop()


async def test_several_writes_are_one_change(reactor: Any, tmp_path: Path) -> None:
    pytest.importorskip("twisted.internet.inotify")
    files = [tmp_path / f"{number}.pem" for number in range(20)]
    watched = Watched(reactor, *files)
    told = watched.next()
    beside(files[0], "x")
    assert await told == (files[0],)
    # nobody looks now
    told = watched.next()
    for file in files:
        beside(file, "x")
    assert await told == tuple(sorted(files))
    await watched.watch.stop()
    assert len(watched.told) == 2


class Threads:
    """A reactor with no descriptors, whose threads do their work when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.callLater = self.clock.callLater
        self.work: list[Any] = []

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(self, done: Any, work: Any) -> None:
        self.work.append((done, work))

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def look(self) -> None:
        done, work = self.work.pop(0)
        try:
            done(True, work())
        except Exception:
            done(False, Failure())


class Files:
    """Files of which the test says whether they changed."""

    def __init__(self) -> None:
        self.changed: tuple[Path, ...] = ()
        self.broken = False
        self.told = 0
        self.reading: Deferred[None] = succeed(None)

    def look(self) -> Look:
        if self.broken:
            raise TypeError("a bug")
        return Look(self.changed, frozenset())

    def read(self, files: tuple[Path, ...]) -> Deferred[None]:
        self.told += 1
        return self.reading


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> tuple[Threads, Files, FileWatch]:
    """A watch whose first look has found nothing new."""
    monkeypatch.setattr(file_watch, "inotify", None)
    threads, files = Threads(), Files()
    watch = FileWatch(threads, files.look, files.read)
    watch.start()
    threads.look()
    return threads, files, watch


def test_news_that_do_not_end_are_looked_at_all_the_same(stand: tuple[Threads, Files, FileWatch]) -> None:
    threads, files, watch = stand
    files.changed = (Path("edge.toml"),)
    while not threads.work:
        watch._news()
        threads.clock.advance(file_watch.QUIET / 2)
    assert threads.clock.seconds() <= file_watch.MOST + file_watch.QUIET
    watch._news()  # while the look is under way: one more comes behind it
    threads.clock.advance(file_watch.QUIET)
    threads.look()
    assert files.told == 1
    files.changed = ()
    threads.clock.advance(file_watch.QUIET)
    threads.look()
    assert files.told == 1
    watch.stop()
    assert not threads.clock.getDelayedCalls()


def test_while_files_are_read_nobody_looks(stand: tuple[Threads, Files, FileWatch]) -> None:
    threads, files, watch = stand
    files.changed, files.reading = (Path("edge.toml"),), Deferred()
    threads.clock.advance(file_watch.LOOK_ALONE)
    threads.look()
    watch._news()
    threads.clock.advance(file_watch.MOST)
    assert not threads.work
    files.changed = ()
    files.reading.callback(None)
    threads.clock.advance(file_watch.QUIET)
    threads.look()
    assert files.told == 1
    watch.stop()


def test_a_look_that_fails_is_no_end(stand: tuple[Threads, Files, FileWatch], logged_failures: Any) -> None:
    threads, files, watch = stand
    files.broken = True
    threads.clock.advance(file_watch.LOOK_ALONE)
    threads.look()
    assert len(logged_failures.flush(TypeError)) == 1
    files.broken, files.changed = False, (Path("edge.toml"),)
    threads.clock.advance(file_watch.LOOK_ALONE)
    threads.look()
    assert files.told == 1
    threads.clock.advance(file_watch.LOOK_ALONE)
    stopped: list[None] = []
    watch.stop().addCallback(stopped.append)
    assert not stopped
    threads.look()
    assert stopped == [None]
    assert files.told == 1
    assert not threads.clock.getDelayedCalls()


async def test_a_system_that_tells_nobody_any_more_is_looked_at(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    """fs.inotify.max_user_watches is used up."""
    inotify = pytest.importorskip("twisted.internet.inotify")

    def refuse(*_: object, **__: object) -> None:
        raise inotify.INotifyError("no space left")

    monkeypatch.setattr(inotify.INotify, "watch", refuse)
    monkeypatch.setattr(file_watch, "LOOK_ALONE", 0.05)
    file = tmp_path / "edge.toml"
    watched = Watched(reactor, file)
    told = watched.next()
    file.write_text("1")
    assert await told == (file,)
    await watched.watch.stop()
    assert len(log_lines.matching("the system does not tell of them: no space left")) == 1
