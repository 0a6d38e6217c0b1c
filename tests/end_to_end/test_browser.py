"""A browser as people have it, headless Chromium: a hundred images and a WebSocket, over HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from tests.end_to_end.chromium import chromium
from tests.end_to_end.house import APP, House
from tests.end_to_end.origin import Call, Origin
from tests.end_to_end.test_observability import wait_until
from tests.end_to_end.test_websocket import websocket_service

IMAGES = 100

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>a hundred images</title>
<pre id="result"></pre>
<script>
async function image(number) {
  const image = new Image();
  image.src = `/image/${number}.png`;
  document.body.append(image);
  await image.decode();
  return [number, image.naturalWidth, image.naturalHeight];
}

// what was said and heard, and how it ended
function talk(messages) {
  return new Promise((resolve) => {
    const heard = [];
    const socket = new WebSocket(`wss://${location.host}/chat`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => messages.forEach((message) => socket.send(message));
    socket.onmessage = (event) => {
      heard.push(typeof event.data === "string" ? event.data : [...new Uint8Array(event.data)].join());
      if (heard.length === messages.length) socket.close(1000, "that is all");
    };
    socket.onclose = (event) => resolve({heard, code: event.code, reason: event.reason, clean: event.wasClean});
  });
}

async function all() {
  const images = await Promise.all([...Array(IMAGES).keys()].map(image));
  const loaded = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/image/"));
  const socket = await talk(["a text", "\\u20ac".repeat(40000), new Uint8Array([0, 1, 255])]);
  const protocols = {};
  for (const entry of [...performance.getEntriesByType("navigation"), ...loaded])
    protocols[entry.name] = entry.nextHopProtocol;
  document.getElementById("result").textContent = JSON.stringify({images, protocols, socket});
}
const done = new Promise((resolve) => addEventListener("load", () => resolve(all())));
</script>
""".replace("IMAGES", str(IMAGES))


def png(width: int, height: int) -> bytes:
    """A grey image of this size."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.mark.requires_program("chromium")
@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("options", "protocol", "http"),
    [((), "h2", "2"), (("--disable-http2",), "http/1.1", "1.1")],
    ids=["h2", "http/1.1"],
)
def test_a_page_of_a_hundred_images_and_a_websocket(
    house: House, origin: Origin, tmp_path: Path, options: tuple[str, ...], protocol: str, http: str
) -> None:
    def page(call: Call) -> None:
        call.answer(PAGE.encode(), headers={"Content-Type": "text/html"})

    def image(call: Call) -> None:
        number = int(call.path.removeprefix("/image/").removesuffix(".png"))
        call.answer(png(number + 1, 200 - number), headers={"Content-Type": "image/png", "Cache-Control": "no-store"})

    origin.routes["/"] = page
    origin.routes.update({f"/image/{number}.png": image for number in range(IMAGES)})
    house.config["sites"][0]["routes"] = [{"path": "/chat", "backend": "other"}, {"path": "/", "backend": "app"}]
    house.config["access_log"] = {"path": "access.log"}
    house.write()
    with websocket_service(echo) as port:
        house.start_edge()
        house.agent("pages", origin.port)
        house.agent("chat", port, backend="other")
        with house.connect() as visitor:  # which verifies it by the dev CA
            certificate = visitor.getpeercert(binary_form=True)
        assert certificate
        with chromium(tmp_path, certificate, (APP,), *options) as browser:
            browser.open(house.url("/"))
            browser.evaluate("done")
            result = json.loads(browser.evaluate("document.getElementById('result').textContent"))
    # every image was decoded: its size is its own
    assert result["images"] == [[number, number + 1, 200 - number] for number in range(IMAGES)]
    urls = {house.url("/"), *(house.url(f"/image/{number}.png") for number in range(IMAGES))}
    assert result["protocols"] == dict.fromkeys(urls, protocol)
    assert result["socket"] == {
        "heard": ["a text", "\u20ac" * 40000, "0,1,255"],
        "code": 1000,
        "reason": "that is all",
        "clean": True,
    }
    # and the edge saw the same; what HTTP/2 has for a WebSocket is the extended CONNECT of RFC 8441, and nothing else
    log = house.folder / "access.log"
    wait_until(lambda: '"/chat"' in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (socket,) = [line for line in lines if line["path"] == "/chat"]
    assert (socket["http"], socket["status"], socket["backend"]) == (http, 101, "other")
    assert {line["http"] for line in lines} == {http}
    assert sum(line["path"].startswith("/image/") for line in lines) == IMAGES
