"""Pins over the life of mount namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import StateError
from cni_netdev.core.pinning import Pinning
from tests.workbench import FULL, OTHER, OTHER_PATH, OWNER, PATH, Bench, request

if TYPE_CHECKING:
    from cni_netdev.core.model import Record
    from cni_netdev.core.ports import Key, Netns


def pinned_in(bench: Bench) -> dict[Key, int]:
    return {key: record.pinned_in for key, record in bench.journal.kept.items()}


def test_after_a_restart_the_namespace_is_pinned_anew(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(FULL)
    pins = dict(bench.journal.pins)
    bench.journal.enter_new_mount_namespace()
    assert not bench.journal.pins
    assert bench.engine.repin("cni") == ()
    assert bench.journal.pins == pins
    assert pinned_in(bench) == {OWNER.key: 2}
    assert not bench.journal.locks
    bench.world.remove_path(PATH)
    bench.engine.recover()
    assert bench.at_home() == before
    bench.nothing_left()


def test_what_is_pinned_here_already_is_left_alone(bench: Bench) -> None:
    bench.attach(FULL)
    events = list(bench.world.events)
    assert bench.engine.repin("cni") == ()
    bench.journal.enter_new_mount_namespace()
    bench.engine.repin("cni")
    assert bench.world.events == [*events, "pin", "journal write"]
    bench.engine.repin("cni")
    assert bench.world.events == [*events, "pin", "journal write"]


def test_the_other_front_ends_pins_are_its_own_business(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    assert bench.engine.repin("nri") == ()
    assert not bench.journal.pins


def test_what_needs_no_pin_gets_none(bench: Bench) -> None:
    bench.world.add_link("nic0", kind=None, bus="0000:01:00.0")
    bench.attach(request("nic0"))
    bench.journal.enter_new_mount_namespace()
    assert bench.engine.repin("cni") == ()
    assert not bench.journal.pins
    assert pinned_in(bench) == {OWNER.key: 0}


def test_hardware_is_pinned_where_it_would_not_come_back_by_itself(bench: Bench) -> None:
    bench.kernel.initial_netns = False
    bench.world.add_link("nic0", kind=None, bus="0000:01:00.0")
    bench.attach(request("nic0"))
    assert bench.journal.pins == {OWNER.key: bench.world.paths[PATH]}


def test_a_pin_that_was_never_made_is_made(bench: Bench) -> None:
    """Killed between the record and its pin, in this very mount namespace."""
    bench.attach(FULL)
    bench.journal.unpin(OWNER.key)
    assert bench.engine.repin("cni") == ()
    assert bench.journal.pins == {OWNER.key: bench.world.paths[PATH]}


def test_a_pin_that_is_not_on_record_is_put_there(bench: Bench) -> None:
    """Killed between the new pin and its record."""
    bench.attach(FULL)
    stale = bench.journal.kept[OWNER.key]
    bench.journal.enter_new_mount_namespace()
    bench.engine.repin("cni")
    bench.journal.kept[OWNER.key] = stale
    assert bench.engine.repin("cni") == ()
    assert pinned_in(bench) == {OWNER.key: 2}


def test_one_that_cannot_be_pinned_is_told_and_keeps_no_other_back(bench: Bench) -> None:
    bench.attach(FULL)
    bench.attach(request("eth2"), owner=OTHER, path=OTHER_PATH)
    bench.journal.enter_new_mount_namespace()
    del bench.world.paths[PATH]
    (note,) = bench.engine.repin("cni")
    assert note.startswith("c1/eth0 is not pinned here: ")
    assert PATH in note
    assert pinned_in(bench) == {OWNER.key: 1, OTHER.key: 2}
    assert list(bench.journal.pins) == [OTHER.key]


def test_another_namespace_at_the_path_is_not_pinned(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    bench.world.paths[PATH] = bench.world.paths[OTHER_PATH]
    (note,) = bench.engine.repin("cni")
    assert f"another namespace is at {PATH}" in note
    assert not bench.journal.pins
    assert pinned_in(bench) == {OWNER.key: 1}


def test_a_record_of_another_boot_is_not_pinned(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    bench.kernel.boot_id = "another-boot"
    bench.engine.repin("cni")
    assert not bench.journal.pins


def test_a_record_that_is_worked_on_is_told(bench: Bench) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    with bench.journal.lock("attachment-cni-c1-eth0"):
        (note,) = bench.engine.repin("cni")
    assert "is locked" in note
    assert not bench.journal.pins


def test_a_record_that_went_since_it_was_listed_stays_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    listed = bench.journal.records()
    bench.engine.detach(OWNER.key)

    def records() -> tuple[Record, ...]:
        return listed

    monkeypatch.setattr(bench.journal, "records", records)
    assert bench.engine.repin("cni") == ()
    bench.nothing_left()


def test_a_pin_that_is_refused_leaves_the_record_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()

    def refuse(key: Key, netns: Netns) -> None:
        raise StateError(f"cannot pin {key} {netns.cookie}")

    monkeypatch.setattr(bench.journal, "pin", refuse)
    (note,) = bench.engine.repin("cni")
    assert "cannot pin" in note
    assert pinned_in(bench) == {OWNER.key: 1}


def test_a_pin_that_is_half_made_goes_with_its_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attach(FULL)
    record = bench.journal.kept[OWNER.key]
    whole = bench.journal.pin

    def half(key: Key, netns: Netns) -> None:
        whole(key, netns)
        raise StateError("cannot mount")

    monkeypatch.setattr(bench.journal, "pin", half)
    with pytest.raises(StateError):
        Pinning(bench.kernel, bench.journal).keep(record, bench.kernel.open(PATH))
    bench.nothing_left()


@pytest.mark.parametrize("old_one_lives", [True, False])
def test_a_pod_that_ended_while_nothing_was_pinned_is_lost_unless_a_pin_may_be_elsewhere(
    bench: Bench, *, old_one_lives: bool
) -> None:
    bench.attach(FULL)
    bench.journal.enter_new_mount_namespace()
    if old_one_lives:
        bench.journal.living_mount_namespaces.add(1)
    bench.world.remove_path(PATH)
    (release,) = bench.engine.recover()
    assert release.complete is not old_one_lives
    if old_one_lives:
        assert "pinned in mount namespace 1, the runtime's: run this there" in release.notes[0]
        assert bench.journal.kept
    else:
        assert release.notes == ("eth1 is lost: it is neither on the host nor in the pod",)
        assert not bench.journal.kept
