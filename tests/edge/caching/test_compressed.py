"""A cache on a route that compresses: each coding is made once, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.edge.caching.house import CachingHouse, Got
from tests.edge.middleware.house import MiddlewareHouse
from tests.edge.press import Hands
from tests.http.coding.judges import GIVEN, decoded
from wormhole_tw.control.catalog import Catalog
from wormhole_tw.edge import compressing
from wormhole_tw.edge.compressing import Compressors
from wormhole_tw.http.coding import CodingRules
from wormhole_tw.http.edits import FieldEdits

PAGE = b"<p>The quick brown fox</p>\n" * 100
FRESH = ("Content-Type: text/html", "Cache-Control: max-age=60", 'ETag: "abc"')
LARGE = b'{"id": 7, "name": "seven"}, ' * 4000


class Squeezing:
    """``app.test`` compresses, too."""

    edits: FieldEdits | None = None

    def catalog(self, protocol: str) -> Catalog:
        usual: Catalog = super().catalog(protocol)  # type: ignore[misc]
        sites = [
            replace(
                site,
                routes=tuple(replace(route, compress=CodingRules(), request_edits=self.edits) for route in site.routes),
            )
            for site in usual.sites
        ]
        return Catalog(sites, usual.backends.values(), own_names=["edge.test"])


class SqueezingHouse(Squeezing, CachingHouse):
    pass


class SqueezingMiddleware(Squeezing, MiddlewareHouse, CachingHouse):
    pass


@pytest.fixture
def house() -> Iterator[SqueezingHouse]:
    made = SqueezingHouse()
    yield made
    made.close()
    assert made.context.compressors.running == 0


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The codings of every body that was coded, each time that one was."""
    made: list[bytes] = []
    whole, streamed = compressing.encoded, compressing.encoder

    def encoded(coding: bytes, data: bytes) -> bytes:
        made.append(coding)
        return whole(coding, data)

    def encoder(coding: bytes) -> Any:
        made.append(coding)
        return streamed(coding)

    monkeypatch.setattr(compressing, "encoded", encoded)
    monkeypatch.setattr(compressing, "encoder", encoder)
    return made


def said(got: Got, coding: bytes = b"") -> bytes:
    assert got.fields.get("content-encoding", "") == coding.decode()
    return decoded(coding, got.body)


@pytest.mark.parametrize("coding", GIVEN)
def test_the_second_visitor_of_a_coding_gets_it_without_an_encoder(
    house: SqueezingHouse, encoders: list[bytes], coding: bytes
) -> None:
    first = house.get("/", f"Accept-Encoding: {coding.decode()}", reply=FRESH, body=PAGE)
    assert said(first, coding) == PAGE
    assert encoders == [coding]
    again = house.get("/", f"Accept-Encoding: deflate, {coding.decode()};q=0.5")
    assert said(again, coding) == PAGE
    assert (again.cache, again.fields["vary"]) == ("wormhole; hit; ttl=60", "Accept-Encoding")
    assert again.fields["etag"] == first.fields["etag"] == 'W/"abc"'
    assert again.fields["content-length"] == str(len(again.body))
    head = house.get("/", f"Accept-Encoding: {coding.decode()}", method="HEAD")
    assert (head.fields["content-encoding"], head.body) == (coding.decode(), b"")
    assert encoders == [coding]


def test_each_coding_is_kept_beside_the_others(house: SqueezingHouse, encoders: list[bytes]) -> None:
    codings = [param.values[0] for param in GIVEN]
    for coding in (*codings, b""):
        got = house.get("/", f"Accept-Encoding: {coding.decode()}", reply=FRESH, body=PAGE)
        assert said(got, coding) == PAGE  # type: ignore[arg-type]
    assert encoders == codings
    for coding in (*codings, b"") * 2:
        assert said(house.get("/", f"Accept-Encoding: {coding.decode()}"), coding) == PAGE  # type: ignore[arg-type]
    assert said(house.get("/")) == PAGE
    assert encoders == codings


def test_what_has_no_coding_is_kept_once_for_all(house: SqueezingHouse, encoders: list[bytes]) -> None:
    picture = ("Content-Type: image/png", "Cache-Control: max-age=60")
    house.get("/a.png", "Accept-Encoding: gzip", reply=picture, body=PAGE)
    for accept in ("br", "zstd", "identity"):
        assert said(house.get("/a.png", f"Accept-Encoding: {accept}")) == PAGE
    assert encoders == []


def test_a_coding_of_the_services_own_is_kept_as_it_is(house: SqueezingHouse, encoders: list[bytes]) -> None:
    own = (*FRESH, "Content-Encoding: gzip", "Vary: Accept-Encoding")
    house.get("/", "Accept-Encoding: gzip", reply=own, body=b"as it is")
    got = house.get("/", "Accept-Encoding: gzip, deflate")
    assert (got.body, got.fields["content-encoding"], got.fields["vary"]) == (b"as it is", "gzip", "Accept-Encoding")
    assert house.get("/", "Accept-Encoding: identity", reply=FRESH, body=b"plain").body == b"plain"
    assert encoders == []


def test_the_service_is_asked_for_the_one_coding(house: SqueezingHouse) -> None:
    house.get("/", "Accept-Encoding: gzip, br;q=0.9", reply=FRESH, body=PAGE)
    house.get("/b", reply=FRESH, body=PAGE)
    asked = [dict(head.headers)[b"accept-encoding"] for stream in house.streams for head, _, _ in stream.requests()]
    assert asked == [b"gzip", b"identity"]


def test_where_the_route_takes_that_away_codings_are_told_apart_all_the_same(encoders: list[bytes]) -> None:
    class House(SqueezingHouse):
        edits = FieldEdits(frozenset({b"accept-encoding"}))

    house = House()
    assert said(house.get("/", "Accept-Encoding: gzip", reply=FRESH, body=PAGE), b"gzip") == PAGE
    [(head, _, _)] = house.stream.requests()
    assert b"accept-encoding" not in dict(head.headers)
    assert said(house.get("/", reply=FRESH, body=PAGE)) == PAGE
    assert said(house.get("/", "Accept-Encoding: gzip"), b"gzip") == PAGE
    assert encoders == [b"gzip"]
    house.close()


def test_a_visitor_who_has_it_is_told_so(house: SqueezingHouse) -> None:
    house.get("/", "Accept-Encoding: gzip", reply=FRESH, body=PAGE)
    got = house.get("/", "Accept-Encoding: gzip", 'If-None-Match: W/"abc"')
    assert (got.status, got.fields["etag"], got.fields["vary"]) == (304, 'W/"abc"', "Accept-Encoding")


def test_what_is_stale_is_confirmed_by_the_name_that_the_service_knows(
    house: SqueezingHouse, encoders: list[bytes]
) -> None:
    first = house.get("/", "Accept-Encoding: gzip", reply=FRESH, body=PAGE)
    house.clock.advance(61)
    again = house.get(
        "/",
        "Accept-Encoding: gzip",
        reply=('ETag: "abc"', "Cache-Control: max-age=60"),
        body=b"",
        status="304 Not Modified",
    )
    assert (again.status, again.body) == (200, first.body)
    assert said(again, b"gzip") == PAGE
    house.clock.advance(30)
    assert house.get("/", "Accept-Encoding: gzip").body == first.body
    assert encoders == [b"gzip"]


def test_a_part_is_one_of_the_answer_as_it_is(house: SqueezingHouse, encoders: list[bytes]) -> None:
    house.get("/", "Accept-Encoding: gzip", reply=FRESH, body=PAGE)
    got = house.get("/", "Accept-Encoding: gzip", "Range: bytes=0-9", reply=(*FRESH, "Accept-Ranges: bytes"), body=PAGE)
    assert (got.status, said(got)) == (206, PAGE[:10])
    got = house.get("/", "Accept-Encoding: gzip", "Range: bytes=10-19")
    assert (got.status, said(got)) == (206, PAGE[10:20])
    assert encoders == [b"gzip"]


def test_equal_misses_wait_for_one_encoder(house: SqueezingHouse, encoders: list[bytes]) -> None:
    hands = Hands()
    house.context.compressors = Compressors(house.timers, hands)  # type: ignore[arg-type]
    visitors = [house.ask("/", "Accept-Encoding: gzip") for _ in range(20)]
    house.answer(*FRESH, body=LARGE)
    assert house.asked == 1
    hands.work_off()
    for visitor in visitors:
        [(head, body)] = visitor.answers()
        assert dict(head.headers)[b"content-encoding"] == b"gzip"
        assert decoded(b"gzip", body) == LARGE
    assert encoders == [b"gzip"]
    assert said(house.get("/", "Accept-Encoding: gzip"), b"gzip") == LARGE


def test_a_stream_is_kept_as_it_was_sent(house: SqueezingHouse, encoders: list[bytes]) -> None:
    visitor = house.ask("/", "Accept-Encoding: br")
    stream = house.stream
    stream.deliver(("HTTP/1.1 200 OK\r\n" + "\r\n".join(FRESH) + "\r\nTransfer-Encoding: chunked\r\n\r\n").encode())
    for _ in range(10):
        stream.deliver(b"%x\r\n%s\r\n" % (len(PAGE), PAGE))
    stream.deliver(b"0\r\n\r\n")
    [(_, body)] = visitor.answers()
    assert decoded(b"br", body) == PAGE * 10
    got = house.get("/", "Accept-Encoding: br")
    assert (got.body, said(got, b"br")) == (body, PAGE * 10)
    assert encoders == [b"br"]


def test_what_may_not_be_kept_is_compressed_for_its_visitor(house: SqueezingHouse, encoders: list[bytes]) -> None:
    for _ in range(2):
        private = ("Content-Type: text/html", "Cache-Control: private")
        assert said(house.get("/", "Accept-Encoding: gzip", reply=private, body=PAGE), b"gzip") == PAGE
    assert encoders == [b"gzip"] * 2


def test_middleware_reads_what_is_kept_and_its_answer_is_compressed_behind_it(encoders: list[bytes]) -> None:
    async def shout(request: Any, next: Any) -> Any:
        response = await next(request)
        response.body = (await response.body.read()).upper()
        return response

    house = SqueezingMiddleware(shout)
    for reply in (FRESH, None):
        got = house.get("/", "Accept-Encoding: gzip", reply=reply, body=PAGE)
        assert said(got, b"gzip") == PAGE.upper()
    assert encoders == [b"gzip"] * 2
    house.close()
