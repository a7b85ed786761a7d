"""A link that somebody else changes or takes between our look and its move, on the fakes.

tests/kernel/test_intruders.py has the same on the kernel, before every event.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import snapshots
from cni_netdev.core.errors import DeviceNotFound, KernelRefused, LinkChanged, PolicyRefused
from cni_netdev.core.model import Address, NextHop, Route
from tests.workbench import OTHER_PATH, OWNER, PATH, Bench, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes import FakeLink

BY_ALTNAME = request("eth1-alt", new_name="net1")
PIN = 2  # the event just before the links are looked at again
EVENTS_OF_A_TRY = 4  # that comes to nothing: the record and the pin, and both undone
ADDED = Address(2, "10.77.0.1", 24)


def rename(fake: FakeLink, name: str) -> None:
    fake.link = fake.link._replace(settings=fake.link.settings._replace(name=name))


def take_away(bench: Bench, fake: FakeLink) -> None:
    elsewhere = bench.world.paths[OTHER_PATH]
    settings = fake.link.settings._replace(name="theirs")
    bench.world.move(bench.world.host, fake.ifindex, elsewhere, settings)


def in_pod(bench: Bench) -> list[str]:
    return [link.name for link in bench.kernel.open(PATH).links()]


def at_move(bench: Bench, number: int, *requests: object) -> int:
    """The number of the n-th move's event, by a trial."""
    bench.attach(*requests)  # type: ignore[arg-type]
    moves = [at for at, each in enumerate(bench.world.events, 1) if each.startswith("move")]
    bench.engine.detach(OWNER.key)
    return moves[number - 1]


# --- the look itself -------------------------------------------------------------------------


def test_a_snapshot_that_still_holds(bench: Bench) -> None:
    home = snapshots.take(bench.kernel.host, bench.first.link)
    assert home.addresses == tuple(bench.first.addresses)
    snapshots.refuse_if_changed(bench.kernel.host, home)


CHANGES: dict[str, Callable[[FakeLink], object]] = {
    "name 'enp3s0'": lambda fake: rename(fake, "enp3s0"),
    "altnames": lambda fake: setattr(fake, "link", fake.link._replace(altnames=("x",))),
    "master": lambda fake: setattr(fake, "link", fake.link._replace(master=9)),
    "addresses": lambda fake: fake.addresses.append(ADDED),
    "routes": lambda fake: fake.routes.clear(),
    "neighbours": lambda fake: fake.neighbours.clear(),
    "sysctls": lambda fake: fake.sysctls.update({"ipv4/conf/rp_filter": "7"}),
    "tcx": lambda fake: fake.tcx.append(("ingress", 5)),
    "qdiscs": lambda fake: fake.qdiscs.clear(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changed_is_named(bench: Bench, what: str) -> None:
    home = snapshots.take(bench.kernel.host, bench.first.link)
    CHANGES[what](bench.first)
    with pytest.raises(LinkChanged, match=f"eth1 was changed while it was being lent: .*{what}"):
        snapshots.refuse_if_changed(bench.kernel.host, home)


def test_one_made_anew_under_its_number_is_another(bench: Bench) -> None:
    home = snapshots.take(bench.kernel.host, bench.first.link)
    link = bench.first.link
    bench.first.link = link._replace(identity=link.identity._replace(inode=4711))
    with pytest.raises(LinkChanged, match="eth1 was taken away"):
        snapshots.refuse_if_changed(bench.kernel.host, home)


def test_one_that_is_gone(bench: Bench) -> None:
    home = snapshots.take(bench.kernel.host, bench.first.link)
    take_away(bench, bench.first)
    with pytest.raises(LinkChanged, match="eth1 was taken away"):
        snapshots.take(bench.kernel.host, home.link)
    with pytest.raises(LinkChanged, match="eth1 was taken away"):
        snapshots.refuse_if_changed(bench.kernel.host, home)


# --- an attach -------------------------------------------------------------------------------


def test_it_is_lent_as_it_is_by_then_and_comes_home_so(bench: Bench) -> None:
    def udev() -> None:
        rename(bench.first, "enp3s0")
        bench.first.addresses.append(ADDED)

    bench.world.interrupt(PIN, udev)
    bench.attach(BY_ALTNAME)
    assert in_pod(bench) == ["net1"]
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes) == (("enp3s0",), ())
    assert ADDED in bench.first.addresses
    bench.nothing_left()


def test_one_that_is_changed_all_the_time_is_refused_and_left_as_it_is(bench: Bench) -> None:
    def meddle() -> None:
        bench.first.addresses.append(ADDED._replace(prefix=len(bench.first.addresses)))
        bench.world.interrupt(EVENTS_OF_A_TRY, meddle)

    bench.world.interrupt(PIN, meddle)
    with pytest.raises(LinkChanged, match="changed while it was being lent: addresses"):
        bench.attach(BY_ALTNAME)
    assert not [each for each in bench.world.events if each.startswith(("move", "change"))]
    assert len(bench.first.addresses) == 4 + 5
    bench.nothing_left()


def test_guards_look_at_what_it_is_by_then(bench: Bench) -> None:
    default = Route(2, "0.0.0.0/0", gateway="10.0.1.254")
    bench.world.interrupt(PIN, lambda: bench.first.routes.append(default))
    with pytest.raises(PolicyRefused, match="default route"):
        bench.attach(BY_ALTNAME)
    assert default in bench.first.routes
    bench.nothing_left()


@pytest.mark.parametrize("seen", [True, False])
def test_who_took_it_first_keeps_it(bench: Bench, *, seen: bool) -> None:
    """Whether our last look saw that, or the kernel told."""
    number = PIN if seen else at_move(bench, 1, BY_ALTNAME)
    bench.world.events.clear()
    bench.world.occupied.add(bench.world.paths[OTHER_PATH])  # where we could find it
    bench.world.interrupt(number, lambda: take_away(bench, bench.first))
    with pytest.raises(DeviceNotFound, match="no link on the host has name 'eth1-alt'"):
        bench.attach(BY_ALTNAME)
    assert [link.name for link in bench.kernel.open(OTHER_PATH).links()] == ["theirs"]
    bench.nothing_left()
    assert bench.engine.recover() == ()
    assert bench.first.link.name == "theirs"


def test_a_device_that_does_not_answer_is_not_taken_for_gone(bench: Bench) -> None:
    before = bench.at_home()
    number = at_move(bench, 1, BY_ALTNAME)
    bench.world.events.clear()
    bench.world.fail_at(number, errno.ENODEV)
    with pytest.raises(KernelRefused, match="injected"):
        bench.attach(BY_ALTNAME)
    assert bench.at_home() == before
    bench.nothing_left()


def test_what_our_own_moves_bring_about_is_no_change(bench: Bench) -> None:
    """A route over both links loses a leg, a veth's peer goes elsewhere."""
    number = at_move(bench, 2, request("eth1"), request("eth2"))
    bench.world.events.clear()
    leg = Route(2, "10.9.0.0/16", nexthops=(NextHop(bench.first.ifindex, "10.0.1.9", 1, 0),))
    bench.second.routes.append(leg)

    def kernel() -> None:
        bench.second.routes.remove(leg)
        bench.second.link = bench.second.link._replace(lower=7, lower_elsewhere=True)

    bench.world.interrupt(number - 1, kernel)
    bench.attach(request("eth1"), request("eth2"))
    assert in_pod(bench) == ["eth1", "eth2"]


def test_the_second_link_is_renamed_while_the_first_moves(bench: Bench) -> None:
    """All begins again, and what had not moved is not set back."""
    wanted = (request("eth1"), request("eth2-alt", new_name="net2"))
    number = at_move(bench, 1, *wanted)
    bench.world.events.clear()
    bench.world.interrupt(number, lambda: rename(bench.second, "enp4s0"))
    bench.attach(*wanted)
    assert in_pod(bench) == ["eth1", "net2"]
    assert len([each for each in bench.world.events if each.startswith("move")]) == 4
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes) == (("eth1", "enp4s0"), ())


def test_a_roll_back_leaves_alone_what_it_did_not_touch(bench: Bench) -> None:
    wanted = (request("eth1"), request("eth2"))
    number = at_move(bench, 1, *wanted)
    bench.world.events.clear()

    def refuse() -> None:
        bench.second.addresses.append(ADDED)
        raise KernelRefused("injected", errno.EBUSY)

    bench.world.interrupt(number, refuse)
    with pytest.raises(KernelRefused, match="injected"):
        bench.attach(*wanted)
    assert ADDED in bench.second.addresses
    assert bench.second.link.name == "eth2"
    bench.nothing_left()
