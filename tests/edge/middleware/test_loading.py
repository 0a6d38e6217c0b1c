"""Middleware from files and modules: what is loaded, what stays, what is refused and with which words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.edge.house import House
from tests.edge.middleware.house import MiddlewareHouse
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.control.middleware import MiddlewareTable, read_middleware
from wormhole_tw.control.model import Backend, Route, Site
from wormhole_tw.edge.middleware.stacks import check_middleware
from wormhole_tw.errors import ConfigError

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

GREETING = """\
from wormhole_tw.middleware import Response

class Middleware:
    def __init__(self, *, word="hello"):
        self.word = word

    async def __call__(self, request, next):
        return Response(200, self.word.encode())
"""


class Folder:
    """A folder with modules, and houses that take them over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def catalog(self, *tables: dict[str, Any]) -> Catalog:
        settings = read_middleware([MiddlewareTable(**table) for table in tables], self.path, "edge.toml", "$.m")
        route = Route("app", "/", "app", middleware=settings or None)
        return Catalog([Site("app", ("app.test",), (route,))], [Backend("app")])

    def take_over(self, house: House, *tables: dict[str, Any]) -> None:
        """As the service does."""
        catalog = self.catalog(*tables)
        prepared = house.context.middleware.prepare(catalog)
        house.catalogs.swap(catalog)
        house.context.middleware.take_over(prepared)

    def refused(self, *tables: dict[str, Any]) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            check_middleware(self.catalog(*tables))
        assert caught.value.source == "edge.toml"
        return caught.value


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield Folder(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def empty() -> Iterator[MiddlewareHouse]:
    house = MiddlewareHouse()
    yield house
    house.close()


def answer(house: House) -> bytes:
    visitor = house.visitor()
    visitor.says(GET)
    [(_, body)] = visitor.answers()
    return body


@pytest.mark.parametrize("named", [{"file": "greeting.py"}, {"use": "greeting:Middleware"}])
def test_it_is_loaded_with_its_settings_and_anew_when_its_text_changes(
    folder: Folder, empty: MiddlewareHouse, named: dict[str, Any]
) -> None:
    folder.write("greeting.py", GREETING)
    folder.take_over(empty, named)
    assert answer(empty) == b"hello"
    folder.take_over(empty, {**named, "settings": {"word": "hi"}})
    assert answer(empty) == b"hi"
    # the same length at the same second: no cache of compiled code may hide it
    folder.write("greeting.py", GREETING.replace("hello", "hullo"))
    folder.take_over(empty, named)
    assert answer(empty) == b"hullo"


@pytest.mark.parametrize("named", [{"file": "counts.py"}, {"use": "counts:Middleware"}])
def test_what_has_not_changed_keeps_its_object(folder: Folder, empty: MiddlewareHouse, named: dict[str, Any]) -> None:
    folder.write("counts.py", GREETING.replace("return", "self.word += '!'\n        return"))
    folder.take_over(empty, named)
    assert answer(empty) == b"hello!"
    folder.take_over(empty, named, {"use": "wormhole_tw.middleware:DeviceHeaders"})
    assert answer(empty) == b"hello!!"
    folder.take_over(empty, {**named, "settings": {"word": "anew"}})
    assert answer(empty) == b"anew!"


@pytest.mark.parametrize("named", [{"file": "slow.py"}, {"use": "slow:Middleware"}])
def test_old_requests_end_on_the_old_object_which_then_stops(
    folder: Folder, empty: MiddlewareHouse, named: dict[str, Any]
) -> None:
    text = GREETING.replace("return Response", "await gate(self.word)\n        return Response")
    text += "\n    async def stop(self):\n        stopped.append(self.word)\n"
    gates: dict[str, Deferred[None]] = {"hello": Deferred(), "hullo": Deferred()}
    stopped: list[str] = []

    def write(word: str) -> None:
        folder.write("slow.py", "from tests_of_loading import gate, stopped\n" + text.replace("hello", word))

    folder.write("tests_of_loading.py", "")
    import tests_of_loading  # type: ignore[import-not-found]

    tests_of_loading.gate, tests_of_loading.stopped = gates.__getitem__, stopped
    write("hello")
    folder.take_over(empty, named)
    old, new = empty.visitor(), empty.visitor()
    old.says(GET)
    write("hullo")
    folder.take_over(empty, named)
    new.says(GET)
    assert stopped == []
    gates["hullo"].callback(None)
    assert new.answers()[0][1] == b"hullo"
    assert stopped == []
    gates["hello"].callback(None)
    assert old.answers()[0][1] == b"hello"
    assert stopped == ["hello"]
    folder.take_over(empty)
    assert stopped == ["hello", "hullo"]


@pytest.mark.parametrize("named", [{"file": "greeting.py"}, {"use": "greeting:Middleware"}])
def test_a_mistake_is_refused_with_its_line_and_the_old_one_stays(
    folder: Folder, empty: MiddlewareHouse, named: dict[str, Any]
) -> None:
    folder.write("greeting.py", GREETING)
    folder.take_over(empty, named)
    for text, words in [
        (GREETING.replace("self.word = word", "self.word ="), ("greeting.py, line 5", "invalid syntax")),
        (GREETING + "\n1 / 0\n", ("greeting.py, line 10", "ZeroDivisionError")),
        (GREETING + "\nimport sys\nsys.exit(1)\n", ("greeting.py, line 11", "SystemExit")),
        (GREETING.replace("Middleware:", "Other:"), ("has no Middleware",)),
        ("\0", ("null bytes",)),
    ]:
        folder.write("greeting.py", text)
        with pytest.raises(ConfigError) as caught:
            folder.take_over(empty, named)
        assert caught.value.key == f"$.m[0].{'use' if 'no Middleware' in words[0] else next(iter(named))}"
        for word in words:
            assert word in caught.value.reason
        assert answer(empty) == b"hello"
    folder.write("greeting.py", GREETING)
    folder.take_over(empty, named)
    assert answer(empty) == b"hello"


def test_settings_that_do_not_fit_are_refused(folder: Folder) -> None:
    folder.write("greeting.py", GREETING.replace("self.word =", "self.length = len(word)\n        self.word ="))
    error = folder.refused({"file": "greeting.py", "settings": {"wrod": "x"}})
    assert error.key == "$.m[0].settings"
    assert "unexpected keyword argument 'wrod'" in error.reason
    error = folder.refused({"file": "greeting.py", "settings": {"word": 1}})
    assert "greeting.py, line 5" in error.reason
    error = folder.refused({"use": "wormhole_tw.middleware:InjectHtml"})
    assert "html" in error.reason


def test_what_is_not_there_or_no_middleware_is_refused(folder: Folder) -> None:
    folder.write(
        "odd.py", "number = 1\nclass Plain:\n    def __call__(self, request, next): pass\ndef make(): return 1\n"
    )
    for table, key, words in [
        ({"file": "missing.py"}, "file", "No such file"),
        ({"file": "."}, "file", "Is a directory"),
        ({"use": "missing_module:Name"}, "use", "there is no module missing_module"),
        ({"use": "odd.inner:Name"}, "use", "no module odd.inner"),
        ({"use": "odd:Name"}, "use", "module odd has no Name"),
        ({"file": "odd.py"}, "use", "has no Middleware: name what it has"),
        ({"file": "odd.py", "use": "number"}, "use", "async def __call__"),
        ({"file": "odd.py", "use": "Plain"}, "use", "async def __call__"),
        ({"file": "odd.py", "use": "make"}, "use", "async def __call__"),
    ]:
        error = folder.refused(table)
        assert (error.key, words in error.reason) == (f"$.m[0].{key}", True), error


def test_a_function_or_an_object_is_used_as_it_is(folder: Folder, empty: MiddlewareHouse) -> None:
    text = "async def plain(request, next):\n    return Response(200, b'plain')\n"
    folder.write("plain.py", "from wormhole_tw.middleware import Response\n\n" + text)
    folder.take_over(empty, {"file": "plain.py", "use": "plain"})
    assert answer(empty) == b"plain"
    error = folder.refused({"file": "plain.py", "use": "plain", "settings": {"a": 1}})
    assert "takes no settings" in error.reason
    folder.write("plain.py", GREETING + "\nready = Middleware(word='ready')\n")
    folder.take_over(empty, {"file": "plain.py", "use": "ready"})
    assert answer(empty) == b"ready"


def test_settings_are_its_own(folder: Folder, empty: MiddlewareHouse) -> None:
    text = GREETING.replace('word="hello"', "words").replace("self.word = word", "self.words = words")
    text = text.replace("return Response(200, self.word.encode())", "self.words.append('!')\n        ANSWER")
    folder.write("words.py", text.replace("ANSWER", "return Response(200, ''.join(self.words).encode())"))
    for expected in (b"a!", b"a!!"):
        folder.take_over(empty, {"file": "words.py", "settings": {"words": ["a"]}})
        assert answer(empty) == expected


def test_a_dataclass_finds_its_module(folder: Folder, empty: MiddlewareHouse) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text += "from wormhole_tw.middleware import Response\n"
    text += "@dataclass(kw_only=True)\nclass Middleware:\n    word: str = 'data'\n"
    text += "    async def __call__(self, request, next):\n        return Response(200, self.word.encode())\n"
    folder.write("data.py", text)
    folder.take_over(empty, {"file": "data.py", "settings": {"word": "class"}})
    assert answer(empty) == b"class"


def test_a_stop_that_fails_or_hangs_holds_nothing_up(
    folder: Folder, empty: MiddlewareHouse, logged_failures: Any
) -> None:
    for body in ("raise ValueError('no')", "await Deferred()"):
        text = "from twisted.internet.defer import Deferred\n" + GREETING
        folder.write("bad.py", text + f"\n    async def stop(self):\n        {body}\n")
        folder.take_over(empty, {"file": "bad.py", "timeout": 2.0})
        folder.take_over(empty)
        empty.pass_time(3)
    logged_failures.flush()


def test_a_traceback_shows_the_text_that_runs(
    folder: Folder, empty: MiddlewareHouse, logged_failures: Any, log_lines: Any
) -> None:
    for word in ("first", "second"):
        folder.write("failing.py", GREETING.replace("return Response", f"raise ValueError('{word}')  # "))
        folder.take_over(empty, {"file": "failing.py"})
        answer(empty)
        [failure] = logged_failures.flush(ValueError)
        assert f"raise ValueError('{word}')" in failure.getTraceback()


def test_a_call_that_cannot_be_called_is_refused(folder: Folder) -> None:
    for wrong in ("(self, request)", "(self)", "(self, request, next, more)", "(self, *, request, next)"):
        folder.write("wrong.py", GREETING.replace("(self, request, next)", wrong))
        error = folder.refused({"file": "wrong.py"})
        assert "async def __call__(self, request, next)" in error.reason
    folder.write("wrong.py", "async def lonely(request):\n    pass\n")
    error = folder.refused({"file": "wrong.py", "use": "lonely"})
    assert (error.key, "not (request, next)" in error.reason) == ("$.m[0].use", True)
    for right in ("(self, *args)", "(self, request, next, more=1)", "(self, asked, onwards)"):
        folder.write("right.py", GREETING.replace("(self, request, next)", right))
        check_middleware(folder.catalog({"file": "right.py"}))


def test_what_is_no_text_is_refused_with_its_line(folder: Folder) -> None:
    (folder.path / "latin.py").write_bytes(b"# one\nx = '\xe9'\n")
    error = folder.refused({"file": "latin.py"})
    assert "latin.py" in error.reason
    assert "utf-8" in error.reason.lower()
    assert "None" not in error.reason
    folder.write("latin.py", "x = " + "(" * 500 + ")" * 500)
    assert "too many nested parentheses" in folder.refused({"file": "latin.py"}).reason


def test_a_folder_that_came_later_is_found(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder.path / "later")
    assert "no module lately" in folder.refused({"use": "lately:Middleware"}).reason
    (folder.path / "later").mkdir()
    folder.write("later/lately.py", GREETING)
    check_middleware(folder.catalog({"use": "lately:Middleware"}))
