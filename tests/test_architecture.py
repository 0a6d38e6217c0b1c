"""The floors of the package, checked over its syntax trees.

An import goes down the floors, never up and never sideways, and no two modules import each other in a circle.  Imports
inside functions and under ``if TYPE_CHECKING`` count for the direction as well: what a module knows of, it depends on.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests import _support

PACKAGE = "wormhole_tw"

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "errors _version pure_structs",
        "pure_convert",
        "structs",
        "wire http",
        "control net",
        "tunnel middleware",
        "edge agent testing",
        "admin",
        "cli",
    )
)
"""Ground up.  Rooms of one floor do not know each other."""

BLIND: Mapping[str, frozenset[str]] = {
    "net": frozenset({"wire", "http"}),  # helpers for any Twisted program
    "tunnel": frozenset({"http"}),  # carries bytes of any protocol
    "agent": frozenset({"http"}),  # reads no HTTP: WebSocket, gRPC and databases pass unchanged
}
"""Rooms below that a room could import by its floor, and must not."""

WITHOUT_TWISTED = ("wire", "http", "control.model", "control.catalog", "control.tokens", "control.config")
"""Modules (with everything in and under them) that import nothing of Twisted, not through others either."""

EXEMPT = frozenset({PACKAGE})
"""The package's own ``__init__`` names the public services lazily."""

MOST_LINES = 500
"""A module longer than this has more than one job."""


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    :ivar target: the module, or the name in a module, with its dots
    :ivar runs: whether it is imported when the program runs (not only for the type checker)
    :ivar at_top: whether it is imported when the module is (not inside a function)
    """

    target: str
    line: int
    runs: bool
    at_top: bool


@dataclass
class Tree:
    """The modules of a package and what they import."""

    sources: Mapping[str, str]
    packages: frozenset[str]
    imports: dict[str, list[Import]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for module, source in self.sources.items():
            self.imports[module] = list(self._imports_of(module, ast.parse(source)))

    def _imports_of(self, module: str, tree: ast.Module) -> Iterator[Import]:
        pending: list[tuple[ast.AST, bool, bool]] = [(tree, True, True)]
        while pending:
            node, runs, at_top = pending.pop()
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno, runs, at_top)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:
                    yield Import(f"{base}.{alias.name}" if base else alias.name, node.lineno, runs, at_top)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                pending += [(child, False, at_top) for child in node.body]
                pending += [(child, runs, at_top) for child in node.orelse]
            else:
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                pending += [(child, runs, at_top and not inside) for child in ast.iter_child_nodes(node)]

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        keep = len(parts) - node.level + (module in self.packages)
        return ".".join(parts[:keep] + ([node.module] if node.module else []))

    def module_of(self, target: str) -> str | None:
        """The module of this package that a target names, or the one that defines the name."""
        while target:
            if target in self.sources:
                return target
            target = target.rpartition(".")[0]
        return None

    def inner(self, module: str) -> Iterator[tuple[str, Import]]:
        for imported in self.imports[module]:
            target = self.module_of(imported.target)
            if target is not None and target != module:
                yield target, imported


@cache
def read_tree(folder: Path = _support.SRC) -> Tree:
    """The package as it lies in ``src``."""
    sources: dict[str, str] = {}
    packages: set[str] = set()
    for path in sorted((folder / PACKAGE).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text("utf-8")
    return Tree(sources, frozenset(packages))


def room_of(module: str) -> str:
    """The part of the package that a module belongs to (``wire``, ``edge`` …)."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor_of(room: str) -> int | None:
    """The floor's number from the ground, None for an unknown room."""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


# the rules: each gives one line a fault


def wrong_directions(tree: Tree) -> Iterator[str]:
    for module in tree.sources:
        if module in EXEMPT:
            continue
        room = room_of(module)
        here = floor_of(room)
        if here is None:
            yield f"{module}: {room!r} stands on no floor"
            continue
        for target, imported in tree.inner(module):
            aim = room_of(target)
            there = floor_of(aim)
            if not aim:
                if imported.target != f"{PACKAGE}.__version__":
                    yield f"{module}:{imported.line}: imports the package's public face ({imported.target})"
            elif there is None or there > here or (there == here and aim != room):
                yield f"{module}:{imported.line}: {room} imports {target}"
            elif aim in BLIND.get(room, ()):
                yield f"{module}:{imported.line}: {room} knows nothing of {aim}, and imports {target}"


def circles(tree: Tree) -> Iterator[str]:
    graph = {
        module: sorted({target for target, imported in tree.inner(module) if imported.runs and imported.at_top})
        for module in tree.sources
        if module not in EXEMPT
    }
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        trail: list[Iterator[str]] = [iter([start])]
        while trail:
            module = next(trail[-1], None)
            if module is None:
                trail.pop()
                if path:
                    done.add(path.pop())
            elif module in path:
                yield " -> ".join([*path[path.index(module) :], module])
            elif module not in done and module in graph:
                path.append(module)
                trail.append(iter(graph[module]))


def _under(module: str, names: tuple[str, ...]) -> bool:
    return any(module == f"{PACKAGE}.{name}" or module.startswith(f"{PACKAGE}.{name}.") for name in names)


def twisted_where_it_must_not_be(tree: Tree) -> Iterator[str]:
    for module in tree.sources:
        if not _under(module, WITHOUT_TWISTED):
            continue
        seen: dict[str, str] = {module: module}
        pending = [module]
        while pending:
            current = pending.pop()
            for imported in tree.imports[current]:
                # What others import for their types alone does not reach this module when it runs.
                if imported.target.split(".")[0] in ("twisted", "treq") and (imported.runs or current == module):
                    yield f"{seen[current]}:{imported.line}: imports {imported.target}"
            for target, imported in tree.inner(current):
                if imported.runs and target not in seen and target not in EXEMPT:
                    seen[target] = f"{seen[current]} -> {target}"
                    pending.append(target)


def reactor_imports(tree: Tree) -> Iterator[str]:
    for module, imports in tree.imports.items():
        for imported in imports:
            if f"{imported.target}.".startswith("twisted.internet.reactor.") and (
                room_of(module) != "cli" or (imported.at_top and imported.runs)
            ):
                yield f"{module}:{imported.line}: imports the global reactor"


def long_modules(tree: Tree) -> Iterator[str]:
    for module, source in tree.sources.items():
        lines = source.count("\n")
        if lines > MOST_LINES:
            yield f"{module}: {lines} lines"


RULES = (wrong_directions, circles, twisted_where_it_must_not_be, reactor_imports, long_modules)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree(rule) -> None:
    faults = list(rule(read_tree()))
    assert not faults, "\n".join(faults)


def test_the_tree_was_read() -> None:
    tree = read_tree()
    assert {"errors", "wire", "http", "control", "net", "tunnel", "edge", "agent", "admin", "cli"} <= {
        room_of(module) for module in tree.sources
    }
    assert any(imported.target == f"{PACKAGE}.control.config.EdgeConfig" for imported in tree.imports[PACKAGE])


def test_sans_io_modules_load_without_twisted() -> None:
    """Said again by the interpreter, which also sees what a dependency drags in."""
    modules = [module for module in read_tree().sources if _under(module, WITHOUT_TWISTED)]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'twisted'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=_support.program_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def _pages() -> Iterator[Path]:
    """Every text file of the project itself: what is built, cached or hidden is not (but ``.ci`` is)."""
    left_out = {"build", "dist", "_build", "__pycache__", "htmlcov", "node_modules"}
    for folder, folders, files in os.walk(_support.ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in left_out and not name.endswith(".egg-info") and (not name.startswith(".") or name == ".ci")
        ]
        for name in files:
            if not name.startswith(".") and not name.endswith((".pyc", ".cache", ".log", ".png", ".gz", ".whl")):
                yield Path(folder, name)


def test_the_program_needs_nothing_beside_its_checkout() -> None:
    """The shared folder is for tests and CI; a machine's own paths are for nobody."""
    shared, machine = "../" + "shared", "/work" + "/"
    faults = []
    for path in _pages():
        name = path.relative_to(_support.ROOT).as_posix()
        text = path.read_text("utf-8", "replace")
        if machine in text and not name.endswith(".json"):
            faults.append(f"{name}: a machine's path")
        if shared in text and not name.startswith("tests/") and name != ".ci/run":
            faults.append(f"{name}: {shared}")
    assert not faults, "\n".join(faults)


# the check can fail: a wrong tree for each rule


def tree_of(**modules: str) -> Tree:
    """A tree from sources; ``edge__accept`` stands for ``wormhole_tw.edge.accept``."""
    sources = {PACKAGE: ""}
    for name, source in modules.items():
        parts = name.split("__")
        for depth in range(1, len(parts)):
            sources.setdefault(".".join([PACKAGE, *parts[:depth]]), "")
        sources[".".join([PACKAGE, *parts])] = source
    packages = frozenset(name for name in sources if any(other.startswith(f"{name}.") for other in sources))
    return Tree(sources, packages | {PACKAGE})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire__frames", "from ..http import events"),
        ("http__events", "import wormhole_tw.wire.frames"),
        ("control__registry", "from wormhole_tw.net.timers import TimerWheel"),
        ("net__relay", "from ..control import registry"),
        ("net__relay", "from ..http.events import Head"),
        ("wire__session", "from ..tunnel.protocol import LinkProtocol"),
        ("tunnel__stream", "from ..http import events"),
        ("tunnel__stream", "def f():\n    from ..edge.accept import accept"),
        ("tunnel__stream", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..edge.accept import accept"),
        ("edge__accept", "from ..agent.connector import Connector"),
        ("agent__bridge", "from ..edge import accept"),
        ("agent__bridge", "from ..http import events"),
        ("edge__service", "from ..admin.health import Health"),
        ("edge__service", "from .. import EdgeService"),
        ("edge__deep__room", "from ...cli import main"),
        ("errors", "from .wire.codes import GoawayCode"),
        ("attic", ""),
    ],
)
def test_a_wrong_direction_is_found(module: str, source: str) -> None:
    below = ["errors", "wire__frames", "wire__codes", "http__events", "net__timers", "control__registry"]
    above = ["tunnel__protocol", "edge__accept", "agent__connector", "admin__health", "cli__main"]
    others = dict.fromkeys([*below, *above], "")
    assert len(list(wrong_directions(tree_of(**(others | {module: source}))))) == 1
    assert not list(wrong_directions(tree_of(**others)))


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ({"wire__a": "from . import b", "wire__b": "from .a import x"}, 1),
        ({"wire__a": "from .b import y", "wire__b": "from .c import z", "wire__c": "import wormhole_tw.wire.a"}, 1),
        ({"wire__a": "from .b import y", "wire__b": "def f():\n    from .a import x"}, 0),
        ({"wire__a": "from .b import y", "wire__b": "if TYPE_CHECKING:\n    from .a import x"}, 0),
        ({"wire__a": "from .b import y", "wire__b": "try:\n    from .a import x\nexcept ImportError: pass"}, 1),
        ({"wire__a": "from .c import y\nfrom .b import z", "wire__b": "from .c import z", "wire__c": ""}, 0),
    ],
)
def test_a_circle_is_found(modules: dict[str, str], found: int) -> None:
    assert len(list(circles(tree_of(**modules)))) == found


def test_twisted_below_is_found() -> None:
    def faults(**modules: str) -> list[str]:
        return list(twisted_where_it_must_not_be(tree_of(**modules)))

    assert faults(wire__frames="from twisted.python import failure")
    assert faults(http__h1__parser="def f():\n    import twisted.logger")
    assert faults(control__catalog="if TYPE_CHECKING:\n    from twisted.internet.defer import Deferred")
    assert faults(control__catalog="from .helpers import x", control__helpers="from twisted.logger import Logger")
    assert not faults(control__registry="from twisted.logger import Logger", wire__frames="import struct")


def test_a_reactor_import_is_found() -> None:
    line = "from twisted.internet import reactor"
    assert list(reactor_imports(tree_of(edge__service=f"def f():\n    {line}")))
    assert list(reactor_imports(tree_of(edge__service="import twisted.internet.reactor as r")))
    assert list(reactor_imports(tree_of(cli__edge_tap=line)))
    assert not list(reactor_imports(tree_of(cli__edge_tap=f"def makeService(options):\n    {line}")))


def test_a_long_module_is_found() -> None:
    assert list(long_modules(tree_of(wire__frames="x = 1\n" * (MOST_LINES + 1))))
