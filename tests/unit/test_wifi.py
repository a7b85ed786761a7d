"""A Wi-Fi link: it goes with its phy, alone, and comes home without what a pod put on that."""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest

from cni_netdev.core.errors import NetdevError, PolicyRefused
from cni_netdev.core.guards import always_refused
from cni_netdev.core.model import IFF_UP, Phy
from tests.fakes import FakeLink, FakePhy, Killed
from tests.workbench import FULL, OWNER, PATH, Bench, new_bench, request

STATION, MONITOR = 2, 6


def radio(bench: Bench) -> FakeLink:
    """The first link is one of a phy, tied to its namespace as the kernel says."""
    phy = Phy(0, "phy0", STATION)
    identity = bench.first.link.identity._replace(perm_mac="02:00:00:00:00:99", bus="hwsim0")
    bench.world.phys[0] = FakePhy(bench.world.host, identity)
    bench.first.link = bench.first.link._replace(identity=identity)
    bench.first.link = bench.first.link._replace(kind=None, immutable=True, phy=phy)
    return bench.first


def mate(bench: Bench, name: str, path: str = "") -> FakeLink:
    cookie = bench.world.paths[path] if path else bench.world.host
    made = bench.world.add_link(name, kind=None, namespace=cookie)
    made.link = made.link._replace(phy=Phy(0, "phy0", MONITOR))
    return made


def names(bench: Bench, path: str = "") -> list[str]:
    cookie = bench.world.paths[path] if path else bench.world.host
    return sorted(each.link.name for each in bench.world.namespaces[cookie].values())


def test_it_goes_and_comes_home_with_all_that_it_was(bench: Bench) -> None:
    radio(bench)
    before = bench.at_home()
    bench.attach(FULL)
    assert names(bench, PATH) == ["net1"]
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before
    bench.nothing_left()


def test_a_phy_with_further_links_stays(bench: Bench) -> None:
    radio(bench)
    mate(bench, "mon0")
    events = len(bench.world.events)
    with pytest.raises(
        PolicyRefused, match="phy0, the phy that it moves with, has more links: mon"
    ):
        bench.attach(FULL)
    assert len(bench.world.events) == events


def test_that_it_is_tied_to_its_namespace_is_no_reason(bench: Bench) -> None:
    assert always_refused(radio(bench).link) == ""


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
def test_what_a_pod_did_is_undone(bench: Bench, end: str) -> None:
    fake = radio(bench)
    before = bench.at_home()
    bench.attach(FULL)
    mate(bench, "mon0", PATH)
    fake.link = fake.link._replace(phy=Phy(0, "mine", MONITOR))
    if end != "returned":
        bench.world.remove_path(PATH)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ()
    assert bench.at_home() == before
    assert "mon0" not in names(bench)
    bench.nothing_left()


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
def test_what_a_pod_made_does_not_take_the_links_name_at_home(bench: Bench, end: str) -> None:
    """Its own name is taken on the host: the kernel gives it the first that is free there."""
    fake = radio(bench)
    fake.link = fake.link._replace(settings=fake.link.settings._replace(name="wlan0"))
    before = bench.at_home()
    bench.attach(request("wlan0", new_name="air0"))
    mate(bench, "eth2", PATH)
    bench.world.clinging.add(bench.world.paths[PATH])
    if end != "returned":
        bench.world.remove_path(PATH)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes) == (("wlan0",), ())
    assert bench.at_home() == before
    bench.nothing_left()


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
@pytest.mark.parametrize("instead", [None, "mon0"])
def test_a_link_that_a_pod_deleted_is_made_anew(
    bench: Bench, instead: str | None, end: str
) -> None:
    fake = radio(bench)
    before = bench.at_home()
    bench.attach(FULL)
    del bench.world.namespaces[bench.world.paths[PATH]][fake.ifindex]
    if instead:
        mate(bench, instead, PATH)
    if end != "returned":
        bench.world.remove_path(PATH)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.lost, release.complete) == (("eth1",), 0, True)
    made = bench.world.named(bench.world.host, "eth1")
    assert made is not None
    assert made.everything() == before[0]
    assert "mon0" not in names(bench)
    bench.nothing_left()


def test_a_type_is_set_back_though_a_daemon_brought_the_link_up(bench: Bench) -> None:
    fake = radio(bench)
    bench.attach(FULL)
    bench.world.remove_path(PATH)
    up = fake.link.settings._replace(flags=fake.link.settings.flags | IFF_UP)
    fake.link = fake.link._replace(settings=up, phy=Phy(0, "phy0", MONITOR))
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ()
    assert fake.link.phy == Phy(0, "phy0", STATION)


def test_what_stays_on_the_phy_in_the_pod_is_taken_off_at_home(bench: Bench) -> None:
    radio(bench)
    before = bench.at_home()
    bench.world.clinging.add(bench.world.paths[PATH])
    a_round(bench)
    assert bench.at_home() == before
    assert "mon0" not in names(bench)
    bench.nothing_left()


def events_of_a_round() -> int:
    bench = new_bench()
    radio(bench)
    a_round(bench)
    return len(bench.world.events)


def a_round(bench: Bench) -> None:
    bench.attach(FULL)
    mate(bench, "mon0", PATH)
    bench.first.link = bench.first.link._replace(phy=Phy(0, "mine", MONITOR))
    bench.engine.detach(OWNER.key)


def test_killed_anywhere_a_further_detach_brings_it_home() -> None:
    for number in range(1, events_of_a_round() + 1):
        bench = new_bench()
        radio(bench)
        before = bench.at_home()
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            a_round(bench)
        bench.journal.locks.clear()
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        bench.nothing_left()


def test_refused_anywhere_all_is_undone_or_retried() -> None:
    for number in range(1, events_of_a_round() + 1):
        bench = new_bench()
        radio(bench)
        before = bench.at_home()
        bench.world.fail_at(number, errno.EBUSY)
        with suppress(NetdevError):
            a_round(bench)
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        bench.nothing_left()
