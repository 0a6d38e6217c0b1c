"""An edge that is hasty with its CA, and that can be made to die at a given step: a program of the tests.

``python -m tests.end_to_end.hasty_edge [--die STEP] [--clock SECONDS]`` in the folder of an ``edge.toml``.  A step is a
request to the CA, an fsync, a rename or a removal, each with a "before" and an "after"; they are printed with their
numbers. STEP is a number, or text that a step's name has in it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.logger import globalLogBeginner

from wormhole_tw.cli.logs import log_observer
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.edge.certificates.plan import Pace
from wormhole_tw.edge.service import EdgeService

PACE = Pace(first=3.0, most=20.0, ca_first=0.5, ca_most=1.0, poll=0.1, poll_most=0.2, settle=20.0, look=1.0)


class Steps:
    """Counts, and ends the process at one."""

    def __init__(self, die: str) -> None:
        self._die = die
        self._count = 0
        self._lock = threading.Lock()

    def step(self, name: str) -> None:
        with self._lock:
            self._count += 1
            number = self._count
            os.write(1, f"step {number}: {name}\n".encode())
            if self._die and (str(number) == self._die or self._die in name):
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)

    def around(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            what = name(*args, **kwargs)
            if not what:
                return function(*args, **kwargs)
            self.step(f"before {what}")
            result = function(*args, **kwargs)
            self.step(f"after {what}")
            return result

        return stepped


def _file(verb: str, index: int) -> Callable[..., str]:
    def name(*args: Any, **kwargs: Any) -> str:
        path = args[index] if not isinstance(args[index], int) else os.readlink(f"/proc/self/fd/{args[index]}")
        parts = str(path).split("/acme/")
        return f"{verb} {parts[1].partition('/')[2]}" if len(parts) == 2 else ""

    return name


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--die", default="")
    parser.add_argument("--clock", type=float, default=0.0)
    options = parser.parse_args()

    if options.clock:
        right = time.time
        time.time = lambda: right() + options.clock
    steps = Steps(options.die)
    os.fsync = steps.around(_file("fsync", 0), os.fsync)
    os.replace = steps.around(_file("rename", 1), os.replace)
    os.unlink = steps.around(_file("remove", 0), os.unlink)

    from acme.client import ClientNetwork

    def request(_self: Any, method: str, url: str, *_args: Any, **_kwargs: Any) -> str:
        return f"{method} {url.partition('://')[2].partition('/')[2]}"

    ClientNetwork._send_request = steps.around(request, ClientNetwork._send_request)  # type: ignore[method-assign]

    globalLogBeginner.beginLoggingTo([log_observer(sys.stdout, "info")], redirectStandardIO=False)
    store = FileStore("edge.toml")
    config, _ = store.load()
    edge = EdgeService(reactor, config, store, pace=PACE)
    the_reactor: Any = reactor
    signal.signal(signal.SIGHUP, lambda *_: the_reactor.callFromThread(edge.reload))
    the_reactor.callWhenRunning(edge.startService)
    the_reactor.addSystemEventTrigger("before", "shutdown", edge.stopService)
    the_reactor.run()


if __name__ == "__main__":
    main()
