"""A request's limit, by a clock that the tests set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import OutOfTime
from nri_plugin.limits import Limit

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "last_start", "answer"), [(2.0, 1.4, 1.8), (10.0, 7.0, 9.5), (0.1, 0.07, 0.09)]
)
def test_the_last_start_comes_before_the_answer(
    seconds: float, last_start: float, answer: float
) -> None:
    clock = Clock()
    limit = Limit(seconds, clock)
    assert limit.left == pytest.approx(answer)
    clock.now += last_start * 0.999
    limit.check()
    clock.now += last_start * 0.002
    with pytest.raises(OutOfTime, match=f"{seconds:g} s did not suffice"):
        limit.check()
    assert limit.left > 0
    clock.now += seconds
    assert limit.left == 0.0


def test_what_was_given_up_begins_no_further_step() -> None:
    limit = Limit(2.0, Clock())
    assert limit.give_up()
    with pytest.raises(OutOfTime):
        limit.check()
    assert not limit.finish()
    assert limit.give_up(), "its caller was told so already"


def test_why_it_was_given_up_is_told() -> None:
    limit = Limit(2.0, Clock())
    limit.give_up("the runtime left")
    with pytest.raises(OutOfTime, match="the runtime left"):
        limit.check()


def test_what_is_finished_cannot_be_given_up() -> None:
    limit = Limit(2.0, Clock())
    assert limit.finish()
    assert not limit.give_up()
    assert limit.finish()


def test_late_but_not_given_up_is_finished() -> None:
    clock = Clock()
    limit = Limit(2.0, clock)
    clock.now += 100
    assert limit.finish()


def test_two_threads_never_both_have_it() -> None:
    """The other one comes just when this one has seen that it is free."""
    others: list[bool] = []

    class Interrupted(Limit):
        how = ""
        other: Thread | None = None

        @property
        def _over(self) -> str:
            seen = self.how
            if self.other is None:
                self.other = Thread(target=lambda: others.append(self.give_up()))
                self.other.start()
                self.other.join(0.1)  # unless it is kept out, it is through by then
            return seen

        @_over.setter
        def _over(self, how: str) -> None:
            self.how = how

    limit = Interrupted(2.0)
    mine = limit.finish()
    assert limit.other is not None
    limit.other.join()
    assert [mine, *others] == [True, False]


def test_of_two_threads_one_has_it() -> None:
    with ThreadPoolExecutor(2) as threads:
        for _ in range(200):
            limit, barrier = Limit(2.0), Barrier(2)

            def end(how: Callable[[], bool], barrier: Barrier = barrier) -> bool:
                barrier.wait()
                return how()

            ends = [threads.submit(end, how) for how in (limit.finish, limit.give_up)]
            assert sorted(each.result() for each in ends) == [False, True]
