"""Rounds over the records: a share at a time, and nothing told twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.model import Owner
from cni_netdev.core.restore import Release
from cni_netdev.core.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Iterator


def release(sandbox: str, *notes: str) -> Release:
    return Release(Owner("cni", "net", sandbox, "eth0"), (), notes, complete=not notes)


class Engine:
    """Brings home what it is told, each in so many seconds of its own clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 0.0
        self.dead: list[Release | Exception] = []
        self.ended: list[frozenset[str]] = []
        self.told: list[tuple[str, float]] = []

    def recoveries(self, ended: frozenset[str]) -> Iterator[Release]:
        self.ended.append(ended)
        for each in list(self.dead):
            self.now += self.takes
            if isinstance(each, Exception):
                raise each
            yield each

    def rounds(self) -> Rounds:
        return Rounds(self, self._tell, lambda: self.now)

    def _tell(self, release: Release, seconds: float) -> None:
        self.told.append((release.owner.sandbox, seconds))


def test_all_in_one_look_when_it_is_quick() -> None:
    engine = Engine()
    engine.dead = [release("a"), release("b")]
    engine.takes = 0.04
    assert engine.rounds().look() is False
    assert engine.told == [("a", 0.04), ("b", pytest.approx(0.04))]


def test_a_share_at_a_time_when_it_is_not() -> None:
    engine, rounds = Engine(), None
    engine.dead = [release("a"), release("b"), release("c")]
    engine.takes = 0.06
    rounds = engine.rounds()
    assert [rounds.look(), rounds.look(frozenset("x"))] == [True, False]
    assert [each for each, _ in engine.told] == ["a", "b", "c"]
    assert engine.ended == [frozenset()], "who ended meanwhile counts from the next round on"
    rounds.look(frozenset("x"))
    assert engine.ended[1:] == [frozenset("x")]


def test_restarted_it_begins_at_the_beginning() -> None:
    engine = Engine()
    engine.dead = [release("a"), release("b")]
    engine.takes = 1.0
    rounds = engine.rounds()
    assert rounds.look() is True
    rounds.restart()
    assert rounds.look() is True
    assert [each for each, _ in engine.told] == ["a", "a"]


def test_what_stays_away_is_told_again_only_when_it_is_news() -> None:
    engine = Engine()
    rounds = engine.rounds()
    for notes in (["busy"], ["busy"], ["lost"], [], ["lost"]):
        engine.dead = [release("a", *notes)] if notes else []
        rounds.look()
    assert len(engine.told) == 3


def test_an_error_ends_the_round_and_not_the_rounds() -> None:
    engine = Engine()
    engine.dead = [release("a"), OSError("?"), release("b")]
    rounds = engine.rounds()
    with pytest.raises(OSError, match=r"\?"):
        rounds.look()
    engine.dead = [release("b")]
    assert rounds.look() is False
    assert [each for each, _ in engine.told] == ["a", "b"]
