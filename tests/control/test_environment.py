from __future__ import annotations

import pytest

from tests.control._sample import sample
from wormhole_tw.control.config import EdgeConfig, Override
from wormhole_tw.control.environment import EDGE_VARIABLES, environment_overrides
from wormhole_tw.errors import ConfigError


def test_an_empty_variable_counts_as_unset() -> None:
    assert environment_overrides({}) == {}
    assert environment_overrides(dict.fromkeys(EDGE_VARIABLES, "")) == {}
    assert environment_overrides(dict.fromkeys(EDGE_VARIABLES, " \n")) == {}


def test_variables_become_overrides() -> None:
    overrides = environment_overrides(
        {
            "PATH": "/bin",
            "WORMHOLE_EDGE_NAME": " edge-1 ",
            "WORMHOLE_EDGE_HTTPS": "tcp:8443, tcp:9443:interface=127.0.0.1,",
            "WORMHOLE_EDGE_PUBLIC_HTTPS_PORT": "443",
        }
    )
    assert overrides == {
        "edge.name": Override("edge-1", "WORMHOLE_EDGE_NAME"),
        "edge.https": Override(["tcp:8443", "tcp:9443:interface=127.0.0.1"], "WORMHOLE_EDGE_HTTPS"),
        "edge.public_https_port": Override(443, "WORMHOLE_EDGE_PUBLIC_HTTPS_PORT"),
    }


@pytest.mark.parametrize("text", ["https", "4.43", "-1", "٤٤٣", "4" * 5000])
def test_a_number_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^WORMHOLE_EDGE_PUBLIC_HTTPS_PORT: expected a whole number$"):
        environment_overrides({"WORMHOLE_EDGE_PUBLIC_HTTPS_PORT": text})


def test_every_variable_sets_a_key_that_exists() -> None:
    values = {
        "WORMHOLE_EDGE_NAME": "edge-9",
        "WORMHOLE_EDGE_NAMES": "edge.test",
        "WORMHOLE_EDGE_REGION": "ams",
        "WORMHOLE_EDGE_HTTPS": "tcp:1",
        "WORMHOLE_EDGE_HTTP": "tcp:2",
        "WORMHOLE_EDGE_PUBLIC_HTTPS_PORT": "3",
        "WORMHOLE_EDGE_ADMIN": "tcp:4",
        "WORMHOLE_EDGE_STATE": "/srv/state",
        "WORMHOLE_EDGE_TLS_MODE": "dev",
    }
    assert values.keys() == EDGE_VARIABLES.keys()
    config = EdgeConfig.from_dict(sample(), overrides=environment_overrides(values))
    assert (config.name, config.names, config.region) == ("edge-9", ("edge.test",), "ams")
    assert [listener.endpoint for listener in config.listeners] == ["tcp:1", "tcp:2"]
    assert (config.public_https_port, config.admin, str(config.state)) == (3, "tcp:4", "/srv/state")


def test_an_error_names_the_variable() -> None:
    with pytest.raises(ConfigError, match=r"^WORMHOLE_EDGE_STATE: no path$"):
        EdgeConfig.from_dict(sample(), overrides=environment_overrides({"WORMHOLE_EDGE_STATE": "a\0b"}))
