"""Session tickets, whose keys live in memory and change.

OpenSSL makes the keys of a ticket with the context that a connection begins on, and gives no other way to them through
pyOpenSSL. So the keys change with the context: a new one for each period, while the one before goes on for those
who come back with a ticket of its. Which one a ticket is of, its first octets say, which are the name of its key
(RFC 5077 section 4), and a ClientHello carries its tickets in clear.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from OpenSSL import SSL
from twisted.logger import Logger

from wormhole_tw.net.client_hello import read_client_hello

__all__ = ["TICKET_LIFETIME", "TICKET_PERIOD", "Front", "OwnConnection", "key_name"]

log = Logger()

TICKET_LIFETIME = 2 * 3600
"""Seconds for which a session can be resumed; OpenSSL's own default. A visitor that stays away longer shakes hands."""

TICKET_PERIOD = 2.0 * 3600
"""Seconds between two keys. Each is accepted for one period more, which is all of a ticket's life. So whoever gets at
the memory of an edge can read what was recorded of resumed sessions (of TLS 1.2, where they have no key exchange of
their own) for the last four hours and no longer."""

_KEY_NAME = 16


class Front:
    """The context that connections begin on, and the one before it.

    :param make: a new context
    """

    __slots__ = ("_before", "_context", "_due", "_make", "_name_before", "_used")

    def __init__(self, make: Callable[[], SSL.Context]) -> None:
        self._make = make
        self._context = make()
        self._before: SSL.Context | None = None
        self._name_before = b""
        self._used = False
        self._due = False

    def context_for(self, hello: bytes) -> SSL.Context:
        """The context for a client that begins like this (whole, or its tickets are not found)."""
        self._used = True
        if self._due:
            self._due = False
            self._change()
        before = self._before
        return before if before is not None and self._name_before in hello else self._context

    def rotate(self) -> bool:
        """Seal new tickets with a new key; those of the key until now are good until the next time.

        The new one is made when the next client comes, so that the many of an edge with many are not made all at once.

        :returns: False where nobody has come since the last time: then there is nothing to keep, and it can go
        """
        used, self._used = self._used, False
        self._due = True
        return used

    def _change(self) -> None:
        context = self._make()
        try:
            self._name_before = key_name(self._context)
        except (SSL.Error, ValueError) as error:
            # It costs those who come back a handshake, and nothing else.
            log.info("the last key of session tickets is not kept: {error}", error=error)
            self._before, self._name_before = None, b""
        else:
            self._before = self._context
        self._context = context


class OwnConnection(SSL.Connection):
    """The server's side of a handshake with itself: any certificate will do."""


def key_name(context: SSL.Context) -> bytes:
    """The name of the key with which a server's context seals its tickets.

    It shakes hands with itself once, and looks at what a client would send that comes back.

    :raises ValueError: there was no ticket
    :raises SSL.Error: there was no handshake
    """
    server = OwnConnection(context, None)
    server.set_verify(SSL.VERIFY_NONE)
    server.set_accept_state()
    options = SSL.Context(SSL.TLS_METHOD)
    options.set_min_proto_version(SSL.TLS1_3_VERSION)
    client = SSL.Connection(options, None)
    client.set_connect_state()
    for _ in range(3):
        for side, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                side.do_handshake()
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))
    with suppress(SSL.WantReadError):
        client.recv(1)  # the ticket comes behind the handshake
    session = client.get_session()
    again = SSL.Connection(options, None)
    again.set_connect_state()
    if session is not None:
        again.set_session(session)
    with suppress(SSL.WantReadError):
        again.do_handshake()
    hello = read_client_hello(again.bio_read(65536))
    if hello is None or not hello.sessions or len(hello.sessions[0]) < _KEY_NAME:
        raise ValueError("no ticket was given")
    return hello.sessions[0][:_KEY_NAME]
