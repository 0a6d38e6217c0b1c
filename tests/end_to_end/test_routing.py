"""One host name over static pages, a bucket and an application behind agents of two branches, as in docs/routing.md.

Redirects, rewrites, shares and maintenance, with curl over HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.end_to_end.chromium import chromium
from tests.end_to_end.fronts import nginx
from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.programs import Program, free_port
from tests.end_to_end.test_observability import wait_until

pytestmark = [pytest.mark.requires_program("nginx", "curl"), pytest.mark.deadline(90)]

if not os.environ.get("CI"):
    pytest.importorskip("flask", reason="flask is not installed")

WWW = "www.example.test"

SHOP = """
import os
import flask

app = flask.Flask(__name__)

@app.route("/", defaults={"path": ""})
@app.route("/<path:path>", methods=["GET", "POST"])
def show(path):
    request = flask.request
    answer = flask.jsonify(
        branch=os.environ["BRANCH"],
        target=request.environ["RAW_URI"] if "RAW_URI" in request.environ else request.full_path.rstrip("?"),
        headers=dict(request.headers),
        body=request.get_data(as_text=True),
    )
    answer.headers["X-Powered-By"] = "flask"
    return answer

app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
"""

ROUTES: list[dict[str, Any]] = [
    {"name": "moved", "pattern": "/products/:id/reviews", "redirect": {"to": "/reviews?product=:id", "status": 308}},
    {"name": "robots", "exact": "/robots.txt", "respond": {"body": "User-agent: *\n"}},
    {"name": "down", "path": "/down", "maintenance": {"retry_after": 60}},
    {
        "name": "testers",
        "path": "/api",
        "branch": "canary",
        "cookies": [{"name": "tester", "value": "yes"}],
        "strip_prefix": True,
        "backend": "app",
    },
    {
        "name": "some",
        "path": "/api/shared",
        "branch": "canary",
        "percent": 30,
        "sticky": "cookie:side",
        "strip_prefix": True,
        "backend": "app",
    },
    {
        "name": "api",
        "path": "/api",
        "strip_prefix": True,
        "backend": "app",
        "request_headers": {"set": {"X-Prefix": "/api"}, "remove": ["X-Secret"]},
        "response_headers": {"set": {"X-Api": "1"}, "remove": ["X-Powered-By"]},
    },
    {"name": "user", "pattern": "/u/:id/*rest", "rewrite": "/user?id=:id&at=*rest", "backend": "app"},
    {
        "name": "phone",
        "path": "/pages",
        "headers": [{"name": "User-Agent", "matches": ".*(iPhone|Android).*"}],
        "replace_prefix": "/phone",
        "backend": "pages",
    },
    {"name": "inside", "path": "/inside", "addresses": ["192.0.2.0/24"], "backend": "pages"},
    {"name": "docs", "path": "/docs", "replace_prefix": "/bucket/docs", "backend": "bucket"},
    {"name": "put", "path": "/only", "methods": ["POST"], "query": [{"name": "v", "value": "2"}], "backend": "app"},
    {"name": "pages", "backend": "pages"},
]


class Shop(House):
    """A house with everything started, and its access log."""

    def application(self, branch: str) -> int:
        """Start the application; gives its port."""
        port = free_port()
        env = {"PORT": str(port), "BRANCH": branch}
        shop = self.programs.start(f"shop-{branch}", [sys.executable, "shop.py"], env=env, cwd=self.folder)
        shop.wait_for("Running on")
        return port

    def agents_of(self, branch: str, count: int) -> list[Program]:
        """The application, behind so many agents."""
        port, env = self.application(branch), {"FLY_RELEASE_BRANCH": branch}
        return [self.agent(f"{branch}-{number}", port, env=env) for number in range(count)]

    def ask(self, path: str, *args: str, host: str = APP) -> tuple[int, dict[str, str], str]:
        """Status, fields and body, by curl; paths go as they are."""
        got = self.curl("--include", "--path-as-is", *args, self.url(path, host), host=host)
        assert got.returncode == 0, got.stderr
        head, _, body = got.stdout.decode().replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(first.split()[1]), fields, body

    def seen(self, path: str, *args: str) -> dict[str, Any]:
        """What the application saw of a request."""
        status, _, body = self.ask(path, *args)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with open_house(folder, hosts={APP: "app"}) as house:
        house.__class__ = Shop
        assert isinstance(house, Shop)
        yield _started(house, folder)


def _started(shop: Shop, folder: Path) -> Shop:
    (folder / "shop.py").write_text(SHOP)
    for name, text in (
        ("pages/index.html", "the front page"),
        ("pages/pages/a.html", "a page"),
        ("pages/phone/a.html", "a page for phones"),
        ("pages/inside/index.html", "inside"),
        ("bucket/bucket/docs/guide.txt", "the guide"),
        ("bucket/bucket/docs/sub/index.html", "the index of a folder"),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    ports = {name: free_port() for name in ("pages", "bucket")}
    servers = [f"server {{ listen 127.0.0.1:{port}; root {folder}/{name}; }}" for name, port in ports.items()]
    nginx(shop.programs, folder, "\n".join(servers))
    shop.config["backends"] += [
        {"name": name, "origin": f"http://127.0.0.1:{port}", "allow_networks": ["127.0.0.1"]}
        for name, port in ports.items()
    ]
    one_name = {"name": "one-name", "hosts": [WWW], "redirect": {"to": shop.url("/*rest"), "status": 301}}
    shop.config["sites"] = [{"name": "shop", "hostnames": [APP, WWW], "routes": [one_name, *ROUTES]}]
    shop.config["access_log"] = {"path": "access.log"}
    shop.write()
    shop.start_edge()
    shop.agents_of("main", 2)
    return shop


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "the front page"),
        ("/pages/a.html", "a page"),
        ("/docs/guide.txt", "the guide"),
        ("/docs/../docs/%67uide.txt", "the guide"),
        ("/robots.txt", "User-agent: *\n"),
    ],
)
def test_one_name_over_several_backends(shop: Shop, path: str, body: str) -> None:
    for version in ("--http1.1", "--http2"):
        status, _, got = shop.ask(path, version)
        assert (status, got) == (200, body)


def test_redirects(shop: Shop) -> None:
    for version in ("--http1.1", "--http2"):
        status, fields, _ = shop.ask("//evil.test/a?b=1", version, host=WWW)
        assert (status, fields["location"]) == (301, shop.url("//evil.test/a?b=1"))
        status, fields, _ = shop.ask("/products/a%2Fb%26c/reviews?page=2", version)
        assert (status, fields["location"]) == (308, "/reviews?product=a%2Fb%26c&page=2")


def test_a_redirect_is_followed(shop: Shop) -> None:
    followed = shop.curl("--location", "--include", shop.url("/products/7/reviews"))
    assert b"location: /reviews?product=7" in followed.stdout.lower()
    assert b"404 Not Found" in followed.stdout  # nginx has no such page; it was asked


def test_an_origin_s_own_redirect_leads_back_through_the_rewrite(shop: Shop) -> None:
    """nginx sends to the folder with a slash behind it, by its own name and path."""
    status, fields, _ = shop.ask("/docs/sub?x=1")
    assert (status, fields["location"]) == (301, shop.url("/docs/sub/?x=1"))


def test_rewrites_and_changes(shop: Shop) -> None:
    seen = shop.seen("/api/orders/a%2Fb?x=1", "--header", "X-Secret: s", "--header", "X-Prefix: forged")
    assert seen["target"] == "/orders/a%2Fb?x=1"
    assert seen["headers"]["X-Prefix"] == "/api"
    assert "X-Secret" not in seen["headers"]
    assert shop.seen("/u/7/a/b?x=1")["target"] == "/user?id=7&at=a/b&x=1"
    _, fields, _ = shop.ask("/api")
    assert fields["x-api"] == "1"
    assert "x-powered-by" not in fields
    assert shop.ask("/u/7/")[1]["x-powered-by"] == "flask"
    assert shop.ask("/api/../../x")[0] == 400


def test_by_header_method_query_and_address(shop: Shop) -> None:
    assert shop.ask("/pages/a.html", "--user-agent", "an iPhone")[2] == "a page for phones"
    assert shop.ask("/pages/a.html", "--user-agent", "a phone")[2] == "a page"
    assert shop.seen("/only?v=2", "--data", "posted")["body"] == "posted"
    assert shop.ask("/only?v=1", "--data", "posted")[0] == 404
    assert shop.ask("/only?v=2")[0] == 404


def test_maintenance(shop: Shop) -> None:
    status, fields, _ = shop.ask("/down/here")
    assert (status, fields["retry-after"], fields["x-wormhole-error"]) == (503, "60", "maintenance")
    assert shop.ask("/down", "--data", "x" * 10_000)[0] == 503


def test_canaries_by_branch_and_by_percentage(shop: Shop) -> None:
    tester = ("--cookie", "tester=yes")
    assert shop.seen("/api/x", *tester)["branch"] == "main"
    assert "set-cookie" not in shop.ask("/api/shared")[1]  # no such agent is there: nothing is drawn
    [canary] = shop.agents_of("canary", 1)
    for _ in range(5):
        assert shop.seen("/api/x", *tester)["branch"] == "canary"
        assert shop.seen("/api/x")["branch"] == "main"
        assert shop.seen("/u/7/")["branch"] == "main"
    sides: dict[str, str] = {}
    # one curl for all of them: each answer is a head and a body, and curl keeps no cookies
    urls = [shop.url("/api/shared")] * 40
    for answer in shop.curl("--include", *urls).stdout.decode().split("HTTP/1.1 200 OK\r\n")[1:]:
        head, _, body = answer.partition("\r\n\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
        side = re.match(
            r"side=([0-9a-f]{16}); Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure$", fields["set-cookie"]
        )
        assert side is not None
        sides[side[1]] = json.loads(body)["branch"]
    found = Counter(sides.values())
    assert found.total() == 40
    assert found["main"] > 0
    assert found["canary"] > 0
    for value, branch in list(sides.items())[:6]:
        _, fields, body = shop.ask("/api/shared", "--cookie", f"side={value}", "--http2")
        assert (json.loads(body)["branch"], "set-cookie" in fields) == (branch, False)
    if os.environ.get("CI") or which("chromium"):
        _see_by_browser(shop)
    mark = shop.edge.mark()
    canary.stop(signal.SIGKILL)
    shop.edge.wait_for("agent .* was lost", after=mark)
    assert shop.seen("/api/x", *tester)["branch"] == "main"


def _see_by_browser(shop: Shop) -> None:
    """A browser follows the redirect to the one name, and keeps the cookie: it stays on its side."""
    with shop.connect() as visitor:
        certificate = visitor.getpeercert(binary_form=True)
    assert certificate
    with chromium(shop.folder, certificate, (APP, WWW)) as browser:
        browser.open(f"http://{WWW}:{shop.http_port}/pages/a.html")  # to https, and from there to the one name
        assert browser.evaluate("[location.href, document.body.textContent.trim()]") == [
            shop.url("/pages/a.html"),
            "a page",
        ]
        ask = "fetch('/api/shared').then((answer) => answer.json()).then((seen) => seen.branch)"
        assert len({browser.evaluate(ask) for _ in range(8)}) == 1
        assert browser.evaluate("fetch('/u/7/a/b').then((answer) => answer.json()).then((seen) => seen.target)") == (
            "/user?id=7&at=a/b"
        )


def test_the_rule_is_named(shop: Shop) -> None:
    """By the log, and by ``route explain`` in the same words."""
    wanted = {
        "/robots.txt": ("robots", ""),
        "/products/1/reviews": ("moved", ""),
        "/docs/guide.txt": ("docs", "bucket"),
    }
    for path in wanted:
        shop.ask(path)
    url = f"https://{APP}/docs/guide.txt"
    said = shop.programs.python("explain", "-m", "wormhole_tw.cli.main", "route", "explain", url, cwd=shop.folder)
    said.wait_for("docs: takes it")
    said.wait_for("backend bucket gets /bucket/docs/guide.txt")
    log = shop.folder / "access.log"

    def named() -> dict[str, tuple[str, str]]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {line["path"]: (line["route"], line["backend"]) for line in lines if line["path"] in wanted}

    wait_until(lambda: len(named()) == len(wanted))  # it is written in batches
    assert named() == wanted


def test_a_reload_changes_the_rules(shop: Shop) -> None:
    routes = shop.config["sites"][0]["routes"]
    shop.config["sites"][0]["routes"] = [{"exact": "/robots.txt", "respond": {"body": "other\n"}}, *routes]
    shop.write()
    mark = shop.edge.mark()
    shop.edge.send(signal.SIGHUP)
    shop.edge.wait_for("configuration reloaded", after=mark)
    assert shop.ask("/robots.txt")[2] == "other\n"
    assert shop.edge.wait_for("can never be reached: routes", after=mark)
    shop.config["sites"][0]["routes"] = routes
    shop.write()
    mark = shop.edge.mark()
    shop.edge.send(signal.SIGHUP)
    shop.edge.wait_for("configuration reloaded", after=mark)
