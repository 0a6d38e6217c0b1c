"""Dialling a stream of a link like any other connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from wormhole_tw.errors import MisuseError, StreamReset
from wormhole_tw.wire.codes import ResetCode

if TYPE_CHECKING:
    from wormhole_tw.wire.messages import Open, Opened

    from .protocol import LinkProtocol
    from .stream import TunnelStream

__all__ = ["StreamEndpoint"]


@implementer(IStreamClientEndpoint)
class StreamEndpoint:
    """``connect(factory)`` opens one stream of ``link`` as ``message`` says.

    For kind ``http`` it fires as soon as OPEN is queued, since the request may follow at once; for every other kind
    when the far side has reached the service and said OPENED.

    It fails with :class:`~wormhole_tw.errors.StreamReset`: the far side's code, or where the stream could not be
    opened at all ``OVER_LIMIT``, ``NOT_AVAILABLE`` (the link drains) or ``LINK_LOST``, all undelivered. Cancelling
    resets the stream.
    """

    __slots__ = ("_link", "_message")

    def __init__(self, link: LinkProtocol, message: Open) -> None:
        self._link = link
        self._message = message

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a stream and connect a protocol of the factory's to it."""
        try:
            stream = self._link.open(self._message)
        except MisuseError as error:
            return fail(Failure(self._refusal(error)))
        if self._message.kind == "http":
            try:
                return succeed(_attach(stream, protocolFactory))
            except Exception:  # noqa: BLE001 - whoever dials is told, whatever it is
                return fail(Failure())

        def opened(_message: Opened | None, failure: Failure | None) -> None:
            if connected.called:  # cancelled
                return
            if failure is None:
                try:
                    protocol = _attach(stream, protocolFactory)
                except Exception:  # noqa: BLE001 - as above
                    failure = Failure()
                else:
                    connected.callback(protocol)
                    return
            connected.errback(failure)

        connected: Deferred[IProtocol] = Deferred(lambda _: stream.abortConnection())
        stream.when_opened(opened)
        return connected

    def _refusal(self, error: MisuseError) -> StreamReset:
        link = self._link
        if link.lost:
            code = ResetCode.LINK_LOST
        elif link.can_open:
            code = ResetCode.OVER_LIMIT
        else:
            code = ResetCode.NOT_AVAILABLE
        return StreamReset(code, str(error), delivered=False)


def _attach(stream: TunnelStream, factory: IProtocolFactory) -> IProtocol:
    try:
        protocol = factory.buildProtocol(stream.getPeer())
        if protocol is None:
            raise NoProtocol()
        stream.attach(protocol)
    except BaseException:
        stream.abortConnection()
        raise
    return protocol
