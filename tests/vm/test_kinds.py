"""Every kind of link that can move: lent, configured, tampered with, and home as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import run
from tests.linkstate import capture, differences
from tests.vm import cni

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.host import Host

pytestmark = pytest.mark.vm

MAKE = {
    "dummy": "link add nic1 type dummy",
    "vlan": "link add nic1 link low0 type vlan id 7",
    "macvlan": "link add nic1 link low0 type macvlan mode bridge",
    "ipvlan": "link add nic1 link low0 type ipvlan mode l2",
    "tun": "tuntap add dev nic1 mode tun",
    "tap": "tuntap add dev nic1 mode tap",
    "veth": "link add nic1 type veth peer name nic1p",
    "vxlan": "link add nic1 type vxlan id 7 dev low0 group 239.1.1.1 dstport 4789",
}
CONFIGURE = (
    "link set nic1 mtu 1400 txqueuelen 77 alias of-the-host group 5",
    "link property add dev nic1 altname nic1alt",
    "link set nic1 up",
    "addr add 10.1.0.1/24 dev nic1 brd +",
    "addr add 10.1.0.2/24 dev nic1",
    "addr add fd01::1/64 dev nic1 nodad",
    "route add 172.1.0.0/16 via 10.1.0.254 metric 7 proto 99",
)
ASKED: dict[str, object] = {
    "name": "nic1",
    "new_name": "net1",
    "address": "192.168.2.2/24",
    "mtu": 1300,
}
TAMPER = (
    "link set net1 down",
    "link set net1 name mine mtu 1290 txqueuelen 3 alias forged group 9",
    "link property add dev mine altname planted",
    "link property del dev mine altname nic1alt",
    "link set mine promisc on",
    "addr flush dev mine",
    "link set mine up",
    "addr add 6.6.6.6/32 dev mine",
)


def configure(commands: Iterable[str], namespace: str = "") -> None:
    """Many commands of ip by one process."""
    into = ["-n", namespace] if namespace else []
    run("ip", *into, "-batch", "-", stdin="\n".join(commands))


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
@pytest.mark.parametrize("kind", MAKE)
def test_it_comes_home(guest: Host, kind: str, end: str) -> None:
    configure(("link add low0 type dummy", "link set low0 up"))
    configure((MAKE[kind], *CONFIGURE))
    before = capture("nic1")
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    assert "nic1" not in guest.names()
    assert pod.addresses("net1") == ["192.168.2.2/24"]
    assert pod.json("link show net1")[0]["mtu"] == 1300
    configure(TAMPER, pod.name)
    if end != "returned":
        pod.delete()
    cni.delete(pod).ok()
    assert differences(before, capture("nic1")) == []
    assert guest.left_over() == []


@pytest.mark.parametrize(
    ("kind", "tampering"),
    [
        ("vlan", "type vlan egress 1:2"),
        ("macvlan", "type macvlan mode private"),
        ("ipvlan", "type ipvlan mode l3"),
        ("vxlan", "type vxlan ageing 7"),
    ],
)
def test_settings_of_its_kind_come_home(guest: Host, kind: str, tampering: str) -> None:
    configure(("link add low0 type dummy", "link set low0 up", MAKE[kind]))
    before = capture("nic1")
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    pod.ip(f"link set net1 {tampering}")
    cni.delete(pod).ok()
    assert differences(before, capture("nic1")) == []


TIED = ("bridge", "bond", "vrf", "team")


def test_what_cannot_move_is_refused_before_anything_changes(guest: Host) -> None:
    for kind in TIED:
        guest.ip(f"link add {kind}9 type {kind}" + " table 77" * (kind == "vrf"))
    guest.ip("link add nic1 type dummy")
    before = {name: capture(name) for name in ("nic1", *(f"{kind}9" for kind in TIED))}
    pod = guest.pod()
    for kind in TIED:
        code, told = cni.add(pod, {"name": "nic1"}, {"name": f"{kind}9"}).error()
        assert code == 102
        reason = f"the kernel ties a link of kind {kind} to its namespace"
        assert f"devices[1]: link {kind}9 stays on the host: {reason}" in told
    after = {name: capture(name) for name in before}
    timers = [line for line in differences(before, after) if "gc_timer" in line]
    assert differences(before, after) == timers
    assert pod.names() == ["lo"]
    assert guest.left_over() == []
