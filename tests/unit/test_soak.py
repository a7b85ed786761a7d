"""The soak's plan, its words and its table; the soak itself is e2e/test_soak."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.soak import links, plan
from tests.soak.answers import RUNTIMES_OWN, reason, reason_of_containerd
from tests.soak.chronicle import Chronicle
from tests.soak.node import Sample
from tests.soak.table import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = [plan.draw("seed", number) for number in range(60)]


def steps(rounds: list[plan.Round]) -> Iterator[plan.Step]:
    for each in rounds:
        for bout in each.bouts:
            for lane in bout.lanes:
                yield from lane


def test_a_round_can_be_drawn_again_by_itself() -> None:
    assert [plan.draw("seed", number) for number in (7, 3)] == [ROUNDS[7], ROUNDS[3]]
    assert plan.draw("another", 7) != ROUNDS[7]
    assert len(set(map(str, ROUNDS))) == len(ROUNDS)


def test_everything_that_can_happen_does() -> None:
    drawn = list(steps(ROUNDS))
    done = {(step.front, step.what, step.how) for step in drawn}
    assert {how for _, what, how in done if what == "tamper"} == set(plan.TAMPERINGS)
    for front, endings in plan.ENDINGS.items():
        assert {how for who, what, how in done if (who, what) == (front, "end")} == set(endings)
    assert {how for who, what, how in done if what == "start" and who == "cni"} == set(
        plan.CHANNELS
    )
    bouts = [bout for each in ROUNDS for bout in each.bouts]
    assert {kill.victim for bout in bouts for kill in bout.kills} == set(plan.VICTIMS)
    assert {bout.at_rest for bout in bouts} == set(plan.AT_REST)
    assert {each.closing for each in ROUNDS} == set(plan.CLOSINGS)
    assert {each.chained for each in ROUNDS} == {True, False}
    wishes = [step.wish for step in drawn if step.what == "start"]
    faults = {wish.fault for wish in wishes}
    assert faults == {"", "malformed", "missing", "denied", "guarded", "inapplicable"}
    assert {len(wish.devices) for wish in wishes} == {0, 1, 2, 3}
    assert {name for wish in wishes for name in wish.links} == set(links.BY_NAME)


def test_only_a_pod_that_was_started_and_has_not_ended_does_anything() -> None:
    for each in ROUNDS:
        alive: set[str] = set()
        for lane in zip(*(bout.lanes for bout in each.bouts), strict=True):
            for step in (step for steps in lane for step in steps):
                if step.what == "start":
                    assert step.pod not in alive
                    alive.add(step.pod)
                elif step.what == "end":
                    alive.remove(step.pod)
                elif step.front != "operator":
                    assert step.pod in alive


def test_most_pods_ask_for_what_they_can_have() -> None:
    faults = Counter(step.wish.fault for step in steps(ROUNDS) if step.what == "start")
    assert faults[""] > 0.7 * faults.total()


def test_a_link_is_known_by_its_mark() -> None:
    assert len(links.BY_MARK) == len(links.BY_NAME) == len(links.LENDABLE)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("link secret0 stays on the host: policy.rules[0] (deny)", "denied"),
        ("link port0 stays on the host: it is a port of a bridge", "guarded"),
        ("name 'nic1' is held by c1/eth0", "held"),
        ("netplugin failed with no error message: signal: killed", "killed"),
        ("something that nobody foresaw", "something that nobody foresaw"),
    ],
)
def test_refusals_are_told_apart(answer: str, why: str) -> None:
    assert reason(answer) == why


def test_containerds_own_troubles_are_none_of_ours() -> None:
    assert reason_of_containerd("failed to rename snapshots/315: file exists") == RUNTIMES_OWN
    ours = "network device injector: something that nobody foresaw"
    assert reason_of_containerd(ours) == ours
    assert reason_of_containerd("name 'nic1' is held by c1/eth0") == "held"


def test_a_history_has_what_concerns_the_link_and_what_concerns_all() -> None:
    chronicle = Chronicle()
    chronicle.tell("a", "of this one", ["nic1"])
    chronicle.tell("b", "of another", ["nic2"])
    chronicle.tell("c", "of\nall")
    assert [line.split(maxsplit=1)[1] for line in chronicle.history("nic1")] == [
        "a: of this one",
        "c: of all",
    ]
    assert len(chronicle.history("unknown")) == 3
    chronicle.next_round()
    assert chronicle.history("nic1") == []


def test_the_table_has_every_number() -> None:
    chronicle = Chronicle()
    chronicle.count("pods", "cni", 3)
    chronicle.count("pods", "cri", 4)
    chronicle.count("killed", "containerd")
    chronicle.count("checks")
    text = markdown(chronicle, [Sample(2048, 11), Sample(3072, 12)], "7", "a machine")
    assert "| pods | 7 | 4 cri; 3 cni |" in text
    assert "| killed | 1 | 1 containerd |" in text
    assert "| CHECK | 1 |  |" in text
    assert "| **lost** | **0** | |" in text
    assert "| memory, MiB | 2.0 | 3.0 |" in text
    assert "SEED=7; a machine" in text
