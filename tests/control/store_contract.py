"""What every store keeps to. A store's test class inherits from :class:`StoreContract` and says how to make one."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.control._sample import sample
from wormhole_tw.control.interfaces import IStore, Snapshot
from wormhole_tw.control.tokens import digest
from wormhole_tw.errors import ConfigError


class StoreContract:
    """Subclasses override :meth:`put` and :meth:`store`, which speak of one place that a test makes for itself."""

    def put(self, where: Any, raw: dict[str, Any]) -> None:
        """Make the store's place hold ``raw``, in the words of edge.toml."""
        raise NotImplementedError

    def store(self, where: Any) -> IStore:
        """A store over that place."""
        raise NotImplementedError

    def test_it_is_a_store(self, where: Any) -> None:
        assert verifyObject(IStore, self.store(where))

    def test_it_gives_configuration_and_catalog(self, where: Any) -> None:
        self.put(where, sample())
        snapshot = self.store(where).load()
        assert isinstance(snapshot, Snapshot)
        config, catalog = snapshot
        assert [site.name for site in config.sites] == ["example"]
        assert catalog.sites == config.sites
        backend = catalog.backend_for_digest(digest("app-token"))
        assert backend is not None
        assert backend.name == "app"

    def test_it_reads_anew_each_time(self, where: Any) -> None:
        self.put(where, sample())
        store = self.store(where)
        first = store.load()
        self.put(where, sample(**{"sites.0.hostnames": ["new.test"]}))
        assert first.catalog.site_for("new.test") is None
        assert store.load().catalog.site_for("new.test") is not None

    def test_what_is_wrong_is_refused_and_named(self, where: Any) -> None:
        self.put(where, sample(**{"sites.0.routes.0.backend": "nobody"}))
        with pytest.raises(ConfigError) as caught:
            self.store(where).load()
        assert caught.value.key == "$.sites[0].routes[0].backend"
        assert caught.value.source

    async def test_it_reads_beside_the_reactor(self, where: Any, reactor: Any) -> None:
        self.put(where, sample())
        store = self.store(where)
        snapshot = await store.read(reactor)
        assert snapshot.config == store.load().config
        self.put(where, sample(**{"edge.https": []}))
        with pytest.raises(ConfigError):
            await store.read(reactor)
