"""Macvlans that a pod leaves on a lent link, in namespaces of its own, on the real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import DeviceHeld
from tests.lending import OWNER, Node, kept
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod
    from tests.lending import Keeper

pytestmark = pytest.mark.kernel

# A link made there at once is not known to the pod's namespace; one that was moved is.
MAKE = {
    "moved": ("link add link net1 spy type macvlan", "link set spy netns further"),
    "made there": ("link add link net1 spy netns further type macvlan",),
    "made there as macvtap": ("link add link net1 spy netns further type macvtap",),
}


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    made = Node(host)
    yield made
    made.kernel.close()


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod that has nic1 as net1, and a further namespace."""
    node.host.configured("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    return pod


def hide(pod: Pod, further: Pod, how: str, *, up: bool = True) -> None:
    for arguments in MAKE[how]:
        pod.ip(arguments)
    if up:
        further.ip("link set spy up")


@pytest.mark.parametrize(
    ("how", "up", "alive"),
    [
        ("moved", True, True),
        ("moved", False, False),
        ("made there", True, False),
        ("made there", False, True),
        ("made there as macvtap", True, True),
    ],
)
def test_a_macvlan_in_a_further_namespace_is_deleted(
    node: Node, pod: Pod, how: str, *, up: bool, alive: bool
) -> None:
    further = node.host.pod("further")
    hide(pod, further, how, up=up)
    if not alive:
        pod.delete()
    release = node.detach()
    assert release.notes == ("nic1: deleted what the pod had left on it: spy",)
    assert further.names() == ["lo"]
    assert not node.kernel.host.overheard(node.link("nic1"))
    assert node.host.left_over() == []


@pytest.mark.parametrize("keeper", ["process", "descriptor", "socket"])
def test_whatever_keeps_that_namespace(node: Node, pod: Pod, keeper: Keeper) -> None:
    further = node.host.pod("further")
    hide(pod, further, "made there")
    with kept(further, keeper):
        release = node.detach()
        assert release.notes == ("nic1: deleted what the pod had left on it: spy",)
        assert not node.kernel.host.overheard(node.link("nic1"))


def test_a_namespace_that_nobody_can_find_keeps_the_link_from_the_next_tenant(
    node: Node, pod: Pod
) -> None:
    further, other = node.host.pod("further"), node.host.pod("other")
    hide(pod, further, "made there")
    with kept(further, "descriptor on its way"):
        release = node.detach()
        assert (release.complete, release.devices) == (False, ())
        assert "nic1 is back but stays down and is lent to nobody" in release.notes[0]
        assert not node.link("nic1").settings.up
        with pytest.raises(DeviceHeld, match="c1/eth0"):
            node.attach(other, {"name": "nic1"}, owner=OWNER._replace(sandbox="c2"))
    until(lambda: not node.kernel.host.overheard(node.link("nic1")), lambda: "still heard")
    assert [each.devices for each in node.engine.recover()] == [("nic1",)]
    assert node.link("nic1").settings.up
    assert node.host.left_over() == []


def test_a_link_in_a_namespace_that_nobody_can_find_is_not_lost_as_long_as_it_has_its_peer(
    node: Node, pod: Pod
) -> None:
    further = node.host.pod("further")
    pod.ip("link set net1 netns further")
    with kept(further, "descriptor on its way"):
        release = node.detach()
        assert not release.complete
        assert "its other end is there" in release.notes[0]
    until(lambda: "nic1p" not in node.host.names(), lambda: "not destroyed")
    notes = [note for each in node.engine.recover() for note in each.notes]
    assert notes == ["nic1 is lost: it is neither on the host nor in the pod"]
    assert node.host.left_over() == []


def test_a_namespace_that_is_dying_is_waited_for(node: Node, pod: Pod) -> None:
    """As those of a pod's own containers are when its processes have just ended."""
    before = capture("nic1p")
    further = node.host.pod("further")
    hide(pod, further, "made there")
    further.delete()
    release = node.detach()
    assert release.complete
    assert node.link("nic1").settings.up
    assert differences(before, capture("nic1p")) == []


def test_a_chain_of_further_namespaces(node: Node, pod: Pod) -> None:
    further, last = node.host.pod("further"), node.host.pod("last")
    hide(pod, further, "moved")
    further.ip("link set spy netns last")
    assert node.detach().complete
    assert last.names() == ["lo"]


def test_links_that_hang_on_others_stay(node: Node, pod: Pod) -> None:
    """The pod's own, another link's in the same further namespace, and those of the host."""
    further = node.host.pod("further")
    hide(pod, further, "made there")
    node.host.veth("nic2")
    theirs = int(node.host.json("link show nic2")[0]["ifindex"])
    node.host.ip("link add link nic2 theirs netns further type macvlan")
    pod.ip("link add own type veth peer name ownp")
    pod.ip("link add ownmac link own type macvlan")
    pod.ip(f"link add same index {theirs + 100} type ifb")
    node.detach()
    assert further.names() == ["lo", "theirs"]
    assert {"own", "ownp", "ownmac", "same"} < set(pod.names())


def test_what_hung_on_it_before_stays_where_a_rule_lifts_the_guard(node: Node) -> None:
    node.host.veth("nic1")
    node.host.pod("further")
    node.host.ip("link add link nic1 theirs netns further type macvlan")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"}, policy={"rules": [{"allow": {"names": ["nic1"]}}]})
    assert node.detach().notes == ()
    assert "theirs" in node.host.ip("-n further link show")


def test_thousands_cost_no_more_than_a_moment(node: Node, pod: Pod) -> None:
    """Deleted one by one they would keep the node's links waiting for 16 ms each."""
    further = node.host.pod("further")
    batch = node.host.directory / "batch"
    lines = [f"link add link net1 s{number} type macvlan" for number in range(100)]
    lines += [f"link add link net1 s{number} netns further type macvlan" for number in range(100)]
    batch.write_text("\n".join(lines))
    pod.ip(f"-batch {batch}")
    release = node.detach()
    assert release.complete
    assert pod.names() == further.names() == ["lo"]


@pytest.mark.parametrize("kind", ["macvlan", "ifb", "tun", "tap", "vxlan", "bridge port"])
def test_links_of_all_kinds_are_asked_without_harm(node: Node, kind: str) -> None:
    """What cannot have macvlans is never taken for a link that has; a bridge's port may come."""
    make = {
        "macvlan": "link add nic1 link below type macvlan",
        "ifb": "link add nic1 type ifb",
        "tun": "tuntap add dev nic1 mode tun",
        "tap": "tuntap add dev nic1 mode tap",
        "vxlan": "link add nic1 type vxlan id 7 local 127.0.0.1 dstport 4789",
        "bridge port": "link add nic1 type veth peer name nic1p",
    }
    node.host.veth("below")
    node.host.ip(make[kind])
    if kind == "bridge port":
        node.host.ip("link add br0 type bridge")
        node.host.ip("link set nic1 master br0")
    names = node.host.names()
    assert not node.kernel.host.overheard(node.link("nic1"))
    assert node.host.names() == names
