"""The worker's one thread, with a clock that the test holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nri_plugin.worker import Worker
from tests.unit.nri.peer import PATIENCE, Gate

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> Iterator[Worker]:
    with Worker(clock) as made:
        yield made


def test_it_says_how_long_it_has_been_at_one_thing(timed: Worker, clock: Clock) -> None:
    gates = [Gate(), Gate()]
    assert timed.busy == 0
    futures = [timed.submit(gate) for gate in gates]
    for gate, future in zip(gates, futures, strict=True):
        gate.wait()
        assert timed.busy == 0, "it has just begun"
        clock.now += 7
        assert timed.busy == 7
        gate.open()
        future.result(PATIENCE)
    timed.submit(int).result(PATIENCE)
    clock.now += 7
    assert timed.busy == 0


def test_a_failure_ends_a_thing_too(timed: Worker, clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        timed.submit(divmod, 1, 0).result(PATIENCE)
    clock.now += 7
    assert timed.busy == 0


def test_what_it_is_given_comes_back(timed: Worker) -> None:
    assert timed.submit(sorted, [2, 1], reverse=False).result(PATIENCE) == [1, 2]
