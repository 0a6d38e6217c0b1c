"""The edge's account at the CA: made when it is first needed, found again after a restart, replaced when it is gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from wormhole_tw.edge.certificates.store import AccountRecord
from wormhole_tw.errors import CaRefused, CaUnavailable
from wormhole_tw.net.threads import Turns

if TYPE_CHECKING:
    from wormhole_tw.control.acme import AcmeConfig
    from wormhole_tw.edge.certificates.acme_client import AcmeClient
    from wormhole_tw.edge.certificates.store import CertificateStore

__all__ = ["NEW_ACCOUNT_AFTER", "AcmeAccount", "Disk"]

T = TypeVar("T")

NEW_ACCOUNT_AFTER = 86400.0
"""Seconds for which an account that was closed at the CA is not replaced by another: a CA that closes each one would
get a new one with every try."""

log = Logger()


class Disk:
    """Calls to a store, in a thread, one after another."""

    def __init__(self, reactor: Any) -> None:
        self._turns = Turns(reactor, finished=True)

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """:raises ConfigError: what the store raises"""
        return await self._turns.take(partial(function, *args))


class AcmeAccount:
    """Calls to the CA, each in a thread, one after another, with an account.

    :param reactor: has the threads
    :param wall: seconds since 1970
    :param source: the configuration file, for errors
    """

    def __init__(
        self,
        reactor: Any,
        config: AcmeConfig,
        store: CertificateStore,
        disk: Disk,
        *,
        wall: Callable[[], float],
        source: str,
    ) -> None:
        # A silent CA holds up nobody but who waits for it, and never two threads have the client, also where one of
        # them was given up.
        self._threads = Turns(reactor)
        self._config = config
        self._store = store
        self._disk = disk
        self._wall = wall
        self._source = source
        self._turn = DeferredLock()
        self._client: AcmeClient | None = None
        self._skewed = False

    @property
    def uri(self) -> str:
        """The account's URL; empty while there is none."""
        return self._client.uri if self._client is not None else ""

    async def call(self, method: str, *args: Any) -> Any:
        """One step of :class:`AcmeClient`, by its name.

        :raises CaRefused: the CA refuses just this
        :raises CaUnavailable: the CA cannot be had, or it lets us have no account
        :raises ConfigError: a file is not what it should be
        """
        await self._turn.acquire()
        try:
            client = await self._ready()
            try:
                return await self._thread(getattr(client, method), *args)
            except CaRefused as error:
                gone = error.code == "accountDoesNotExist" or (error.code == "unauthorized" and method == "new_order")
                if not gone:
                    raise
                before = client.uri
                client = await self._found_again(client)
                if client.uri == before:
                    raise
                return await self._thread(getattr(client, method), *args)
            finally:
                self._look_at_clock(client.skew)
        finally:
            self._turn.release()

    async def renewal_offered(self) -> bool:
        """Whether the CA says when to renew; needs its directory, and no account.

        :raises CaUnavailable: it cannot be had
        :raises ConfigError: a file is not what it should be
        """
        await self._turn.acquire()
        try:
            client = await self._opened()
            return client.offers_renewal_info
        finally:
            self._turn.release()

    async def renewal(self, *args: Any) -> tuple[float | None, float]:
        """:meth:`AcmeClient.renewal`, which needs no account."""
        await self._turn.acquire()
        try:
            client = await self._opened()
            return await self._thread(client.renewal, *args)
        finally:
            self._turn.release()

    # within

    async def _opened(self) -> AcmeClient:
        if self._client is None:
            # its libraries take half a second to import: not in the reactor's thread, and not where nobody needs them
            make = await self._thread(_client_class)
            key = await self._disk(self._store.account_key)
            self._client = make(self._config, key, source=self._source)
        await self._thread(self._client.open)
        return self._client

    async def _ready(self) -> AcmeClient:
        client = await self._opened()
        if client.uri:
            return client
        account = await self._disk(self._store.account)
        if account is None:
            return await self._register(client)
        client.use(account.uri)
        if account.email != self._config.email:
            try:
                await self._thread(client.tell_email)
            except CaRefused as error:
                log.warn("the CA does not take the new email address: {error}", error=error)
            else:
                await self._disk(
                    self._store.write_account, AccountRecord(account.uri, self._config.email, account.created)
                )
        return client

    async def _register(self, client: AcmeClient) -> AcmeClient:
        try:
            uri = await self._thread(client.register)
        except CaRefused as error:
            client.use("")
            raise CaUnavailable(f"the CA gives us no account: {error}", error.retry_after) from None
        await self._disk(self._store.write_account, AccountRecord(uri, self._config.email, self._wall()))
        log.info("account {uri} at the CA", uri=uri)
        return client

    async def _found_again(self, client: AcmeClient) -> AcmeClient:
        """The account that we had is not what it was."""
        old = await self._disk(self._store.account)
        before = old.uri if old is not None else client.uri
        closed = False
        try:
            uri = await self._thread(client.find_account)
        except CaRefused as error:
            client.use("")
            if error.code not in ("accountDoesNotExist", "unauthorized"):
                raise CaUnavailable(f"the CA does not know our account any more: {error}", error.retry_after) from None
            closed = error.code == "unauthorized"
            reason = str(error)
        else:
            if old is not None and uri != old.uri:
                await self._disk(self._store.write_account, AccountRecord(uri, old.email, old.created))
            return client
        if not closed:
            log.warn("the CA does not know account {uri} any more: a new one is made", uri=before)
            await self._disk(self._store.forget_account, False)
            return await self._register(client)
        wait = NEW_ACCOUNT_AFTER - (self._wall() - old.created) if old is not None else 0.0
        if 0.0 < wait <= NEW_ACCOUNT_AFTER:
            client.use(before)
            raise CaUnavailable(
                f"the CA has closed account {before} ({reason}), which is not a day old; move "
                f"{self._store.folder / 'account.key'} away to have another one made now",
            )
        log.warn("the CA has closed account {uri} ({reason}): a new one is made", uri=before, reason=reason)
        await self._disk(self._store.forget_account, True)
        self._client = None
        return await self._ready()

    def _look_at_clock(self, skew: float | None) -> None:
        from wormhole_tw.edge.certificates.acme_client import CLOCK_TOLERANCE

        if skew is None:
            return
        skewed = abs(skew) > CLOCK_TOLERANCE
        if skewed and not self._skewed:
            log.warn(
                "this machine's clock is {minutes:.0f} minutes {way} of the CA's: certificates will be renewed at the "
                "wrong time until it is right",
                minutes=abs(skew) / 60,
                way="ahead" if skew > 0 else "behind",
            )
        self._skewed = skewed

    async def _thread(self, function: Callable[..., T], *args: Any) -> T:
        return await self._threads.take(partial(function, *args))


def _client_class() -> type[AcmeClient]:
    from wormhole_tw.edge.certificates.acme_client import AcmeClient

    return AcmeClient
