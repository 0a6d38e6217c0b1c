"""Records of DNS-01 challenges written by dynamic update (RFC 2136), signed with a shared key (TSIG, RFC 8945).

An update adds or deletes one value and touches nothing else of the record (§2.5.1, §2.5.4), so that somebody else's
values stay, and doing it twice is no error.
"""

from __future__ import annotations

import errno
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
from zope.interface import implementer

from wormhole_tw.edge.certificates.dns01.interfaces import IRecordWriter
from wormhole_tw.edge.certificates.dns01.lookup import addresses, text_of
from wormhole_tw.errors import ChallengeFailed
from wormhole_tw.net.threads import Turns

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorFromThreads

    from wormhole_tw.control.dns import UpdateConfig

__all__ = ["UpdateWriter"]


@implementer(IRecordWriter)
class UpdateWriter:
    """Sends the updates, one after another."""

    def __init__(self, reactor: IReactorFromThreads, config: UpdateConfig) -> None:
        self._turns = Turns(reactor)
        self._server = _Server(config)

    def add(self, name: str, record: str, value: str) -> Deferred[None]:
        """Have a value added to a record.

        :param name: the challenge's own name (not needed here: see :class:`.hook.HookWriter`)
        :param record: the name to write, without the root's dot
        :raises ChallengeFailed: the server cannot be reached, or does not take the update
        """
        return self._turns.take(partial(self._server.add, record, value))

    def remove(self, name: str, record: str, value: str) -> Deferred[None]:
        """Have it taken away again; see :meth:`add`."""
        return self._turns.take(partial(self._server.remove, record, value))


class _NotSigned(dns.exception.DNSException):  # whoever sits in between could have made it up
    """it is not signed"""


class _Server:
    """The name server, and what it said; everything here blocks."""

    def __init__(self, config: UpdateConfig) -> None:
        self._config = config
        name = dns.name.from_text(config.key.name)
        self._key = dns.tsig.Key(name, config.key.secret, algorithm=f"{config.key.algorithm}.")

    def add(self, record: str, value: str) -> None:
        name = dns.name.from_text(record)
        update = self._update(name)
        update.add(name, self._config.ttl, "TXT", _quoted(value))
        self._send(update, record)

    def remove(self, record: str, value: str) -> None:
        name = dns.name.from_text(record)
        update = self._update(name)
        update.delete(name, "TXT", _quoted(value))
        self._send(update, record)

    def _update(self, name: dns.name.Name) -> dns.update.UpdateMessage:
        if self._config.zone is None:
            zone = self._find_zone(name)
        else:
            zone = dns.name.from_text(self._config.zone)
            if not name.is_subdomain(zone):
                inside = f"{text_of(name)} is not in the zone {text_of(zone)}"
                raise ChallengeFailed(f"{inside} (tls.dns.rfc2136.zone): leave the zone out, or name the right one")
        update = dns.update.UpdateMessage(zone)
        update.use_tsig(self._key)
        return update

    def _find_zone(self, name: dns.name.Name) -> dns.name.Name:
        """The nearest zone above a name that this server is authoritative for: it alone can say what it holds."""
        zone = name
        while zone != dns.name.root:
            query = dns.message.make_query(zone, dns.rdatatype.SOA)
            query.flags &= ~dns.flags.RD
            query.use_tsig(self._key)
            answer = self._ask(query)
            if answer.rcode() == dns.rcode.NOERROR and answer.flags & dns.flags.AA:
                for rrset in answer.answer:
                    if rrset.rdtype == dns.rdatatype.SOA and rrset.name == zone:
                        return zone
            zone = zone.parent()
        reason = f"has no zone that {text_of(name)} is in; if it has, set tls.dns.rfc2136.zone"
        raise ChallengeFailed(f"the name server {self._config.server} {reason}")

    def _send(self, update: dns.update.UpdateMessage, record: str) -> None:
        code = self._ask(update).rcode()
        if code != dns.rcode.NOERROR:
            zone = text_of(update.zone[0].name)
            reason = {
                dns.rcode.REFUSED: f"the key {self._config.key.name} may not change {record} in the zone {zone}",
                dns.rcode.NOTAUTH: f"it is not the primary server of the zone {zone}",
                dns.rcode.NOTZONE: f"{record} is not in the zone {zone}",
                dns.rcode.NOTIMP: "it takes no dynamic updates",
            }.get(code, "see its log")
            message = f"the name server {self._config.server} refuses the update ({dns.rcode.to_text(code)}): {reason}"
            raise ChallengeFailed(message)

    def _ask(self, message: dns.message.Message) -> dns.message.Message:
        """Ask by TCP: updates are longer than what fits everybody's datagrams, and an answer's source is sure."""
        server, key = self._config.server, self._config.key
        where = f"the name server {server} (tls.dns.rfc2136.server)"
        try:
            candidates = addresses(server)
        except OSError as error:
            raise ChallengeFailed(f"{where} cannot be found: {error.strerror}") from error
        failure: Exception | None = None
        for address, port in candidates:
            try:
                return _read(message, _exchange(message.to_wire(), address, port, self._config.timeout))
            except dns.tsig.PeerBadKey as error:
                # Knot says this also for a key that it knows, but that may not do this.
                reason = f"does not take the key {key.name} ({key.algorithm}): unknown there, or it may not write this"
                raise ChallengeFailed(f"{where} {reason}") from error
            except (dns.tsig.PeerBadSignature, dns.tsig.BadSignature) as error:
                reason = f"has another secret for the key {key.name} (tls.dns.rfc2136.key_file)"
                raise ChallengeFailed(f"{where} {reason}") from error
            except (dns.tsig.PeerBadTime, dns.tsig.BadTime) as error:
                reason = "has another time than this machine, by minutes: set the clocks"
                raise ChallengeFailed(f"{where} {reason}") from error
            except (dns.exception.DNSException, OSError, EOFError) as error:
                failure = error
        if isinstance(failure, TimeoutError):
            reason = f"does not answer within {self._config.timeout:g} s"
        elif isinstance(failure, OSError) and failure.strerror:
            reason = f"cannot be reached: {failure.strerror}"
        else:
            reason = f"gives no answer that can be read: {failure or 'it has no address'}"
        raise ChallengeFailed(f"{where} {reason}") from failure


def _exchange(wire: bytes, address: str, port: int, timeout: float) -> bytes:
    """Send one message and receive one (RFC 1035 §4.2.2).

    :param timeout: seconds for all of it
    :raises OSError: not connected, or lost; TimeoutError: too slow
    """
    until = time.monotonic() + timeout
    with socket.create_connection((address, port), timeout) as connection:
        connection.sendall(len(wire).to_bytes(2, "big") + wire)
        data = bytearray()
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            connection.settimeout(max(until - time.monotonic(), 0.001))
            more = connection.recv(65537)
            if not more:
                raise ConnectionResetError(errno.ECONNRESET, "it ended the connection without an answer")
            data += more
    return bytes(data[2 : 2 + int.from_bytes(data[:2], "big")])


def _read(question: dns.message.Message, wire: bytes) -> dns.message.Message:
    """An answer whose signature is right; or one without a signature that says no (RFC 8945 §5.3).

    :raises DNSException: it cannot be read, is not for this question, or is not signed
    """
    try:
        answer = dns.message.from_wire(wire, keyring=question.keyring, request_mac=question.mac)
        signed = bool(answer.had_tsig)
    except dns.exception.FormError:
        # How dnspython says that there is no signature: servers refuse without one what is not theirs.
        answer = dns.message.from_wire(wire)
        signed = False
    if not question.is_response(answer):
        raise dns.query.BadResponse
    if not signed and answer.rcode() == dns.rcode.NOERROR:
        raise _NotSigned
    return answer


def _quoted(value: str) -> str:
    """A TXT value in the notation of zone files; base64url has nothing to escape, but who calls may have more."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
