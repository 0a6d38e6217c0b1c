"""What every feed keeps to. A feed's test class inherits from :class:`FeedContract` and says how to make one."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.control._sample import FactsOnly
from wormhole_tw.control.interfaces import IFeed
from wormhole_tw.control.registry import Registry


class FeedContract:
    """Subclasses override :meth:`feed`."""

    def feed(self) -> IFeed:
        """A new feed."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self) -> Registry:
        return Registry(Clock().seconds)

    def test_it_is_a_feed(self) -> None:
        assert verifyObject(IFeed, self.feed())

    async def test_what_is_here_stays_here_whatever_the_feed_does(self, registry: Registry) -> None:
        feed = self.feed()
        before, during = FactsOnly(1), FactsOnly(2)
        registry.admit(before)
        feed.start(registry)
        registry.admit(during)
        assert registry.candidates("app") == (before, during)
        await feed.stop()
        await feed.stop()
        assert registry.candidates("app") == (before, during)
        registry.remove(before)
        assert registry.candidates("app") == (during,)

    async def test_it_may_stop_before_it_starts(self) -> None:
        await self.feed().stop()
