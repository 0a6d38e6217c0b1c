"""Single steps with a real CA, and what is said where it is no CA, or none that we can trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.end_to_end.certificates import Authority
from tests.end_to_end.pebble import Pebble
from tests.end_to_end.programs import free_port, programs
from wormhole_tw.control.acme import AcmeConfig, ExternalAccount
from wormhole_tw.edge.certificates.acme_client import AcmeClient
from wormhole_tw.errors import CaRefused, CaUnavailable, ConfigError

HMAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

pytestmark = [pytest.mark.requires_program("pebble", "pebble-challtestsrv"), pytest.mark.deadline(90)]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """It wants an external account, and refuses every fourth good nonce."""
    settings = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": HMAC}}
    with programs() as mine:
        environment = {"PEBBLE_WFE_NONCEREJECT": "25"}
        made = Pebble(tmp_path_factory.mktemp("ca"), mine, free_port(), settings=settings, environment=environment)
        made.start()
        yield made


def client(ca: Pebble, key: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> AcmeClient:
    config = AcmeConfig(**{"directory": ca.directory, "directory_ca_file": ca.ca_file, **changes})
    return AcmeClient(config, key or ec.generate_private_key(ec.SECP256R1()), source="edge.toml")


def external(folder: Path, text: str, key_id: str = "kid-1") -> ExternalAccount:
    file = folder / "hmac"
    file.write_text(text)
    return ExternalAccount(key_id, file)


def test_an_external_account(ca: Pebble, tmp_path: Path) -> None:
    without = client(ca)
    without.open()
    with pytest.raises(CaRefused, match=r"give \[tls.external_account\] key_id and hmac_key_file"):
        without.register()
    unknown = client(ca, external_account=external(tmp_path, HMAC, "kid-2"))
    unknown.open()
    with pytest.raises(CaRefused):
        unknown.register()
    with pytest.raises(ConfigError) as caught:
        client(ca, external_account=external(tmp_path, "not a key!"))
    assert caught.value.key == "$.tls.external_account.hmac_key_file"
    # Padding and white space are what people paste.
    key = ec.generate_private_key(ec.SECP256R1())
    right = client(ca, key, external_account=external(tmp_path, HMAC + "=\n"), email="admin@example.com")
    right.open()
    uri = right.register()
    assert uri == right.uri
    # The same key has the same account, whoever asks for it.
    assert right.register() == uri
    again = client(ca, key)
    again.open()
    assert again.find_account() == uri
    again.tell_email()
    stranger = client(ca)
    stranger.open()
    with pytest.raises(CaRefused) as refused:
        stranger.find_account()
    assert refused.value.code == "accountDoesNotExist"

    # Of every fourth nonce it says that it is bad, and nobody notices.
    for _ in range(5):
        order = right.new_order(["a.example.com", "b.example.com"])
        assert right.order(order.uri).status == "pending"
    found = right.authorization(order.authorizations[0])
    assert found.name in ("a.example.com", "b.example.com")
    assert found.status == "pending"
    http, dns = found.challenges["http-01"], found.challenges["dns-01"]
    assert http.value.partition(".")[0] == http.token
    assert len(dns.value) == 43
    with pytest.raises(CaRefused):
        right.order(order.uri + "x")
    with pytest.raises(CaRefused):
        right.new_order(["not_a_name!"])
    right.close_account()
    with pytest.raises(CaRefused) as closed:
        right.new_order(["a.example.com"])
    assert closed.value.code == "unauthorized"
    with pytest.raises(CaRefused) as closed:
        again.find_account()
    assert closed.value.code == "unauthorized"


def test_what_is_no_ca(ca: Pebble, tmp_path: Path) -> None:
    def said(**changes: Any) -> str:
        with pytest.raises(CaUnavailable) as caught:
            client(ca, **changes).open()
        return str(caught.value)

    other = Authority(tmp_path, "other").file
    assert said(directory=ca.directory + "x").endswith("dirx answers 404; is it the URL of an ACME directory?")
    assert "is not trusted: " in said(directory_ca_file=other)
    assert "a CA of your own needs directory_ca_file" in said(directory_ca_file=None)
    # It is a server, and speaks JSON; it is no directory.
    status = f"https://127.0.0.1:{ca.management}/cert-status-by-serial/"
    assert "is it the URL of an ACME directory?" in said(directory=status)
    assert "is it the URL of an ACME directory?" in said(directory=f"https://127.0.0.1:{ca.management}/roots/0")
    assert said(directory=f"https://localhost:{free_port()}/dir").endswith(
        "cannot be reached: the connection is refused"
    )
    assert "no TLS with the CA's server" in said(directory=f"https://localhost:{ca.dns_management}/dir")
    with pytest.raises(ConfigError) as caught:
        client(ca, directory_ca_file=tmp_path / "none.pem")
    assert caught.value.key == "$.tls.directory_ca_file"


def test_a_server_whose_certificate_is_over(ca: Pebble) -> None:
    """Or whose time has not come: it is the CA's certificate or our clock, and the sentence says both."""
    from requests.exceptions import SSLError

    from wormhole_tw.edge.certificates.acme_words import of_tls

    for words in ("certificate has expired", "certificate is not yet valid"):
        error = SSLError(f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {words} (_ssl.c:1000)")
        assert of_tls(str(error)).startswith(f"the server's {words}, or this machine's clock is wrong: it says 2")


def test_names_that_are_not_found() -> None:
    from wormhole_tw.edge.certificates.acme_words import of_network, shown

    assert of_network(OSError("NameResolutionError: getaddrinfo failed")) == "its name is not found in DNS"
    assert of_network(OSError("[Errno 113] No route to host")) == "no route to host"
    assert of_network(OSError("who\nknows\x1b[0m")) == "who knows [0m"
    assert len(shown("x" * 10_000)) == 500


@pytest.mark.parametrize("proxy", ["http://me:se/cret@127.0.0.1:1", "ftp://me:se@127.0.0.1:1", "127.0.0.1"])
def test_a_proxys_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    made = AcmeClient(AcmeConfig(), ec.generate_private_key(ec.SECP256R1()), source="edge.toml")
    with pytest.raises(CaUnavailable) as caught:
        made.open()
    assert "HTTPS_PROXY" in str(caught.value)
    assert "me:se" not in str(caught.value)


def test_a_url_that_is_none_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    config = AcmeConfig(directory="https://*.example/dir")
    made = AcmeClient(config, ec.generate_private_key(ec.SECP256R1()), source="edge.toml")
    with pytest.raises(CaUnavailable, match=r"cannot be reached: URL has an invalid label"):
        made.open()
