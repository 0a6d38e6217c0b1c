"""The line of the access log for a connection that led through the tunnel as it was, in both formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wormhole_tw.edge.access_lines import LEFT, as_json, clf_second, shown_second
from wormhole_tw.edge.answers import ANSWERS

if TYPE_CHECKING:
    from wormhole_tw.edge.passage import Passage

__all__ = ["FIELDS", "PASSAGE_LINES", "combined_line", "json_line"]

FIELDS = (
    "time",
    "kind",
    "client",
    "service",
    "site",
    "host",
    "backend",
    "session",
    "attempts",
    "reason",
    "received",
    "sent",
    "connected",
    "duration",
)
"""The members of a line of JSON, in their order; docs/observability.md says what they are."""


_JOINED = 200
_STATUS = {"not-allowed": 403, "visitor-gone": LEFT, "service-busy": 503, "too-many-connections": 429}
_OTHERWISE = 503
"""For reasons that have no answer in HTTP either, as in the logs of nginx's streams."""


def json_line(passage: Passage, ended: float, wall: float) -> bytes:
    """A line of JSON.

    :param ended: the wheel's clock at its end
    :param wall: seconds since 1970 at its end
    """
    course, upstream = passage.course, passage.upstream
    second = int(wall)
    tcp = course.kind == "tcp"
    values = (
        f"{shown_second(second).decode('ascii')}.{int((wall - second) * 1000):03d}Z",
        "tcp",
        passage.facts.address,
        course.name if tcp else "",
        "" if tcp else course.name,
        course.host,
        course.backend,
        "" if upstream is None else str(upstream.key),
        passage.attempts,
        passage.reason,
        passage.received,
        passage.sent,
        round(max(passage.joined - passage.began, 0.0), 6) if passage.joined else None,
        round(max(ended - passage.began, 0.0), 6),
    )
    return as_json(dict(zip(FIELDS, values, strict=True))) + b"\n"


def combined_line(passage: Passage, ended: float, wall: float) -> bytes:
    """A line in the combined format, as if a CONNECT had asked for the service or the host name."""
    if passage.joined:
        status = _JOINED
    else:
        answer = ANSWERS.get(passage.reason)
        status = answer.status if answer is not None else _STATUS.get(passage.reason, _OTHERWISE)
    address = passage.facts.address or "-"
    what = passage.course.host or passage.course.name
    line = f'{address} - - [{clf_second(int(wall))}] "CONNECT {what} TCP" {status} {passage.sent or "-"} "-" "-"\n'
    return line.encode("ascii", "replace")


PASSAGE_LINES: Mapping[str, Callable[[Passage, float, float], bytes]] = {"json": json_line, "combined": combined_line}
"""By ``access_log.format``."""
