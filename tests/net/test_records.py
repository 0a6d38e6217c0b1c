"""The two ways through OpenSSL: one contract, with the standard library's TLS at the other end."""

from __future__ import annotations

import ctypes
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace

import pytest
from OpenSSL import SSL

from tests.net.peers import client_context, self_signed
from wormhole_tw.net import records as records_module
from wormhole_tw.net.records import CIPHER_SIZE, CLEAR_SIZE, LENT, DirectRecords, PublicRecords, Records, Scratch

MATERIAL = self_signed("localhost")

_scratch = Scratch()

MAKERS: dict[str, Callable[[SSL.Connection], Records]] = {
    "public": PublicRecords,
    "direct": lambda connection: DirectRecords(connection, _scratch),
}


class Pair:
    """A server of ours and a client of the standard library, and the bytes between them in our hands."""

    def __init__(
        self, make: Callable[[SSL.Connection], Records], *, shake: bool = True, alpn: Sequence[str] = ()
    ) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(MATERIAL.certificate)
        context.use_privatekey(MATERIAL.key)
        theirs = client_context()
        if alpn:
            context.set_alpn_select_callback(lambda _connection, offered: offered[-1])
            theirs.set_alpn_protocols(list(alpn))
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()
        self.records = make(self.connection)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = theirs.wrap_bio(self.incoming, self.outgoing)
        if shake:
            self.shake()

    def shake(self) -> None:
        for _ in range(4):
            for step in (self.client.do_handshake, self.connection.do_handshake):
                try:
                    step()
                except (ssl.SSLWantReadError, SSL.WantReadError):
                    pass
                self.deliver()
                self.collect()

    def deliver(self) -> None:
        """What the client said reaches us."""
        self.records.feed(self.outgoing.read())

    def collect(self) -> int:
        """What we said reaches the client; gives how many octets it was."""
        size = 0
        while ciphertext := self.records.take():
            assert len(ciphertext) <= CIPHER_SIZE
            self.incoming.write(ciphertext)
            size += len(ciphertext)
        return size

    def heard(self) -> bytes:
        """What the client can read."""
        data = b""
        try:
            while piece := self.client.read(1 << 20):
                data += piece
        except ssl.SSLWantReadError:
            pass
        return data

    def spoil(self) -> None:
        """A record of the client's arrives damaged."""
        self.client.write(b"will be damaged")
        record = bytearray(self.outgoing.read())
        record[-1] ^= 1
        self.records.feed(bytes(record))


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[SSL.Connection], Records]:
    return MAKERS[request.param]


def test_the_direct_way_works_with_this_pyopenssl() -> None:
    # Where this fails nothing is broken but speed: the public way serves.
    assert records_module.direct_works()
    assert records_module.DIRECT


def test_there_and_back(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    assert pair.records.read() == b""
    pair.client.write(b"a question")
    pair.deliver()
    assert pair.records.read() == b"a question"
    assert pair.records.read() == b""
    assert pair.records.write(memoryview(b"an answer")) == 9
    pair.collect()
    assert pair.heard() == b"an answer"
    assert pair.records.take() == b""


@pytest.mark.parametrize("size", [1, 16384, 16385, CLEAR_SIZE, CLEAR_SIZE + 1, 1_000_003])
def test_every_size_arrives_whole_in_bounded_pieces(make: Callable[[SSL.Connection], Records], size: int) -> None:
    pair = Pair(make)
    data = os.urandom(size)
    assert pair.records.write(memoryview(data)) == size
    pair.collect()
    assert pair.heard() == data
    pair.client.write(data)
    pair.deliver()
    got = b""
    while piece := pair.records.read():
        assert len(piece) <= CLEAR_SIZE
        got += piece
    assert got == data


def test_a_handshake_goes_on_by_what_comes(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make, shake=False, alpn=["one", "another"])
    assert not pair.records.shake(b"")
    assert pair.records.agreed() is None
    for done in (False, True):
        with suppress(ssl.SSLWantReadError):
            pair.client.do_handshake()
        if done:
            pair.client.write(b"behind the last message")
        assert pair.records.shake(pair.outgoing.read()) is done
        pair.collect()
    assert pair.records.unread()  # what came behind it
    assert pair.records.agreed() == b"another"
    assert pair.records.read() == b"behind the last message"
    assert pair.records.shake(b"")


def test_nobody_agreed_on_a_protocol(make: Callable[[SSL.Connection], Records]) -> None:
    assert Pair(make).records.agreed() is None


def test_a_handshake_that_fails_says_why(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make, shake=False)
    with pytest.raises(SSL.Error, match="http request"):
        pair.records.shake(b"GET / HTTP/1.1\r\n\r\n")
    assert SSL._lib.ERR_peek_error() == 0  # type: ignore[attr-defined]


def test_views_are_the_same_octets(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.client.write(b"a question")
    assert bytes(pair.records.look(pair.outgoing.read())) == b"a question"
    assert pair.records.emptied
    assert bytes(pair.records.peek()) == b""
    assert pair.records.write(memoryview(b"an answer")) == 9
    pair.incoming.write(pair.records.peek())
    assert pair.heard() == b"an answer"
    pair.incoming.write(pair.records.seal(b"and more"))
    assert pair.heard() == b"and more"


def test_what_waits_is_there_after_a_rest(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.records.rest()
    pair.client.write(b"a question")
    said = pair.outgoing.read()
    pair.records.feed(said[:7])
    pair.records.rest()
    assert pair.records.read() == b"", "half a record"
    pair.records.rest()
    pair.records.feed(said[7:])
    pair.records.rest()
    assert pair.records.read() == b"a question"
    assert pair.records.write(memoryview(b"an answer")) == 9
    pair.records.rest()
    pair.collect()
    pair.records.rest()
    assert pair.heard() == b"an answer"
    pair.client.write(b"and more")
    assert pair.records.open(pair.outgoing.read()) == b"and more"
    pair.incoming.write(pair.records.seal(b"as well"))
    assert pair.heard() == b"as well"
    assert pair.connection.shutdown() is False
    pair.collect()
    with pytest.raises((ssl.SSLZeroReturnError, EOFError)):
        raise EOFError if pair.client.read(1) == b"" else AssertionError


def test_a_rest_gives_back_what_bulk_took() -> None:
    taken = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if taken is None:
        pytest.skip("this C library does not tell what is allocated (mallinfo2)")
    taken.restype = _Mallinfo2

    def held() -> int:
        found = taken()
        return int(found.uordblks + found.hblkhd)  # from the heap, and mapped

    pair = Pair(MAKERS["direct"])
    size = 8 << 20
    assert pair.records.write(memoryview(bytes(size))) == size
    pair.collect()
    assert len(pair.heard()) == size
    before = held()
    pair.records.rest()
    assert held() < before - size
    assert pair.records.write(memoryview(b"on")) == 2
    pair.collect()
    assert pair.heard() == b"on"


class _Mallinfo2(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


def test_where_views_cost_more_than_copies_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "_VIEWS", False)
    pair = Pair(MAKERS["direct"])
    pair.client.write(b"a question")
    assert pair.records.look(pair.outgoing.read()) == b"a question"
    assert pair.records.peek() == b""
    assert pair.records.write(memoryview(b"an answer")) == 9
    answer = pair.records.peek()
    assert type(answer) is bytes
    pair.incoming.write(answer)
    assert pair.heard() == b"an answer"


def test_ciphertext_in_single_octets(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.client.write(b"slowly")
    got = b""
    for octet in pair.outgoing.read():
        pair.records.feed(bytes([octet]))
        got += pair.records.read()
    assert got == b"slowly"


def test_nothing_is_nothing(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.records.feed(b"")
    assert pair.records.read() == b""
    assert pair.records.write(memoryview(b"")) == 0
    assert pair.records.take() == b""


def test_what_is_given_out_stays_as_it_is(make: Callable[[SSL.Connection], Records]) -> None:
    one, other = Pair(make), Pair(make)
    for pair, word in ((one, b"first"), (other, b"second")):
        pair.client.write(word)
        pair.deliver()
    first, second = one.records.read(), other.records.read()
    assert (first, second) == (b"first", b"second")


def test_before_the_handshake_there_is_no_room(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make, shake=False)
    assert pair.records.write(memoryview(b"too early")) == 0
    assert pair.records.read() == b""
    pair.shake()
    assert pair.records.write(memoryview(b"now")) == 3
    pair.collect()
    assert pair.heard() == b"now"


@pytest.mark.parametrize("way", ["look", "open"])
@pytest.mark.parametrize("cut", [1, LENT - 1, LENT, 200_000, 16406 * 3 + 7])
def test_long_reads_end_anywhere(make: Callable[[SSL.Connection], Records], cut: int, way: str) -> None:
    pair = Pair(make)
    opens = getattr(pair.records, way)
    data = os.urandom(700_001)
    pair.client.write(data)
    ciphertext = pair.outgoing.read()
    got = b""
    for at in range(0, len(ciphertext), max(cut, 20_000)):
        for piece in (ciphertext[at : at + cut], ciphertext[at + cut : at + max(cut, 20_000)]):
            got += opens(piece) if piece else b""
            assert pair.records.emptied
    assert got == data
    assert pair.records.write(memoryview(b"an answer")) == 9
    pair.collect()
    assert pair.heard() == b"an answer"


def test_what_a_long_read_leaves_comes_first(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    data = os.urandom(3 * CLEAR_SIZE)
    pair.client.write(data[: 2 * CLEAR_SIZE])
    got = bytes(pair.records.look(pair.outgoing.read()))
    assert len(got) <= CLEAR_SIZE
    assert not pair.records.emptied
    pair.client.write(data[2 * CLEAR_SIZE :])
    got += pair.records.look(pair.outgoing.read())
    while piece := pair.records.read():
        got += piece
    assert got == data


def test_a_long_read_with_a_damaged_record(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    data = os.urandom(3 * LENT)
    pair.client.write(data)
    ciphertext = bytearray(pair.outgoing.read())
    ciphertext[-1] ^= 1
    assert data.startswith(pair.records.look(bytes(ciphertext)))
    assert not pair.records.emptied
    for _ in range(2):
        with pytest.raises(SSL.Error):
            pair.records.read()
    other = Pair(make)
    other.client.write(data)
    ciphertext = bytearray(other.outgoing.read())
    ciphertext[100] ^= 1
    with pytest.raises(SSL.Error, match=r"bad record mac|decryption failed"):
        other.records.look(bytes(ciphertext))


def test_a_long_read_with_the_end_in_it(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    data = os.urandom(2 * LENT)
    pair.client.write(data)
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    assert bytes(pair.records.look(pair.outgoing.read())) == data
    for _ in range(2):
        with pytest.raises(SSL.ZeroReturnError):
            pair.records.read()


def test_no_memory_for_a_long_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lib, nothing = records_module._lib, records_module._ffi.NULL
    data = os.urandom(2 * LENT)
    for name in ("BIO_new_mem_buf", "BIO_new"):
        pair = Pair(MAKERS["direct"])
        pair.client.write(data)
        ciphertext = pair.outgoing.read()
        with monkeypatch.context() as patched:
            poor = _With(lib, **{name: lambda *_: nothing})
            patched.setattr(records_module, "_lib", poor)
            if name == "BIO_new_mem_buf":
                assert bytes(pair.records.look(ciphertext)) == data
            else:
                with pytest.raises(MemoryError):
                    pair.records.look(ciphertext)
    # and the connection reads on as before
    assert bytes(pair.records.look(ciphertext)) == data


class _With:
    """A module with another value for some of its names."""

    def __init__(self, module: object, **others: object) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


def test_close_notify_comes_behind_the_data(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.client.write(b"the last word")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.deliver()
    assert pair.records.read() == b"the last word"
    for _ in range(2):
        with pytest.raises(SSL.ZeroReturnError):
            pair.records.read()
    # The other direction is still open.
    assert pair.records.write(memoryview(b"bye")) == 3


def test_a_damaged_record_is_an_error(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.spoil()
    with pytest.raises(SSL.Error) as caught:
        pair.records.read()
    assert "bad record mac" in str(caught.value) or "decryption failed" in str(caught.value)
    with pytest.raises(SSL.Error):
        pair.records.read()


def test_what_came_before_a_damaged_record_is_given_out_first(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make)
    pair.client.write(b"good")
    pair.deliver()
    pair.spoil()
    assert pair.records.read() == b"good"
    with pytest.raises(SSL.Error):
        pair.records.read()


def test_one_connection_s_error_is_no_other_s(make: Callable[[SSL.Connection], Records]) -> None:
    # OpenSSL keeps errors a thread, not a connection: what is left there may end whoever asks next.
    broken, well, early = Pair(make), Pair(make), Pair(make, shake=False)
    broken.client.write(b"good")
    broken.deliver()
    broken.spoil()
    assert broken.records.read() == b"good"
    assert records_module._lib.ERR_peek_error() == 0
    assert well.records.read() == b""
    assert early.records.write(memoryview(b"too early")) == 0


def test_something_else_than_tls(make: Callable[[SSL.Connection], Records]) -> None:
    pair = Pair(make, shake=False)
    pair.records.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(SSL.Error):
        pair.records.read()


def test_the_buffers_of_a_reactor_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor = SimpleNamespace()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    one = records_module.records_maker(reactor)(SSL.Connection(context, None))
    other = records_module.records_maker(reactor)(SSL.Connection(context, None))
    assert isinstance(one, DirectRecords)
    assert isinstance(other, DirectRecords)
    assert one._scratch is other._scratch
    monkeypatch.setattr(records_module, "DIRECT", False)
    assert isinstance(records_module.records_maker(reactor)(SSL.Connection(context, None)), PublicRecords)


def test_a_pyopenssl_without_those_names_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "_lib", None)
    assert not records_module.direct_works()
