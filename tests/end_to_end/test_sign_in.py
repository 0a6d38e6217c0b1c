"""Visitors sign in at a real issuer, with curl and its cookies; services take tokens; the edge restarts in between."""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests._support import ROOT
from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP, OTHER, House, open_house
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.programs import free_port, need_program

CALLBACK = "/.wormhole/signed-in"
PAGE = ("-H", "Accept: text/html")


class Desk:
    """The issuer, a site that wants a sign-in there, one that takes tokens, and a service that says what it heard."""

    def __init__(self, house: House, authority: Authority, origin: Origin) -> None:
        self.house = house
        self.jar = house.folder / "jar"
        self.issuer = f"https://localhost:{free_port()}"
        certificate, key = authority.issue("issuer", "localhost")
        script = str(ROOT / "tests" / "end_to_end" / "issuer.py")
        port = str(urlsplit(self.issuer).port)
        self.program = house.programs.python("issuer", script, port, str(certificate), str(key))
        self.program.wait_for("Running on")
        self._context = ssl.create_default_context(cafile=str(authority.file))
        client = self.ask("/oauth2/clients", {"redirect_uris": [f"https://{APP}:{house.port}{CALLBACK}"]})
        (house.folder / "secret").write_text(client["client_secret"] + "\n")
        app, other = house.config["sites"]
        app["oidc"] = {
            "issuer": self.issuer,
            "client_id": client["client_id"],
            "client_secret_file": "secret",
            "ca_file": str(authority.file),
            "claims": {"email": "*@example.test"},
            "headers": {"X-User": "sub", "X-Groups": "groups"},
        }
        other["jwt"] = {"issuer": self.issuer, "audience": client["client_id"], "ca_file": str(authority.file)}
        house.write()
        house.start_edge()
        self.agent = house.agent("agent", origin.port)
        house.agent("other agent", origin.port, backend="other")

    def ask(self, path: str, said: Any) -> Any:
        """Something of the issuer, by JSON."""
        request = urllib.request.Request(self.issuer + path, json.dumps(said).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, context=self._context, timeout=20) as answer:
            return json.load(answer)

    def get(self, url: str, *args: str) -> tuple[int, str, bytes]:
        """Status, where it leads to, and the body; cookies are kept as a browser keeps them."""
        done = self.house.curl(
            "-sS", "--cacert", str(self.house.folder / "both.pem"), "-b", str(self.jar), "-c", str(self.jar),
            "-w", "\n%{http_code} %{redirect_url}", *args, url, host=urlsplit(url).hostname or APP,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        body, _, last = done.stdout.rpartition(b"\n")
        status, _, where = last.decode().partition(" ")
        return int(status), where, body

    def sign_in(self, name: str, path: str = "/") -> tuple[int, str, bytes]:
        """From the page to the issuer, and back to the edge: what that says."""
        status, there, _ = self.get(self.house.url(path), *PAGE)
        assert status == 302
        assert self.get(there)[0] == 200  # its form
        status, back, _ = self.get(there, "-d", f"sub={name}")
        assert status == 302
        return self.get(back, *PAGE)


def heard(call: Call) -> None:
    """What the service was told."""
    names = ("X-User", "X-Groups", "Cookie", "Authorization")
    call.answer(json.dumps({name: call.headers.get_all(name) for name in names}).encode())


@pytest.fixture(scope="module")
def only_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    need_program("curl")
    tmp_path = tmp_path_factory.mktemp("desk")
    authority = Authority(tmp_path / "certificates")
    with Origin({"/": heard, "/page": heard}) as origin, open_house(tmp_path) as house:
        made = Desk(house, authority, origin)
        both = authority.file.read_bytes() + house.ca_file.read_bytes()
        (house.folder / "both.pem").write_bytes(both)
        yield made


@pytest.fixture
def desk(only_desk: Desk) -> Desk:
    """With a browser that has no cookies yet."""
    only_desk.jar.unlink(missing_ok=True)
    return only_desk


@pytest.mark.deadline(90)
def test_a_sign_in_from_the_page_and_back_to_it(desk: Desk) -> None:
    page = desk.house.url("/page?a=b&c")
    status, there, _ = desk.get(page, *PAGE)
    assert status == 302
    asked = parse_qs(urlsplit(there).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid email profile"]
    # scripts cannot be sent away
    status, _, body = desk.get(page, "-H", "Accept: application/json")
    assert (status, b"not-signed-in" in body) == (401, True)

    status, where, _ = desk.sign_in("ann", "/page?a=b&c")
    assert (status, where) == (302, page)
    status, _, body = desk.get(page, *PAGE, "-H", "X-User: root", "-H", "X_User: root", "-b", "own=1")
    assert status == 200
    said = json.loads(desk.get(page, "-H", "X-User: root")[2])
    assert said == {"X-User": ["ann"], "X-Groups": ["staff,x"], "Cookie": None, "Authorization": None}

    # Nothing is kept at the edge: another process knows who signed in.
    mark = desk.agent.mark()
    assert desk.house.edge.stop() == 0
    desk.house.start_edge()
    desk.house.wait_ready(desk.agent, after=mark)
    assert desk.get(page)[0] == 200

    # Out again.
    assert desk.get(desk.house.url("/.wormhole/sign-out"))[2] == b"You are signed out here.\n"
    assert desk.get(page, *PAGE)[0] == 302


def test_who_is_not_meant_and_what_does_not_fit(desk: Desk) -> None:
    status, where, _ = desk.sign_in("eve")
    assert status == 302
    status, _, body = desk.get(where, *PAGE)
    assert (status, b"not-allowed" in body) == (403, True)
    desk.jar.unlink()

    # A way that was begun elsewhere: a link that somebody sends leads nowhere.
    status, there, _ = desk.get(desk.house.url("/"), *PAGE)
    _, back, _ = desk.get(there, "-d", "sub=ann")
    desk.jar.unlink()
    status, _, body = desk.get(back, *PAGE)
    assert (status, b"sign-in-stale" in body) == (400, True)

    # Twice the same code, and one that the issuer never gave.
    status, there, _ = desk.get(desk.house.url("/"), *PAGE)
    _, back, _ = desk.get(there, "-d", "sub=ann")
    forged = re.sub("code=[^&]*", "code=forged", back)
    jar = desk.jar.read_bytes()
    status, _, body = desk.get(forged, *PAGE)
    assert (status, b"sign-in-failed" in body) == (502, True)
    assert desk.get(back, *PAGE)[0] == 302
    desk.jar.write_bytes(jar)
    assert desk.get(back, *PAGE)[0] == 502

    # The visitor thinks better of it.
    status, there, _ = desk.get(desk.house.url("/"), *PAGE)
    _, back, _ = desk.get(there, "-d", "action=deny")
    status, _, body = desk.get(back + parse_state(there, back), *PAGE)
    assert (status, b"access_denied" in body) == (403, True)


def parse_state(there: str, back: str) -> str:
    """This issuer forgets to give the state back with a refusal."""
    return "" if "state=" in back else f"&state={parse_qs(urlsplit(there).query)['state'][0]}"


def test_a_token_of_the_issuer_opens_what_takes_tokens(desk: Desk) -> None:
    status, there, _ = desk.get(desk.house.url("/"), *PAGE)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(there).query).items()}
    _, back, _ = desk.get(there, "-d", "sub=ann")
    code = parse_qs(urlsplit(back).query)["code"][0]
    secret = (desk.house.folder / "secret").read_text().strip()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
    fields = [part for name, value in form.items() for part in ("--data-urlencode", f"{name}={value}")]
    _, _, body = desk.get(f"{desk.issuer}/oauth2/token", "-u", f"{asked['client_id']}:{secret}", *fields)
    token = json.loads(body)["id_token"]

    url = desk.house.url("/", host=OTHER)
    assert desk.get(url)[0] == 401
    status, _, body = desk.get(url, "-H", f"Authorization: Bearer {token}")
    assert status == 200
    assert json.loads(body)["Authorization"] == [f"Bearer {token}"]
    assert desk.get(url, "-H", f"Authorization: Bearer {token[:-4]}AAAA")[0] == 401
    # The keys are here: who has a token does not need the issuer.
    desk.program.end()
    assert desk.get(url, "-H", f"Authorization: Bearer {token}")[0] == 200
