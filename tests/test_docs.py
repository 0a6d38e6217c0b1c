"""The pages in ``docs/`` name what is there; configuration.md and protocol.md have tests of their own."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests._support import ROOT, SRC
from wormhole_tw import errors
from wormhole_tw.agent import events
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.agent.service import AgentService
from wormhole_tw.agent.supervisor import Supervisor
from wormhole_tw.cli.agent_options import AgentOptions
from wormhole_tw.cli.edge_tap import Options as EdgeOptions
from wormhole_tw.cli.process import TwistdOptions
from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.edge.service import EdgeService

DOCS = ROOT / "docs"
PACKAGE = SRC / "wormhole_tw"
ARCHITECTURE = (DOCS / "architecture.md").read_text()
CONFIGURATION = (DOCS / "configuration.md").read_text()
EMBEDDING = (DOCS / "embedding.md").read_text()
DECISIONS = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")


def section(text: str, heading: str) -> str:
    return re.split(r"^#+ ", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    return [row for row in cells if not set(row[0]) <= set("-|")]


def quoted(text: str) -> list[str]:
    """What stands in single backquotes, outside of fenced blocks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


# architecture.md


def test_files_that_are_named_exist() -> None:
    named = [name for name in quoted(ARCHITECTURE) if re.fullmatch(r"[a-z_0-9/]+\.py", name)]
    assert len(named) > 20
    missing = [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()]
    assert missing == []


def test_the_file_map_names_modules() -> None:
    for folder, what in rows(section(ARCHITECTURE, "Files"))[1:]:
        place = ROOT if folder.startswith("`twisted") else PACKAGE
        here = place / folder.strip("`")
        assert here.is_dir(), folder
        for name in quoted(what):
            if folder == "`cli/`" and name in ("twistd", "wormhole-tw"):
                continue
            found = here / name if name.endswith("/") else here / f"{name}.py"
            assert found.exists(), f"{folder}: {name}"


def test_every_folder_is_on_the_file_map() -> None:
    named = {row[0].strip("`/") for row in rows(section(ARCHITECTURE, "Files"))}
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} <= named


def test_limits_stand_where_it_says() -> None:
    for what, where in rows(section(ARCHITECTURE, "Where limits stand"))[1:]:
        names = [name for name in quoted(what) if name.isupper()]
        sources = [(PACKAGE / file).read_text() for file in quoted(where) if file.endswith(".py")]
        for name in names:
            assert any(re.search(rf"^{name}\b.*=", source, re.MULTILINE) for source in sources), name


# embedding.md


def test_events_and_their_fields() -> None:
    told: dict[str, list[str]] = {}
    for names, fields, _ in rows(section(EMBEDDING, "Events"))[1:]:
        told |= {name: quoted(fields) for name in quoted(names)}
    assert told == {
        name: [*getattr(events, name).__dataclass_fields__]
        for name in events.__all__
        if name not in ("AgentEvent", "AgentSession")
    }


def test_the_fields_of_a_session() -> None:
    (sentence,) = re.findall(r"An `AgentSession` .*?\n\n", EMBEDDING, re.DOTALL)
    assert [name for name in quoted(sentence) if name in events.AgentSession.__dataclass_fields__] == [
        *events.AgentSession.__dataclass_fields__
    ]


def test_the_arguments_of_an_agent() -> None:
    table = rows(section(EMBEDDING, "An agent in your application"))
    named = {name for row in table for name in quoted(row[0])}
    for name in set(AgentConfig.__dataclass_fields__) - {"log_level", "sources"}:
        assert name in named, name


@pytest.mark.parametrize(
    ("heading", "service", "others"),
    [
        ("A command beside the agent", Supervisor, {"status", "privilegedStartService", "agent"}),
        ("An agent in your application", AgentService, set(AgentConfig.__dataclass_fields__) | {"ready"}),
        ("An edge in your application", EdgeService, {"config", "registry"}),
    ],
)
def test_methods_and_attributes_exist(heading: str, service: type, others: set[str]) -> None:
    named = {name.partition("(")[0] for row in rows(section(EMBEDDING, heading)) for name in quoted(row[0])}
    named -= {service.__name__}
    assert [name for name in named if not hasattr(service, name) and name not in others] == []
    public = {name for name, value in vars(service).items() if name[0] != "_" and not isinstance(value, str)}
    internal = {"status", "hello", "tell", "connector_changed", "service_starts", "context", "privilegedStartService"}
    assert public - named - internal == set()


@pytest.mark.parametrize(
    ("heading", "options"), [("Options", EdgeOptions), ("The agent: environment and options", AgentOptions)]
)
def test_every_option_of_a_service_is_told(heading: str, options: type[TwistdOptions]) -> None:
    of_code = {f"--{row[0]}" for row in [*options.optParameters, *getattr(options, "optFlags", [])]}
    of_code |= {f"--{name.removeprefix('opt_')}" for name in vars(options) if re.fullmatch("opt_..+", name)}
    told = {
        word.split()[0]
        for line in section(CONFIGURATION, heading).splitlines()
        for word in quoted(line)
        if line.startswith("|") and word.startswith("--")
    }
    assert told == of_code


def test_the_tree_of_errors() -> None:
    named = quoted(section(EMBEDDING, "Errors"))
    for name in errors.__all__:
        assert name in named, name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_python_on_a_page_compiles_and_imports(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        tree = compile(code, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module != "twisted.internet":
                for alias in node.names:
                    try:
                        assert hasattr(import_module(node.module or ""), alias.name)
                    except AssertionError:
                        import_module(f"{node.module}.{alias.name}")


# http.md


def test_every_answer_of_the_edge_is_told_with_its_status() -> None:
    told = {
        (int(status), reason)
        for row in rows((DOCS / "http.md").read_text())
        for status in re.findall(r"[45]\d\d", " ".join(cell for cell in row if re.fullmatch(r"[\d, ]+", cell)))
        for cell in row
        for reason in quoted(cell)
    }
    assert {(answer.status, reason) for reason, answer in ANSWERS.items()} - told == set()


# decisions/


def test_there_are_decisions() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers
    assert len(numbers) == len(set(numbers)), "two pages have one number"


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_what_why_instead_and_until_when(path: Path) -> None:
    text = path.read_text()
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
    assert text.startswith(f"# {path.name[:4]} ")
    assert re.findall(r"^- \*\*(.*?):\*\*", text, re.MULTILINE) == ["Choice", "Why", "Instead of", "Look again when"]


def test_passwords_are_made_as_the_edge_takes_them() -> None:
    """``htpasswd -B`` alone writes a cost of 5, which it refuses."""
    commands = [text for page in DOCS.glob("*.md") for text in quoted(page.read_text()) if text.startswith("htpasswd")]
    assert len(commands) >= 3
    for command in commands:
        cost = re.search(r" -C (\d+)\b", command)
        assert cost is not None, command
        assert 8 <= int(cost[1]) <= 14
