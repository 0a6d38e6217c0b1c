"""Other people's malformed requests, through the edge as a process over TLS, an agent, and to an independent origin.

``http11probe`` and the number 100.  The recordings have no 100 cases that must be refused: 70 may be answered with a
refusal alone (53 of level MUST, 9 SHOULD, 8 of no level; 65 of them name a status, 5 say "Reject/drop").  100 is how
many it scores at level MUST (75) and SHOULD (25), and 82 how many it has of level MUST, scored or not.  Both have valid
requests among them, and others that want no 101, a 405 with Allow or no 1xx to HTTP/1.0; so what is counted there is
an expectation that is *met*, by a refusal or not.  Counted so nginx meets 71 of the 82 here, which is the figure it is
known with.  All three counts are in the table, and all 149 are met.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.conformance.origin import JudgingOrigin
from tests.conformance.peers import start_peer
from tests.conformance.recordings import PROBE, recorded_requests
from tests.conformance.table import BOUNDS, Table, Verdicts, below
from tests.conformance.visitors import Dial, dialler, visit_all
from tests.end_to_end.certificates import Authority
from tests.end_to_end.house import APP
from tests.end_to_end.programs import programs

PASSES = {
    "gunicorn-invalid-003c": "the method -bl is a token",
    "gunicorn-invalid-006": "a target longer than gunicorn takes, shorter than ours may be",
    "gunicorn-invalid-007": "the same of a field",
    "gunicorn-invalid-008": "the same of a field",
    "gunicorn-invalid-017": "the same of a field",
    "gunicorn-invalid-041": "two Content-Types: not ambiguous for a proxy",
    "llhttp-request-connection-02": "what follows a request that closes is not read",
}
"""Not valid for those who recorded it, and nothing is wrong with it here."""


@pytest.fixture(scope="module")
def verdicts(dial: Dial, origin: JudgingOrigin, table: Table) -> Verdicts:
    """All of the recordings, once."""
    found = Verdicts(visit_all(dial, recorded_requests()), origin)
    table.add("edge", found.lines())
    return found


@pytest.mark.deadline(120)
def test_no_figure_falls(verdicts: Verdicts) -> None:
    assert below(verdicts.lines()) == []


def test_every_bound_is_of_a_line(verdicts: Verdicts) -> None:
    assert set(BOUNDS) - set(verdicts.lines()) <= {"llhttp answers, not valid", "answers of ours, not valid"}


def test_no_origin_gets_what_can_be_read_in_two_ways(verdicts: Verdicts, origin: JudgingOrigin) -> None:
    assert verdicts.ambiguous == {}
    assert origin.broken == []
    assert verdicts.unattributed == [], "a request that the edge did not know of"


def test_what_reaches_the_origin_has_one_form(verdicts: Verdicts) -> None:
    odd = {name: [found.odd for found in all_of_it if found.odd] for name, all_of_it in verdicts.received.items()}
    assert {name: what for name, what in odd.items() if what} == {}


def test_every_conversation_ends_and_is_http(verdicts: Verdicts) -> None:
    assert [name for name, talk in verdicts.talks.items() if not talk.closed] == []
    assert {name: talk.broken for name, talk in verdicts.talks.items() if talk.broken} == {}


def test_a_refusal_is_the_last_answer(verdicts: Verdicts) -> None:
    """Nothing behind a request that was refused is looked at."""
    for name in verdicts.refused | verdicts.cut:
        answers = verdicts.talks[name].answers
        assert len(answers) <= 1, name
        assert not answers or answers[0].value(b"connection") == b"close", name


def test_http11probe_is_met(verdicts: Verdicts) -> None:
    assert verdicts.unmet == set()


def test_the_hundred_of_http11probe(verdicts: Verdicts) -> None:
    levels = {name: verdicts.cases[name].facts["level"] for name in verdicts.of(PROBE)}
    only_refused = [levels[name] for name in verdicts.of(PROBE, bad=True)]
    assert len(levels) == 149
    assert sorted(set(only_refused)) == ["Must", "NotApplicable", "Should"]
    assert [only_refused.count(level) for level in ("Must", "Should", "NotApplicable")] == [53, 9, 8]
    assert list(levels.values()).count("Must") == 82
    scored = [levels[name] for name in levels if verdicts.cases[name].facts["scored"]]
    assert [scored.count(level) for level in ("Must", "Should")] == [75, 25]


def test_who_is_not_valid_and_passes(verdicts: Verdicts) -> None:
    passed = (verdicts.of("gunicorn", bad=True) | verdicts.of("llhttp", bad=True)) & verdicts.canonical
    assert passed <= set(PASSES)
    assert verdicts.of("desync guardian: Severe", bad=True) & verdicts.canonical == set()


@pytest.mark.deadline(120)
@pytest.mark.parametrize("peer", ["nginx", pytest.param("haproxy", marks=pytest.mark.full)])
def test_it_is_ahead_of(peer: str, verdicts: Verdicts, table: Table, tmp_path: Path) -> None:
    """The same recordings, the same origin."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("peer", APP)
    with JudgingOrigin() as origin, programs() as mine:
        port = start_peer(peer, tmp_path / peer, mine, certificate, key, origin.port)
        context = ssl.create_default_context(cafile=str(authority.file))
        theirs = Verdicts(visit_all(dialler(port, context, APP), recorded_requests()), origin)
    table.add(peer, theirs.lines())
    ours = verdicts.lines()
    for name, columns in theirs.lines().items():
        assert ours[name].get("met", 0) >= columns.get("met", 0), name
        assert ours[name].get("ambiguous", 0) <= columns.get("ambiguous", 0), name
    bad = {name for name, case in verdicts.cases.items() if case.bad}
    assert len(bad & (verdicts.refused | verdicts.cut)) > len(bad & (theirs.refused | theirs.cut))
    assert theirs.ambiguous
