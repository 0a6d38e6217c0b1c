"""``[tls] mode = "acme"``: what may stand there, which names it is for, and what only a restart changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wormhole_tw.control.acme import LETS_ENCRYPT, AcmeConfig, ExternalAccount, acme_names
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.reload import restart_needed
from wormhole_tw.errors import ConfigError

ACME = {"mode": "acme", "agree_tos": True}


def config(
    tls: dict[str, Any],
    *,
    names: tuple[str, ...] = ("edge.example.com",),
    hosts: tuple[str, ...] = (),
    plain: bool = True,
) -> EdgeConfig:
    edge: dict[str, Any] = {"names": list(names), "https": ["tcp:443"]}
    if plain:
        edge["http"] = ["tcp:80"]
    return EdgeConfig.from_dict(
        {
            "edge": edge,
            "tls": tls,
            "backends": [{"name": "app", "tokens": ["sha256:" + "1" * 64]}],
            "sites": [{"hostnames": [host], "routes": [{"path": "/", "backend": "app"}]} for host in hosts],
        },
        source="edge.toml",
        folder="/etc/edge",
    )


def test_little_has_to_be_said() -> None:
    assert config(ACME).tls.acme == AcmeConfig(directory=LETS_ENCRYPT)


def test_everything_that_may_be_said() -> None:
    assert config(
        {
            **ACME,
            "email": "admin@example.com",
            "directory": "https://ca.example.org:9000/acme/directory?x=1",
            "directory_ca_file": "ca.pem",
            "external_account": {"key_id": "kid-1", "hmac_key_file": "/run/secrets/hmac"},
            "challenge": "http-01",
        }
    ).tls.acme == AcmeConfig(
        email="admin@example.com",
        directory="https://ca.example.org:9000/acme/directory?x=1",
        directory_ca_file=Path("/etc/edge/ca.pem"),
        external_account=ExternalAccount("kid-1", Path("/run/secrets/hmac")),
    )


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"agree_tos": False}, "agree_tos", "read them, then write agree_tos = true"),
        ({"email": "admin"}, "email", "one address"),
        ({"email": "a@example.com,b@example.com"}, "email", "one address"),
        ({"directory": "http://ca.example.org/dir"}, "directory", "the https URL"),
        ({"directory": "https://"}, "directory", "the https URL"),
        ({"directory": "https://ca.example.org:port/"}, "directory", "the https URL"),
        ({"directory": "https://ca.example.org/a b"}, "directory", "the https URL"),
        ({"directory_ca_file": ""}, "directory_ca_file", "no path"),
        ({"external_account": {"key_id": "a b", "hmac_key_file": "f"}}, "external_account.key_id", "printable ASCII"),
        ({"external_account": {"key_id": "k", "hmac_key_file": ""}}, "external_account.hmac_key_file", "no path"),
        ({"external_account": {"key_id": "k"}}, "external_account.hmac_key_file", "missing"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config({**ACME, **changes})
    assert caught.value.key == f"$.tls.{key}"
    assert text in caught.value.reason


@pytest.mark.parametrize("key", ["email", "directory", "directory_ca_file"])
def test_its_keys_are_for_its_mode(key: str) -> None:
    with pytest.raises(ConfigError, match='only with mode = "acme"') as caught:
        config({"mode": "dev", key: "x"})
    assert caught.value.key == f"$.tls.{key}"


@pytest.mark.parametrize(
    ("directory", "asked"),
    [
        (LETS_ENCRYPT, {"example.com", "*.example.com", "xn--mnchen-3ya.de"}),
        (
            "https://acme-staging-v02.api.letsencrypt.org/directory",
            {"example.com", "*.example.com", "xn--mnchen-3ya.de"},
        ),
        (
            "https://ca.corp.example/dir",
            {
                "example.com",
                "*.example.com",
                "xn--mnchen-3ya.de",
                "a.internal",
                "a.test",
                "a_b.example.com",
                "nas.local",
            },
        ),
    ],
)
def test_only_names_that_a_ca_can_know_are_asked_for(directory: str, asked: set[str]) -> None:
    never = {"localhost", "app.localhost", "*.localhost", "192.0.2.1", "2001:db8::1", "intranet", "*.lan"}
    perhaps = {"a.internal", "a.test", "a_b.example.com", "nas.local"}
    every = sorted(never | perhaps | {"example.com", "*.example.com", "xn--mnchen-3ya.de"})
    assert set(acme_names(AcmeConfig(directory=directory), every)) == asked


def test_something_has_to_answer_the_ca() -> None:
    with pytest.raises(ConfigError) as caught:
        config(ACME, plain=False)
    assert caught.value.key == "$.edge.http"
    assert "the CA asks for edge.example.com on port 80" in caught.value.reason
    # Nobody is asked for these.
    assert config(ACME, names=("localhost",), hosts=("app.localhost",), plain=False).tls.acme is not None


def test_a_wildcard_of_a_site_needs_dns() -> None:
    with pytest.raises(ConfigError) as caught:
        config(ACME, hosts=("a.example.com", "*.example.com"))
    assert caught.value.key == "$.sites[1].hostnames[0]"
    assert "[tls.dns]" in caught.value.reason


def test_the_ca_changes_with_a_restart() -> None:
    old = config(ACME)
    assert restart_needed(old, config(ACME, hosts=("a.example.com",))) == []
    new = config({**ACME, "email": "a@example.com", "directory": "https://ca.example.org/"})
    assert restart_needed(old, new) == ["$.tls.email", "$.tls.directory"]
    assert restart_needed(old, replace(old, tls=config({"mode": "dev"}).tls)) == ["$.tls.mode"]
