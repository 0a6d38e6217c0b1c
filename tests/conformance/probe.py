"""Http11Probe's own verdicts: whether an answer is one of those that it expects.

Its sentences are read whole, so a recording with a sentence that nobody knows here fails loudly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tests.conformance.origin import Received
from tests.conformance.recordings import Recorded
from tests.conformance.visitors import Answer, Talk

__all__ = ["as_expected"]

TIMEOUT = 408
"""Its clients lose patience before such a server does, and call that a timeout."""


def _body_has(*parts: bytes) -> Callable[[Answer], bool]:
    return lambda answer: all(part in answer.body for part in parts)


_SPECIAL: dict[str, Callable[[Answer], bool]] = {
    "2xx with no body": lambda answer: not answer.body,
    "2xx with Date header": lambda answer: answer.value(b"date") is not None,
    "2xx with Allow header": lambda answer: answer.value(b"allow") is not None,
    "2xx with Content-Type": lambda answer: answer.value(b"content-type") is not None,
    "2xx with Cookie in body": _body_has(b"foo=bar"),
    "2xx with foo=bar in body": _body_has(b"foo=bar"),
    "2xx with a=1, b=2, c=3 in body": _body_has(b"a=1", b"b=2", b"c=3"),
    "2xx with both cookies": _body_has(b"a=1", b"b=2"),
    "2xx + echo": lambda answer: answer.body in (b"hello", b"hello world", b"helloworld"),
    "2xx (Range ignored)": lambda answer: answer.status == 200,
    "2xx (no crash)": lambda answer: True,
    "2xx + close": lambda answer: answer.value(b"connection") == b"close",
    "Range2xx": lambda answer: True,
    "Range2xx or close": lambda answer: True,
}
"""Sentences that want a 2xx and something of it."""


def as_expected(case: Recorded, talk: Talk, received: Sequence[Received]) -> bool:
    """Whether its expectation is met (what it calls a warning is met, too)."""
    expected: str = case.facts["expected"]
    answer = talk.answers[0] if talk.answers else None
    status = answer.status if answer is not None else 0
    good = 200 <= status < 300
    if expected in _SPECIAL:
        return answer is not None and good and _SPECIAL[expected](answer)
    if expected == "2xx preferred; 400 warns":
        return good or status == 400
    if expected in ("!101", "non-101 (426 preferred)"):
        return status not in (0, 101)
    if expected == "non-1xx response":
        return answer is not None and not answer.interim and status >= 200
    if expected == "not 414":
        return status not in (0, 414)
    if expected == "204 without CL":
        return answer is not None and (status != 204 or answer.value(b"content-length") is None)
    if expected == "405 + Allow header":
        return answer is not None and status == 405 and answer.value(b"allow") is not None
    if expected == "IMF-fixdate format":
        date = answer.value(b"date") if answer is not None else None
        return (
            date is not None
            and re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT", date) is not None
        )
    if expected.startswith("Reject/drop"):
        return status >= 400 or (not status and talk.closed) or not any(_normalised(found) for found in received)
    if expected.startswith("400 (rejected) or 2xx without"):
        return status == 400 or (good and not re.search(rb"[\0-\x08\x0b-\x1f]", answer.body if answer else b""))
    if expected == "405/501, or 200 without Auth":
        return status in (405, 501) or (status == 200 and b"uthorization" not in (answer.body if answer else b""))
    return _listed(expected, talk, status, good)


def _normalised(found: Received) -> bool:
    """A look-alike of a framing field reached the origin under the field's own name, or as it was."""
    names = [name for name, _ in found.fields]
    return names.count(b"content-length") + names.count(b"transfer-encoding") > 1 or any(b"_" in name for name in names)


def _listed(expected: str, talk: Talk, status: int, good: bool) -> bool:
    """``400/414 or close``, ``Exact(400)``, ``400/close/timeout``, ``417 or 2xx`` …"""
    words = set(re.findall(r"Exact\(\d+\)|[0-9x]{3}|close|timeout", re.sub(r"\((?!\d)[^)]*\)", "", expected)))
    if not words or re.sub(
        r"Exact\(\d+\)|[0-9x]{3}|close|timeout|or|[/, ]|\((?:pass|warn|rejected|survived)\)", "", expected
    ):
        raise AssertionError(f"Http11Probe expects {expected!r}: nobody has told what that is")
    if not status:
        return talk.closed and bool(words & {"close", "timeout"})
    if status == TIMEOUT and "timeout" in words:
        return True
    return (good and "2xx" in words) or any(word.strip("Exact()") == str(status) for word in words)
