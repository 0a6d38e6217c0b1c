"""The set-up of docs/one-host-name.md for real: its edge.toml, an nginx for what is on the web, and the applications.

Only where they are is changed: ports, certificates, and that names of the web lead to this machine.  Visitors ask for
``https://www.example.com/``, without a port, as in the document.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt

from tests._support import ROOT
from tests.end_to_end.certificates import Authority
from tests.end_to_end.fronts import nginx
from tests.end_to_end.house import House, open_house, with_tests
from tests.end_to_end.programs import Program, free_port, need_program
from tests.end_to_end.test_browser import png
from wormhole_tw.control.tokens import digest_line

WWW = "www.example.com"
BARE = "example.com"
PAGES = "example.github.io"
BUCKET = "example-assets.s3.eu-central-1.amazonaws.com"

DOCUMENT = ROOT / "docs" / "one-host-name.md"

PASSWORD = "correct horse"

REPLICAS = ("one", "two")
SHOPS = ("current", "next")

FRONT = """<!doctype html>
<html><head><meta charset="utf-8"><title>example</title>
<link rel="stylesheet" href="assets/style.css"></head>
<body><h1>The front page</h1>
<img id="logo" src="/assets/logo.png">
<a id="about" href="about">About</a> <a id="shop" href="/shop/">Shop</a>
<pre id="orders"></pre><pre id="said"></pre>
<script>
function talk() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/shop/live`);
    socket.onopen = () => socket.send("how much?");
    socket.onmessage = (event) => { resolve(event.data); socket.close(); };
    socket.onerror = reject;
  });
}
async function all() {
  const listed = await (await fetch("/api/orders")).json();
  // made, and shown where the application's redirect leads
  const made = await fetch("/api/orders", {method: "POST", body: "tea"});
  const order = await made.json();
  document.getElementById("orders").textContent = JSON.stringify(order);
  document.getElementById("said").textContent = await talk();
  const image = document.getElementById("logo");
  await image.decode();
  return {agent: listed.agent, order, url: made.url, image: [image.naturalWidth, image.naturalHeight],
          said: document.getElementById("said").textContent, noted: document.body.dataset.noted,
          color: getComputedStyle(document.querySelector("h1")).color};
}
const done = new Promise((resolve) => addEventListener("load", () => resolve(all())));
</script></body></html>
"""

ABOUT = "<!doctype html><html><head><title>about</title></head><body><a href='../'>back</a></body></html>"
CLOSED = "<!doctype html><html><head><title>closed</title></head><body>The shop is closed.</body></html>"

API = """
import os, time
import flask
from pathlib import Path
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import WSGIRequestHandler

# head and body in one piece: an answer that has begun is nothing that anybody could repeat
WSGIRequestHandler.wbufsize = 65536

app = flask.Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1, x_host=1, x_prefix=1)
app.secret_key = "for tests"
name = os.environ["NAME"]

@app.before_request
def ill():
    if Path(f"{name}.ill").exists():
        return flask.jsonify(agent=name), 503

@app.route("/orders", methods=["GET", "POST"])
def orders():
    if flask.request.method == "GET":
        time.sleep(0.01)
        return flask.jsonify(agent=name, version=flask.request.headers.get("X-Api-Version"))
    flask.session["last"] = flask.request.get_data(as_text=True)
    return flask.redirect(flask.url_for("order", number=7), 303)

@app.route("/orders/<int:number>")
def order(number):
    return flask.jsonify(number=number, last=flask.session.get("last"),
                         url=flask.url_for("order", number=number, _external=True))

@app.route("/admin/")
def admin():
    headers = flask.request.headers
    if "X-User" not in headers:
        flask.abort(403)
    return flask.jsonify(user=headers.get("X-User"), authorization=headers.get("Authorization"),
                         url=flask.url_for("admin", _external=True))

app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
"""

SHOP = """
import os
from http import HTTPStatus
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

release = os.environ["NAME"]

def page(connection, request):
    if request.path == "/shop/live":
        return None
    if request.path.startswith("/shop/receipts?"):
        kind, body = "text/plain", f"{release} {request.path}"
    else:
        kind = "text/html"
        body = f"<!doctype html><html><head><title>{release}</title></head><body>the {release} shop</body></html>"
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(HTTPStatus.OK, "OK", Headers(**fields), body.encode())

def talk(connection):
    for message in connection:
        connection.send(f"the {release} shop heard: {message}")

with serve(talk, "127.0.0.1", int(os.environ["PORT"]), process_request=page) as server:
    print("serving", flush=True)
    server.serve_forever()
"""


def document() -> dict[str, Any]:
    """The edge.toml that the document shows."""
    (text,) = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return tomllib.loads(text)


class Answer:
    """What curl got."""

    def __init__(self, output: str) -> None:
        head, _, self.body = output.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        self.status = int(first.split()[1])
        self.lines = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        self.fields = dict(self.lines)

    @property
    def json(self) -> Any:
        assert self.status == 200, self
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.lines}: {self.body[:300]!r}>"


class Street(House):
    """A house with everything of the document started, but for the agent of the next shop.

    :ivar ports: application → its port
    """

    web_port: int
    ports: dict[str, int]

    def to_edge(self, *args: str) -> list[str]:
        """curl's command for visitors who find all names at the edge, at its own ports."""
        ports = [(443, self.port), (80, self.http_port)]
        leads = [f"{name}:{port}:127.0.0.1:{own}" for name in (WWW, BARE) for port, own in ports]
        connect = [word for lead in leads for word in ("--connect-to", lead)]
        return [
            *(need_program("curl"), "--silent", "--show-error", "--no-netrc", "--cacert", str(self.ca_file)),
            *("--max-time", "60", *connect, *args),
        ]

    def ask(self, path: str, *args: str, host: str = WWW, scheme: str = "https") -> Answer:
        command = self.to_edge("--include", *args, f"{scheme}://{host}{path}")
        done = subprocess.run(command, capture_output=True, timeout=90, check=False, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return Answer(done.stdout.decode())

    def application(self, name: str, file: str, **env: str) -> Program:
        """Start an application at a port of its own, and wait for nothing."""
        self.ports[name] = port = free_port()
        settings = {"PORT": str(port), "NAME": name, **env}
        return self.programs.start(f"service-{name}", [sys.executable, file], env=settings, cwd=self.folder)

    def launch(self, name: str, **env: str) -> Program:
        """Start the agent of an application, and wait for nothing."""
        backend = "api" if name in REPLICAS else "shop"
        return self.launch_agent(name, self.ports[name], env=env, backend=backend)

    def back(self, name: str, **env: str) -> Program:
        """Start the agent of an application, and wait until it gets requests."""
        agent = self.launch(name, **env)
        self.wait_ready(agent)
        return agent

    def of_document(self) -> None:
        """Take over the document's edge.toml, and say where things are here."""
        found = document()
        web = {"allow_networks": ["127.0.0.1"], "ca_file": str(self.folder / "web.pem")}
        names = {"pages": f"{PAGES}:{self.web_port}/site", "bucket": f"{BUCKET}:{self.web_port}"}
        for backend in found["backends"]:
            if backend["name"] in names:
                del backend["site"]
                backend.update(web, origin=f"https://{names[backend['name']]}")
            else:
                backend["tokens"] = [digest_line(self.tokens[backend["name"]])]
        found["edge"] = {**self.config["edge"], "public_https_port": 443}
        found["tls"] = {"mode": "dev"}
        self.config = found


def _web(street: Street) -> None:
    """What is on the web: each name has its own certificate, and who asks for no such name gets nothing."""
    folder, port = street.folder, street.web_port
    for name, content in (
        ("pages/site/index.html", FRONT),
        ("pages/site/about/index.html", ABOUT),
        ("pages/site/shop/index.html", CLOSED),
        ("bucket/style.css", "h1 { color: rgb(1, 2, 3) }"),
        ("bucket/note.js", "document.body.dataset.noted = 'by the middleware';"),
        ("bucket/photos/index.html", "photos"),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (folder / "bucket" / "logo.png").write_bytes(png(40, 30))
    authority = Authority(folder, "web")
    kinds = "types { text/html html; text/css css; text/javascript js; image/png png; }"

    def server(name: str, locations: str, parameters: str = "") -> str:
        certificate, key = authority.issue(name, name)
        return f"""server {{
            listen 127.0.0.1:{port} ssl {parameters}; server_name {name}; {kinds}
            ssl_certificate {certificate}; ssl_certificate_key {key};
            {locations}
        }}"""

    cookie = f'add_header Set-Cookie "seen=1; Domain={PAGES}; Path=/site; Secure";'
    pages = f"""
        root {folder}/pages; gzip on; gzip_min_length 1; gzip_proxied any;
        location = /site/about {{ {cookie} return 301 https://{PAGES}:{port}/site/about/; }}
    """
    servers = [
        server("nobody.example.net", "return 404;", "default_server"),
        server(PAGES, pages),
        server(BUCKET, f"root {folder}/bucket;"),
    ]
    nginx(street.programs, folder, "\n".join(servers))


def _names(street: Street) -> None:
    """The world's name server."""
    zone, port = street.folder / "zone.json", free_port()
    zone.write_text(json.dumps({name: [["A", "127.0.0.1", 60]] for name in (PAGES, BUCKET)}))
    server = street.programs.python(
        "names", "-m", "tests.end_to_end.nameserver", str(port), str(zone), env=with_tests()
    )
    server.wait_for("serving")
    street.config["edge"]["resolvers"] = [f"127.0.0.1:{port}"]


@contextmanager
def open_street(folder: Path) -> Iterator[Street]:
    """All of it; it has ended afterwards."""
    with open_house(folder, hosts={WWW: "api", BARE: "shop"}) as house:
        house.__class__ = Street
        assert isinstance(house, Street)
        street = house
        street.web_port, street.ports = free_port(), {}
        _web(street)
        street.of_document()
        _names(street)
        (folder / "api.py").write_text(API)
        (folder / "shop.py").write_text(SHOP)
        users = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(8)).decode()
        (folder / "users").write_text(f"anna:{users}\n")
        street.write()
        applications = [street.application(name, "api.py") for name in REPLICAS]
        applications += [street.application(name, "shop.py") for name in SHOPS]
        street.start_edge()
        for program in applications:
            program.wait_for("serving|Running on")
        for agent in [street.launch(name) for name in (*REPLICAS, SHOPS[0])]:
            street.wait_ready(agent)
        yield street
