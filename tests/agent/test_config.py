"""The agent's settings: option over variable over default, and errors that name what the operator wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.errors import ConfigError, NotAvailableError

TOKEN = "wh_an-agent-token"
ENVIRONMENT = {"FLY_TOKEN": TOKEN, "FLY_REMOTE_ENDPOINT": "edge.example"}


def read(options: dict[str, Any] | None = None, **variables: str) -> AgentConfig:
    return AgentConfig.from_environment({**ENVIRONMENT, **variables}, options, folder=None)


@implementer(IStreamClientEndpoint)
class Endpoint:
    def connect(self, factory: Any) -> Any:
        raise NotImplementedError


def test_the_defaults() -> None:
    config = read()
    assert config.token == TOKEN
    assert config.edge_addresses() == [("edge.example", 443)]
    assert config.local == "127.0.0.1:5000"
    assert (config.edge_timeout, config.local_timeout, config.drain) == (10, 5, 30)
    assert (config.backoff_min, config.backoff_max) == (0.1, 5)
    assert not config.local_tls
    assert config.release is None
    assert config.log_level == "info"


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(read())
    assert TOKEN not in str(read())


def test_the_variables() -> None:
    config = read(
        FLY_REMOTE_ENDPOINT="one.example, two.example:8443,[::1]:8443",
        FLY_LOCALHOST="10.0.0.1",
        FLY_PORT="8080",
        FLY_LOCAL_ENDPOINT_USE_TLS="true",
        FLY_LOCAL_ENDPOINT_INSECURE_SKIP_VERIFY="1",
        FLY_LOG_LEVEL="debug",
        FLY_PROTO="tls",
        FLY_RELEASE_ID="v7",
    )
    assert config.edge_addresses() == [("one.example", 443), ("two.example", 8443), ("::1", 8443)]
    assert config.local == "10.0.0.1:8080"
    assert config.local_tls
    assert config.local_insecure
    assert config.log_level == "debug"
    assert config.release is not None
    assert config.release.id == "v7"


def test_the_endpoint_wins_over_host_and_port() -> None:
    config = read(FLY_LOCAL_ENDPOINT="service:81", FLY_LOCALHOST="10.0.0.1", FLY_PORT="8080")
    assert config.local == "service:81"


def test_an_ipv6_localhost_gets_its_brackets() -> None:
    assert read(FLY_LOCALHOST="::1").local == "[::1]:5000"


def test_an_option_wins_over_a_variable(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("wh_other\n")
    config = read(
        {"edge": ["a.example,b.example", "c.example"], "local": "8000", "token-file": str(token_file), "drain": "2.5"},
        FLY_LOCAL_ENDPOINT="service:81",
    )
    assert config.token == "wh_other"
    assert [host for host, _ in config.edge_addresses()] == ["a.example", "b.example", "c.example"]
    assert config.local == "8000"
    assert config.drain == 2.5


def test_a_url_in_the_option_has_the_last_word_on_tls() -> None:
    config = read({"local": "http://web:80"}, FLY_LOCAL_ENDPOINT_USE_TLS="true")
    assert not config.local_tls


def test_empty_counts_as_unset() -> None:
    config = read(
        {"edge": [], "local": None, "local-insecure": 0},
        FLY_LOCAL_ENDPOINT="",
        FLY_PORT="",
        FLY_TLS_CERT_FILE="",
        FLY_PROTO="",
        FLY_LOCAL_ENDPOINT_USE_TLS="",
        FLY_LOG_LEVEL="",
    )
    assert config.local == "127.0.0.1:5000"
    assert config.log_level == "info"


@pytest.mark.parametrize("content", ["wh_t", "wh_t\n", "wh_t\r\n"])
def test_a_token_file_may_end_its_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, newline="")
    config = AgentConfig.from_environment({"FLY_TOKEN_FILE": str(file), "FLY_REMOTE_ENDPOINT": "e"}, folder=None)
    assert config.token == "wh_t"


@pytest.mark.parametrize(
    ("variables", "start"),
    [
        ({"FLY_TOKEN": ""}, "FLY_TOKEN: no token is given: set FLY_TOKEN or FLY_TOKEN_FILE"),
        ({"FLY_TOKEN": "wh_sécret"}, "FLY_TOKEN: a token is 1–512 printable ASCII characters"),
        ({"FLY_TOKEN": "wh_secret\n\n"}, "FLY_TOKEN: a token is"),
        ({"FLY_TOKEN": "x" * 513}, "FLY_TOKEN: a token is"),
        ({"FLY_TOKEN": "", "FLY_TOKEN_FILE": "/nowhere/token"}, "FLY_TOKEN_FILE: the file /nowhere/token does not"),
        ({"FLY_REMOTE_ENDPOINT": ""}, "FLY_REMOTE_ENDPOINT: no edge is given"),
        ({"FLY_REMOTE_ENDPOINT": "https://edge"}, "FLY_REMOTE_ENDPOINT: 'https://edge' is a URL"),
        ({"FLY_REMOTE_ENDPOINT": ",".join(f"e{n}" for n in range(17))}, "FLY_REMOTE_ENDPOINT: 17 edges"),
        ({"FLY_LOCAL_ENDPOINT": "ftp://x"}, "FLY_LOCAL_ENDPOINT: ftp:// is not known"),
        ({"FLY_LOCAL_ENDPOINT": "http://x", "FLY_LOCAL_ENDPOINT_USE_TLS": "yes"}, "FLY_LOCAL_ENDPOINT_USE_TLS: it"),
        ({"FLY_LOCAL_ENDPOINT_USE_TLS": "perhaps"}, "FLY_LOCAL_ENDPOINT_USE_TLS: 'perhaps' is neither"),
        ({"FLY_PORT": "http"}, "FLY_PORT: 'http' is no port"),
        ({"FLY_PORT": "65536"}, "FLY_PORT: '65536' is no port"),
        ({"FLY_PORT": "1" * 5000}, f"FLY_PORT: '{'1' * 40}' is no port"),
        ({"FLY_LOCALHOST": "a b"}, "FLY_LOCALHOST, FLY_PORT: 'a b' is not a host name"),
        ({"FLY_TLS_CERT_FILE": "/nowhere/ca.pem"}, "FLY_TLS_CERT_FILE: the file /nowhere/ca.pem does not exist"),
        ({"FLY_LOCAL_ENDPOINT_CA_CERT_FILE": "/nowhere"}, "FLY_LOCAL_ENDPOINT_CA_CERT_FILE: the file /nowhere"),
        ({"FLY_PROTO": "quic"}, "FLY_PROTO: 'quic' is none of tls, websocket, auto"),
    ],
)
def test_errors_name_the_variable_and_never_the_token(variables: dict[str, str], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**variables)
    assert str(caught.value).startswith(start)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ssh", "tcp", "http2", "SSH"])
def test_carriers_of_other_versions_are_not_available(name: str) -> None:
    with pytest.raises(NotAvailableError, match=r"FLY_PROTO: the carrier '\w+' is not available in this version"):
        read(FLY_PROTO=name)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"edge": ["a:b"]}, "--edge: "),
        ({"local": "x"}, "--local: 'x' has no port"),
        ({"token-file": "/nowhere/token"}, "--token-file: the file /nowhere/token does not exist"),
        ({"ca-file": "/nowhere/ca"}, "--ca-file: the file /nowhere/ca does not exist"),
        ({"drain": "long"}, "--drain: 'long' is no number of seconds"),
        ({"drain": "-1"}, "--drain: -1.0 is out of range"),
        ({"drain": "nan"}, "--drain: nan is out of range"),
    ],
)
def test_errors_name_the_option(options: dict[str, Any], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(options)
    assert str(caught.value).startswith(start)


def test_an_empty_token_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"--token-file: the file .* is empty"):
        read({"token-file": str(file)})


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with pytest.raises(ConfigError, match=r"FLY_TLS_CERT_FILE: .* holds no PEM certificate"):
        read(FLY_TLS_CERT_FILE=str(file))


def test_a_library_gives_an_endpoint_and_text_for_edges() -> None:
    config = AgentConfig(token=TOKEN, edges="a.example, b.example", local=Endpoint())  # type: ignore[arg-type]
    assert list(config.edges) == ["a.example", "b.example"]
    with pytest.raises(ConfigError, match="local: it is neither text nor"):
        AgentConfig(token=TOKEN, edges=["e"], local=object())  # type: ignore[arg-type]


def test_a_ca_file_is_refused_where_nothing_is_verified() -> None:
    with pytest.raises(ConfigError, match="local_ca_file: a CA file is given for a service without TLS"):
        AgentConfig(token=TOKEN, edges=["e"], local="8000", local_ca_file="ca.pem")
    with pytest.raises(ConfigError, match="local_ca_file: there is no use"):
        AgentConfig(token=TOKEN, edges=["e"], local="https://x", local_ca_file="ca.pem", local_insecure=True)


def test_the_carrier_and_the_edges_used() -> None:
    assert (read().carrier, read().edges_used) == ("tls", "all")
    config = read(FLY_PROTO="WebSocket", FLY_EDGES="nearest", FLY_REMOTE_ENDPOINT="a.example,b.example")
    assert (config.carrier, config.edges_used) == ("websocket", "nearest")
    config = read({"carrier": "auto", "edges": "all"}, FLY_PROTO="tls", FLY_EDGES="nearest")
    assert (config.carrier, config.edges_used) == ("auto", "all")


@pytest.mark.parametrize(
    ("options", "variables", "start"),
    [
        ({"carrier": "quic"}, {}, "--carrier: 'quic' is none of tls, websocket, auto"),
        ({}, {"FLY_EDGES": "fastest"}, "FLY_EDGES: 'fastest' is none of all, nearest"),
        ({"edges": "edge.example"}, {}, "--edges: 'edge.example' is none of all, nearest"),
        ({"proxy": "ftp://x"}, {}, "--proxy: it is no proxy"),
        ({}, {"FLY_PROXY": "http://:80"}, "FLY_PROXY: it names no host"),
        ({}, {"all_proxy": "socks4://x"}, "all_proxy: socks4:// is not spoken here"),
    ],
)
def test_errors_about_networks(options: dict[str, Any], variables: dict[str, str], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(options, **variables)
    assert str(caught.value).startswith(start)


def proxy_of(config: AgentConfig, host: str = "edge.example") -> str:
    return str(config.proxies.for_host(host, 443))


def test_which_proxy() -> None:
    assert proxy_of(read()) == "None"
    usual = {"HTTPS_PROXY": "usual:1", "NO_PROXY": "other.example"}
    assert proxy_of(read(**usual)) == "http://usual:1"
    assert proxy_of(read(**usual), "other.example") == "None"
    assert proxy_of(read(FLY_PROXY="socks5h://own:2", **usual)) == "socks5h://own:2"
    assert proxy_of(read(FLY_PROXY="own:2", **usual), "other.example") == "http://own:2"
    assert proxy_of(read({"proxy": "said:3"}, FLY_PROXY="own:2", **usual)) == "http://said:3"
    assert proxy_of(read({"proxy": "none"}, FLY_PROXY="own:2", **usual)) == "None"
    assert proxy_of(read(FLY_PROXY="NONE", **usual)) == "None"
    assert proxy_of(AgentConfig(token=TOKEN, edges=["e"], proxy="https://lib:4")) == "https://lib:4"


def test_a_proxys_password_is_in_no_repr() -> None:
    config = AgentConfig(token=TOKEN, edges=["e"], proxy="http://user:s3cret@proxy:3128")
    assert config.proxies.proxy is not None
    assert config.proxies.proxy.password == b"s3cret"
    assert "s3cret" not in repr(config)
