"""Origins on the web in edge.toml: what may stand there, and what comes of it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.control._sample import make, sample
from tests.net.certificates import Person
from wormhole_tw.control.catalog import build_catalog
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.dns import DnsServer
from wormhole_tw.control.model import Backend
from wormhole_tw.errors import ConfigError


def backend(folder: str = "/etc/edge", **keys: Any) -> Backend:
    """A backend without tokens."""
    return make(sample(**{"backends.0": {"name": "app", **keys}, "sites.0.routes": ROUTES}), folder=folder).backends[0]


ROUTES = [{"path": "/", "backend": "app"}]


def refusal(folder: str = "/etc/edge", **keys: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        backend(folder, **keys)
    assert "\n" not in str(caught.value)
    return caught.value.key.removeprefix("$.backends[0]."), caught.value.reason


def test_one_origin() -> None:
    (origin,) = backend(origin="https://Pages.Example.com/Base/").origins
    assert origin.url == "https://pages.example.com/Base"
    assert (origin.target.host, origin.target.port, origin.target.server_name) == (
        "pages.example.com",
        443,
        "pages.example.com",
    )
    assert origin.host == "pages.example.com"
    assert origin.base == "/Base"
    assert origin.rewrite
    assert (origin.weight, origin.region, origin.index) == (1.0, "", "")


def test_several_with_weights_and_regions() -> None:
    one, other = backend(
        origins=[{"url": "http://one.example:8080"}, {"url": "https://other.example", "weight": 2.5, "region": "eu"}]
    ).origins
    assert (one.url, one.target.server_name, one.host) == ("http://one.example:8080", "", "one.example:8080")
    assert (other.weight, other.region) == (2.5, "eu")


def test_an_address_and_what_host_says() -> None:
    (origin,) = backend(origin="https://[2606:4700::1]:8443", host="visitor", server_name="www.example.com").origins
    assert str(origin.target) == "https://[2606:4700::1]:8443"
    assert origin.host is None
    assert origin.target.server_name == "www.example.com"
    (origin,) = backend(origin="https://lb.example.com", host="Shop.example.com:8443").origins
    assert origin.host == "shop.example.com:8443"
    assert backend(origin="https://lb.example.com", host="[2606:4700::1]").origins[0].host == "[2606:4700::1]"
    assert backend(origin="https://lb.example.com", host="1.1.1.1").origins[0].host == "1.1.1.1"


def test_agents_and_an_origin() -> None:
    both = make(sample(**{"backends.0.origin": "https://example.com"})).backends[0]
    assert both.tokens
    assert both.origins


def test_what_is_trusted(tmp_path: Path) -> None:
    authority = Person("CA of an origin", ca=True)
    pem = authority.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(pem)
    assert backend(str(tmp_path), origin="https://example.com", ca_file="ca.pem").origins[0].target.authorities == pem
    (tmp_path / "none.pem").write_text("nothing")
    key, reason = refusal(str(tmp_path), origin="https://example.com", ca_file="none.pem")
    assert (key, "holds no PEM certificate" in reason) == ("ca_file", True)


def test_networks_that_it_may_be_in() -> None:
    (origin,) = backend(origin="http://10.1.2.3", allow_networks=["10.1.0.0/16", "::1"]).origins
    assert origin.target.allowed == (ip_network("10.1.0.0/16"), ip_network("::1"))
    assert backend(origin="http://localhost:3000", allow_networks=["127.0.0.1"]).origins
    # as the error about such an address says it
    assert backend(origin="http://[::ffff:127.0.0.1]", allow_networks=["::ffff:7f00:1"]).origins


@pytest.mark.parametrize(
    ("preset", "site", "url", "index"),
    [
        ("github_pages", "Owner", "https://owner.github.io", ""),
        ("github_pages", "owner/Project", "https://owner.github.io/Project", ""),
        ("github_pages", "owner/owner.github.io", "https://owner.github.io", ""),
        ("gitlab_pages", "group/sub/project", "https://group.gitlab.io/sub/project", ""),
        ("gitlab_pages", "group", "https://group.gitlab.io", ""),
        ("ghost", "blog", "https://blog.ghost.io", ""),
        ("netlify", "my-site", "https://my-site.netlify.app", ""),
        ("heroku", "my-app-0123456789ab", "https://my-app-0123456789ab.herokuapp.com", ""),
        ("s3", "eu-west-1/my-pages", "https://my-pages.s3.eu-west-1.amazonaws.com", "index.html"),
        ("s3", "cn-north-1/pages", "https://pages.s3.cn-north-1.amazonaws.com.cn", "index.html"),
        ("s3", "us-gov-west-1/www.example.com", "https://s3.us-gov-west-1.amazonaws.com/www.example.com", "index.html"),
    ],
)
def test_presets(preset: str, site: str, url: str, index: str) -> None:
    (origin,) = backend(preset=preset, site=site).origins
    assert (origin.url, origin.index) == (url, index)
    assert origin.host == origin.target.server_name == origin.target.host


def test_a_preset_gives_defaults_and_no_more() -> None:
    (origin,) = backend(preset="s3", origin="https://minio.example/bucket", index="home.html", host="visitor").origins
    assert (origin.url, origin.index, origin.host) == ("https://minio.example/bucket", "home.html", None)
    assert backend(preset="s3", origin="https://minio.example/bucket", index="").origins[0].index == ""


@pytest.mark.parametrize(
    ("keys", "key", "reason"),
    [
        ({}, "tokens", "a backend needs a token, or an origin"),
        ({"origin": "example.com"}, "origin", "with its scheme"),
        ({"origin": "ftp://example.com"}, "origin", "with its scheme"),
        ({"origin": "https:///x"}, "origin", "with its scheme"),
        ({"origin": "https://[::1"}, "origin", "damaged"),
        ({"origin": "https://example.com:99999"}, "origin", "damaged"),
        ({"origin": "https://example.com:0"}, "origin", "1 to 65535"),
        ({"origin": "https://user:secret@example.com"}, "origin", "without user and password"),
        ({"origin": "https://example.com/?x"}, "origin", "without query"),
        ({"origin": "https://example.com/#x"}, "origin", "without query"),
        ({"origin": "https://exa mple.com/"}, "origin", "no host name"),
        ({"origin": "https://example.com/a/../b"}, "origin", "its path is none"),
        (
            {"origin": "https://127.0.0.1"},
            "origin",
            "loopback address, which is refused unless it is named: allow_netw",
        ),
        ({"origin": "http://169.254.169.254/latest", "allow_networks": ["0.0.0.0/0"]}, "origin", "a metadata address"),
        ({"origin": "http://localhost"}, "origin", 'allow_networks = ["127.0.0.1", "::1"]'),
        ({"origin": "http://10.0.0.1", "allow_networks": ["10.1.0.0/16"]}, "origin", "private"),
        ({"origin": "http://[::ffff:127.0.0.1]"}, "origin", "loopback"),
        ({"origin": "http://x.example", "allow_networks": ["unix"]}, "allow_networks[0]", "no network"),
        ({"origin": "http://x.example", "allow_networks": ["10.0.0.1/8"]}, "allow_networks[0]", "no network"),
        ({"origin": "https://a.example", "origins": [{"url": "https://b.example"}]}, "origins", "either origin"),
        ({"origins": []}, "origins", "empty"),
        ({"origins": [{"url": "https://a.example"}, {"url": "nothing"}]}, "origins[1].url", "with its scheme"),
        ({"origins": [{"url": "https://a.example"}, {"url": "https://A.example/"}]}, "origins[1].url", "twice"),
        ({"origins": [{"url": "https://a.example", "weight": 0}]}, "origins[0].weight", "> 0"),
        ({"origins": [{"url": "https://a.example"}], "preset": "ghost", "site": "x"}, "site", "leave one"),
        ({"origin": "https://a.example", "preset": "ghost", "site": "x"}, "site", "leave one"),
        ({"preset": "ghost"}, "site", 'missing: the "NAME" of NAME.ghost.io'),
        ({"preset": "ghost", "site": "a.b"}, "site", "NAME.ghost.io"),
        ({"preset": "s3", "site": "bucket"}, "site", "REGION/BUCKET"),
        ({"preset": "geocities", "site": "x"}, "preset", "expected one of"),
        ({"origin": "https://a.example", "protocol": "h2c"}, "protocol", "without TLS"),
        ({"origin": "https://a.example", "proxy_protocol": "v2"}, "proxy_protocol", "behind agents"),
        ({"origin": "http://a.example", "ca_file": "x.pem"}, "ca_file", "cannot be read"),
        ({"origin": "http://a.example", "server_name": "b.example"}, "server_name", "only for https"),
        ({"origin": "https://a.example", "server_name": "b:1"}, "server_name", "no host name"),
        ({"origin": "https://a.example", "host": "no host"}, "host", "no host name"),
        ({"origin": "https://a.example", "host": "a.example:http"}, "host", "1 to 65535"),
        ({"origin": "https://a.example", "index": "a/b"}, "index", "the name of a file"),
        ({"tokens": ["sha256:" + "0" * 64], "host": "visitor"}, "host", "only for a backend with origin"),
        ({"tokens": ["sha256:" + "0" * 64], "rewrite_links": False}, "rewrite_links", "only for a backend with origin"),
    ],
)
def test_what_is_wrong(keys: dict[str, Any], key: str, reason: str) -> None:
    found = refusal(**keys)
    assert found[0] == key
    assert reason in found[1]
    assert "secret" not in found[1]


def test_an_origin_with_the_name_of_a_site_is_warned_of() -> None:
    def warnings(origin: str) -> tuple[str, ...]:
        raw = sample(**{"backends.0": {"name": "app", "origin": origin}, "sites.0.routes": ROUTES})
        return tuple(build_catalog(make(raw)).warnings)

    assert warnings("https://www.example.test") == ()
    (warning,) = warnings("https://app.example.test")
    assert warning.startswith("edge.toml: $.backends[0]: the origin https://app.example.test has the name of a site")


def test_who_resolves_names() -> None:
    config = make(sample(**{"edge.resolvers": ["192.0.2.53", "[2001:db8::53]:5353"]}))
    assert config.resolvers == (DnsServer("192.0.2.53"), DnsServer("2001:db8::53", 5353))
    with pytest.raises(ConfigError, match="an address"):
        make(sample(**{"edge.resolvers": ["ns.example"]}))
    assert EdgeConfig.from_dict(sample()).resolvers == ()
