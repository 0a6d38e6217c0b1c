"""Programs that a thread of ours waits for, so that nobody else takes their end.

A status can be asked for once. Who asks for every child that has ended, as the first process of a container has to,
would take that of a program that is waited for, and Python's ``subprocess`` then tells of status 0.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["forget", "start", "strays"]

_starting = threading.Lock()
_waited_for: set[int] = set()


def start(make: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a program whose end is ours to ask for, until :func:`forget`. From any thread.

    :raises OSError: what ``make`` raises
    """
    with _starting:  # it may have ended before its number is known here
        process = make()
        _waited_for.add(process.pid)
    return process


def forget(process: subprocess.Popen[bytes]) -> None:
    """Its end was asked for, so that its number may be another's."""
    _waited_for.discard(process.pid)


@contextmanager
def strays() -> Iterator[Callable[[int], bool] | None]:
    """Whether a child is nobody's here, as long as this context lasts: no program is started meanwhile. None where one
    is being started just now: another time will do."""
    if not _starting.acquire(blocking=False):
        yield None
        return
    try:
        yield lambda pid: pid not in _waited_for
    finally:
        _starting.release()
