"""``[[sites.middleware]]``: which middleware stands where, and what names none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.control._sample import make, sample
from wormhole_tw.control.middleware import DEFAULT_TIMEOUT, MiddlewareSettings
from wormhole_tw.errors import ConfigError

ONE = {"use": "package.module:Name"}


def chains(site: list[dict[str, Any]], route: list[dict[str, Any]]) -> list[tuple[MiddlewareSettings, ...] | None]:
    """The middleware of the first site's routes, of which the first has some of its own."""
    config = make(sample(**{"sites.0.middleware": site, "sites.0.routes.0.middleware": route}))
    return [found.middleware for found in config.sites[0].routes]


def test_nothing_is_there_unless_named() -> None:
    assert all(route.middleware is None for site in make().sites for route in site.routes)
    assert all(chain is None for chain in chains([], []))


def test_the_sites_come_first() -> None:
    first, *others = chains([ONE], [{"use": "other:Thing", "settings": {"a": [1]}, "timeout": 2}])
    assert first is not None
    assert [one.shown for one in first] == ["package.module:Name", "other:Thing"]
    assert all(other is not None and [one.shown for one in other] == ["package.module:Name"] for other in others)
    one, two = first
    assert (one.module, one.name, one.settings, one.timeout) == ("package.module", "Name", {}, DEFAULT_TIMEOUT)
    assert (two.module, two.name, two.settings, two.timeout) == ("other", "Thing", {"a": [1]}, 2.0)
    assert one.key == "$.sites[0].middleware[0]"
    assert two.key == "$.sites[0].routes[0].middleware[0]"
    assert hash(two) != hash(one)


def test_a_file_is_relative_to_the_configuration() -> None:
    [first, *_] = chains([{"file": "a/b.py"}, {"file": "b.py", "use": "Thing"}], [])
    assert first is not None
    one, two = first
    assert (one.file, one.module, one.name, one.shown) == (Path("/etc/edge/a/b.py"), None, "Middleware", "a/b.py")
    assert (two.name, two.shown) == ("Thing", "b.py:Thing")


def test_the_same_object_is_asked_for_by_the_same_words() -> None:
    [first, *_] = chains([ONE, {**ONE, "timeout": 1}, {**ONE, "settings": {"a": 1}}], [])
    assert first is not None
    one, patient, other = first
    assert one.same_object(patient)
    assert not one.same_object(other)


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({}, "[0].use", "names nothing"),
        ({"use": "module"}, "[0].use", "package.module:Name"),
        ({"use": "module:"}, "[0].use", "package.module:Name"),
        ({"use": "a..b:c"}, "[0].use", "package.module:Name"),
        ({"use": "a b:c"}, "[0].use", "package.module:Name"),
        ({"file": ""}, "[0].file", "no path"),
        ({"file": "a\0"}, "[0].file", "no path"),
        ({"file": "a.py", "use": "module:Name"}, "[0].use", "the name of what the file has"),
        ({**ONE, "timeout": 0}, "[0].timeout", "> 0"),
        ({**ONE, "timeout": 10_000}, "[0].timeout", "<= 3600"),
        ({**ONE, "settings": 1}, "[0].settings", "a table"),
        ({**ONE, "setings": {}}, "[0].setings", "did you mean settings?"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chains([table], [])
    assert caught.value.key == f"$.sites[0].middleware{key}"
    assert words in caught.value.reason
    with pytest.raises(ConfigError) as caught:
        chains([], [table])
    assert caught.value.key == f"$.sites[0].routes[0].middleware{key}"


def test_a_route_that_answers_itself_has_none() -> None:
    answering = {"path": "/old", "redirect": {"to": "/new"}}
    plain = {"path": "/", "backend": "app"}
    table = sample(**{"sites.0.middleware": [ONE], "sites.0.routes": [answering, plain]})
    one, two = make(table).sites[0].routes
    assert one.middleware is None
    assert two.middleware is not None
    table["sites"][0]["routes"][0]["middleware"] = [ONE]
    with pytest.raises(ConfigError, match=r"routes\[0\].middleware: the route answers itself"):
        make(table)


def test_there_is_an_end_to_it() -> None:
    with pytest.raises(ConfigError, match="more than 32"):
        chains([ONE] * 33, [])


@pytest.mark.parametrize("place", ["sites.0.middleware", "sites.0.routes.0.middleware"])
def test_a_site_that_is_passed_through_has_none(place: str) -> None:
    table = sample(**{"sites.0.tls": "passthrough", "sites.0.routes": [{"path": "/", "backend": "app"}]})
    make(table)
    table = sample(**{"sites.0.tls": "passthrough", "sites.0.routes": [{"path": "/", "backend": "app"}], place: [ONE]})
    with pytest.raises(ConfigError) as caught:
        make(table)
    assert caught.value.key == f"$.{place.replace('.0', '[0]')}"
