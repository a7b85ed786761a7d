"""Who is dead, and that only the dead are robbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import StateError
from cni_netdev.core.recover import Recoverer
from cni_netdev.core.restore import Restorer
from tests.workbench import (
    FULL,
    NO_POLICY,
    OTHER,
    OTHER_PATH,
    OWNER,
    PATH,
    POD,
    Bench,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.restore import Release

ENDED = frozenset([OWNER.sandbox])


def lent(bench: Bench, *, path_gone: bool, occupied: bool, refused: bool) -> None:
    bench.attach(FULL)
    if occupied:
        bench.world.occupied.add(bench.world.paths[PATH])
    if path_gone:
        bench.world.remove_path(PATH)
    bench.kernel.scan_refused = refused


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("occupied", [False, True])
@pytest.mark.parametrize("path_gone", [False, True])
def test_a_sandbox_is_dead_when_nothing_speaks_for_its_life(
    bench: Bench, *, path_gone: bool, occupied: bool, refused: bool, ended: bool
) -> None:
    before = bench.at_home()
    lent(bench, path_gone=path_gone, occupied=occupied, refused=refused)
    releases = bench.engine.recover(ended=ENDED if ended else frozenset())
    dead = path_gone and not occupied and (ended or not refused)
    assert [each.devices for each in releases] == ([("eth1",)] if dead else [])
    if dead:
        assert bench.at_home() == before
        bench.nothing_left()
    else:
        assert bench.journal.kept[OWNER.key].complete
        assert not bench.journal.locks


def test_one_sandboxs_end_is_not_anothers(bench: Bench) -> None:
    lent(bench, path_gone=True, occupied=False, refused=True)
    bench.attach(request("eth2"), owner=OTHER, path=OTHER_PATH)
    bench.world.remove_path(OTHER_PATH)
    assert [each.owner for each in bench.engine.recover(ended=ENDED)] == [OWNER]
    assert list(bench.journal.kept) == [OTHER.key]


def test_an_end_counts_in_the_host_of_the_record_only(bench: Bench) -> None:
    lent(bench, path_gone=True, occupied=False, refused=False)
    bench.journal.kept[OWNER.key] = bench.journal.kept[OWNER.key]._replace(host=77)
    assert bench.engine.recover(ended=ENDED) == ()


def test_a_record_that_is_worked_on_is_left_alone(bench: Bench) -> None:
    lent(bench, path_gone=True, occupied=False, refused=True)
    with bench.journal.lock("attachment-cni-c1-eth0"):
        assert bench.engine.recover(ended=ENDED) == ()
    assert len(bench.engine.recover(ended=ENDED)) == 1


def test_what_came_to_life_since_it_was_read_is_left_alone(bench: Bench) -> None:
    """The sandbox ended and one of the same id took its place, between the look and the lock."""
    lent(bench, path_gone=True, occupied=False, refused=True)
    stale = bench.journal.kept[OWNER.key]
    bench.engine.detach(OWNER.key)
    bench.world.add_namespace(PATH)
    bench.attach(FULL)
    recoverer = Recoverer(bench.kernel, bench.journal, Restorer(bench.kernel, bench.journal))
    assert not recoverer.alive(stale, ended=True)
    assert recoverer.if_dead(stale, ended=True) is None
    assert bench.engine.check(OWNER.key, PATH, {}) == ()


@pytest.mark.parametrize("resident", [False, True])
def test_others_are_brought_home_in_passing_unless_somebody_stays_to_do_it(
    bench: Bench, *, resident: bool
) -> None:
    lent(bench, path_gone=True, occupied=False, refused=False)
    engine = Injector(bench.kernel, bench.journal, resident=resident)
    engine.detach(OTHER.key)
    assert (OWNER.key in bench.journal.kept) == resident
    engine.attach(OTHER, OTHER_PATH, (request("eth1"),), NO_POLICY, POD)
    assert OWNER.key not in bench.journal.kept, "its link was asked for"


def test_recoveries_are_made_as_they_are_asked_for(bench: Bench) -> None:
    lent(bench, path_gone=True, occupied=False, refused=False)
    rest = bench.engine.recoveries()
    assert bench.journal.kept
    assert next(rest).devices == ("eth1",)
    bench.nothing_left()
    assert list(rest) == []


WAYS: dict[str, Callable[[Injector], tuple[Release | None, ...]]] = {
    "recover": lambda engine: engine.recover(),
    "reap": lambda engine: tuple(engine.reap(front="cni", network="net", valid=None)),
    "detach": lambda engine: (engine.detach(OWNER.key),),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_pin_whose_record_was_taken_away_is_let_go_and_told(bench: Bench, way: str) -> None:
    """What was lent can be told by nobody; a namespace that is kept for ever would be worse."""
    bench.attach(FULL)
    bench.world.remove_path(PATH)
    bench.journal.kept.clear()
    (release,) = WAYS[way](bench.engine)
    assert release is not None
    assert (release.owner.sandbox, release.owner.ifname) == ("c1", "eth0")
    assert release.complete
    assert "record was taken away" in release.notes[0]
    assert "net1" in release.notes[0]
    bench.nothing_left()
    assert len(bench.world.namespaces) == 2, "the host's and the other pod's"


def test_a_pin_that_is_being_made_is_not_let_go(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.kept.clear()
    with bench.journal.lock("attachment-cni-c1-eth0"):
        assert bench.engine.recover() == ()
    assert bench.journal.pins


def test_what_keeps_a_pin_from_being_let_go_is_told(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.kept.clear()
    bench.world.interrupt(1, refuse)
    (release,) = bench.engine.recover()
    assert (release.complete, release.notes) == (False, ("busy",))
    assert len(bench.engine.recover()) == 1
    bench.nothing_left()


def refuse() -> None:
    raise StateError("busy")
