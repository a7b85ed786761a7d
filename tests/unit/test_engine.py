"""The engine over the fake kernel: what holds whatever fails, and wherever a process dies."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import (
    CannotApply,
    DeviceHeld,
    DeviceNotFound,
    KernelRefused,
    LockTimeout,
    NetdevError,
    NetnsError,
    OutOfTime,
    PolicyRefused,
    RequestError,
)
from cni_netdev.core.model import Address, DeviceRequest, Owner, Route
from tests.fakes import HOST, Killed, World
from tests.workbench import (
    FULL,
    NO_POLICY,
    OTHER,
    OTHER_PATH,
    OWNER,
    PATH,
    POD,
    Bench,
    configured,
    new_bench,
    request,
    tamper,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.restore import Release

CODES = (
    errno.EBUSY,
    errno.ENODEV,
    errno.EEXIST,
    errno.EPERM,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EINTR,
    errno.ENOBUFS,
)


def test_attach_gives_the_pod_what_was_asked_for(bench: Bench) -> None:
    bench.attach(FULL)
    pod = bench.kernel.open(PATH)
    link = pod.link(name="net1")
    assert link is not None
    assert (link.settings.mtu, link.settings.mac) == (1300, "02:aa:00:00:00:01")
    assert link.settings.up
    assert [each.cidr for each in bench.first.addresses] == ["192.168.2.2/24", "fd99::2/64"]
    assert [each.dst for each in bench.first.routes] == ["10.9.0.0/16"]


def test_detach_brings_it_home_as_it_was(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(FULL)
    assert bench.at_home is not None
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes, release.complete) == (("eth1",), (), True)
    assert bench.at_home() == before
    bench.nothing_left()
    assert bench.engine.detach(OWNER.key) is None


def test_keep_addresses_carries_them_along(bench: Bench) -> None:
    bench.attach(request(new_name="net1", keep_addresses=True, addresses=("10.0.1.2/24",)))
    labels = [(each.cidr, each.label) for each in bench.first.addresses]
    assert labels[:2] == [("10.0.1.1/24", "net1:x"), ("10.0.1.2/24", None)]
    assert [each.cidr for each in bench.first.addresses[2:]] == ["fd00:1::2/64", "fd00:1::1/64"]
    assert [each.dst for each in bench.first.routes] == ["172.1.0.0/16"]


def test_two_devices_may_swap_names(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(request("eth1", new_name="eth2"), request("eth2", new_name="eth1"))
    assert (bench.first.link.name, bench.second.link.name) == ("eth2", "eth1")
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_the_same_attach_again_gives_the_same(bench: Bench) -> None:
    one = bench.engine.attach(OWNER, PATH, (FULL,), NO_POLICY, POD)
    events = len(bench.world.events)
    two = bench.engine.attach(OWNER, PATH, (FULL._replace(where="[7]"),), NO_POLICY, POD)
    assert one.record == two.record
    assert (one.made, two.made) == (True, False)
    assert len(bench.world.events) == events


def test_another_request_for_the_same_attachment_is_refused(bench: Bench) -> None:
    bench.attach(FULL)
    with pytest.raises(CannotApply, match="already holds eth1"):
        bench.attach(request("eth2"))


REFUSED: list[tuple[str, Callable[[Bench], None], tuple[DeviceRequest, ...], type[NetdevError]]] = [
    ("missing", lambda b: None, (request("eth9"),), DeviceNotFound),
    (
        "third missing",
        lambda b: None,
        (request("eth1"), request("eth2"), request("x")),
        DeviceNotFound,
    ),
    ("twice by altname", lambda b: None, (request("eth1"), request("eth1-alt")), RequestError),
    (
        "same pod name",
        lambda b: None,
        (request(new_name="a"), request("eth2", new_name="a")),
        RequestError,
    ),
    ("mtu above", lambda b: None, (request(mtu=9001),), CannotApply),
    ("mtu below", lambda b: None, (request(mtu=67),), CannotApply),
    ("name taken", lambda b: taken(b, "net1"), (request(new_name="net1"),), CannotApply),
    ("altname taken", lambda b: taken(b, "x", "net1"), (request(new_name="net1"),), CannotApply),
    (
        "default route",
        lambda b: b.first.routes.append(Route(2, "0.0.0.0/0")),
        (request(),),
        PolicyRefused,
    ),
]


def taken(bench: Bench, name: str, *altnames: str) -> None:
    bench.world.add_link(name, namespace=bench.world.paths[PATH], altnames=altnames)


@pytest.mark.parametrize(
    ("prepare", "requests", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_refused_request_changes_nothing(
    bench: Bench,
    prepare: Callable[[Bench], None],
    requests: tuple[DeviceRequest, ...],
    error: type[NetdevError],
) -> None:
    prepare(bench)
    before = bench.at_home()
    with pytest.raises(error):
        bench.attach(*requests)
    assert bench.at_home() == before
    assert not bench.world.events
    bench.nothing_left()


def test_the_hosts_own_namespace_is_refused(bench: Bench) -> None:
    with pytest.raises(NetnsError, match="host's own"):
        bench.attach(FULL, path=HOST)


def test_own_altname_as_new_name_and_clashing_altnames_stay_behind(bench: Bench) -> None:
    taken(bench, "eth2-alt")
    before = bench.at_home()
    bench.attach(request("eth1", new_name="eth1-alt"), request("eth2", new_name="net2"))
    assert bench.first.link.names == ("eth1-alt",)
    assert bench.second.link.names == ("net2",)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_a_link_that_somebody_works_on_is_waited_for_in_vain(bench: Bench) -> None:
    before = bench.at_home()
    inode = bench.first.link.identity.inode
    with bench.journal.lock(f"link-{inode}"), pytest.raises(LockTimeout, match=f"link-{inode}"):
        bench.attach(FULL)
    assert bench.at_home() == before
    bench.nothing_left()


def test_a_second_pod_is_told_who_holds_the_link(bench: Bench) -> None:
    bench.attach(FULL)
    with pytest.raises(DeviceHeld, match=r"c1/eth0"):
        bench.attach(request(), owner=OTHER, path=OTHER_PATH)


def test_a_dead_owners_record_is_recovered_first(bench: Bench) -> None:
    bench.attach(FULL)
    bench.world.remove_path(PATH)
    bench.attach(request(), owner=OTHER, path=OTHER_PATH)
    assert list(bench.journal.kept) == [OTHER.key]
    bench.engine.detach(OTHER.key)
    assert bench.first.everything()[0] == configured(World(), "eth1", 1).link.settings


def test_a_dead_pod_with_a_process_inside_keeps_its_links(bench: Bench) -> None:
    bench.attach(FULL)
    bench.world.occupied.add(bench.world.paths[PATH])
    bench.world.remove_path(PATH)
    assert bench.engine.recover() == ()
    with pytest.raises(DeviceHeld):
        bench.attach(request(), owner=OTHER, path=OTHER_PATH)
    assert bench.engine.detach(OWNER.key) is not None


def test_detach_after_the_namespace_is_gone(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(request("eth1", new_name="a"), request("eth2", new_name="b"))
    bench.world.remove_path(PATH)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before
    bench.nothing_left()
    assert len(bench.world.namespaces) == 2


def test_what_the_pod_did_to_the_link_is_undone(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(FULL)
    tamper(bench.first)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ()
    assert bench.at_home() == before


def test_links_stacked_on_it_by_the_pod_are_deleted(bench: Bench) -> None:
    bench.attach(FULL)
    cookie = bench.world.paths[PATH]
    bench.world.add_link("spy", namespace=cookie, kind="macvlan", on=bench.first)
    bench.engine.detach(OWNER.key)
    assert not bench.world.namespaces[cookie]


def test_a_taken_home_name_gives_a_fall_back_and_says_so(bench: Bench) -> None:
    bench.attach(FULL)
    thief = bench.world.add_link("eth1", altnames=("eth1-alt",))
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.devices == ("eth1_0",)
    assert release.fell_back == 1
    assert "came home as eth1_0" in release.notes[0]
    assert release.complete
    assert thief.link.name == "eth1"
    assert (
        bench.first.link.settings._replace(name="eth1")
        == configured(World(), "eth1", 1).link.settings
    )


def test_how_many_came_home_under_another_name_is_counted(bench: Bench) -> None:
    bench.attach(request("eth1", new_name="a"), request("eth2", new_name="b"))
    tamper(bench.first)
    bench.world.add_link("eth2")
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.fell_back) == (("eth1", "eth2_0"), 1)
    bench.attach(request("eth1"))
    again = bench.engine.detach(OWNER.key)
    assert again is not None
    assert again.fell_back == 0


def test_an_address_that_moved_on_is_not_taken_back(bench: Bench) -> None:
    bench.attach(FULL)
    bench.second.addresses.append(Address(2, "10.0.1.1", 24))
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert "10.0.1.1/24 is on another link" in release.notes[0]
    assert "10.0.1.1" not in [each.address for each in bench.first.addresses]


def test_a_destroyed_link_is_reported_and_forgotten(bench: Bench) -> None:
    bench.attach(FULL)
    del bench.world.namespaces[bench.world.paths[PATH]][bench.first.ifindex]
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert "eth1 is lost" in release.notes[0]
    assert release.complete
    bench.nothing_left()


def test_a_link_made_anew_under_name_and_ifindex_is_not_taken(bench: Bench) -> None:
    bench.attach(FULL)
    cookie = bench.world.paths[PATH]
    del bench.world.namespaces[cookie][bench.first.ifindex]
    forged = bench.world.add_link("net1", namespace=cookie)
    del bench.world.namespaces[cookie][forged.ifindex]
    identity = forged.link.identity._replace(ifindex=bench.first.ifindex)
    forged.link = forged.link._replace(identity=identity)
    bench.world.namespaces[cookie][forged.ifindex] = forged
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.devices == ()
    assert forged.ifindex in bench.world.namespaces[cookie]


def test_hardware_that_the_kernel_returned_is_put_right(bench: Bench) -> None:
    nic = bench.world.add_link("nic0", kind=None, bus="0000:01:00.0")
    before = nic.everything()
    bench.attach(request("nic0", new_name="net1", mtu=1400))
    assert not bench.journal.pins
    bench.world.remove_path(PATH)
    assert bench.kernel.host.link(name="net1") is not None
    bench.engine.detach(OWNER.key)
    assert nic.everything() == before


def test_a_link_hidden_in_a_further_namespace_is_found(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(FULL)
    hidden = bench.world.add_namespace("hidden")
    bench.world.move(
        bench.world.paths[PATH], bench.first.ifindex, hidden, bench.first.link.settings
    )
    del bench.world.paths["hidden"]
    bench.world.occupied.add(hidden)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_a_move_home_that_is_refused_keeps_the_record_and_is_retried(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(FULL)
    for number in (2, 3, 4):  # the first event is the journal's
        bench.world.fail_at(number, errno.EBUSY)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert not release.complete
    assert "eth1 is still away" in release.notes[0]
    assert bench.engine.recover()[0].complete
    assert bench.at_home() == before
    bench.nothing_left()


# Not EEXIST: of an address it says that it is there already.
@pytest.mark.parametrize("code", sorted({*CODES} - {errno.EEXIST}))
def test_each_change_of_detach_refused_once_is_tried_again(code: int) -> None:
    _, detached = events_of_attach_and_detach()
    for number in range(2, detached - 1):  # the journal's come first and last
        bench = new_bench()
        before = bench.at_home()
        bench.attach(*both())
        tamper(bench.first)
        bench.world.fail_at(number, code)
        release = bench.engine.detach(OWNER.key)
        assert release is not None
        if not release.complete:
            bench.engine.recover()
        assert bench.at_home() == before, (number, bench.world.events)
        bench.nothing_left()


def test_a_record_of_an_earlier_boot_is_forgotten(bench: Bench) -> None:
    bench.attach(FULL)
    bench.kernel.boot_id = "another-boot"
    release = bench.engine.recover()[0]
    assert "last boot" in release.notes[0]
    assert not bench.journal.kept


def test_check_says_what_differs(bench: Bench) -> None:
    bench.attach(FULL)
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    tamper(bench.first)
    bench.first.routes = []
    found = "\n".join(bench.engine.check(OWNER.key, PATH, {}))
    for part in (
        "net1 is called mine",
        "MTU 9000 instead of 1300",
        "MAC 02:bb:00:00:00:01 instead of 02:aa:00:00:00:01",
        "net1 is down",
        "lost address 192.168.2.2/24",
        "lost route 10.9.0.0/16 via 192.168.2.1",
    ):
        assert part in found


def reap(bench: Bench, valid: frozenset[tuple[str, str]] | None) -> list[Release]:
    return list(bench.engine.reap(front="cni", network="net", valid=valid))


def test_reap_takes_only_this_networks_invalid_attachments(bench: Bench) -> None:
    bench.attach(request("eth1"))
    foreign = Owner("cni", "another", "c2", "eth0")
    bench.attach(request("eth2"), owner=foreign, path=OTHER_PATH)
    assert reap(bench, None) == []
    stands = frozenset([("c1", "eth0")])
    assert reap(bench, stands) == []
    assert [each.owner for each in reap(bench, frozenset())] == [OWNER]
    assert list(bench.journal.kept) == [foreign.key]


def test_a_twin_in_a_dead_namespace_counts_for_nothing(bench: Bench) -> None:
    bench.attach(FULL)
    bench.world.remove_path(PATH)
    bench.attach(FULL, owner=Owner("nri", "", "c1", ""), path=OTHER_PATH)
    assert bench.kernel.open(OTHER_PATH).link(name="net1") is not None


def test_a_second_attachment_of_the_sandbox_is_told_that_the_first_has_the_link(
    bench: Bench,
) -> None:
    bench.attach(FULL)
    with pytest.raises(DeviceHeld, match="c1/eth0"):
        bench.attach(FULL, owner=OWNER._replace(ifname="net1"))


def test_a_link_below_a_lent_one_stays(bench: Bench) -> None:
    above = bench.world.add_link("mv", kind="macvlan")
    above.link = above.link._replace(lower=bench.first.ifindex)
    bench.attach(request("mv"))
    with pytest.raises(DeviceHeld, match="what is stacked on eth1"):
        bench.attach(request("eth1"), owner=OTHER, path=OTHER_PATH)


def test_hardware_that_is_out_of_sight_is_not_called_lost(bench: Bench) -> None:
    nic = bench.world.add_link("nic0", kind=None, bus="0000:01:00.0")
    before = nic.everything()
    bench.world.buses.add("0000:01:00.0")
    bench.attach(request("nic0"))
    hidden = bench.world.namespaces[bench.world.paths[PATH]].pop(nic.ifindex)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert "0000:01:00.0 is there, but its link is in no namespace" in release.notes[0]
    bench.world.namespaces[bench.world.host][nic.ifindex] = hidden
    assert bench.engine.recover()[0].devices == ("nic0",)
    assert nic.everything() == before
    bench.nothing_left()


def test_an_altname_that_is_another_devices_new_name_stays_behind(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(request("eth1", new_name="eth2-alt"), request("eth2", new_name="net2"))
    assert bench.second.link.names == ("net2",)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_trouble_with_one_record_is_not_the_next_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attach(request("eth1"))
    bench.world.remove_path(PATH)

    def broken(cookie: int) -> None:
        raise ZeroDivisionError(cookie)

    monkeypatch.setattr(bench.kernel, "occupancy", broken)
    attachment = bench.engine.attach(OTHER, OTHER_PATH, (request("eth2"),), NO_POLICY, POD)
    assert "ZeroDivisionError" in attachment.notes[0]
    assert bench.second.ifindex in bench.world.namespaces[bench.world.paths[OTHER_PATH]]


def test_an_equal_request_of_the_other_front_end_is_skipped(bench: Bench) -> None:
    bench.attach(FULL)
    nri = Owner("nri", "", "c1", "")
    attachment = bench.engine.attach(nri, PATH, (FULL, request("eth2")), NO_POLICY, POD)
    assert [lent.home.link.name for lent in attachment.record.devices] == ["eth2"]
    assert "already attached by cni" in attachment.notes[0]


def both() -> tuple[DeviceRequest, ...]:
    return (FULL, request("eth2", new_name="eth1", addresses=("192.168.3.2/24",)))


def count(bench: Bench, act: Callable[[], object]) -> int:
    start = len(bench.world.events)
    act()
    return len(bench.world.events) - start


def events_of_attach_and_detach() -> tuple[int, int]:
    bench = new_bench()
    attached = count(bench, lambda: bench.attach(*both()))
    tamper(bench.first)
    return attached, count(bench, lambda: bench.engine.detach(OWNER.key))


def test_each_change_of_attach_failing_rolls_the_whole_list_back() -> None:
    attached, _ = events_of_attach_and_detach()
    for number in range(2, attached):  # 1 and the last are the journal's
        for code in CODES:
            bench = new_bench()
            before = bench.at_home()
            bench.world.fail_at(number, code)
            with pytest.raises((CannotApply, KernelRefused)):
                bench.attach(*both())
            assert bench.at_home() == before, (number, code, bench.world.events)
            bench.nothing_left()


class Clock:
    """An ``in_time`` whose time is up at the n-th call; 0 is never."""

    def __init__(self, limit: int = 0, error: Exception | None = None) -> None:
        self.calls = 0
        self._limit = limit
        self._error = error or OutOfTime("too late")

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self._limit:
            raise self._error


def attach_within(bench: Bench, clock: Callable[[], None]) -> None:
    bench.engine.attach(OWNER, PATH, both(), NO_POLICY, POD, in_time=clock)


def test_the_time_is_looked_at_before_each_step_and_before_success(bench: Bench) -> None:
    attach_within(bench, lambda: bench.world.event("look"))
    intent, pin, *steps = bench.world.events
    assert (intent, pin) == ("journal write", "pin")
    assert set(steps[::2]) == {"look"}
    assert "look" not in steps[1::2]
    assert steps[-1] == "journal write"
    assert len(steps) // 2 > len(both()) + 2


@pytest.mark.parametrize("error", [OutOfTime("too late"), ValueError("not ours")])
def test_whenever_the_time_is_up_everything_is_undone(error: Exception) -> None:
    whole = Clock()
    attach_within(new_bench(), whole)
    for number in range(1, whole.calls + 1):
        bench, clock = new_bench(), Clock(number, error)
        before = bench.at_home()
        with pytest.raises(type(error)):
            attach_within(bench, clock)
        assert clock.calls == number
        assert bench.at_home() == before, (number, bench.world.events)
        assert not bench.world.namespaces[bench.world.paths[PATH]]
        bench.nothing_left()
        attach_within(bench, Clock())
        assert bench.journal.kept[OWNER.key].complete


def test_what_stands_already_needs_no_time(bench: Bench) -> None:
    bench.attach(*both())
    attach_within(bench, Clock(1))
    assert bench.journal.kept[OWNER.key].complete


def test_a_link_that_cannot_come_home_in_time_stays_on_record(bench: Bench) -> None:
    before = bench.at_home()

    def too_late() -> None:
        if bench.first.link.name == "net1":
            for number in (1, 2, 3):  # the tries of its move home
                bench.world.fail_at(number, errno.EBUSY)
            raise OutOfTime("too late")

    with pytest.raises(OutOfTime) as caught:
        bench.engine.attach(OWNER, PATH, (FULL,), NO_POLICY, POD, in_time=too_late)
    assert "eth1 is still away" in (caught.value.details or "")
    assert not bench.journal.kept[OWNER.key].complete
    bench.engine.recover()
    assert bench.at_home() == before
    bench.nothing_left()


def test_what_is_held_is_counted_by_devices(bench: Bench) -> None:
    assert bench.engine.held() == 0
    bench.attach(*both())
    bench.world.add_link("eth3")
    bench.attach(request("eth3"), owner=OTHER, path=OTHER_PATH)
    assert bench.engine.held() == 3
    bench.engine.detach(OWNER.key)
    assert bench.engine.held() == 1


def test_whose_records_there_are(bench: Bench) -> None:
    nri = Owner("nri", "", "c2", "")
    bench.attach(*both())
    assert bench.engine.sandboxes("nri") == frozenset()
    bench.world.add_link("eth3")
    bench.attach(request("eth3"), owner=nri, path=OTHER_PATH)
    assert bench.engine.sandboxes("nri") == {"c2"}
    assert bench.engine.sandboxes("cni") == {"c1"}
    assert [bench.engine.has(each.key) for each in (OWNER, OTHER, nri)] == [True, False, True]
    bench.journal.kept[nri.key] = bench.journal.kept[nri.key]._replace(complete=False)
    assert bench.engine.has(nri.key)
    bench.engine.detach(nri.key)
    assert not bench.engine.has(nri.key)
    assert bench.engine.sandboxes("nri") == frozenset()


def test_what_a_sandbox_misses_is_told_by_its_records(bench: Bench) -> None:
    asked = (FULL._replace(source="annotation", where="[0]"), request("eth2"))
    assert bench.engine.missing("c1", asked) == ("name 'eth1'", "name 'eth2'")
    bench.attach(FULL)
    assert bench.engine.missing("c1", asked) == ("name 'eth2'",)
    bench.kernel.boot_id = "another-boot"
    assert bench.engine.missing("c1", asked) == ("name 'eth1'", "name 'eth2'")


def end_the_pod(bench: Bench) -> None:
    bench.world.remove_path(PATH)
    bench.engine.recover()


RECOVERIES: list[Callable[[Bench], object]] = [
    lambda b: b.engine.detach(OWNER.key),
    lambda b: (b.attach(*both()), b.engine.detach(OWNER.key)),
    lambda b: reap(b, frozenset()),
    end_the_pod,
]


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_killed_at_each_step_of_attach(recovery: Callable[[Bench], object]) -> None:
    attached, _ = events_of_attach_and_detach()
    for number in range(1, attached + 1):
        bench = new_bench()
        before = bench.at_home()
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            bench.attach(*both())
        bench.journal.locks.clear()
        recovery(bench)
        assert bench.at_home() == before, (number, bench.world.events)
        bench.nothing_left()


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_killed_at_each_step_of_detach(recovery: Callable[[Bench], object]) -> None:
    _, detached = events_of_attach_and_detach()
    for number in range(1, detached + 1):
        bench = new_bench()
        before = bench.at_home()
        bench.attach(*both())
        tamper(bench.first)
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            bench.engine.detach(OWNER.key)
        bench.journal.locks.clear()
        recovery(bench)
        assert bench.at_home() == before, (number, bench.world.events)
        bench.nothing_left()
