from __future__ import annotations

from tests.control.feed_contract import FeedContract
from wormhole_tw.control.feeds.none import NoFeed
from wormhole_tw.control.interfaces import IFeed


class TestNoFeed(FeedContract):
    def feed(self) -> IFeed:
        return NoFeed()

    def test_it_has_stopped_at_once(self) -> None:
        assert NoFeed().stop().called
