"""What a pod stacked on a link, wherever it hid that: over the fakes, through the engine."""

from __future__ import annotations

from itertools import count

import pytest

from cni_netdev.core.errors import DeviceHeld
from cni_netdev.core.overhearing import silence
from cni_netdev.core.policy import parse_policy
from tests.fakes import Killed
from tests.workbench import OTHER, OTHER_PATH, OWNER, PATH, POD, Bench, new_bench, request

FURTHER = "/run/netns/further"


@pytest.fixture
def bench() -> Bench:
    made = new_bench()
    made.attach(request(new_name="net1"))
    return made


def spy(bench: Bench, path: str, *, kind: str = "macvlan", known: bool = False) -> int:
    """A link on the lent one, in the namespace at a path; gives that one's cookie."""
    world = bench.world
    cookie = world.paths.get(path) or world.add_namespace(path)
    world.add_link("spy", namespace=cookie, kind=kind, on=bench.first)
    bench.first.link = bench.first.link._replace(uppers=())  # not seen from elsewhere
    if known:
        world.known.setdefault(world.paths[PATH], set()).add(cookie)
    return cookie


@pytest.mark.parametrize(("kind", "known"), [("macvlan", True), ("vlan", True), ("macvlan", False)])
def test_what_is_hidden_in_a_further_namespace_goes_and_is_told(
    bench: Bench, kind: str, *, known: bool
) -> None:
    cookie = spy(bench, FURTHER, kind=kind, known=known)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ("eth1: deleted what the pod had left on it: spy",)
    assert bench.world.namespaces[cookie] == {}
    assert release.complete


def test_what_cannot_be_found_keeps_the_link_down_and_on_record_until_it_is_gone(
    bench: Bench,
) -> None:
    cookie = spy(bench, FURTHER)
    bench.world.out_of_sight.add(cookie)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.complete, release.devices) == (False, ())
    assert "eth1 is back but stays down" in release.notes[0]
    assert not bench.first.link.settings.up
    with pytest.raises(DeviceHeld, match="c1/eth0"):
        bench.attach(request(), owner=OTHER, path=OTHER_PATH)
    bench.world.remove_path(FURTHER)
    assert [each.devices for each in bench.engine.recover()] == [("eth1",)]
    assert bench.first.link.settings.up
    bench.nothing_left()


def test_what_hung_on_it_before_it_was_lent_is_the_hosts(bench: Bench) -> None:
    bench.engine.detach(OWNER.key)
    cookie = bench.world.add_namespace(FURTHER)
    bench.world.add_link("theirs", namespace=cookie, kind="macvlan", on=bench.second)
    bench.second.link = bench.second.link._replace(uppers=())
    policy = parse_policy({"rules": [{"allow": {"names": ["eth2"]}}]})
    bench.engine.attach(OWNER, PATH, (request("eth2"),), policy, POD)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ()
    assert len(bench.world.namespaces[cookie]) == 1


def test_where_the_pods_namespace_is_gone_all_others_are_looked_at(bench: Bench) -> None:
    spy(bench, FURTHER)
    host = bench.kernel.host
    bench.world.move(
        bench.world.paths[PATH], bench.first.ifindex, host.cookie, bench.first.link.settings
    )
    home = bench.journal.records()[0].devices[0].home
    silenced = silence(bench.kernel, home, bench.first.link, None)
    assert silenced.heard is False
    assert "spy" in silenced.notes[0]


def test_a_link_that_nothing_hangs_on_costs_no_look_at_other_namespaces(bench: Bench) -> None:
    bench.world.events.clear()
    bench.engine.detach(OWNER.key)
    assert [each for each in bench.world.events if "on" in each.split()] == []


def test_killed_at_any_event_nothing_goes_on_listening() -> None:
    for number in count(1):
        bench = new_bench()
        bench.attach(request(new_name="net1"))
        cookie = spy(bench, FURTHER)
        bench.world.kill_at(number)
        try:
            bench.engine.detach(OWNER.key)
        except Killed:
            bench.journal.locks.clear()
            bench.engine.detach(OWNER.key)
            assert bench.world.namespaces[cookie] == {}
            assert bench.first.link.settings.up
            bench.nothing_left()
        else:
            assert number > 10
            return
