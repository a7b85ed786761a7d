"""What the bench says of its figures; the figures themselves are nobody's test."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.bench.__main__ import PARTS, ROWS, main
from tests.bench.table import Row, Table
from tests.bench.turns import Sample, take_turns

if TYPE_CHECKING:
    from tests.bench.turns import Contenders

FAST, SLOW = ([Sample(float(ms), 1.0) for ms in times] for times in ((9, 10, 11), (11, 12, 13)))


@pytest.mark.parametrize(
    ("row", "figure", "limit"),
    [
        (Row("ours", SLOW, FAST, limit=1.2), "1.20", "1.2, kept"),
        (Row("ours", SLOW, FAST, limit=1.1), "1.20", "1.1, missed"),
        (Row("ours", SLOW, FAST), "1.20", ""),
        (Row("ours", SLOW, FAST, limit=5, beyond=True), "+2.0 ms", "5 ms, kept"),
    ],
)
def test_a_figure_stands_beside_its_limit(row: Row, figure: str, limit: str) -> None:
    cells = [each.strip() for each in row.line().strip("|").split("|")]
    assert cells == ["ours", "12.0", "11.0", "13.0", "1.0", figure, limit]


def test_one_row_can_be_shown_alone() -> None:
    rows = [Row("ours", SLOW, FAST, name="add-one"), Row("theirs", FAST, FAST)]
    lines = Table("One", "x theirs", rows).lines("add-one")
    assert [line for line in lines if line.startswith(("| ours", "| theirs"))] == [rows[0].line()]


def test_every_row_is_of_a_part() -> None:
    assert set(ROWS.values()) == set(PARTS)
    assert not set(ROWS) & set(PARTS)


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add-3"]) == 2
    assert "unknown row or part add-3; known are one, pods" in capsys.readouterr().out


def test_contenders_take_turns_and_the_first_is_not_counted() -> None:
    told: list[str] = []

    def contender(name: str) -> Sample:
        told.append(name)
        return Sample(float(len(told)))

    def named(*names: str) -> Contenders:
        return {each: partial(contender, each) for each in names}

    samples = take_turns(named("a", "b", "c"), named("d"), rounds=20)
    rounds = ["".join(told[at : at + 4]) for at in range(0, len(told), 4)]
    assert len(rounds) == 21
    assert {each[3] for each in rounds} == {"d"}, "phase after phase"
    assert {"".join(sorted(each)) for each in rounds} == {"abcd"}
    assert len(set(rounds)) > 3, "in another order"
    assert [each.ms for each in samples["d"]] == [4.0 * number for number in range(2, 22)]
