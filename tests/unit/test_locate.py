"""Finding a link that its pod moves on all the time, over fakes that do so at every look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import NetdevError
from cni_netdev.core.locate import Locator
from tests.fakes import FakeKernel, FakeNetns
from tests.workbench import OWNER, PATH, Bench, new_bench, request

if TYPE_CHECKING:
    from cni_netdev.core.model import Identity, Link
    from cni_netdev.core.ports import Netns

FURTHER = "/run/netns/further"


class _Evasive(FakeNetns):
    """Finds the link only at the n-th look; asked without waiting it is seen sooner."""

    looks_left = 0
    seen = True

    def link(self, *, ifindex: int = 0, name: str = "") -> Link | None:
        return None if _Evasive.looks_left >= 0 else super().link(ifindex=ifindex, name=name)

    def find(self, identity: Identity) -> Link | None:
        _Evasive.looks_left -= 1
        return super().find(identity) if _Evasive.looks_left < 0 else None

    def holds(self, identity: Identity) -> bool:
        return _Evasive.seen and super().find(identity) is not None


class _EvasiveKernel(FakeKernel):
    @property
    def host(self) -> FakeNetns:
        return FakeNetns(self.world, self.world.host)

    def open(self, path: str) -> FakeNetns:
        return _Evasive(self.world, self.world.paths[path])


@pytest.fixture
def bench() -> Bench:
    made = new_bench()
    made.attach(request(new_name="net1"))
    return made


def locate(bench: Bench, looks: int, *, seen: bool = True) -> tuple[Netns, Link] | None:
    _Evasive.looks_left, _Evasive.seen = looks, seen
    (record,) = bench.journal.records()
    locator = Locator(_EvasiveKernel(bench.world), bench.journal, record, None)
    try:
        return locator.find(record.devices[0])
    finally:
        locator.close()


def test_one_look_that_misses_does_not_make_it_lost(bench: Bench) -> None:
    found = locate(bench, 2)
    assert found is not None
    assert found[0].cookie == bench.world.paths[PATH]


def test_what_is_seen_and_not_caught_is_away_and_not_lost(bench: Bench) -> None:
    with pytest.raises(NetdevError, match="from namespace to namespace"):
        locate(bench, 1000)


def test_what_is_not_seen_at_all_is_lost(bench: Bench) -> None:
    assert locate(bench, 1000, seen=False) is None


def test_what_was_moved_on_before_it_could_be_taken_is_looked_for_again(bench: Bench) -> None:
    """The kernel says ENODEV to a move from where it is no more."""
    world = bench.world
    further = world.add_namespace(FURTHER)
    world.occupied.add(further)

    def move_on() -> None:
        settings = bench.first.link.settings
        world.move(world.paths[PATH], bench.first.ifindex, further, settings)

    world.interrupt(2, move_on)  # the record is written first
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes) == (("eth1",), ())
