"""What writes the records of DNS-01 challenges, seen by the solver."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

__all__ = ["IRecordWriter"]


class IRecordWriter(Interface):
    """Who writes TXT records."""

    def add(name: str, record: str, value: str) -> Deferred[None]:
        """Add a value to a record; it may be there already.

        :param name: the challenge's own name (``_acme-challenge.example.com``)
        :param record: the name to write: another where the first is a CNAME
        :returns: fails with :class:`~wormhole_tw.errors.ChallengeFailed`
        """

    def remove(name: str, record: str, value: str) -> Deferred[None]:
        """Take one value away, which need not be there, and leave the others."""
