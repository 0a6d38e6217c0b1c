"""Moving bytes through OpenSSL: the four calls that a TLS transport makes for every read and write.

pyOpenSSL's public methods allocate a buffer a call and raise an exception to say "nothing more", which costs more than
the encryption of a small record.  :class:`DirectRecords` makes the same calls on the same connection with buffers that
stay; it uses names that pyOpenSSL does not promise, so it is tried once when this module is loaded, and where a name
is missing :class:`PublicRecords` does the work.  Both behave alike, errors included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

from OpenSSL import SSL
from OpenSSL.SSL import WantReadError, ZeroReturnError

__all__ = ["RECORD_SIZE", "DirectRecords", "PublicRecords", "Records", "Scratch", "direct_works", "records_maker"]

RECORD_SIZE = 16 * 1024
"""Bytes of clear text in a record (RFC 8446 section 5.1): what OpenSSL takes or gives in one call."""

CLEAR_SIZE = 288 * 1024
"""Bytes of clear text given out at a time: all of the longest read from a socket."""

CIPHER_SIZE = 288 * 1024
"""Bytes of ciphertext given out at a time: what 256 KiB of clear text become. Only who sends a lot at a time has blocks
so long that malloc, unless it is told otherwise, maps and unmaps each of them."""


LENT = 32 * 1024
"""Bytes of ciphertext from which on OpenSSL reads them where they lie. A memory BIO clears room for what is written to
it and copies it there; for less that costs no more than to change BIOs twice."""


class Records(Protocol):
    """One connection's bytes, in and out.

    :ivar emptied: the last :meth:`read` gave out everything, and stopped for want of more and for no other reason
    """

    emptied: bool

    def shake(self, ciphertext: bytes) -> bool:
        """:meth:`feed`, and go on with the handshake; gives whether it is done: it needs more from the network else.

        :raises SSL.Error: whatever OpenSSL found wrong
        """

    def agreed(self) -> bytes | None:
        """The protocol that ALPN agreed on; None before the handshake's end, or without ALPN."""

    def unread(self) -> bool:
        """Whether something lies there that came from the network and OpenSSL has not taken, as far as can be known."""

    def feed(self, ciphertext: bytes) -> None:
        """Take what came from the network."""

    def read(self) -> bytes:
        """Clear text that has come, at most :data:`CLEAR_SIZE` bytes; empty when there is none.

        :raises SSL.ZeroReturnError: the peer said close_notify; what came before it was given out first
        :raises SSL.Error: whatever OpenSSL found wrong
        """

    def open(self, ciphertext: bytes) -> bytes:
        """:meth:`feed` and :meth:`read` at once."""

    def write(self, data: memoryview) -> int:
        """Encrypt as much of ``data`` as there is room for, and say how much; less than all where the connection first
        has to read (a handshake is under way).

        :raises SSL.Error: whatever OpenSSL found wrong
        """

    def take(self) -> bytes:
        """Ciphertext for the network, at most :data:`CIPHER_SIZE` bytes; empty when there is none."""

    def peek(self) -> bytes | memoryview:
        """:meth:`take`, perhaps without a copy: good until anything else is asked of any connection of this reactor."""

    def look(self, ciphertext: bytes) -> bytes | memoryview:
        """:meth:`open`, perhaps without a copy: good for as long as that of :meth:`peek`."""

    def seal(self, data: bytes) -> bytes:
        """:meth:`write` and :meth:`take` at once, for one record: at most :data:`RECORD_SIZE` bytes, at least one.

        :returns: empty where nothing was taken of ``data``, because the connection first has to read
        :raises SSL.Error: whatever OpenSSL found wrong
        """

    def rest(self) -> None:
        """Give back the memory that what passed took, where this is possible; does nothing while any of it waits. Not
        after the connection was told that no more ciphertext comes."""


class PublicRecords:
    """By pyOpenSSL's public methods."""

    __slots__ = ("_connection", "emptied")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self.emptied = False

    def shake(self, ciphertext: bytes) -> bool:
        self.feed(ciphertext)
        try:
            self._connection.do_handshake()
        except WantReadError:
            return False
        return True

    def agreed(self) -> bytes | None:
        return self._connection.get_alpn_proto_negotiated() or None

    def unread(self) -> bool:
        return True

    def feed(self, ciphertext: bytes) -> None:
        if ciphertext:  # pyOpenSSL takes nothing for a failure
            self._connection.bio_write(ciphertext)

    def read(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        self.emptied = False
        try:
            while size <= CLEAR_SIZE - RECORD_SIZE:
                piece = self._connection.recv(RECORD_SIZE)
                pieces.append(piece)
                size += len(piece)
        except WantReadError:
            self.emptied = True
        except SSL.Error:
            if not pieces:
                raise
            # OpenSSL says it again when it is asked again.
        return b"".join(pieces)

    def open(self, ciphertext: bytes) -> bytes:
        self.feed(ciphertext)
        return self.read()

    def write(self, data: memoryview) -> int:
        done = 0
        try:
            while done < len(data):
                done += self._connection.send(data[done : done + RECORD_SIZE])
        except WantReadError:
            pass
        return done

    def take(self) -> bytes:
        try:
            return self._connection.bio_read(CIPHER_SIZE)
        except WantReadError:
            return b""

    peek = take

    look = open

    def seal(self, data: bytes) -> bytes:
        try:
            self._connection.send(data)
        except WantReadError:
            return b""
        return self.take()

    def rest(self) -> None:
        """There is no public way."""


_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
_unpack: Any = getattr(_ffi, "unpack", None)
# Names of this module: to find one in ``_lib`` costs as much as some of them take.
_BIO_write: Any = getattr(_lib, "BIO_write", None)
_BIO_read: Any = getattr(_lib, "BIO_read", None)
_BIO_get_mem_data: Any = getattr(_lib, "BIO_get_mem_data", None)
_SSL_read: Any = getattr(_lib, "SSL_read", None)
_SSL_write: Any = getattr(_lib, "SSL_write", None)

_VIEWS = sys.implementation.name != "pypy"
"""Whether a view costs less than a copy: PyPy moves what is behind one octet by octet."""


_LENDS = _VIEWS and all(
    hasattr(_lib, name) for name in ("BIO_new_mem_buf", "BIO_set_mem_eof_return", "BIO_get_mem_data", "SSL_set_bio")
)
"""Whether OpenSSL can be made to read from memory of Python's."""


class Scratch:
    """The buffers of :class:`DirectRecords`: one set a reactor, used within one call and never across two."""

    __slots__ = ("cipher", "cipher_view", "clear", "clear_view", "length", "name", "place")

    def __init__(self) -> None:
        clear, cipher = bytearray(CLEAR_SIZE), bytearray(CIPHER_SIZE)
        self.clear_view, self.cipher_view = memoryview(clear), memoryview(cipher)
        self.clear = _ffi.from_buffer("char[]", clear, require_writable=True)
        self.cipher = _ffi.from_buffer("char[]", cipher, require_writable=True)
        self.place = _ffi.new("char **")
        self.name = _ffi.new("unsigned char **")
        self.length = _ffi.new("unsigned int *")


class DirectRecords:
    """By OpenSSL's functions on pyOpenSSL's connection."""

    __slots__ = ("_connection", "_from_ssl", "_into_ssl", "_scratch", "_ssl", "emptied")

    def __init__(self, connection: SSL.Connection, scratch: Scratch) -> None:
        self._connection = connection
        inside = cast(Any, connection)
        self._ssl = inside._ssl
        self._into_ssl = inside._into_ssl
        self._from_ssl = inside._from_ssl
        self._scratch = scratch
        self.emptied = False
        # pyOpenSSL has one call make one record. A memory BIO takes everything: a call may as well make them all.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)

    def shake(self, ciphertext: bytes) -> bool:
        if _lib.BIO_write(self._into_ssl, ciphertext, len(ciphertext)) != len(ciphertext):
            raise MemoryError("OpenSSL has no room for what came from the network")
        done = _lib.SSL_do_handshake(self._ssl)
        if done != 1:
            if _lib.SSL_get_error(self._ssl, done) == _lib.SSL_ERROR_WANT_READ:
                return False
            self._raise(done)
        return True

    def agreed(self) -> bytes | None:
        scratch = self._scratch
        _lib.SSL_get0_alpn_selected(self._ssl, scratch.name, scratch.length)
        size = scratch.length[0]
        return bytes(_ffi.buffer(scratch.name[0], size)) if size else None

    def unread(self) -> bool:
        return bool(_lib.BIO_get_mem_data(self._into_ssl, self._scratch.place))

    def feed(self, ciphertext: bytes) -> None:
        # A memory BIO takes everything, or there is no memory left.
        if _BIO_write(self._into_ssl, ciphertext, len(ciphertext)) != len(ciphertext):
            raise MemoryError("OpenSSL has no room for what came from the network")

    def read(self) -> bytes:
        scratch = self._scratch
        clear: bytes = _unpack(scratch.clear, self._read_on(_SSL_read(self._ssl, scratch.clear, RECORD_SIZE)))
        return clear

    def look(self, ciphertext: bytes) -> bytes | memoryview:
        scratch = self._scratch
        if len(ciphertext) >= LENT and _LENDS:
            return scratch.clear_view[: self._read_lent(ciphertext)]
        self.feed(ciphertext)
        size = self._read_on(_SSL_read(self._ssl, scratch.clear, RECORD_SIZE))
        if _VIEWS:
            return scratch.clear_view[:size]
        clear: bytes = _unpack(scratch.clear, size)
        return clear

    def open(self, ciphertext: bytes) -> bytes:
        # feed() and read(), for what comes most: one record, and nothing behind it
        size = len(ciphertext)
        scratch = self._scratch
        if size >= LENT and _LENDS:
            long: bytes = _unpack(scratch.clear, self._read_lent(ciphertext))
            return long
        if _BIO_write(self._into_ssl, ciphertext, size) != size:
            raise MemoryError("OpenSSL has no room for what came from the network")
        got = _SSL_read(self._ssl, scratch.clear, RECORD_SIZE)
        if 0 < got < RECORD_SIZE and not _BIO_get_mem_data(self._into_ssl, scratch.place):
            self.emptied = True
        else:
            got = self._read_on(got)
        clear: bytes = _unpack(scratch.clear, got)
        return clear

    def _read_lent(self, ciphertext: bytes) -> int:
        """:meth:`feed`, and read into the scratch, with a BIO over ``ciphertext`` itself in place of ours so long."""
        ssl, scratch = self._ssl, self._scratch
        waiting = _BIO_get_mem_data(self._into_ssl, scratch.place)
        lent = _ffi.NULL if waiting else _lib.BIO_new_mem_buf(_ffi.from_buffer("char[]", ciphertext), len(ciphertext))
        if lent == _ffi.NULL:
            self.feed(ciphertext)
            return self._read_on(_SSL_read(ssl, scratch.clear, RECORD_SIZE))
        after = _lib.BIO_new(_lib.BIO_s_mem())
        if after == _ffi.NULL:
            _lib.BIO_free(lent)
            raise MemoryError("OpenSSL has no room for what came from the network")
        _lib.BIO_set_mem_eof_return(lent, -1)  # "nothing more now", not "the end"
        self._read_from(lent)
        try:
            return self._read_on(_SSL_read(ssl, scratch.clear, RECORD_SIZE))
        finally:
            rest = _BIO_get_mem_data(lent, scratch.place)
            if rest:
                _BIO_write(after, scratch.place[0], rest)
            self._read_from(after)

    def _read_from(self, bio: Any) -> None:
        """Have OpenSSL read from ``bio``, which is its own from now on; it frees the one before."""
        _lib.SSL_set_bio(self._ssl, bio, self._from_ssl)
        self._into_ssl = cast(Any, self._connection)._into_ssl = bio

    def _read_on(self, got: int) -> int:
        """Go on reading into the scratch after a first SSL_read; gives how much is there then.

        :param got: what that one said
        """
        ssl, clear = self._ssl, self._scratch.clear
        size = 0
        self.emptied = False
        while True:
            if got <= 0:
                error = _lib.SSL_get_error(ssl, got)
                if error != _lib.SSL_ERROR_WANT_READ:
                    if size == 0:
                        if error == _lib.SSL_ERROR_ZERO_RETURN:
                            raise ZeroReturnError()
                        self._raise(got)
                    # OpenSSL says it again when it is asked again.  Its list of errors is the thread's, and up to
                    # OpenSSL 3 the next connection that is asked would take what is left there for its own.
                    _lib.ERR_clear_error()
                else:
                    self.emptied = True
                break
            size += got
            if got < RECORD_SIZE and not _BIO_get_mem_data(self._into_ssl, self._scratch.place):
                # The record is read whole, and nothing came behind it: to have OpenSSL say so costs as much as it did
                # to open a short one.
                self.emptied = True
                break
            if size > CLEAR_SIZE - RECORD_SIZE:
                break
            got = _SSL_read(ssl, clear + size, RECORD_SIZE)
        return size

    def write(self, data: memoryview) -> int:
        size = len(data)
        if not size:
            return 0
        sent: int = _SSL_write(self._ssl, _ffi.from_buffer("char[]", data), size)
        if sent > 0:
            return sent
        if _lib.SSL_get_error(self._ssl, sent) != _lib.SSL_ERROR_WANT_READ:
            self._raise(sent)
        return 0

    def take(self) -> bytes:
        cipher = self._scratch.cipher
        got = _BIO_read(self._from_ssl, cipher, CIPHER_SIZE)
        ciphertext: bytes = _unpack(cipher, got) if got > 0 else b""
        return ciphertext

    def peek(self) -> bytes | memoryview:
        if not _VIEWS:
            return self.take()
        got = _BIO_read(self._from_ssl, self._scratch.cipher, CIPHER_SIZE)
        return self._scratch.cipher_view[: max(got, 0)]

    def seal(self, data: bytes) -> bytes:
        ssl = self._ssl
        sent = _SSL_write(ssl, data, len(data))
        if sent <= 0:
            if _lib.SSL_get_error(ssl, sent) != _lib.SSL_ERROR_WANT_READ:
                self._raise(sent)
            return b""
        cipher = self._scratch.cipher
        ciphertext: bytes = _unpack(cipher, _BIO_read(self._from_ssl, cipher, CIPHER_SIZE))
        return ciphertext

    def rest(self) -> None:
        # A memory BIO keeps room for the most that it ever held: 2 KiB each after a handshake, hundreds after bulk.
        into, out, place = self._into_ssl, self._from_ssl, self._scratch.place
        if _lib.BIO_get_mem_data(into, place) or _lib.BIO_get_mem_data(out, place):
            return
        into, out = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        if into == _ffi.NULL or out == _ffi.NULL:
            raise MemoryError("OpenSSL has no room for two empty buffers")
        _lib.SSL_set_bio(self._ssl, into, out)  # which frees those before
        inside = cast(Any, self._connection)
        self._into_ssl = inside._into_ssl = into
        self._from_ssl = inside._from_ssl = out

    def _raise(self, result: int) -> None:
        cast(Any, self._connection)._raise_ssl_error(self._ssl, result)
        raise SSL.Error([])  # OpenSSL said no without a reason


def direct_works() -> bool:
    """Whether this pyOpenSSL has what :class:`DirectRecords` uses, and it does what it should."""
    try:
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        connection.set_connect_state()
        records = DirectRecords(connection, Scratch())
        done = records.shake(b"")
        hello = records.take()
        records.rest()
        _lib.ERR_clear_error()
        # A ClientHello came out, nothing more did, and there is nothing to read before the answer.
        quiet = records.take() == b"" and records.read() == b"" and not records.unread()
        return hello[:1] == b"\x16" and not done and quiet and records.agreed() is None
    except Exception:  # noqa: BLE001 - whatever another release does differently, the public way works
        return False


DIRECT = direct_works()

_ATTRIBUTE = "_wormhole_tw_tls_scratch"


def records_maker(reactor: object) -> Callable[[SSL.Connection], Records]:
    """The faster way that works here: what makes it for a connection.

    :param reactor: whose thread makes all calls on the connections; its buffers are kept on it
    """
    if not DIRECT:
        return PublicRecords
    scratch = getattr(reactor, _ATTRIBUTE, None)
    if scratch is None:
        scratch = Scratch()
        setattr(reactor, _ATTRIBUTE, scratch)
    return partial(DirectRecords, scratch=scratch)
