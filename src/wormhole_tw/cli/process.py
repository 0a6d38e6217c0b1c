"""What both ``twistd`` commands do to their process: log, signals, exit status, pid file, version, garbage collector.

Only ``cli/`` touches these; the services under it can be many in one process and know nothing of it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TextIO, cast

from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.logfile import LogFile

from wormhole_tw import __version__
from wormhole_tw.cli.logs import FORMATS, log_observer, parse_level
from wormhole_tw.cli.notify import READY, STOPPING, Notifier
from wormhole_tw.cli.polling import dispatch_directly
from wormhole_tw.cli.reaper import reap_strays_of
from wormhole_tw.cli.successor import Succession
from wormhole_tw.errors import ConfigError

__all__ = [
    "CommandSignals",
    "ProcessReactor",
    "SettledReactor",
    "TwistdOptions",
    "choose_log_format",
    "choose_log_level",
    "chosen_observer",
    "end_with",
    "fail_start",
    "freeze_garbage",
    "handle_signals",
    "keep_freed_memory",
    "raise_descriptor_limit",
    "settle",
    "version_text",
]

_log = Logger()


class ProcessReactor(Protocol):
    """What a process needs of its reactor."""

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> object: ...

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None: ...

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> object: ...

    def stop(self) -> None: ...


class CommandSignals(Protocol):
    """Who passes signals on to a command that runs beside us: a supervisor."""

    def signal(self, number: int) -> None:
        """Hand it on."""

    def stopping(self, number: int) -> None:
        """We stop because of this one."""

    def kill(self) -> None:
        """We end now; called in a signal handler."""


class SettledReactor(ProcessReactor, Protocol):
    """What :func:`settle` needs besides."""

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> object: ...


def version_text() -> str:
    """One line: our name and version, with what it runs on."""
    from twisted import __version__ as twisted_version

    python = ".".join(map(str, sys.version_info[:3]))
    return f"wormhole-tw {__version__} (Twisted {twisted_version}, Python {python})"


def fail_start(error: ConfigError | str) -> SystemExit:
    """``raise fail_start(error)`` in ``makeService``: one line on standard error, exit status 1, no traceback."""
    return SystemExit(" ".join(str(error).split()))


class TwistdOptions(usage.Options):
    """Options of a ``twistd`` plugin: the pid file trap, our log, ``--version``, errors in one line.

    ``twistd -n`` writes ``twistd.pid`` into the folder it was started in, so that an edge and an agent in one folder
    clash and a read-only folder stops it; in the foreground nobody needs that file, unless it was asked for.
    """

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; a mistake in it is one line, and not the whole usage.

        :raises SystemExit: with status 1, in a process of twistd
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            if self.parent is None:
                raise
            raise fail_start(f"{self.parent.subCommand}: {error}; see --help") from None

    def postOptions(self) -> None:
        parent = self.parent
        if parent is None:  # parsed on its own, by a test or by `wormhole-tw`
            return
        if parent.get("nodaemon") and parent.get("pidfile") == "twistd.pid":
            parent["pidfile"] = ""
        if not parent.get("logger") and not parent.get("syslog"):
            # twistd imports the factory by its name and calls it once the service is made
            parent["logger"] = f"{__name__}.{chosen_observer.__name__}"
            _choice.nodaemon = bool(parent.get("nodaemon"))
            _choice.logfile = parent.get("logfile") or ""

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(version_text())
        sys.exit(0)


@dataclass(slots=True)
class _LogChoice:
    """Where and from which level this process logs: a process has one log, so there is one choice."""

    level: str = "info"
    form: str = "text"
    nodaemon: bool = True
    logfile: str = ""


_choice = _LogChoice()


def choose_log_level(level: str | None) -> None:
    """Set the level of :func:`chosen_observer`; to be called in ``makeService``. An unknown level is ``info``."""
    _choice.level = parse_level(level)


def choose_log_format(form: str | None) -> None:
    """Set the format of :func:`chosen_observer`; to be called in ``makeService``. None is the default.

    :raises SystemExit: it is no format
    """
    if form not in (None, *FORMATS):
        raise fail_start(f"--log-format: expected one of {', '.join(FORMATS)}")
    _choice.form = form or FORMATS[0]


def chosen_observer() -> ILogObserver:
    """The log observer of this process, for ``twistd --logger``.

    Standard output in the foreground, otherwise ``twistd.log``; ``--logfile`` is heard, and SIGUSR1 rotates a file, as
    with twistd's own log; what else it does (:func:`handle_signals`), it does too.
    """
    name = _choice.logfile or ("-" if _choice.nodaemon else "twistd.log")
    if name == "-":
        return log_observer(cast(TextIO, sys.stdout), _choice.level, _choice.form)
    try:
        log_file = LogFile.fromFullPath(name)
    except OSError as error:
        raise fail_start(f"--logfile: {name}: {error.strerror}") from None
    before = signal.getsignal(signal.SIGUSR1)

    def rotate(number: int, frame: FrameType | None) -> None:
        from twisted.internet import reactor

        cast(ProcessReactor, reactor).callFromThread(log_file.rotate)
        if callable(before):
            before(number, frame)

    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGUSR1, rotate)
    return log_observer(cast(TextIO, log_file), _choice.level, _choice.form)


def handle_signals(
    reactor: ProcessReactor,
    *,
    reload: Callable[[], object] | None = None,
    reopen: Callable[[], object] | None = None,
    restart: Callable[[], object] | None = None,
    say: Callable[[str], object] | None = None,
    command: CommandSignals | None = None,
) -> None:
    """Take SIGTERM and SIGINT once the reactor runs; ``reload`` takes SIGHUP and ``reopen`` SIGUSR1 from now on, in
    the reactor's thread, and ``restart`` SIGUSR2.

    The first SIGTERM or SIGINT stops the reactor, whose shutdown stops the services, which drain; the process then ends
    with status 0 (twistd's own handler would end it by the signal, 143). The second ends it at once, whatever it is
    doing, by the signal.

    :param say: is told in one sentence what happens; the log by default
    :param command: gets the signals that are not for us: SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT and SIGWINCH
    """
    tell = say if say is not None else lambda sentence: _log.info("{sentence}", sentence=sentence)
    stopping = False

    def stop(name: str) -> None:
        tell(f"{name}: finishing what runs; a second one ends at once")
        try:
            reactor.stop()
        except ReactorNotRunning:
            pass  # it is stopping already

    def first_or_second(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            if command is not None:
                command.kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(128 + number)  # the first process of a container: no signal ends it by itself
        stopping = True
        if command is not None:
            command.stopping(number)
        reactor.callFromThread(stop, signal.Signals(number).name)

    def hang_up(number: int, frame: FrameType | None) -> None:
        if reload is not None and not stopping:
            reactor.callFromThread(reload)

    def install() -> None:
        # SIGINT that is ignored stays so: a shell starts background jobs that way
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, first_or_second)

    def user_1(number: int, frame: FrameType | None) -> None:
        if reopen is not None:
            reactor.callFromThread(reopen)

    def user_2(number: int, frame: FrameType | None) -> None:
        if restart is not None and not stopping:
            reactor.callFromThread(restart)

    def hand_on(number: int, frame: FrameType | None) -> None:
        assert command is not None
        reactor.callFromThread(command.signal, number)

    if command is not None:
        for number in _HANDED_ON:
            signal.signal(number, hand_on)
    if reopen is not None:
        signal.signal(signal.SIGUSR1, user_1)
    if restart is not None:
        signal.signal(signal.SIGUSR2, user_2)
    if reload is not None:
        # At once: its default would end a process that is still starting; a reload that comes early waits its turn.
        signal.signal(signal.SIGHUP, hang_up)
    reactor.callWhenRunning(install)


_HANDED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGWINCH)


def end_with(status: int) -> None:
    """Have this process end with an exit status of our own, when all else is done: twistd knows none but 0 and 1.

    May be called again; the last one counts.
    """
    if _ending.status is None:
        # What was registered first runs last, so others have had their turn.
        atexit.register(_end)
    _ending.status = status


@dataclass(slots=True)
class _ProcessEnd:
    """A process ends once, with one status."""

    status: int | None = None


_ending = _ProcessEnd()


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(_ending.status or 0)


def freeze_garbage() -> None:
    """Put everything imported and built so far out of the collector's sight: it would look at it again and again, and
    a full collection then costs a busy process 6–30 ms. PyPy's collector is another one, and has no such thing."""
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()


def keep_freed_memory() -> None:
    """Let glibc keep what was freed for the next buffer: by default it gives blocks from 128 KiB on, and the end of the
    heap, back to the system each time, and asks for them anew, page by page. Nothing where the C library is another."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, KEEP_BELOW)
    mallopt(_M_TRIM_THRESHOLD, KEEP_FREE)


KEEP_BELOW = 4 * 1024 * 1024
"""Octets of a block that comes from the heap: more than any buffer here has."""

KEEP_FREE = 16 * 1024 * 1024
"""Octets of free heap that a process keeps."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def raise_descriptor_limit() -> int | None:
    """Take every descriptor that this process may have: a visitor is one, and so is an agent's stream.  The usual 1,024
    are a courtesy to ``select()``, which knows no more; on Linux Twisted does not use it.

    Gives the limit as it was, for a program that we start; None where it was not touched.
    """
    if sys.platform != "linux":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def settle(
    reactor: SettledReactor,
    *,
    reload: Callable[[], object] | None = None,
    reopen: Callable[[], object] | None = None,
    succession: Succession | None = None,
    command: CommandSignals | None = None,
) -> None:
    """All that ``makeService`` has to arrange for its process: descriptors, the reactor's loop, memory, signals, what
    systemd is told, and the collector last."""
    raise_descriptor_limit()
    dispatch_directly(reactor)
    keep_freed_memory()
    restart = None if succession is None else succession.begin
    handle_signals(reactor, reload=reload, reopen=reopen, restart=restart, command=command)
    if os.getpid() == 1:
        reap_strays_of(reactor)
    notifier = Notifier(os.environ)
    if succession is not None:
        succession.settle(notifier)
    reactor.callWhenRunning(notifier.tell, READY)  # twistd starts the services first, then the reactor
    reactor.addSystemEventTrigger("before", "shutdown", notifier.tell, STOPPING)
    reactor.callWhenRunning(freeze_garbage)
