"""Calls in threads: what becomes of their results, and of those that are given up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from tests._support import program_environment
from wormhole_tw.net.threads import Turns, Workers, call_in_thread


async def test_its_result(reactor: Any) -> None:
    assert await call_in_thread(reactor, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await call_in_thread(reactor, divmod, 7, 0)
    assert await call_in_thread(reactor, threading.current_thread) is not threading.main_thread()


async def test_given_up(reactor: Any) -> None:
    """What comes of it later, a failure too, is nobody's."""
    go, ended = threading.Event(), threading.Event()

    def call() -> None:
        go.wait(20)
        reactor.callFromThread(ended.set)
        raise RuntimeError("nobody wants to know")

    waiting = call_in_thread(reactor, call)
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    go.set()
    assert await deferToThread(ended.wait, 20)


async def test_no_thread_is_to_be_had(reactor: Any) -> None:
    """In a container that counts them, say: who wanted one hears it, and the next in turn is not held up."""
    turns = Turns(reactor)
    threading.stack_size(1 << 46)  # bytes, which no machine has
    try:
        for call in (turns.take, lambda call: call_in_thread(reactor, call)):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await call(lambda: 1)
    finally:
        threading.stack_size(0)
    assert await turns.take(lambda: 2) == 2


async def test_one_after_another(reactor: Any) -> None:
    turns, said = Turns(reactor), list[str]()
    go, stopped = threading.Event(), threading.Event()

    def first() -> None:
        stopped.wait(20)
        go.wait(20)
        said.append("first")

    one = turns.take(first, stopped.set)
    two = turns.take(lambda: said.append("two"))
    three = turns.take(lambda: said.append("three"))
    four = turns.take(lambda: int("four"))
    two.cancel()
    one.cancel()
    for given_up in (one, two):
        with pytest.raises(CancelledError):
            await given_up
    assert said == []
    go.set()
    await three
    assert said == ["first", "three"]
    with pytest.raises(ValueError, match="four"):
        await four


def test_the_process_does_not_wait() -> None:
    script = """
import time
from twisted.internet import reactor
from wormhole_tw.net.threads import call_in_thread
call_in_thread(reactor, time.sleep, 1000)
reactor.callLater(0, reactor.stop)
reactor.run()
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, env=program_environment(), check=False)
    assert done.returncode == 0


def told(workers: Workers, call: Callable[[], Any]) -> Deferred[Any]:
    """What comes of a call."""
    found: Deferred[Any] = Deferred()
    workers.run(call, found.callback)
    return found


async def test_workers_are_few(reactor: Any) -> None:
    workers = Workers(reactor, 2)
    go, never = threading.Event(), list[Any]()

    def wait() -> int:
        go.wait(20)
        return threading.get_ident()

    waiting = [told(workers, wait) for _ in range(6)]
    workers.run(lambda: never.append("run"), never.append).cancel()
    broken, after = told(workers, lambda: 1 // 0), [told(workers, wait) for _ in range(3)]
    go.set()
    threads = {await one for one in (*waiting, *after)}
    assert 1 <= len(threads) <= 2
    assert threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        await broken
    assert never == []
    workers.close()
    workers.close()
    workers.run(lambda: never.append("run"), never.append)
    assert await deferToThread(go.wait, 1)
    assert never == []


async def test_nobody_hears_of_what_workers_did_when_they_were_sent_home(reactor: Any) -> None:
    workers, never = Workers(reactor, 1), list[Any]()
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go.wait(20)
        reactor.callFromThread(reactor.callFromThread, ended.set)

    workers.run(call, never.append)
    workers.run(lambda: never.append("run"), never.append)
    assert await deferToThread(begun.wait, 20)
    workers.close()
    go.set()
    assert await deferToThread(ended.wait, 20)
    assert never == []


async def test_who_takes_a_result_badly_holds_nobody_up(reactor: Any, logged_failures: Any) -> None:
    workers = Workers(reactor, 1)
    workers.run(lambda: 0, lambda result: 1 // result)
    assert await told(workers, lambda: 2) == 2
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    workers.close()


async def test_without_threads_the_work_is_done_all_the_same(reactor: Any) -> None:
    workers = Workers(reactor, 1)
    threading.stack_size(1 << 46)  # bytes, which no machine has
    try:
        alone = told(workers, threading.get_ident)
    finally:
        threading.stack_size(0)
    assert await alone == threading.get_ident()
    assert await told(workers, threading.get_ident) != threading.get_ident()
    workers.close()
