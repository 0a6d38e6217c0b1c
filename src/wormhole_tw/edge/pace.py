"""Whether octets come, or go, at a least rate: what tells a slow visitor from one who only holds on to things.

A timeout between two reads does not: one octet in every 29 s would keep a request for ever.  Nor does a time for the
whole: a phone on a slow line takes as long as it takes.  So octets are counted over a sliding window.  Nothing is done
for an octet: whoever watches looks at its counters some times in each window, and only while there is something to
wait for.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LOOKS", "Pace", "SharedPace", "least_octets"]

LOOKS = 4
"""Looks in a window.  Who stops is found out after a window and at most one part of it; each look costs a timer."""


def least_octets(rate: float, window: float) -> int:
    """What a window has to bring: at least one octet, also where there is no least rate.

    :param rate: octets a second
    :param window: seconds
    """
    return max(1, int(rate * window))


class Pace:
    """Octets in the last window.

    :param total: octets so far
    """

    __slots__ = ("_marks",)

    def __init__(self, total: int) -> None:
        # before a whole window has passed there is no verdict: as if all octets of the world had come before it
        self._marks: deque[float] = deque((float("-inf"),) * (LOOKS - 1) + (total,), LOOKS)

    def advance(self, total: int) -> float:
        """A part of the window is over.

        :returns: the octets that the last window brought; infinite while there has not been a whole one
        """
        marks = self._marks
        brought = total - marks[0]
        marks.append(total)
        return brought


class SharedPace:
    """One stream's pace on a line that it shares: who waits for its turn on a slow line is not slow itself.

    :param own: octets of the stream so far
    :param line: octets of the line so far
    """

    __slots__ = ("_line", "_own")

    def __init__(self, own: int, line: int) -> None:
        self._own = Pace(own)
        self._line = Pace(line)

    def advance(self, own: int, line: int) -> tuple[float, float]:
        """A part of the window is over.

        :returns: what the last window brought the stream, and the line
        """
        return self._own.advance(own), self._line.advance(line)
