"""What the bridge tells those who wait for it."""

from __future__ import annotations

from typing import Any, cast

from wormhole_tw.agent.bridge import Bridge


def test_one_who_waits_for_idleness_may_cancel_another() -> None:
    bridge = Bridge(cast(Any, None))
    passage = cast(Any, object())
    bridge._passages.add(passage)
    told: list[str] = []
    first, second, third, fourth = (bridge.when_idle() for _ in range(4))
    first.addCallback(lambda _: second.cancel()).addErrback(lambda failure: told.append(str(failure)))
    second.addErrback(lambda failure: told.append(failure.type.__name__))
    third.addCallback(lambda _: told.append("third"))
    fourth.addErrback(lambda _: told.append("fourth"))
    fourth.cancel()
    bridge.gone(passage)
    assert told == ["fourth", "CancelledError", "third"]
    assert bridge.when_idle().called
