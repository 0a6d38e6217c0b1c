"""HTTP/1.1 as visitors speak it, through the whole path: curl, and octets written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

import pytest

from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all of this file, with a service that shows what it was asked."""

    def show(call: Call) -> None:
        body = b"".join(call.body())
        call.answer(call.requestline.encode() + b"\n" + bytes(call.headers) + body)

    def trailers(call: Call) -> None:
        b"".join(call.body())
        call.begin_chunks({"Trailer": "X-Sum"})
        call.chunk(b"some ")
        call.chunk(b"text")
        call.wfile.write(b"0\r\nX-Sum: nine\r\n\r\n")

    def got_trailers(call: Call) -> None:
        lines = []
        while size := int(call.rfile.readline().partition(b";")[0], 16):
            lines.append(call.rfile.read(size))
            call.rfile.readline()
        while (line := call.rfile.readline()) != b"\r\n":
            lines.append(line)
        call.answer(b"|".join(lines))

    def early_hints(call: Call) -> None:
        call.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        call.answer(b"after the hints")

    routes = {"/show": show, "/trailers": trailers, "/got-trailers": got_trailers, "/hints": early_hints}
    with Origin(routes) as origin, open_house(tmp_path_factory.mktemp("served")) as house:
        origin.routes.update({f"/{number}": lambda call: call.answer(call.path.encode()) for number in range(50)})
        house.start_edge()
        house.agent("agent", origin.port)
        yield house


def read_answer(file: BufferedReader) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, fields and body of an answer with Content-Length."""
    status = file.readline().rstrip(b"\r\n")
    fields = {}
    while line := file.readline().rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    return status, fields, file.read(int(fields.get(b"content-length", b"0")))


def test_pipelined_requests_are_answered_in_order(served: House) -> None:
    with served.connect() as visitor:
        visitor.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: app.example.test\r\n\r\n" % n for n in range(50)))
        file = visitor.makefile("rb")
        for number in range(50):
            status, _, body = read_answer(file)
            assert status == b"HTTP/1.1 200 OK"
            assert body == b"/%d" % number


def test_pipelined_bodies(served: House) -> None:
    with served.connect() as visitor:
        one = b"POST /show HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 3\r\n\r\none"
        two = (
            b"POST /show HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        three = b"GET /7 HTTP/1.1\r\nHost: app.example.test\r\nConnection: close\r\n\r\n"
        visitor.sendall(one + two + three)
        file = visitor.makefile("rb")
        assert read_answer(file)[2].endswith(b"one")
        assert read_answer(file)[2].endswith(b"two")
        _, fields, body = read_answer(file)
        assert body == b"/7"
        assert fields[b"connection"] == b"close"
        assert file.read() == b""


def test_trailers_of_an_answer(served: House) -> None:
    with served.connect() as visitor:
        visitor.sendall(b"GET /trailers HTTP/1.1\r\nHost: app.example.test\r\nTE: trailers\r\n\r\n")
        file = visitor.makefile("rb")
        while file.readline() != b"\r\n":
            pass
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        assert body == b"some text"
        assert file.readline().lower() == b"x-sum: nine\r\n"
        assert file.readline() == b"\r\n"


def test_trailers_of_a_request(served: House) -> None:
    with served.connect() as visitor:
        visitor.sendall(
            b"POST /got-trailers HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n"
            b"\r\n3\r\nabc\r\n0\r\nX-Sum: three\r\n\r\n"
        )
        body = read_answer(visitor.makefile("rb"))[2]
        assert body.lower() == b"abc|x-sum: three\r\n"


def test_head(served: House) -> None:
    with served.connect() as visitor:
        for method, path in ((b"HEAD", b"/1"), (b"GET", b"/2")):
            visitor.sendall(b"%b %b HTTP/1.1\r\nHost: app.example.test\r\n\r\n" % (method, path))
        file = visitor.makefile("rb")
        lines = []
        while (line := file.readline()) != b"\r\n":
            lines.append(line.lower())
        assert b"content-length: 2\r\n" in lines
        # No body follows: the next octet is the next answer's.
        assert read_answer(file)[2] == b"/2"


def test_http_is_redirected_to_https_with_308(served: House) -> None:
    plain = f"http://{APP}:{served.http_port}/a/path?and=query"
    got = served.curl("--include", "--data", "body", plain)
    head = got.stdout.decode()
    assert head.startswith("HTTP/1.1 308 "), got
    assert f"\r\nlocation: https://{APP}:{served.port}/a/path?and=query\r\n" in head.lower()
    # Followed, the method and the body stay what they were, and TLS is verified.
    plain = f"http://{APP}:{served.http_port}/show?x=1"
    followed = served.curl("--location", "--data", "the body", plain)
    assert followed.stdout.startswith(b"POST /show?x=1 HTTP/1.1\n"), followed
    assert followed.stdout.endswith(b"the body")


def test_early_hints_pass(served: House) -> None:
    with served.connect() as visitor:
        visitor.sendall(b"GET /hints HTTP/1.1\r\nHost: app.example.test\r\n\r\n")
        file = visitor.makefile("rb")
        status, fields, _ = read_answer(file)
        assert status.startswith(b"HTTP/1.1 103")
        assert fields[b"link"] == b"</style.css>; rel=preload"
        assert read_answer(file)[2] == b"after the hints"


def test_forwarding_fields(served: House) -> None:
    """The visitor's own claims are dropped, and hop-by-hop fields stay on their hop."""
    got = served.curl(
        *("--header", "X-Forwarded-For: 192.0.2.1"),
        *("--header", "Forwarded: for=192.0.2.1"),
        *("--header", "X-Forwarded-Proto: gopher"),
        *("--header", "Connection: X-Private"),
        *("--header", "X-Private: 1"),
        served.url("/show"),
    )
    shown = got.stdout.decode().lower()
    assert "x-forwarded-for: 127.0.0.1\n" in shown
    assert "x-forwarded-proto: https\n" in shown
    assert f"x-forwarded-host: {APP}:{served.port}\n" in shown
    assert "forwarded: for=127.0.0.1" in shown
    assert "192.0.2.1" not in shown
    assert "x-private" not in shown
    assert "via: 1.1 " in shown


def test_http_1_0_by_curl(served: House) -> None:
    """It offers nothing but http/1.0 by ALPN."""
    got = served.curl("--http1.0", "--include", served.url("/3"))
    assert got.returncode == 0
    assert got.stdout.endswith(b"\r\n\r\n/3")


def test_what_no_site_has(served: House) -> None:
    for host, path, status, reason in [
        (APP, "/../x", 400, "bad-target"),
        ("nobody.example.test", "/", 404, "unknown-host"),
    ]:
        # The dev CA has no certificate for a name that no site has: what is asked for here is the answer alone.
        got = served.curl("--insecure", "--path-as-is", "--include", served.url(path, host), host=host)
        head = got.stdout.decode().lower()
        assert head.startswith(f"http/1.1 {status} "), got
        assert f"x-wormhole-error: {reason}\r\n" in head
