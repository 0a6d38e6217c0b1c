"""Agents that come, go, fail and hang while visitors ask, in any order that chance makes: nothing is lost or counted
twice, nobody is answered twice, and no POST reaches two services."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from tests._support import sized
from tests.edge.house import FakeSession, Visitor
from tests.edge.test_dispatch import Home, answer
from wormhole_tw.control.balancing import Balance, BreakerTable, Ejection, Policy, QueueTable, RetriesTable
from wormhole_tw.errors import StreamReset
from wormhole_tw.wire.codes import ResetCode

STEPS = 150


def policy(random: Random) -> Policy:
    return Policy(
        balance=Balance(
            method=random.choice(["p2c", "round_robin", "least_busy", "hash", "sticky"]),
            max_requests=random.choice([0, 0, 1, 3]),
            slow_start=random.choice([0.0, 2.0]),
        ),
        ejection=Ejection(
            failures=random.choice([0, 1, 3]), share=random.choice([0.0, 0.5]), seconds=1.0, longest=4.0, requests=4
        ),
        breaker=random.choice([None, None, BreakerTable(requests=4, seconds=1.0, trials=1)]),
        retries=RetriesTable(
            attempts=random.choice([1, 3]), hedge_after=random.choice([0.0, 0.1, 0.5]), hedge_budget=1.0
        ),
        queue=random.choice([None, QueueTable(requests=3, seconds=1.0)]),
        failover=random.choice([None, "docs"]),
    )


class Walk:
    """One walk.

    :ivar asking: visitors whose request runs, by its number
    :ivar answers: how many each got
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.house = Home(policy(self.random), agents=2, connect=1.0, first_byte=3.0)
        self.instances = 2
        self.asking: dict[int, Visitor] = {}
        self.answers: Counter[int] = Counter()
        self.number = 0
        self.untouched: set[Any] = set()  # streams of which the service has done nothing with the last request

    def step(self) -> None:
        random = self.random
        moves = (self.ask, self.ask, self.ask, self.serve, self.serve, self.serve, self.fail, self.leave, self.wait)
        move = random.choice(moves) if random.random() < 0.85 else random.choice((self.come, self.go, self.hold))
        move()

    def ask(self) -> None:
        self.number += 1
        visitor = self.house.visitor(address=f"192.0.2.{self.number % 200}")
        self.asking[self.number] = visitor
        if self.random.random() < 0.3:
            visitor.says(f"POST /{self.number} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab")
        else:
            visitor.says(f"GET /{self.number} HTTP/1.1\r\nHost: app.test\r\n\r\n")
        self.look()

    def serve(self) -> None:
        busy = self.house.busy()
        if busy:
            status = self.random.choice([200, 200, 200, 404, 500, 503])
            self.random.choice(busy)[1].deliver(answer(status))
        self.look()

    def fail(self) -> None:
        busy = self.house.busy()
        if busy:
            code = self.random.choice(
                [ResetCode.REFUSED, ResetCode.SERVICE_FAILED, ResetCode.OVER_LIMIT, ResetCode.UNREACHABLE]
            )
            stream = self.random.choice(busy)[1]
            delivered = code is ResetCode.SERVICE_FAILED
            if not delivered:
                stream.read()
                self.untouched.add(stream)
            stream.reset(code, delivered=delivered)
        self.look()

    def leave(self) -> None:
        if self.asking:
            number = self.random.choice(list(self.asking))
            self.asking.pop(number).lose()

    def wait(self) -> None:
        self.house.clock.advance(self.random.choice([0.01, 0.1, 0.3, 1.0, 4.0]))
        self.look()

    def come(self) -> None:
        self.instances += 1
        backend = self.random.choice(["app", "app", "docs"])
        self.house.sessions.append(self.house.agent(backend, instance=self.instances))
        self.look()

    def go(self) -> None:
        here = [session for session in self.house.sessions if session in self.house.registry.all()]
        if here:
            session: FakeSession = self.random.choice(here)
            if self.random.random() < 0.5:
                session.die()
            else:
                session.leave()
        self.look()

    def hold(self) -> None:
        session: FakeSession = self.random.choice(self.house.sessions)
        how = self.random.random()
        if how < 0.3:
            session.refuse = StreamReset(ResetCode.UNREACHABLE, "refused", delivered=False)
        elif how < 0.6:
            session.refuse, session.slow = None, []
        else:
            for waiting in session.slow or ():
                if not waiting.called:
                    waiting.callback(None)
            session.refuse = session.slow = None
        if self.random.random() < 0.2:
            self.house.reload(policy(self.random))
        self.look()

    def look(self) -> None:
        """Who has an answer is done, and leaves."""
        for number, visitor in list(self.asking.items()):
            found = visitor.answers([b"GET"]) if visitor.queued else []
            if found:
                assert len(found) == 1
                self.answers[number] += 1
                del self.asking[number]
                visitor.lose()

    def end(self) -> None:
        """Time goes by until everybody has an answer."""
        for session in self.house.sessions:
            session.slow = session.refuse = None
        for _ in range(60):
            if not self.asking:
                break
            self.house.pass_time(1)
            self.look()
        assert not self.asking, "somebody waits for ever"
        for group in self.house.context.dispatch:
            assert [(member.active, member.waiting) for member in group.standings] == [(0, 0)] * len(group.standings)
            assert not group.queue
        self.house.close()
        assert set(self.answers.values()) <= {1}
        self.posts()

    def posts(self) -> None:
        """Of the POSTs that a service had whole, each was had once, unless one said that it did nothing with it."""
        had: Counter[bytes] = Counter()
        for stream in self.house.streams:
            requests = stream.requests()
            if stream in self.untouched:
                requests.pop()
            had.update(head.target for head, body, _ in requests if head.method == b"POST" and body == b"ab")
        assert all(count == 1 for count in had.values()), had


@pytest.mark.deadline(300)
@pytest.mark.parametrize("part", range(4))
def test_any_order(part: int, logged_failures: Any) -> None:
    for seed in range(part, sized(60, 4000), 4):
        walk = Walk(seed)
        try:
            for _ in range(STEPS):
                walk.step()
            walk.end()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
