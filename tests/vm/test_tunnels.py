"""Tunnels: what only they have is set before their MTU and MAC, which it sets as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import run
from tests.linkstate import capture, differences
from tests.vm import cni
from tests.vm.test_kinds import ASKED, CONFIGURE, TAMPER, configure

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.vm

V4, V6 = "local 10.9.0.1 remote 10.9.0.2", "local fd09::1 remote fd09::2"
MAKE = {
    "gre": f"{V4} ttl 64 key 7",
    "gretap": f"{V4} ttl 64 key 7",
    "ipip": f"{V4} ttl 64",
    "sit": f"{V4} ttl 64",
    "ip6tnl": f"{V6} mode any hoplimit 64",
    "geneve": "id 7 remote 10.9.0.2 ttl 64",
    "vxlan": "id 7 local 10.9.0.1 remote 10.9.0.2 dev low0 dstport 4789",
}
FARTHER = {
    **{kind: "remote fd09::3" if V6 in made else "remote 10.9.0.3" for kind, made in MAKE.items()},
    "geneve": "id 7 remote 10.9.0.3",  # iproute2 wants the id each time
}
ENDS = [*((kind, "returned") for kind in MAKE), ("gre", "its namespace destroyed first")]


@pytest.fixture(autouse=True)
def underlay(guest: Host) -> None:
    """The link below; no namespace gets fall-back tunnels when the modules are loaded."""
    Path("/proc/sys/net/core/fb_tunnels_only_for_init_net").write_text("2")
    guest.ip("link add low0 type dummy")
    configure(("link set low0 up", "addr add 10.9.0.1/24 dev low0", "addr add fd09::1/64 dev low0"))


@pytest.mark.parametrize(("kind", "end"), ENDS)
def test_it_comes_home(guest: Host, kind: str, end: str) -> None:
    configure((f"link add nic1 type {kind} {MAKE[kind]}", *CONFIGURE))
    before = capture("nic1")
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    assert pod.addresses("net1") == ["192.168.2.2/24"]
    pod.ip(f"link set net1 type {kind} {FARTHER[kind]}")
    configure(TAMPER, pod.name)
    if end != "returned":
        pod.delete()
    cni.delete(pod).ok()
    assert differences(before, capture("nic1")) == []
    assert guest.left_over() == []


def test_a_fall_back_tunnel_is_tied_to_its_namespace(guest: Host) -> None:
    """Made with the module.  This kernel does not say so before the move, which it refuses."""
    run("modprobe", "--remove", "ipip")
    Path("/proc/sys/net/core/fb_tunnels_only_for_init_net").write_text("1")
    run("modprobe", "ipip")
    guest.ip("link add nic1 type dummy")
    before = {name: capture(name) for name in ("nic1", "tunl0")}
    code, told = cni.add(guest.pod(), {"name": "nic1"}, {"name": "tunl0"}).error()
    assert code == 104
    assert "The interface netns is immutable" in told
    for name, state in before.items():
        assert differences(state, capture(name)) == []
    assert guest.left_over() == []
    run("modprobe", "--remove", "ipip")
