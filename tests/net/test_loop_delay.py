"""How late the reactor is."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from wormhole_tw.net.loop_delay import EVERY, LoopDelay


def test_it_says_how_late_it_was() -> None:
    clock, seen = Clock(), list[float]()
    delay = LoopDelay(clock, seen.append)
    delay.start()
    delay.start()
    clock.advance(EVERY)
    clock.advance(EVERY + 0.25)
    clock.advance(EVERY)
    assert seen == pytest.approx([0.0, 0.25, 0.0])
    delay.stop()
    delay.stop()
    assert clock.getDelayedCalls() == []
