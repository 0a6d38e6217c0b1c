"""What the tests of programs stand on: a failure says what the programs said."""

from __future__ import annotations

import pytest

from tests.end_to_end.programs import programs, wait_until

SAYS = "print('no such key: $.edge', flush=True); input()"


def test_who_does_not_come_up_is_heard_whatever_ends_the_waiting() -> None:
    def comes_up() -> None:
        with programs() as mine:
            mine.python("edge", "-c", SAYS).wait_for("no such key")
            raise TimeoutError

    with pytest.raises(TimeoutError) as caught:
        comes_up()
    assert caught.value.__notes__[0].startswith("--- edge ---\nno such key: $.edge")


def test_looking_until_it_is_so_ends() -> None:
    looks = iter([False, False, True])
    assert wait_until(lambda: next(looks), 30) < 30
    with pytest.raises(AssertionError, match=r"within 0\.1 s"):
        wait_until(lambda: False, 0.1)
    with programs() as mine:
        program = mine.python("edge", "-c", SAYS)
        program.wait()
        with pytest.raises(AssertionError, match=r"(?s)edge has ended.*no such key") as caught:
            wait_until(lambda: False, 30, program=program)
        assert "within" not in str(caught.value)
