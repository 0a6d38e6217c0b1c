"""The suite over Twisted's own transports: ``pytest --transports=twisted``.

An ordinary run has ours.  With the option every test that moves bytes through sockets runs over Twisted's, in this
process and in those that it starts; all others would only do the same once more, and are left out.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

from tests._support import FULL, TRANSPORTS

CHOICES = ("fast", "twisted")

_FOLDER = Path(__file__).parent

IN_PROCESS = frozenset({"net", "tunnel", "edge", "agent", "admin"})
"""Floors of which the tests that run in the reactor have sockets."""

OTHERS = frozenset({"test_examples.py"})
"""Files of none of these folders that have such tests, too."""

BY_PROGRAMS = frozenset({"cli", "end_to_end", "conformance"})
"""Folders of which the tests start programs that have sockets."""

ALIKE = frozenset(
    {
        "cli",
        "conformance/test_answers.py",
        "conformance/test_http_cache.py",
        "conformance/test_pipelining.py",
        "conformance/test_requests.py",
        "end_to_end/test_access.py",
        "end_to_end/test_acme.py",
        "end_to_end/test_acme_trouble.py",
        "end_to_end/test_agents_come_and_go.py",
        "end_to_end/test_balancing.py",
        "end_to_end/test_browser.py",
        "end_to_end/test_cache_isolation.py",
        "end_to_end/test_cache_control.py",
        "end_to_end/test_cache_seen.py",
        "end_to_end/test_cache_seen_document.py",
        "end_to_end/test_cache_seen_kept.py",
        "end_to_end/test_certificates.py",
        "end_to_end/test_compression.py",
        "end_to_end/test_configuration.py",
        "end_to_end/test_dns01.py",
        "end_to_end/test_faults.py",
        "end_to_end/test_middleware.py",
        "end_to_end/test_networks.py",
        "end_to_end/test_observability.py",
        "end_to_end/test_one_host_name.py",
        "end_to_end/test_origins.py",
        "end_to_end/test_programs.py",
        "end_to_end/test_restart.py",
        "end_to_end/test_routing.py",
        "end_to_end/test_sign_in.py",
        "end_to_end/test_supervised.py",
        "end_to_end/test_tenants.py",
        "end_to_end/test_tls_configuration.py",
        "end_to_end/test_visitor_certificates.py",
        "end_to_end/test_visitor_certificates_browser.py",
        "end_to_end/test_watch.py",
    }
)
"""Those of them that tell of options, files and rules, whoever moves the bytes: with full sizes alone. The transports'
own ways (ends, resets, backpressure, large bodies) are what the others are about."""

NOT_OURS = frozenset({"edge/dns01"})
"""Folders of the floors above whose tests have sockets, but never those of our transports."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transports",
        choices=CHOICES,
        default=os.environ.get(TRANSPORTS) or "fast",
        help="whose transports the package uses; twisted runs the tests that have sockets, and no others",
    )


def choose(config: pytest.Config) -> None:
    os.environ[TRANSPORTS] = config.getoption("--transports")


def passes_by(config: pytest.Config, path: Path) -> bool:
    """Whether a folder or file has no test that such a run is about: importing them all takes long."""
    if config.getoption("--transports") != "twisted" or path == _FOLDER or not path.is_relative_to(_FOLDER):
        return False
    relative = path.relative_to(_FOLDER)
    first = relative.parts[0]
    if first in BY_PROGRAMS:
        return not FULL and bool({first, relative.as_posix()} & ALIKE)
    return first not in IN_PROCESS | OTHERS or relative.as_posix() in NOT_OURS


def touches_sockets(item: pytest.Item) -> bool:
    """Whether the test has sockets, as far as its folder and its kind say."""
    if not item.path.is_relative_to(_FOLDER):
        return False
    path = item.path.relative_to(_FOLDER)
    first = path.parts[0]
    if first in BY_PROGRAMS:
        return FULL or not {first, path.as_posix()} & ALIKE
    if path.parent.as_posix() in NOT_OURS:
        return False
    return is_coroutine(item) and first in IN_PROCESS | OTHERS


def is_coroutine(item: pytest.Item) -> bool:
    """Whether a test runs in the reactor, as coroutines do."""
    function = getattr(item, "obj", None)
    handle = getattr(function, "hypothesis", None)
    return inspect.iscoroutinefunction(handle.inner_test if handle is not None else function)
