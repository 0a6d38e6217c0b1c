"""A browser with and without a certificate of its visitor, at sites that want one: headless Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.chromium import Chromium, chromium
from tests.end_to_end.house import APP, OTHER, open_house
from tests.end_to_end.origin import Origin
from tests.end_to_end.programs import need_program
from tests.end_to_end.test_browser import png
from tests.end_to_end.test_observability import wait_until
from tests.end_to_end.test_visitor_certificates import CHOICE, People, cert_field, got, show
from tests.net.certificates import Person

pytestmark = [pytest.mark.requires_program("chromium", "certutil", "pk12util", "openssl"), pytest.mark.deadline(180)]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with open_house(tmp_path_factory.mktemp("house")) as house, Origin() as origin:
        people = People(house, origin)
        people.open()
        yield people


def remember(folder: Path, people: People, person: Person) -> None:
    """Put a certificate where the browser looks for it, and let it show it without asking (there is nobody to ask)."""
    certificate, key = person.write(people.folder)
    packed, database = people.folder / "packed.p12", folder / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for argv in (
        ["openssl", "pkcs12", "-export", "-in", certificate, "-inkey", key, "-out", packed, "-passout", "pass:x"],
        ["certutil", "-N", "--empty-password", "-d", f"sql:{database}"],
        ["pk12util", "-i", packed, "-d", f"sql:{database}", "-W", "x"],
    ):
        subprocess.run([need_program(str(argv[0])), *map(str, argv[1:])], check=True, capture_output=True, timeout=60)
    # what the policy AutoSelectCertificateForUrls would do for the whole machine
    chosen = {f"{people.house.url('', host)},*": {"setting": {"filters": [{}]}} for host in (APP, CHOICE)}
    settings = {"profile": {"content_settings": {"exceptions": {"auto_select_certificate": chosen}}}}
    profile = folder / "profile" / "Default"
    profile.mkdir(parents=True)
    (profile / "Preferences").write_text(json.dumps(settings))


def shown(browser: Chromium, url: str) -> dict[str, list[str]]:
    browser.open(url)
    return got(browser.evaluate("document.body.innerText"))


def certificate_of(people: People) -> bytes:
    with people.house.connect(OTHER) as visitor:
        certificate = visitor.getpeercert(binary_form=True)
    assert certificate
    return certificate


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--disable-http2",), marks=pytest.mark.full)], ids=["h2", "http/1.1"]
)
def test_with_a_certificate(people: People, tmp_path: Path, options: tuple[str, ...]) -> None:
    house, origin = people.house, people.origin
    origin.routes["/closed.png"] = lambda call: call.answer(png(3, 5), headers={"Content-Type": "image/png"})
    origin.routes["/"] = show
    remember(tmp_path, people, people.anne)
    log = house.folder / "access.log"
    before = len(log.read_text().splitlines())
    with chromium(tmp_path, certificate_of(people), (APP, OTHER, CHOICE), *options) as browser:
        assert shown(browser, house.url("/", OTHER)) == {}
        # on a page of the open site, a picture of the closed one: its certificate would do for both names
        size = browser.evaluate(
            "new Promise((resolve, reject) => { const image = new Image();"
            " image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);"
            " image.onerror = reject; image.src = " + json.dumps(house.url("/closed.png", APP)) + "; })"
        )
        assert size == [3, 5]
        for host in (APP, CHOICE):
            assert shown(browser, house.url("/", host)) == {"client-cert": [cert_field(people.anne)]}

    def pictures() -> list[tuple[int, str | None]]:
        lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
        return [(line["status"], line["client_certificate"]) for line in lines if line["path"] == "/closed.png"]

    wait_until(lambda: any(status == 200 for status, _ in pictures()))
    # over HTTP/2 it tries the connection that it has first, is told 421, and comes again on one of its own
    *refused, served = pictures()
    assert served == (200, people.anne.fingerprint.hex())
    assert refused in ([], [(421, None)])
    assert not (options and refused)


def test_without_one(people: People, tmp_path: Path) -> None:
    house = people.house
    people.origin.routes["/"] = show
    with chromium(tmp_path, certificate_of(people), (APP, OTHER, CHOICE, "unknown.example.test")) as browser:
        assert shown(browser, house.url("/", OTHER)) == {}
        assert shown(browser, house.url("/", CHOICE)) == {}
        # the refusal comes behind its handshake (TLS 1.3): the second where its first request is sooner
        with pytest.raises(AssertionError, match=r"ERR_BAD_SSL_CLIENT_AUTH_CERT|ERR_SOCKET_NOT_CONNECTED"):
            browser.open(house.url("/", APP))
        browser.open(house.url("/", "unknown.example.test"))
        assert "No site of that name" in browser.evaluate("document.body.innerText")
