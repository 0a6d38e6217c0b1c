"""Sites whose TLS is not ended here: their visitors' connections go to the private service as they are, by SNI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.edge.passage import Course, Passage
from wormhole_tw.errors import HttpError
from wormhole_tw.http.targets import normalise_host
from wormhole_tw.net.client_hello import read_client_hello

if TYPE_CHECKING:
    from wormhole_tw.control.model import Site
    from wormhole_tw.edge.context import EdgeContext
    from wormhole_tw.edge.facts import ConnectionFacts

__all__ = ["passed_site", "passthrough"]


def passed_site(context: EdgeContext, data: bytes) -> tuple[Site, str] | None:
    """The site that a ClientHello asks for, and the host name, where its TLS is not ended here.

    Encrypted ClientHello is not looked into: its outer name counts, as its sender wants it (RFC 9849 §10.10).  What is
    no ClientHello, or has no valid host name, is for whoever ends TLS here: a wildcard would take any octets before its
    dot, and they go on into logs and to the service.

    :param data: the first octets of a connection
    """
    try:
        hello = read_client_hello(data)
        if hello is None or not hello.server_name:
            return None
        name, port = normalise_host(hello.server_name)
    except (ValueError, HttpError):
        return None
    if port is not None:
        return None
    site = context.catalogs.current.site_for(name)
    return (site, name) if site is not None and site.passthrough else None


def passthrough(context: EdgeContext, site: Site, name: str, facts: ConnectionFacts, counted: str) -> Passage | None:
    """What a connection becomes, or None where its site has no room for it: it has to be closed then.

    :param name: the host name that was asked for
    :param counted: what it is counted for among ``context.addresses``; the passage gives it back
    """
    [route] = site.routes
    limits = context.limits if route.limits is None else context.site_limits(route.limits)
    course = Course("passthrough", site.name, route.backend, name, limits.connect, limits.upgrade_idle, route.selection)
    in_flight = None
    if limits.requests_per_site or limits.requests_per_address:
        try:
            in_flight = context.in_flight.enter(limits, site.name, facts.address)
        except HttpError as error:
            context.passages.refuse(context, course, facts, error.reason)
            return None

    def over() -> None:
        if in_flight is not None:
            context.in_flight.leave(in_flight)
        if counted:
            context.addresses.leave(counted)

    return Passage(context, course, facts, over)
