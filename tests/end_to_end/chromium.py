"""Headless Chromium for the end-to-end tests, spoken to over a pipe by its debugging protocol."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from tests.end_to_end.programs import need_program

ANSWERED_SOON = 40.0
"""Seconds for an answer of the browser's: many times what its start and a page take on a machine of two busy cores."""

_ON_THREE_AND_FOUR = 'exec "$@" 3</proc/self/fd/%d 4>/proc/self/fd/%d'
"""The browser reads commands from descriptor 3 and writes answers to 4."""

_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
)


class Chromium:
    """A browser with one page.

    :param folder: where it may keep what it wants to
    :param certificate: the one that it takes for valid, and no other that its own CAs did not sign: DER
    :param hosts: host names that lead to 127.0.0.1; no other name leads anywhere
    :param options: more of its options
    """

    def __init__(self, folder: Path, certificate: bytes, hosts: tuple[str, ...], *options: str) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        rules = [*(f"MAP {host} 127.0.0.1" for host in hosts), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]
        argv = [
            need_program("chromium"),
            *_OPTIONS,
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            f"--user-data-dir={folder / 'profile'}",
            f"--host-resolver-rules={', '.join(rules)}",
            f"--ignore-certificate-errors-spki-list={key_pin(certificate)}",
            *options,
            "about:blank",
        ]
        self._log = open(folder / "chromium.log", "wb")  # noqa: SIM115, it is closed with the browser
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", _ON_THREE_AND_FOUR % (commands, answers), "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(commands, answers),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._waiting = b""
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._session = ""
        self._loader = ""

    def open(self, url: str) -> None:
        """Load a page, and wait until it has with all that it names; its scripts may go on."""
        if not self._session:
            target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
            self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
            self._ask("Page.enable", {})
            self._ask("Page.setLifecycleEventsEnabled", {"enabled": True})
        self._events.clear()
        gone = self._ask("Page.navigate", {"url": url})
        assert "errorText" not in gone, gone
        self._loader = gone["loaderId"]
        # this page's event: that of an error's page may still be on its way
        self._wait_for(lambda event: _is_loaded(event) and event["params"]["loaderId"] == self._loader)

    def reload(self) -> None:
        """Press the button, and wait as :meth:`open` does."""
        self._events.clear()
        self._ask("Page.reload", {})
        self._wait_for(lambda event: _is_loaded(event) and event["params"]["loaderId"] != self._loader)

    def _wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        until = time.monotonic() + ANSWERED_SOON
        while not any(wanted(event) for event in self._events):
            self._events.append(self._message(until))

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page; a promise is waited for."""
        wanted = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self._ask("Runtime.evaluate", wanted)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _ask(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + ANSWERED_SOON
        while True:
            message = self._message(until)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._events.append(message)

    def _message(self, until: float) -> Any:
        while b"\0" not in self._waiting:
            with selectors.DefaultSelector() as selector:
                selector.register(self._answers, selectors.EVENT_READ)
                ready = selector.select(max(until - time.monotonic(), 0))
            data = os.read(self._answers, 1 << 20) if ready else b""
            if not data:
                why = "ended" if ready else f"did not answer in {ANSWERED_SOON} s"
                raise AssertionError(f"Chromium {why}:\n{Path(self._log.name).read_text(errors='replace')}")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(line)

    def end(self) -> None:
        """End it, and all processes that it started, whatever state they are in."""
        os.close(self._commands)  # which asks it to
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self._answers)
        self._log.close()


def key_pin(certificate: bytes) -> str:
    """The hash of its key, as the browser wants it."""
    key = load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()


@contextlib.contextmanager
def chromium(folder: Path, certificate: bytes, hosts: tuple[str, ...], *options: str) -> Iterator[Chromium]:
    """A browser that has ended afterwards."""
    browser = Chromium(folder, certificate, hosts, *options)
    try:
        yield browser
    finally:
        browser.end()


def _is_loaded(event: dict[str, Any]) -> bool:
    return event.get("method") == "Page.lifecycleEvent" and event["params"]["name"] == "load"
