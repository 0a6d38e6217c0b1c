"""What a visitor is told whose request the edge answers itself: the answer for a reason, in the form it asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.answers import error_answer
from wormhole_tw.edge.pages import accept_of
from wormhole_tw.edge.router import site_of

if TYPE_CHECKING:
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.exchange import Exchange
    from wormhole_tw.http.events import ResponseHead

__all__ = ["refusal"]


def refusal(
    context: EdgeContext, exchange: Exchange, reason: str, *, status: int | None, message: str | None, close: bool
) -> tuple[ResponseHead, bytes]:
    """The head and body of an error's answer; what is known of the site is filled in where a route was not found.

    :param close: the connection takes no further request after it
    """
    date = context.date.at(context.wall())
    head, name = exchange.head, exchange.request_id
    if head is None:
        return error_answer(reason, date, status=status, message=message, close=close, request_id=name)
    site = site_of(context.catalogs.current, head)
    pages = None
    if site is not None:
        if not exchange.site:
            exchange.site = site.name
            # nobody has shown that this connection may speak for the site that is told to come by another one
            if site.security is not None and reason != "misdirected":
                secure = exchange.facts.forwarding.scheme == "https"
                exchange.added = site.security.secure if secure else site.security.plain
        pages = site.error_pages
    accept = accept_of(head.fields)
    return error_answer(
        reason, date, status=status, message=message, close=close, accept=accept, request_id=name, pages=pages
    )
