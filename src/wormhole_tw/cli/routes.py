"""``wormhole-tw route``: which rule takes a request and why, and rules of superfly/edge as routes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from wormhole_tw.cli.cache_explained import cache_lines, fetched
from wormhole_tw.control.edge_rules import import_rules, rules_in
from wormhole_tw.control.held_back import HeldBack
from wormhole_tw.control.model import LocalAnswer, Route, Site
from wormhole_tw.control.names import is_address
from wormhole_tw.control.rules import explain
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.errors import ConfigError, HttpError, WormholeError
from wormhole_tw.http.asked import Asked
from wormhole_tw.http.grammar import is_token
from wormhole_tw.http.rewriting import Redirect
from wormhole_tw.http.targets import normalise_host, normalise_target

if TYPE_CHECKING:
    from wormhole_tw.control.config import EdgeConfig
    from wormhole_tw.control.model import Selection
    from wormhole_tw.http.edits import FieldEdits
    from wormhole_tw.http.events import Fields

__all__ = ["explain_route", "import_file"]

_PATH = "/!$&'()*+,;=:@%[]\\^`{|}~\"<>"
"""What stays as it is typed in a path: a browser escapes some of it, and the edge says what it makes of it."""

_ALMOST_ONE = 1.0 - 2.0**-53


class RouteError(WormholeError):
    """What was asked makes no sense."""


def explain_route(
    url: str, *, config: str, method: str, headers: Sequence[str], address: str, branches: Sequence[str]
) -> int:
    """Say which rule takes a request, what becomes of it, and why the rules before it did not.

    :param branches: release branches of which a ready agent is taken to be there
    :returns: 0 where a rule takes it, else 1
    :raises WormholeError: the configuration or what was asked is wrong
    """
    edge, catalog = FileStore(Path(config)).load()
    try:
        split = urlsplit(url if "://" in url else f"https://{url}")
    except ValueError as error:
        raise RouteError(f"{url} is no URL: {error}") from None
    if split.scheme not in ("http", "https") or not split.netloc:
        raise RouteError(f"{url} is no URL of a site: https://host/path")
    host = _host(split.netloc)
    query = quote(split.query, safe=_PATH + "?").encode("ascii") if "?" in url.partition("#")[0] else None
    try:
        path, _ = normalise_target(quote(split.path or "/", safe=_PATH).encode("ascii"))
    except HttpError as error:
        print(f"{url}\n  400: {error.message}")
        return 1
    if address and not is_address(address):
        raise RouteError(f"{address} is no IP address")
    site = catalog.site_for(host)
    if site is None:
        print(f"{url}\n  404: no site has the host name {host}")
        return 1
    fields = [(b"Host", split.netloc.encode()), *map(_field, headers)]
    asked = Asked(
        host,
        path.decode("ascii"),
        query,
        method=method.encode(),
        fields=fields,
        scheme=split.scheme,
        address=address,
        chance=lambda: _ALMOST_ONE,
        offers=lambda backend, branch: branch in branches,
    )
    print(f"{method} {split.scheme}://{split.netloc}{path.decode()}{'' if query is None else '?' + query.decode()}")
    print(f"site {site.name}{_before(edge, site, split.scheme)}")
    return _print_verdicts(site, asked, fields)


def _host(authority: str) -> str:
    try:
        host, _ = normalise_host(authority.encode("idna" if not authority.isascii() else "ascii"))
    except (HttpError, UnicodeError):
        raise RouteError(f"{authority} is no host name") from None
    return host.strip("[]")


def _field(line: str) -> tuple[bytes, bytes]:
    name, mark, value = line.partition(":")
    field = name.strip().encode()
    if not mark or not is_token(field):
        raise RouteError(f'{line!r} is no header: --header "Name: value"')
    return field, value.strip().encode()


def _before(edge: EdgeConfig, site: Site, scheme: str) -> str:
    """What happens before a route is asked."""
    if site.passthrough:
        return ': tls = "passthrough": its TLS is not ended here, and its one route takes every connection'
    if scheme == "http" and all(listener.tls or listener.on_plain == "redirect" for listener in edge.listeners):
        return (
            ': plain HTTP is redirected to https here before any route is asked; with on_plain = "serve" it would be:'
        )
    return ""


def _print_verdicts(site: Site, asked: Asked, fields: Fields) -> int:
    width = len(str(len(site.routes) - 1))
    for number, verdict in enumerate(explain(site.routes, asked)):
        route = verdict.route
        label = f"  routes[{number}]{' ' * (width - len(str(number)))} {route.label}"
        if verdict.why_not:
            print(f"{label}: no, {verdict.why_not}")
            continue
        print(f"{label}: takes it")
        for line in _done(route, asked, fields):
            print(f"{' ' * (width + 11)}{line}")
        return 0
    print("  404: no route takes it")
    return 1


def _done(route: Route, asked: Asked, fields: Fields) -> list[str]:
    """What becomes of a request that a route takes."""
    lines = []
    answer = route.answer
    values = route.values(asked.path)
    asks = [settings.kind for settings in route.gates or () if settings.kind != HeldBack.kind]
    if asks:
        lines.append(f"asked first: {', '.join(asks)}")
    if isinstance(answer, Redirect):
        lines.append(f"redirect {answer.status} to {answer.location(values, asked.query).decode()}")
    elif isinstance(answer, LocalAnswer):
        lines.append(f"answer {answer.status} of the edge's own{f' ({answer.reason})' if answer.reason else ''}")
    else:
        target = asked.path if asked.query is None else f"{asked.path}?{asked.query.decode()}"
        if route.rewrite is not None:
            try:
                target = route.rewrite.target(asked.path, values, asked.query).decode()
            except HttpError as error:
                return [*lines, f"400: {error.message}"]
        if route.middleware:
            lines.append(f"through {', '.join(settings.shown for settings in route.middleware)}")
        taken, told = cache_lines(route, asked, fields)
        lines += told
        if taken:
            target = fetched(route, target)
        lines.append(f"backend {route.backend}{_selected(route.selection)} gets {target}")
        lines += _edits("request", route.request_edits)
        if route.compress is not None:
            lines.append(f"compressed with {', '.join(coding.decode() for coding in route.compress.codings)}")
    return lines + _edits("answer", route.response_edits)


def _selected(selection: Selection | None) -> str:
    if selection is None:
        return ""
    if selection.branch is not None:
        return f" (agents of branch {selection.branch})"
    return f" (no agents of branch {', '.join(sorted(selection.apart))})"


def _edits(what: str, edits: FieldEdits | None) -> list[str]:
    if edits is None:
        return []
    put = {name.lower() for name, _ in edits.lines}
    lines = [f"{what} without {name.decode()}" for name in sorted(edits.removed - put)]
    return lines + [f"{what} with {name.decode()}: {value.decode()}" for name, value in edits.lines]


def import_file(file: str) -> int:
    """Print rules of superfly/edge, in JSON or YAML, as routes.

    :returns: 0, or 1 where something could not be taken over
    :raises ConfigError: it cannot be read, or there are no rules in it
    """
    imported = import_rules(rules_in(_read(file), file), file)
    print(imported.toml, end="")
    for problem in imported.problems:
        print(f"wormhole-tw: {file}: {problem}", file=sys.stderr)
    if imported.backends:
        print(f"Backends that these lead to: {', '.join(imported.backends)}", file=sys.stderr)
    if imported.hosts:
        print(f"Host names that their site needs: {', '.join(imported.hosts)}", file=sys.stderr)
    return 1 if imported.problems else 0


def _read(file: str) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(file, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(file, "", f"not UTF-8 text (octet {error.start})") from error
    if file.endswith(".json"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(file, "", f"not valid JSON: {error}") from error
    import yaml  # only who imports rules needs it

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(file, "", f"not valid YAML: {' '.join(str(error).split())}") from error
