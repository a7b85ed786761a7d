"""What the engine relies on of RDMA and Wi-Fi, held against this kernel and the fake one."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.model import IFF_UP, Link, Phy
from tests.fakes import FakeKernel, FakePhy, World
from tests.host import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.ports import Netns
    from tests.host import Host

pytestmark = pytest.mark.vm

PATH = "/run/netns/pod"
MONITOR = 6


class Stage(NamedTuple):
    """A host and a pod.

    link: with an RDMA device in software, called ``fast``.  wlan: alone on a phy, and down.
    mate: makes a monitor of a name on that phy.
    """

    host: Netns
    pod: Netns
    link: Link
    wlan: Link
    mate: Callable[[str], object]


def there(namespace: Netns, name: str) -> Link:
    link = namespace.link(name=name)
    assert link is not None
    return link


def fake() -> Stage:
    world = World()
    world.add_namespace(PATH)
    kernel = FakeKernel(world)
    world.add_rdma(world.add_link("nic1", kind="dummy"), "fast", "rxe")

    def wlan(name: str, type_: int) -> object:
        made = world.add_link(name, kind=None, bus="hwsim0")
        made.link = made.link._replace(phy=Phy(0, "radio", type_))
        return made

    wlan("wlan0", 2)
    host = kernel.host
    world.phys[0] = FakePhy(world.host, there(host, "wlan0").identity)
    return Stage(
        host,
        kernel.open(PATH),
        there(host, "nic1"),
        there(host, "wlan0"),
        lambda name: wlan(name, MONITOR),
    )


def real(guest: Host) -> Stage:
    guest.ip("link add nic1 type dummy")
    run("modprobe", "rdma_rxe")
    run("rdma", "link", "add", "fast", "type", "rxe", "netdev", "nic1")
    run("modprobe", "mac80211_hwsim", "radios=1")
    (place,) = Path("/sys/class/ieee80211").iterdir()
    run("iw", "phy", place.name, "set", "name", "radio")
    kernel, pod = SystemKernel(), guest.pod()

    def mate(name: str) -> object:
        return run("iw", "phy", "radio", "interface", "add", name, "type", "monitor")

    host = kernel.host
    return Stage(host, kernel.open(pod.path), there(host, "nic1"), there(host, "wlan0"), mate)


@pytest.fixture(params=["real", "fake"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield fake()
        return
    made = real(request.getfixturevalue("guest"))
    yield made
    made.pod.close()
    made.host.close()
    run("rmmod", "mac80211_hwsim")


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KernelRefused) as raised:
        call()
    return raised.value.errno


def move(stage: Stage, link: Link, **settings: object) -> Link:
    """The link in the pod."""
    after = link.settings._replace(**settings)  # type: ignore[arg-type]
    stage.host.move(link.identity.ifindex, stage.pod, link.settings, after)
    return there(stage.pod, after.name)


def test_rdma_in_software_in_shared_mode(stage: Stage) -> None:
    host, pod = stage.host, stage.pod
    (device,) = host.rdma(stage.link)
    assert (device.name, device.soft, device.shared, device.alone) == ("fast", "rxe", True, True)
    assert host.rdma(stage.wlan) == ()
    seen = pod.find_rdma(device)
    assert seen is not None
    assert (seen.number, seen.name) == (device.number, "fast")
    assert refused(partial(host.move_rdma, device.number, "fast", pod)) == errno.EOPNOTSUPP
    host.rename_rdma(device.number, "fast", "faster")
    assert host.rdma(stage.link) == (device._replace(name="faster"),)
    moved = move(stage, stage.link, name="net1")
    assert host.find_rdma(device) is None
    assert pod.rdma(moved) == ()
    pod.add_rdma("net1", "fast", "rxe")
    (again,) = pod.rdma(moved)
    assert (again.name, again.soft, again.alone) == ("fast", "rxe", True)
    assert again.number != device.number
    assert refused(partial(host.add_rdma, "wlan0", "fast", "rxe")) == errno.EEXIST
    assert refused(partial(host.add_rdma, "none", "other", "rxe")) == errno.ENODEV


def test_a_phy_moves_with_its_link(stage: Stage) -> None:
    phy = stage.wlan.phy
    assert phy is not None
    assert (phy.name, phy.type, phy.mates) == ("radio", 2, ())
    moved = move(stage, stage.wlan, name="air0", mtu=1400, flags=stage.wlan.settings.flags | IFF_UP)
    assert stage.host.link(name="wlan0") is None
    assert stage.wlan.identity.same_link(moved.identity)
    assert (moved.settings.mtu, moved.settings.up, moved.phy) == (1400, True, phy)


def test_what_else_is_on_the_phy(stage: Stage) -> None:
    stage.mate("mon0")
    wlan = there(stage.host, "wlan0")
    assert wlan.phy is not None
    assert wlan.phy.mates == ("mon0",)
    moved = move(stage, wlan)
    assert moved.phy == wlan.phy
    assert there(stage.pod, "mon0").phy == wlan.phy._replace(type=MONITOR, mates=("wlan0",))
    stage.pod.remove_wlan("mon0")
    stage.pod.remove_wlan("mon0")
    assert there(stage.pod, "wlan0").phy == wlan.phy._replace(mates=())


def test_what_else_is_on_the_phy_may_take_the_links_name(stage: Stage) -> None:
    """When its own is taken there: it goes first, and gets the first name that is free."""
    stage.mate("mon0")
    move(stage, stage.link, name="mon0")
    assert refused(partial(move, stage, there(stage.host, "wlan0"))) == errno.EEXIST
    moved = stage.pod.find(stage.wlan.identity)
    assert moved is not None
    assert moved.phy is not None
    assert (moved.name, moved.phy.mates) == ("wlan1", ("wlan0",))


def test_a_link_is_made_anew_on_its_phy(stage: Stage) -> None:
    """It has the permanent address of the phy, and so is taken for the one that was deleted."""
    phy = stage.wlan.phy
    assert phy is not None
    move(stage, stage.wlan, name="air0")
    assert stage.host.wlans(phy.number) is None
    assert stage.pod.wlans(phy.number) == ("air0",)
    stage.pod.remove_wlan("air0")
    assert stage.pod.wlans(phy.number) == ()
    made = stage.pod.make_wlan(phy)
    assert made is not None
    assert made.phy == phy
    assert stage.wlan.identity.same_link(made.identity)
    assert made.identity.inode != stage.wlan.identity.inode


def test_type_and_name_are_set(stage: Stage) -> None:
    host, ifindex, phy = stage.host, stage.wlan.identity.ifindex, stage.wlan.phy
    assert phy is not None
    host.set_wlan_type(ifindex, MONITOR)
    host.rename_phy(phy.number, "radio", "radar")
    assert there(host, "wlan0").phy == phy._replace(type=MONITOR, name="radar")
    down = there(host, "wlan0").settings
    host.change(ifindex, down, down._replace(flags=down.flags | IFF_UP))
    assert refused(partial(host.set_wlan_type, ifindex, 2)) == errno.EBUSY
