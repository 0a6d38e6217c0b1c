"""Questions to name servers, each of which blocks for some seconds at most: for threads only."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from wormhole_tw.control.dns import DNS_PORT, DnsServer
from wormhole_tw.errors import ChallengeFailed

if TYPE_CHECKING:
    from dns.rdtypes.ANY.TXT import TXT

__all__ = ["Authority", "Lookup", "addresses", "configured", "text_of"]

ANSWER = 3.0
"""Seconds for one server's answer to one question; servers answer in tenths of one."""

LIFETIME = 6.0
"""Seconds for one question to the resolvers, over all of them."""

MAX_CNAMES = 8
"""Names in a row that are followed: as many as resolvers follow, and more than anybody has."""

MAX_ADDRESSES = 4
"""Addresses of one of them that are tried."""

MAX_AUTHORITIES = 16
"""Name servers of a zone that are asked; the root has 13."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A name server that has to know the record.

    :ivar name: what errors call it
    :ivar addresses: all of them; one that answers is enough, as it is for who resolves names
    :ivar recursive: it may be a resolver rather than the zone's own server
    """

    name: str
    addresses: tuple[tuple[str, int], ...]
    recursive: bool = False


def addresses(server: DnsServer) -> tuple[tuple[str, int], ...]:
    """A server's addresses, by the machine's own resolver.

    :raises OSError: there is none
    """
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys((str(entry[4][0]), server.port) for entry in found))


def configured(servers: Sequence[DnsServer]) -> tuple[Authority, ...]:
    """The servers that an operator named; they may be resolvers.

    :raises ChallengeFailed: one has no address
    """
    found = []
    for server in servers:
        try:
            found.append(Authority(str(server), addresses(server)[:MAX_ADDRESSES], recursive=True))
        except OSError as error:
            reason = f"the name server {server} (tls.dns.propagation_servers) cannot be found: {error.strerror}"
            raise ChallengeFailed(reason) from error
    return tuple(found)


class Lookup:
    """What has to be asked about a challenge's record.

    :param resolvers: who resolves names; empty for those of ``/etc/resolv.conf``
    :param authority_port: where the servers of zones listen
    """

    def __init__(self, resolvers: Sequence[DnsServer] = (), *, authority_port: int = DNS_PORT) -> None:
        self._resolvers = tuple(resolvers)
        self._authority_port = authority_port

    def follow(self, name: str) -> str:
        """The name at the end of the CNAMEs that begin at ``name``: ``name`` itself where there is none.

        :raises ChallengeFailed: the resolvers do not answer; the chain is a circle or too long
        """
        resolver = self._resolver()
        current = dns.name.from_text(name)
        for _ in range(MAX_CNAMES):
            try:
                answer = resolver.resolve(current, "CNAME", raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN:
                break
            except dns.exception.DNSException as error:
                raise _unresolved(f"CNAME of {text_of(current)}", error) from error
            if answer.rrset is None:
                break
            current = answer.rrset[0].target
        else:
            raise ChallengeFailed(f"{name} leads to more than {MAX_CNAMES} CNAMEs in a row, or in a circle")
        return text_of(current)

    def authorities(self, name: str) -> tuple[Authority, ...]:
        """The authoritative servers of the zone that ``name`` is in.

        :raises ChallengeFailed: the resolvers do not answer; there is no such zone; none of its servers has an address
        """
        resolver = self._resolver()
        try:
            zone = dns.resolver.zone_for_name(name, resolver=resolver)
            answer = resolver.resolve(zone, "NS", search=False)
        except (dns.exception.DNSException, dns.resolver.NoRootSOA) as error:
            raise _unresolved(f"name servers of {name}", error) from error
        found = []
        for target in sorted(text_of(rdata.target) for rdata in answer)[:MAX_AUTHORITIES]:
            by_name = self._addresses(resolver, target)
            if by_name:
                found.append(
                    Authority(target, tuple((address, self._authority_port) for address in by_name[:MAX_ADDRESSES]))
                )
        if not found:
            raise ChallengeFailed(f"none of the name servers of {text_of(zone)} has an address")
        return tuple(found)

    def values(self, address: str, port: int, name: str, *, recursive: bool) -> frozenset[str] | None:
        """The TXT values that a server has at a name; None where it does not answer, or not for this zone.

        :param recursive: it may be a resolver, which looks elsewhere for the answer
        """
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        if not recursive:
            query.flags &= ~dns.flags.RD
        try:
            answer, _ = dns.query.udp_with_fallback(query, address, timeout=ANSWER, port=port)
        except (dns.exception.DNSException, OSError, EOFError):
            return None
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return frozenset()
        if answer.rcode() != dns.rcode.NOERROR:
            return None
        found: list[TXT] = [rdata for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for rdata in rrset]
        return frozenset(b"".join(rdata.strings).decode("ascii", errors="replace") for rdata in found)

    def _addresses(self, resolver: dns.resolver.Resolver, host: str) -> list[str]:
        found: list[str] = []
        for kind in ("A", "AAAA"):
            try:
                answer = resolver.resolve(host, kind, raise_on_no_answer=False, search=False)
            except dns.exception.DNSException:
                continue  # the other kind, or another server, is there for that
            found.extend(rdata.address for rdata in answer.rrset or ())
        return found

    def _resolver(self) -> dns.resolver.Resolver:
        # A new one each time: the machine's resolvers may have changed, and it is a file of three lines.
        try:
            resolver = dns.resolver.Resolver(configure=not self._resolvers)
        except dns.resolver.NoResolverConfiguration as error:
            raise ChallengeFailed("this machine has no resolver (/etc/resolv.conf): set tls.dns.resolvers") from error
        if self._resolvers:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(server.host, server.port) for server in self._resolvers
            ]
        resolver.timeout = ANSWER
        resolver.lifetime = LIFETIME
        return resolver


def _unresolved(what: str, error: Exception) -> ChallengeFailed:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        reason = "no resolver answers"
    elif isinstance(error, dns.resolver.NXDOMAIN):
        reason = "there is no such name"
    elif isinstance(error, dns.resolver.NoNameservers):
        reason = "every resolver fails or refuses"
    else:
        reason = str(error) or type(error).__name__
    return ChallengeFailed(f"the {what} cannot be looked up (tls.dns.resolvers): {reason}")


def text_of(name: dns.name.Name) -> str:
    """A name without the root's dot, in lower case."""
    text: str = name.to_text(omit_final_dot=True)
    return text.lower()
