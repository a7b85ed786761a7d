"""Addresses from elsewhere, over the fake kernel: none stays leased, whatever fails or dies.

What the plugin itself is told and says is e2e/test_ipam's and test_ipam's.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import result
from cni_netdev.core.errors import CannotApply, KernelRefused, LeaseRefused
from cni_netdev.core.model import Granted, Lease, Owner, RouteRequest
from tests.fakes import Killed, World
from tests.workbench import (
    FULL,
    NO_POLICY,
    OTHER,
    OTHER_PATH,
    OWNER,
    PATH,
    POD,
    Bench,
    new_bench,
    request,
    tamper,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.model import DeviceRequest, Record

ONE = request("eth1", new_name="net1", ipam=True)
TWO = request("eth2", new_name="net2", ipam=True, where="devices[1]")
GATEWAY = "10.9.0.1"


class Pool:
    """An IPAM plugin: each change of its own is an event of the world, which may fail or kill."""

    ipam = '{"type": "pool"}'

    def __init__(self, world: World, *, needs_the_link: bool = False) -> None:
        self.needs_the_link = needs_the_link
        self.held: set[tuple[str, str]] = set()
        self.made = 0
        self.refuses: dict[str, str] = {}
        self.route = RouteRequest("172.30.0.0/16", gw=GATEWAY)
        self.container = OWNER.sandbox
        self._world = world

    def __call__(self) -> Pool:
        self.made += 1
        return self

    def lease(self, ifname: str) -> Granted:
        key = (self.container, ifname)
        assert key not in self.held, "a second one under the same name"
        self.held.add(key)  # and then the answer may be lost
        self._event(f"lease {ifname}")
        address = f"10.9.0.{len(self.held) + 1}/24"
        return Granted(Lease(ifname, ((address, GATEWAY),)), (address,), (self.route,))

    def release(self, record: Record) -> dict[str, str]:
        assert record.ipam == self.ipam
        troubles = {}
        for each in record.leases:
            if each.ifname in self.refuses:
                troubles[each.ifname] = self.refuses[each.ifname]
            else:
                self._event(f"release {each.ifname}")
                self.held.discard((record.owner.sandbox, each.ifname))
        return troubles

    def _event(self, what: str) -> None:
        try:
            self._world.event(what)
        except KernelRefused as error:
            raise LeaseRefused(f"{what}: {error.message}") from None


def new(*, needs_the_link: bool = False) -> tuple[Bench, Pool]:
    bench = new_bench()
    return bench, Pool(bench.world, needs_the_link=needs_the_link)


def attach(bench: Bench, pool: Pool, *requests: DeviceRequest, owner: Owner = OWNER) -> Record:
    wanted = requests or (ONE, TWO)
    path = PATH if owner is not OTHER else OTHER_PATH
    attachment = bench.engine.attach(owner, path, wanted, NO_POLICY, POD, leases=pool)
    return attachment.record


def end(bench: Bench, pool: Pool) -> None:
    """A DEL; all is as it was."""
    bench.engine.detach(OWNER.key, pool)
    assert pool.held == set()
    bench.nothing_left()


@pytest.mark.parametrize("needs_the_link", [False, True])
def test_each_device_gets_what_is_leased_under_its_name(needs_the_link: bool) -> None:
    bench, pool = new(needs_the_link=needs_the_link)
    before = bench.at_home()
    record = attach(bench, pool, ONE, FULL._replace(selector=TWO.selector, new_name="net2"))
    assert pool.held == {("c1", "net1")}
    assert record.leases == (Lease("net1", (("10.9.0.2/24", GATEWAY),)),)
    assert [each.cidr for each in bench.first.addresses] == ["10.9.0.2/24"]
    assert [each.dst for each in bench.first.routes] == ["172.30.0.0/16"]
    assert record.ipam == pool.ipam
    events = bench.world.events
    moved = next(at for at, each in enumerate(events) if each.startswith("move"))
    assert (events.index("lease net1") > moved) == needs_the_link
    end(bench, pool)
    assert bench.at_home() == before


def test_what_it_is_given_is_in_the_result() -> None:
    bench, pool = new()
    record = attach(bench, pool)
    record = record._replace(
        leases=(record.leases[0]._replace(dns='{"domain": "lab"}'), *record.leases[1:])
    )
    told: dict[str, Any] = result.with_devices("1.1.0", None, record, PATH, report_addresses=True)
    assert [each["gateway"] for each in told["ips"]] == [GATEWAY, GATEWAY]
    assert [each["interface"] for each in told["ips"]] == [0, 1]
    assert told["routes"] == [{"dst": "172.30.0.0/16", "gw": GATEWAY}] * 2
    assert told["dns"] == {"domain": "lab"}
    before = {"interfaces": [{"name": "eth0"}], "dns": {"domain": "own"}}
    told = result.with_devices("1.1.0", before, record, PATH, report_addresses=True)
    assert told["dns"] == {"domain": "own"}
    told = result.with_devices("1.1.0", {"dns": {}}, record, PATH, report_addresses=False)
    assert (told["dns"], "ips" in told) == ({}, False)


def test_a_route_that_was_asked_for_comes_before_the_leases() -> None:
    bench, pool = new()
    own = RouteRequest("172.30.0.0/16", gw="10.9.0.77")
    record = attach(bench, pool, ONE._replace(routes=(own,)))
    assert [each.gateway for each in record.devices[0].routes] == ["10.9.0.77"]


def test_who_has_an_address_needs_nobody() -> None:
    bench, pool = new()
    attach(bench, pool, FULL)
    bench.engine.detach(OWNER.key, pool)
    assert pool.made == 0


def test_the_same_again_is_the_same(bench: Bench) -> None:
    pool = Pool(bench.world)
    first = attach(bench, pool)
    made = pool.made
    assert attach(bench, pool) == first
    assert pool.made == made


def events(act: Callable[[Bench, Pool], object], *, needs_the_link: bool = False) -> int:
    bench, pool = new(needs_the_link=needs_the_link)
    if act is not attach:
        attach(bench, pool)
        bench.world.events.clear()
    act(bench, pool)
    return len(bench.world.events)


@pytest.mark.parametrize("needs_the_link", [False, True])
def test_each_change_of_attach_failing_leaves_no_lease(needs_the_link: bool) -> None:
    for number in range(2, events(attach, needs_the_link=needs_the_link)):
        bench, pool = new(needs_the_link=needs_the_link)
        before = bench.at_home()
        bench.world.fail_at(number, errno.EBUSY)
        with pytest.raises((CannotApply, KernelRefused, LeaseRefused)):
            attach(bench, pool)
        assert bench.at_home() == before, (number, bench.world.events)
        assert pool.held == set(), (number, bench.world.events)
        bench.nothing_left()


def by_adding_again(bench: Bench, pool: Pool) -> None:
    attach(bench, pool)
    assert len(pool.held) == 2
    bench.engine.detach(OWNER.key, pool)


def by_gc(bench: Bench, pool: Pool) -> None:
    reap = bench.engine.reap(front="cni", network="net", valid=frozenset(), leases=pool)
    assert all(each.complete and not each.leases for each in reap)


def after_a_recovery(bench: Bench, pool: Pool) -> None:
    """Which cannot give back anything, and does not try without end."""
    bench.world.remove_path(PATH)
    bench.engine.recover()
    assert bench.engine.recover() == ()
    bench.engine.detach(OWNER.key, pool)


WAYS = [end, by_adding_again, by_gc, after_a_recovery]


@pytest.mark.parametrize("needs_the_link", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_each_step_of_attach(
    way: Callable[[Bench, Pool], None], needs_the_link: bool
) -> None:
    for number in range(1, events(attach, needs_the_link=needs_the_link) + 1):
        bench, pool = new(needs_the_link=needs_the_link)
        before = bench.at_home()
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            attach(bench, pool)
        bench.journal.locks.clear()
        way(bench, pool)
        assert bench.at_home() == before, (number, bench.world.events)
        assert pool.held == set(), (number, bench.world.events)
        bench.nothing_left()


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_each_step_of_detach(way: Callable[[Bench, Pool], None]) -> None:
    for number in range(1, events(end) + 1):
        bench, pool = new()
        before = bench.at_home()
        attach(bench, pool)
        tamper(bench.first)
        bench.world.events.clear()
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            bench.engine.detach(OWNER.key, pool)
        bench.journal.locks.clear()
        way(bench, pool)
        assert bench.at_home() == before, (number, bench.world.events)
        assert pool.held == set(), (number, bench.world.events)
        bench.nothing_left()


def test_what_is_not_taken_back_stays_on_record_with_the_devices_home(bench: Bench) -> None:
    pool, before = Pool(bench.world), bench.at_home()
    attach(bench, pool)
    pool.refuses = {"net1": "the database is away"}
    release = bench.engine.detach(OWNER.key, pool)
    assert release is not None
    assert (release.complete, release.leases) == (True, ("net1",))
    assert release.notes == ("the database is away",)
    assert bench.at_home() == before
    (record,) = bench.journal.kept.values()
    assert (record.devices, [each.ifname for each in record.leases]) == ((), ["net1"])
    assert not bench.journal.pins
    assert bench.engine.recover() == ()
    with pytest.raises(CannotApply, match="leased an address from an earlier time"):
        attach(bench, pool)
    pool.refuses = {}
    end(bench, pool)


def test_others_may_have_the_devices_meanwhile(bench: Bench) -> None:
    pool = Pool(bench.world)
    attach(bench, pool)
    pool.refuses = {"net1": "no", "net2": "no"}
    bench.engine.detach(OWNER.key, pool)
    pool.container = OTHER.sandbox
    attach(bench, pool, owner=OTHER)
    assert pool.held == {(each, name) for each in ("c1", "c2") for name in ("net1", "net2")}


def test_without_who_gave_it_the_devices_come_home_and_the_lease_stays(bench: Bench) -> None:
    pool, before = Pool(bench.world), bench.at_home()
    attach(bench, pool)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.complete, release.leases) == (True, ("net1", "net2"))
    assert "addresses of net1, net2 stay leased" in release.notes[0]
    assert bench.at_home() == before
    assert bench.engine.leased("cni", "net") == (("c1", "net1", False), ("c1", "net2", False))
    end(bench, pool)


def test_a_device_that_stays_away_keeps_no_address_of_a_pod_that_ended(bench: Bench) -> None:
    pool, before = Pool(bench.world), bench.at_home()
    attach(bench, pool, ONE)
    assert bench.engine.leased("cni", "net") == (("c1", "net1", True),)
    for number in (2, 3, 4):  # the first event is the journal's
        bench.world.fail_at(number, errno.EBUSY)
    release = bench.engine.detach(OWNER.key, pool)
    assert release is not None
    assert (release.complete, release.leases, pool.held) == (False, (), set())
    assert bench.engine.leased("cni", "net") == ()
    assert bench.engine.recover()[0].complete
    assert bench.at_home() == before
    bench.nothing_left()


def test_a_name_under_which_the_same_sandbox_holds_another_is_refused(bench: Bench) -> None:
    """Nothing is asked for then: to give it back would be to take the other's."""
    pool = Pool(bench.world)
    attach(bench, pool, ONE)
    pod = bench.world.namespaces[bench.world.paths[PATH]]
    (fake,) = pod.values()
    fake.link = fake.link._replace(settings=fake.link.settings._replace(name="renamed"))
    second = Owner("cni", "net", OWNER.sandbox, "eth1")
    with pytest.raises(CannotApply, match="leased to c1/eth0 under 'net1' already"):
        attach(bench, pool, TWO._replace(new_name="net1"), owner=second)
    assert pool.held == {("c1", "net1")}


def test_a_link_that_stays_down_takes_no_routes(bench: Bench) -> None:
    pool = Pool(bench.world)
    with pytest.raises(CannotApply, match=r"devices\[0\]\.up: is false"):
        attach(bench, pool, ONE._replace(up=False))
    assert pool.held == set()
    bench.nothing_left()


def test_gc_leaves_what_stands_and_other_networks_alone(bench: Bench) -> None:
    pool = Pool(bench.world)
    attach(bench, pool)
    stands = frozenset({(OWNER.sandbox, OWNER.ifname)})
    for network, valid in (("net", stands), ("net", None), ("other", frozenset())):
        reaped = bench.engine.reap(front="cni", network=network, valid=valid, leases=pool)
        assert tuple(reaped) == ()
    assert len(pool.held) == 2


def test_the_other_front_ends_equal_request_is_equal() -> None:
    assert ONE.wish == ONE._replace(ipam=False).wish
