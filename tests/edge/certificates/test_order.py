"""One order's walk, with a CA that says what the test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.net.peers import chain_pem, key_pem, self_signed
from wormhole_tw.control.acme import AcmeConfig
from wormhole_tw.edge.certificates.acme_client import Authorization, Challenge, Order
from wormhole_tw.edge.certificates.challenges import IChallengeSolver
from wormhole_tw.edge.certificates.order import OrderFailed, OrderWalk, Solvers
from wormhole_tw.edge.certificates.plan import Pace
from wormhole_tw.edge.certificates.store import CertificateStore, OrderRecord
from wormhole_tw.errors import CaRefused, CaUnavailable, ChallengeFailed

A, B = "a.example.com", "b.example.com"
URI = "https://ca.example/order/1"


class Ca:
    """Each step has a list of answers; the last one is given for good."""

    uri = "https://ca.example/account/1"

    def __init__(self, **answers: Any) -> None:
        self.answers = {step: list(given) if isinstance(given, list) else [given] for step, given in answers.items()}
        self.asked: list[str] = []

    async def call(self, step: str, *args: Any) -> Any:
        self.asked.append(step)
        given = self.answers[step]
        answer = given.pop(0) if len(given) > 1 else given[0]
        if callable(answer):
            answer = answer(*args)
        if isinstance(answer, Exception):
            raise answer
        return answer


@implementer(IChallengeSolver)
class Board:
    """Where proofs are shown.

    :ivar there: what is shown now
    :ivar slow: whether showing waits for the test
    """

    def __init__(self, kind: str, *, error: str = "", slow: bool = False) -> None:
        self.kind = kind
        self.there: dict[str, tuple[str, ...]] = {}
        self.waiting: list[Deferred[None]] = []
        self._error = error
        self._slow = slow

    def present(self, name: str, values: Sequence[str]) -> Deferred[None]:
        if self._error:
            return fail(ChallengeFailed(self._error))
        self.there[name] = tuple(values)
        if self._slow:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            return waiting
        return succeed(None)

    def clean_up(self, name: str, values: Sequence[str]) -> Deferred[None]:
        assert self.there.pop(name, tuple(values)) == tuple(values)
        return succeed(None)


def order(status: str, *authorizations: str, **more: Any) -> Order:
    facts: dict[str, Any] = {
        "certificate": "https://ca.example/certificate/1" if status == "valid" else "",
        "error": "",
    }
    facts |= {"finalize": "https://ca.example/finalize/1", "retry_after": None, **more}
    return Order(URI, status, authorizations, **facts)


def proof(name: str, status: str = "pending", *, answered: str = "pending", error: str = "") -> Authorization:
    challenges = {
        kind: Challenge(kind, f"https://ca.example/{kind}/{name}", f"token-{name}", f"{kind}-{name}", answered)
        for kind in ("http-01", "dns-01")
    }
    return Authorization(name, status, challenges, error, None)


class Walk:
    """A walk for some names, on a clock that the test moves."""

    def __init__(
        self,
        folder: Path,
        ca: Ca,
        *names: str,
        uri: str = "",
        board: Board | None = None,
        key: Any = None,
        **config: Any,
    ) -> None:
        self.clock = Clock()
        self.board = board or Board("http-01")
        self.material = self_signed(*names, key=key)
        store = CertificateStore(folder, "https://ca.example/dir", source="a test")
        assert store.take()
        self.store = store
        self.ca = ca
        record = OrderRecord("a" * 16, names, 0.0, key_pem(self.material.key).decode(), uri=uri)

        async def disk(function: Callable[..., Any], *args: Any) -> Any:
            return function(*args)

        everything: Any = (self.clock, AcmeConfig(**config), ca, store, disk)
        self.walk = OrderWalk(*everything, Solvers({self.board.kind: self.board}), Pace(), record, None)
        # The certificate that the CA gives, unless it was told otherwise.
        self.chain = chain_pem(self.material).decode()
        ca.answers.setdefault("certificate", [self.chain])
        self.running: Deferred[str] = Deferred.fromCoroutine(self.walk.run())

    def passes(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def end(self) -> str | Exception:
        """What came of it; nothing is shown any more, and nothing is scheduled."""
        found: list[Any] = []
        self.running.addBoth(found.append)
        [result] = found
        assert self.board.there == {}
        assert self.clock.getDelayedCalls() == []
        self.store.release()
        error = getattr(result, "value", result)
        assert isinstance(error, str | Exception)
        return error


def failures(walk: Walk) -> dict[str, str]:
    error = walk.end()
    assert isinstance(error, OrderFailed), error
    return dict(error.errors)


def test_from_nothing_to_a_certificate(tmp_path: Path) -> None:
    ca = Ca(
        new_order=order("pending", "1", "2"),
        authorization=[proof(A), proof(B), proof(A), proof(B), proof(A, "valid"), proof(B, "valid")],
        answer=None,
        order=[order("ready"), order("processing", retry_after=4.0), order("valid")],
        finalize=order("processing"),
    )
    walk = Walk(tmp_path, ca, A, B)
    # The CA's URL stands in the record before anything is proved, and what is shown before it is shown.
    [kept] = walk.store.orders()
    assert (kept.uri, kept.account) == (URI, ca.uri)
    assert {where for _, where, _ in kept.shown} == {f"token-{A}", f"token-{B}"}
    assert walk.board.there == {f"token-{A}": (f"http-01-{A}",), f"token-{B}": (f"http-01-{B}",)}
    assert ca.asked.count("answer") == 2
    walk.passes(1.5)
    assert walk.board.there == {}
    walk.passes(3)
    assert not walk.running.called
    walk.passes(2)
    assert walk.end() == walk.chain
    assert ca.asked.count("finalize") == ca.asked.count("certificate") == 1


@pytest.mark.parametrize("status", ["ready", "processing", "valid"])
def test_it_goes_on_where_it_was(tmp_path: Path, status: str) -> None:
    ca = Ca(order=[order(status), order("valid")], finalize=order("valid"))
    walk = Walk(tmp_path, ca, A, uri=URI)
    walk.passes(1)
    assert walk.end() == walk.chain
    assert "new_order" not in ca.asked
    assert ("finalize" in ca.asked) == (status == "ready")


def test_what_was_answered_is_not_answered_again(tmp_path: Path) -> None:
    waits = proof(A, answered="processing")
    ca = Ca(order=[order("pending", "1"), order("valid")], authorization=[waits, waits, proof(A, "valid")])
    walk = Walk(tmp_path, ca, A, uri=URI)
    # But it is shown: the CA may only look now.
    assert walk.board.there == {f"token-{A}": (f"http-01-{A}",)}
    walk.passes(1)
    assert walk.end() == walk.chain
    assert "answer" not in ca.asked


def test_what_is_proved_already_needs_nothing(tmp_path: Path) -> None:
    ca = Ca(
        new_order=order("pending", "1"),
        authorization=proof(A, "valid"),
        order=[order("ready")],
        finalize=order("valid"),
    )
    walk = Walk(tmp_path, ca, A)
    assert walk.end() == walk.chain
    assert "answer" not in ca.asked


@pytest.mark.parametrize(
    "then",
    [
        CaRefused("unknown", "no such order"),
        [order("invalid", "1"), order("valid")],
    ],
    ids=["gone", "run out"],
)
def test_an_order_that_is_gone_is_made_anew(tmp_path: Path, then: Any) -> None:
    ca = Ca(order=then, authorization=proof(A, "expired"), new_order=order("ready"), finalize=order("valid"))
    walk = Walk(tmp_path, ca, A, uri="https://ca.example/order/0")
    assert walk.end() == walk.chain
    assert [record.uri for record in walk.store.orders()] == [URI]


def test_a_refused_proof_is_its_names_alone(tmp_path: Path) -> None:
    ca = Ca(
        new_order=order("pending", "1", "2"),
        authorization=[proof(A), proof(B), proof(A, "valid"), proof(B, "invalid", error="no such name (dns)")],
        answer=None,
    )
    assert failures(Walk(tmp_path, ca, A, B)) == {B: "no such name (dns)"}
    # The same, found after a restart.
    ca = Ca(order=order("invalid", "1", "2"), authorization=[proof(A, "valid"), proof(B, "invalid", error="no")])
    assert failures(Walk(tmp_path, ca, A, B, uri=URI)) == {B: "no"}
    ca = Ca(order=order("invalid", "1", error="caa forbids it"), authorization=proof(A, "valid"))
    assert failures(Walk(tmp_path, ca, A, B, uri=URI)) == {A: "caa forbids it", B: "caa forbids it"}
    ca = Ca(new_order=order("pending", "1"), authorization=proof(A, "deactivated"))
    assert failures(Walk(tmp_path, ca, A)) == {A: "the CA calls the proof deactivated"}


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    ca = Ca(new_order=order("pending", "1"), authorization=proof(A))
    assert failures(Walk(tmp_path, ca, A, board=Board("http-01", error="no room"))) == {A: "no room"}
    assert failures(Walk(tmp_path, ca, A, board=Board("dns-01"))) == {
        A: "nothing is configured that proves names by http-01"
    }
    nothing = Authorization(A, "pending", {}, "", None)
    ca = Ca(new_order=order("pending", "1"), authorization=nothing)
    assert failures(Walk(tmp_path, ca, A)) == {A: "the CA does not take http-01 as a proof, but nothing"}


def test_a_wildcard_and_its_base_share_a_record(tmp_path: Path) -> None:
    wild = "*.example.com"
    ca = Ca(
        new_order=order("pending", "1", "2"),
        authorization=[proof(wild), proof("example.com"), proof(wild, "valid"), proof("example.com", "valid")],
        answer=None,
        order=order("valid"),
    )
    board = Board("dns-01", slow=True)
    walk = Walk(tmp_path, ca, wild, "example.com", board=board, challenge="dns-01")
    assert board.there == {"_acme-challenge.example.com": (f"dns-01-{wild}", "dns-01-example.com")}
    assert "answer" not in ca.asked  # the world does not see it yet
    board.waiting[0].callback(None)
    walk.passes(1)
    assert walk.end() == walk.chain


def test_it_can_be_stopped_and_leaves_its_proofs_to_the_next(tmp_path: Path) -> None:
    ca = Ca(new_order=order("pending", "1"), authorization=proof(A), answer=None)
    walk = Walk(tmp_path, ca, A)
    walk.passes(3)
    walk.running.cancel()
    assert len(walk.store.orders()[0].shown) == 1
    walk.board.there.clear()
    assert isinstance(walk.end(), CancelledError)


def test_the_ca_goes_away_and_takes_its_time(tmp_path: Path) -> None:
    ca = Ca(new_order=order("pending", "1"), authorization=[proof(A), CaUnavailable("it is down")], answer=None)
    assert str(Walk(tmp_path, ca, A).end()) == "it is down"
    ca = Ca(new_order=order("pending", "1"), authorization=proof(A), answer=None)
    walk = Walk(tmp_path, ca, A)
    walk.passes(920)
    assert failures(walk) == {A: "the CA has come to no verdict on its proof"}
    ca = Ca(new_order=order("processing"), order=order("processing"))
    walk = Walk(tmp_path, ca, A)
    walk.passes(920)
    assert failures(walk) == {A: "the CA has left the order in the state processing"}


def test_what_the_ca_refuses(tmp_path: Path) -> None:
    refused = CaRefused("rejectedIdentifier", "not that one", (B, "c.example.com"), 60.0)
    walk = Walk(tmp_path, Ca(new_order=refused), A, B)
    error = walk.end()
    assert isinstance(error, OrderFailed)
    assert (dict(error.errors), error.retry_after) == ({B: "not that one"}, 60.0)
    assert failures(Walk(tmp_path, Ca(new_order=CaRefused("malformed", "no")), A, B)) == {A: "no", B: "no"}


def test_a_certificate_that_is_not_what_was_ordered(tmp_path: Path) -> None:
    other = chain_pem(self_signed(A)).decode()
    for given, reason in (
        ("", "what the CA gave is no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "what the CA gave is no certificate in PEM"),
        (other, "what the CA gave is the certificate of another key"),
    ):
        ca = Ca(new_order=order("valid"), certificate=given)
        assert failures(Walk(tmp_path, ca, A)) == {A: reason}
    key = self_signed(A).key
    ca = Ca(new_order=order("valid"), certificate=chain_pem(self_signed(B, key=key)).decode())
    assert failures(Walk(tmp_path, ca, A, key=key)) == {A: f"what the CA gave is not for {A}"}
    assert failures(Walk(tmp_path, Ca(new_order=order("invalid")), A)) == {A: "the CA calls the order invalid"}
