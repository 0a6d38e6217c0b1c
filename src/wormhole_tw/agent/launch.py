"""Becomes the command of a supervisor, run as a program of its own: ``python -I -S launch.py PARENT FILES COMMAND…``.

What has to happen between fork and exec happens here, in a process without threads or a reactor: a session of its own,
so that Ctrl-C reaches the agent alone, which ends the command when visitors are done with it; the end of the command,
and of what it has started, when the agent is killed; and signals and limits as they were before Python and the agent
changed them.

Descriptor 3 is a pipe to the agent. It holds a ``+`` when it closes because the command runs, and the number of the
error behind that where it cannot.
Descriptor 4 is a pipe from the agent. It holds a line when all is over; its end without one says that the agent died.
It imports nothing of the package, and nothing of Python that it can do without: it is started for every command.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

__all__ = ["ABOUT_TO", "NO_LIMIT", "OVER", "REPORT", "WATCH", "main"]

REPORT = 3
"""The descriptor of the pipe to the agent."""

WATCH = 4
"""The descriptor of the pipe from it."""

ABOUT_TO = b"+"
"""What the agent reads when nothing is left to do but the exec."""

OVER = b"over\n"
"""The line that says that nobody has to be ended any more."""

NO_LIMIT = "-"
"""In the place of FILES: leave the limit of open files as it is."""

_PR_SET_PDEATHSIG = 1  # prctl(2)
_SHELL = "/bin/sh"
_WAIT = 'read line || kill -s KILL -- "-$1"'


def main(argv: list[str]) -> int:
    """Run ``argv[3:]`` in the place of this process; gives a status only where that fails.

    :param argv: the program's name, the pid of the agent, the soft limit of open files, the command and its arguments
    """
    parent, files, command = int(argv[1]), argv[2], argv[3:]
    # Python ignores the first two and takes the third; an exec keeps what is ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in (REPORT, WATCH):
        os.set_inheritable(descriptor, False)
    os.setsid()
    if parent != 1:  # with the first process of a container, all others end
        leave_watcher()
        die_with_parent()
    if os.getppid() != parent:
        return 1  # it has died before we asked to be told
    if files != NO_LIMIT:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = int(files)
        if soft >= 0 and (soft <= hard or hard == resource.RLIM_INFINITY):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.write(REPORT, ABOUT_TO)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(REPORT, str(error.errno or 0).encode("ascii"))
        return 126


def leave_watcher() -> None:
    """Leave a process behind that ends our session's group when the agent has died without a word.

    It is nobody's child whom the command could find among its own, and a shell, which takes a tenth of this program's
    memory, where there is one.
    """
    group = str(os.getpid())
    try:
        first = os.fork()
    except OSError:
        return  # there is no room for another process; the kernel's help has to do
    if first:
        os.waitpid(first, 0)
        return
    try:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.chdir("/")
        os.dup2(WATCH, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):  # whoever reads our output shall see its end
            os.dup2(nothing, descriptor)
        for descriptor in (REPORT, WATCH):
            os.close(descriptor)
        try:
            os.execv(_SHELL, ["sh", "-c", _WAIT, "wormhole-agent", group])
        except OSError:
            if not os.read(0, 1):
                os.killpg(int(group), signal.SIGKILL)
    finally:
        os._exit(0)


def die_with_parent() -> None:
    """Have the kernel end this process, and what it becomes, by SIGKILL when the agent is gone, before the watcher can.
    Only Linux has that."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, AttributeError, OSError):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
