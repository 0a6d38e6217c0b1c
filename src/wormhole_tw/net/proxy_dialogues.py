"""What is said to a proxy before the connection is ours, sans-IO: HTTP CONNECT (RFC 9110 §9.3.6) and SOCKS5 (RFC 1928,
RFC 1929)."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from enum import Enum
from typing import Protocol

from wormhole_tw.errors import ProxyRefused
from wormhole_tw.net.addresses import format_host_port, is_ip_address
from wormhole_tw.net.http_answer import AnswerReader
from wormhole_tw.net.proxy_settings import Proxy

__all__ = ["ConnectDialogue", "Dialogue", "Socks5Dialogue"]

_FORM = "USER:PASSWORD@ before the host"


class Dialogue(Protocol):
    """One dialogue with a proxy.

    :ivar proxy: whom it is with
    :ivar rest: what came behind the proxy's last word, once :meth:`feed` has given True
    """

    proxy: Proxy
    rest: bytes

    def begin(self) -> bytes:
        """What to say first."""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take what the proxy said; gives what to say next, and whether the connection stands.

        :raises ProxyRefused: it said no, or speaks something else
        """

    def closed(self) -> ProxyRefused:
        """The proxy closed the connection instead of an answer."""

    def late(self, seconds: float) -> ProxyRefused:
        """It gave none in this time."""


class ConnectDialogue:
    """HTTP's CONNECT, with Basic credentials where there are some (RFC 7617).

    :param host: a name or an address, which the proxy looks up
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.proxy = proxy
        self._target = format_host_port(host, port)
        self._answer = AnswerReader()
        self.rest = b""

    def begin(self) -> bytes:
        proxy = self.proxy
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}", "User-Agent: wormhole-tw"]
        if proxy.user:
            credentials = b64encode(proxy.user + b":" + proxy.password).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {credentials}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        proxy = self.proxy
        try:
            answer = self._answer.feed(data)
        except ValueError as error:
            raise ProxyRefused(f"what answers at {proxy} is not an HTTP proxy: {error}") from None
        if answer is None:
            return b"", False
        if 200 <= answer.status < 300:
            self.rest = self._answer.rest
            return b"", True
        if answer.status == 407 or (answer.status == 401 and proxy.user):  # tinyproxy's for a wrong password
            challenge = answer.fields.get("proxy-authenticate", "")
            raise ProxyRefused(self._unauthorized(challenge, answer.status), status=answer.status, credentials=True)
        hint = " (is it a proxy?)" if answer.status in (400, 404, 405, 501) else ""
        raise ProxyRefused(
            f"the proxy {proxy} refuses a connection to {self._target}: {answer}{hint}", status=answer.status
        )

    def closed(self) -> ProxyRefused:
        return _closed(self.proxy)

    def late(self, seconds: float) -> ProxyRefused:
        return _late(self.proxy, seconds)

    def _unauthorized(self, challenge: str, status: int) -> str:
        proxy = self.proxy
        if challenge and "basic" not in challenge.lower():
            scheme = "".join(char for char in challenge.split()[0] if "!" <= char <= "~")[:40]
            return f"the proxy {proxy} wants {scheme} authentication (407); user and password (Basic) is spoken here"
        if proxy.user:
            return f"the proxy {proxy} does not accept the user and password of {proxy.source} ({status})"
        return f"the proxy {proxy} wants a user and a password (407): write {_FORM} in {proxy.source}"


def _closed(proxy: Proxy) -> ProxyRefused:
    return ProxyRefused(f"the proxy {proxy} closed the connection without an answer; is it a proxy?")


def _late(proxy: Proxy, seconds: float) -> ProxyRefused:
    return ProxyRefused(f"the proxy {proxy} did not answer within {seconds:g} s")


_SOCKS = 5
_NO_AUTHENTICATION = 0
_PASSWORD = 2
_NO_METHOD = 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

_FAILED, _TOO_LONG = 1, 6
_REPLIES = {
    _FAILED: "it failed",
    2: "its rules do not allow it",
    3: "the network is unreachable",
    4: "the host is unreachable, or its name is not known",
    5: "the connection is refused",
    _TOO_LONG: "it took too long",
    7: "it does not do CONNECT",
    8: "it does not know this kind of address",
}


class _Step(Enum):
    METHOD = "method"
    CREDENTIALS = "credentials"
    REPLY = "reply"


class Socks5Dialogue:
    """SOCKS5's CONNECT. No answer of it is longer than 262 octets.

    :param host: an address, or a name that the proxy looks up
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.proxy = proxy
        self._host = host
        self._port = port
        self._data = b""
        self._step = _Step.METHOD
        self.rest = b""

    def begin(self) -> bytes:
        methods = [_NO_AUTHENTICATION, _PASSWORD] if self.proxy.user else [_NO_AUTHENTICATION]
        return bytes([_SOCKS, len(methods), *methods])

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        self._data += data
        say = b""
        while True:
            if self._step is _Step.REPLY:
                return say, self._reply()
            if len(self._data) < 2:
                self._check_version()
                return say, False
            head, self._data = self._data[:2], self._data[2:]
            say += self._method(head) if self._step is _Step.METHOD else self._judged(head)

    def _check_version(self) -> None:
        wanted = 1 if self._step is _Step.CREDENTIALS else _SOCKS
        if self._data and self._data[0] != wanted:
            raise self._stranger()

    def _method(self, answer: bytes) -> bytes:
        version, method = answer
        proxy = self.proxy
        if version != _SOCKS:
            raise self._stranger()
        if method == _NO_METHOD:
            sentence = f"the proxy {proxy} wants a user and a password: write {_FORM} in {proxy.source}"
            if proxy.user:
                sentence = f"the proxy {proxy} takes neither user and password nor nobody: see its rules"
            raise ProxyRefused(sentence, credentials=True)
        if method == _PASSWORD and proxy.user:
            self._step = _Step.CREDENTIALS
            user, password = proxy.user, proxy.password
            return bytes([1, len(user)]) + user + bytes([len(password)]) + password
        if method != _NO_AUTHENTICATION:
            raise self._stranger()
        return self._request()

    def _judged(self, answer: bytes) -> bytes:
        version, status = answer
        if version != 1:
            raise self._stranger()
        if status:
            proxy = self.proxy
            sentence = f"the proxy {proxy} does not accept the user and password of {proxy.source}"
            raise ProxyRefused(sentence, credentials=True)
        return self._request()

    def _request(self) -> bytes:
        self._step = _Step.REPLY
        if is_ip_address(self._host):
            address = ipaddress.ip_address(self._host.partition("%")[0])
            where = bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed
        else:
            name = self._host.encode("ascii")  # at most 253 octets: parse_host_port has looked
            where = bytes([_NAME, len(name)]) + name
        return bytes([_SOCKS, _CONNECT, 0]) + where + self._port.to_bytes(2, "big")

    def _reply(self) -> bool:
        data = self._data
        if data and data[0] != _SOCKS:
            raise self._stranger()
        if len(data) < 2:
            return False
        if data[1]:
            raise self._no_connection(_REPLIES.get(data[1], f"code {data[1]}"), data[1])
        if len(data) < 5:
            return False
        sizes = {_IPV4: 4, _IPV6: 16, _NAME: 1 + data[4]}
        if data[3] not in sizes:
            raise self._stranger()
        size = 4 + sizes[data[3]] + 2
        if len(data) < size:
            return False
        self.rest, self._data = data[size:], b""
        return True

    # A SOCKS5 proxy that has been asked to connect has shown what it is. ssh -D says no by closing the connection.

    def closed(self) -> ProxyRefused:
        if self._step is not _Step.REPLY:
            return _closed(self.proxy)
        return self._no_connection("it closed the connection instead", _FAILED)

    def late(self, seconds: float) -> ProxyRefused:
        if self._step is not _Step.REPLY:
            return _late(self.proxy, seconds)
        return self._no_connection(f"no answer within {seconds:g} s", _TOO_LONG)

    def _no_connection(self, reason: str, code: int) -> ProxyRefused:
        peer = format_host_port(self._host, self._port)
        return ProxyRefused(f"the proxy {self.proxy} does not connect to {peer}: {reason}", status=code)

    def _stranger(self) -> ProxyRefused:
        return ProxyRefused(f"what answers at {self.proxy} is not a SOCKS5 proxy")
