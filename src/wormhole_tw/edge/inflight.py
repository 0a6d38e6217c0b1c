"""How many requests and connections there are now, of one site and of one visitor's address, where that has a limit.

Nothing is counted, and nothing looked up, where the limit is 0.  What is counted is given back where the connection or
the exchange ends, and nowhere else; both have one place for that, however they end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wormhole_tw.edge.answers import ANSWERS
from wormhole_tw.errors import HttpError
from wormhole_tw.net.networks import counted_address

if TYPE_CHECKING:
    from wormhole_tw.control.limits import Limits

__all__ = ["Counted", "InFlight", "Requests"]


class InFlight:
    """Counts by key.  What has a count of none takes no memory: there are never more keys than things in flight."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys have a count."""
        return len(self._counts)

    def of(self, key: str) -> int:
        """How many there are."""
        return self._counts.get(key, 0)

    def enter(self, key: str) -> None:
        """One more; it has to be given back by :meth:`leave`, once."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def leave(self, key: str) -> None:
        """One less.

        :raises KeyError: there is none
        """
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]


class Counted(NamedTuple):
    """What a request was counted for; an empty string where that has no limit."""

    site: str
    address: str


class Requests:
    """Requests in flight.

    :ivar sites: by the site's name
    :ivar addresses: by what counts of the visitor's address
    """

    __slots__ = ("addresses", "sites")

    def __init__(self) -> None:
        self.sites = InFlight()
        self.addresses = InFlight()

    def enter(self, limits: Limits, site: str, address: str) -> Counted:
        """Count a request.

        :param limits: those of its site
        :param address: the visitor's; who has none (a Unix socket) is not counted by it
        :raises HttpError: 429, one of the limits is reached; nothing was counted then
        """
        of_site = site if limits.requests_per_site else ""
        of_address = counted_address(address) if limits.requests_per_address and address else ""
        if of_site and self.sites.of(of_site) >= limits.requests_per_site:
            raise _refusal("site-busy")
        if of_address:
            if self.addresses.of(of_address) >= limits.requests_per_address:
                raise _refusal("too-many-requests")
            self.addresses.enter(of_address)
        if of_site:
            self.sites.enter(of_site)
        return Counted(of_site, of_address)

    def leave(self, counted: Counted) -> None:
        """It is over."""
        if counted.site:
            self.sites.leave(counted.site)
        if counted.address:
            self.addresses.leave(counted.address)


def _refusal(reason: str) -> HttpError:
    answer = ANSWERS[reason]
    return HttpError(answer.status, reason, answer.message)
