"""Rules of superfly/edge (``actionType``, ``backendKey``, ``pathPattern`` …) as ``[[sites.routes]]``.

What can be said there is said; of what cannot, a line says so in its place, for the order of rules matters.  Patterns
of paths have ``:x`` and ``*x``, or are JavaScript's regular expressions, of which some come down to such a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wormhole_tw.errors import ConfigError
from wormhole_tw.http.patterns import PathPattern
from wormhole_tw.http.regexes import Regex

__all__ = ["Imported", "import_rules", "rules_in"]

_KEYS = frozenset(
    {
        "actionType",
        "backendKey",
        "matchScheme",
        "hostname",
        "pathMatchMode",
        "httpHeaderKey",
        "httpHeaderValue",
        "pathPattern",
        "pathReplacementPattern",
        "redirectURLPattern",
        "redirectStatus",
        "responseReplacements",
    }
)

_STATUSES = (301, 302, 303, 307, 308)

_GROUPS = {"(.*)": "*", "(.+)": "*", "([^/]+)": ":", "([^/]*)": ":", "(\\w+)": ":", "(\\d+)": ":", ".*": "*"}
"""What stands for a part of a path in a regular expression, and the kind of name that comes closest."""

_GROUP = re.compile("|".join(re.escape(group) for group in sorted(_GROUPS, key=len, reverse=True)))
_NAMED = re.compile(r"/[:*][A-Za-z_]\w*", re.ASCII)
_SEGMENT = re.compile(r"[:*][A-Za-z_]\w*", re.ASCII)
_SPECIAL = re.compile(r"[()\[\]{}+*?|^$\\]")
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)


class Imported(NamedTuple):
    """What came of the rules.

    :ivar toml: tables and comments
    :ivar problems: what could not be taken over, a line each; they stand in ``toml`` too
    :ivar backends: the names of backends that the tables lead to, in order
    :ivar hosts: the host names that they name, in order
    """

    toml: str
    problems: tuple[str, ...]
    backends: tuple[str, ...]
    hosts: tuple[str, ...]


class _Problem(Exception):
    """A rule that cannot be said otherwise."""


def rules_in(raw: object, source: str) -> Sequence[object]:
    """Find the rules in what a file holds: a list of them, or a configuration with ``rules``.

    :raises ConfigError: there are none
    """
    found = raw
    for key in ("config", "flyCDN", "rules"):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
    if not isinstance(found, list):
        raise ConfigError(source, "", "no list of rules, and no table with rules in it")
    return found


def import_rules(rules: Sequence[object], source: str) -> Imported:
    """Turn rules into routes."""
    lines = [f"# {len(rules)} rules of {source}"]
    problems: list[str] = []
    backends: dict[str, None] = {}
    hosts: dict[str, None] = {}
    for number, rule in enumerate(rules):
        where = f"rules[{number}]"
        lines.append("")
        try:
            notes: list[str] = []
            tables = list(_tables(rule, notes))
        except _Problem as problem:
            problems.append(f"{where}: {problem}")
            lines.append(f"# {where} is not here: {problem}")
            continue
        for note in notes:
            problems.append(f"{where}: {note}")
            lines.append(f"# {where}: {note}")
        for table in tables:
            lines.append("[[sites.routes]]")
            lines += (f"{key} = {_toml(value)}" for key, value in table.items())
            if "backend" in table:
                backends[table["backend"]] = None
            hosts.update(dict.fromkeys(table.get("hosts", ())))
    return Imported("\n".join(lines) + "\n", tuple(problems), tuple(backends), tuple(hosts))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # strings of JSON are strings of TOML, but for one character that has to be escaped there
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _text(rule: Mapping[str, Any], key: str) -> str:
    value = rule.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Problem(f"{key} is no string")
    return value


def _tables(rule: object, notes: list[str]) -> Iterator[dict[str, Any]]:
    if not isinstance(rule, Mapping):
        raise _Problem("it is no table")
    for key in rule:
        if key not in _KEYS:
            notes.append(f"{key} is no field of such a rule, and left out")
    action = rule.get("actionType")
    if action not in ("redirect", "rewrite"):
        raise _Problem("actionType is neither redirect nor rewrite")
    if rule.get("responseReplacements"):
        notes.append("responseReplacements are left out: changes of a body are for middleware")
    conditions = _conditions(rule)
    paths, references = _paths(rule)
    for path in paths:
        table: dict[str, Any] = {**path, **conditions}
        if action == "redirect":
            table["redirect"] = _redirect(rule, references)
        else:
            table.update(_rewrite(rule, references, path))
        yield table


def _conditions(rule: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if hostname := _text(rule, "hostname"):
        found["hosts"] = [hostname.lower()]
    if (scheme := _text(rule, "matchScheme")) in ("http", "https"):
        found["scheme"] = scheme
    name, value = _text(rule, "httpHeaderKey"), _text(rule, "httpHeaderValue")
    if name and value:
        found["headers"] = [{"name": name, "matches": _searching(value)}]
    return found


def _searching(pattern: str) -> str:
    """An expression that is looked for anywhere, as one for the whole value."""
    front = "" if pattern.startswith("^") else ".*"
    back = "" if pattern.endswith("$") and not pattern.endswith("\\$") else ".*"
    inner = pattern.removeprefix("^")
    inner = inner if back else inner[:-1]
    whole = f"{front}(?:{inner}){back}" if "|" in inner else f"{front}{inner}{back}"
    try:
        Regex(whole)
    except ValueError as error:
        raise _Problem(f"httpHeaderValue: {error}") from None
    return whole


def _paths(rule: Mapping[str, Any]) -> tuple[list[dict[str, str]], Mapping[str, str]]:
    """The tables' paths, and what ``$x`` of the rule's other patterns is called in ours."""
    pattern = _text(rule, "pathPattern")
    mode = _text(rule, "pathMatchMode")
    if mode not in ("", "full", "prefix"):
        raise _Problem("pathMatchMode is neither prefix nor full")
    if not pattern:
        return [{}], {"rest": "rest"}
    if _NAMED.search(pattern):
        if _SPECIAL.search(re.sub(r"/\*", "/", pattern)):
            raise _Problem(f"pathPattern {pattern!r} is neither a path with names nor an expression alone")
        try:
            PathPattern(pattern)
        except ValueError as error:
            raise _Problem(f"pathPattern: {error}") from None
        names = {name[2:]: name[2:] for name in _NAMED.findall(pattern)}
        found = [{"pattern": pattern}]
        if mode == "prefix" and "/*" not in pattern:
            found.append({"pattern": pattern.rstrip("/") + "/*below"})
        return found, names
    return _of_expression(pattern, full=mode == "full")


def _of_expression(pattern: str, *, full: bool) -> tuple[list[dict[str, str]], Mapping[str, str]]:
    text = pattern.removeprefix("^")
    if text.endswith("$") and not text.endswith("\\$"):
        text, full = text[:-1], True
    names: dict[str, str] = {}
    made = ""
    at = 0
    for group in _GROUP.finditer(text):
        name = f"p{len(names) + 1}"
        if group[0].startswith("("):
            names[str(len(names) + 1)] = name
        else:
            name = "rest"
        made += _literal(text[at : group.start()], pattern) + _GROUPS[group[0]] + name
        at = group.end()
    made += _literal(text[at:], pattern)
    if not made.startswith("/"):
        raise _Problem(f"pathPattern {pattern!r} does not begin with a slash: it may match anywhere in a path")
    kinds = made.split("/")[1:]
    if any(re.search("[:*]", kind) and _SEGMENT.fullmatch(kind) is None for kind in kinds):
        raise _Problem(f"pathPattern {pattern!r} has a group that is no whole segment of a path")
    if any(kind.startswith("*") for kind in kinds[:-1]):
        raise _Problem(f"pathPattern {pattern!r} goes on behind a group that takes everything")
    if names or "*" in made:
        return [{"pattern": made}], names
    return [{"exact" if full else "path": made}], {} if full else {"rest": "rest"}


def _literal(text: str, pattern: str) -> str:
    """A part of an expression that stands for itself."""
    plain = re.sub(r"\\([^A-Za-z0-9])", lambda match: match[1], text)
    if _SPECIAL.search(re.sub(r"\\[^A-Za-z0-9]", "", text)):
        raise _Problem(f"pathPattern {pattern!r} is an expression that comes down to no path: write its rule by hand")
    return plain


def _template(text: str, key: str, references: Mapping[str, str]) -> str:
    def named(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in references:
            raise _Problem(f"{key} has ${name}, for which pathPattern has no name")
        return f":{references[name]}"

    return _REFERENCE.sub(named, text)


def _redirect(rule: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
    to = _text(rule, "redirectURLPattern")
    if not to:
        raise _Problem("a redirect without redirectURLPattern leads nowhere")
    status = rule.get("redirectStatus") or 302
    if status not in _STATUSES:
        raise _Problem(f"redirectStatus is none of {', '.join(map(str, _STATUSES))}")
    return {"to": _template(to, "redirectURLPattern", references), "status": status, "keep_query": False}


def _rewrite(rule: Mapping[str, Any], references: Mapping[str, str], path: Mapping[str, str]) -> dict[str, Any]:
    backend = _text(rule, "backendKey")
    if not backend:
        raise _Problem("a rewrite without backendKey leads nowhere")
    found: dict[str, Any] = {"backend": backend}
    if new := _text(rule, "pathReplacementPattern"):
        # of a plain prefix, only that part of the path was replaced
        key = "replace_prefix" if "path" in path and "$" not in new else "rewrite"
        found[key] = _template(new, "pathReplacementPattern", references)
        if path.get("pattern", "").endswith("/*below"):
            found[key] = found[key].rstrip("/") + "/:below"
    return found
