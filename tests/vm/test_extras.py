"""What a machine's own kernel may lack of what few requests ask for: VRFs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.linkstate import capture, differences
from tests.vm import cni

if TYPE_CHECKING:
    from tests.host import Host, Pod

pytestmark = pytest.mark.vm

RED: dict[str, Any] = {"vrf": {"name": "red", "table": 10}}
ASKED: dict[str, Any] = {
    "name": "nic1",
    "new_name": "net1",
    "addresses": ["192.168.2.2/24", "fd99::2/64"],
    "routes": [{"dst": "default", "gw": "192.168.2.1"}],
    **RED,
}


def prepare(guest: Host) -> dict[str, Any]:
    for arguments in (
        "link add nic1 type dummy",
        "link set nic1 up",
        "addr add 10.1.0.1/24 dev nic1",
    ):
        guest.ip(arguments)
    return capture("nic1")


def see_that_it_is_red(pod: Pod) -> None:
    (link,) = pod.json("-d link show net1")
    assert link["master"] == "red"
    (vrf,) = pod.json("-d link show red")
    assert (vrf["linkinfo"]["info_data"]["table"], vrf["group"]) == (10, "110")
    assert "UP" in vrf["flags"]
    assert pod.addresses("net1") == ["192.168.2.2/24", "fd99::2/64"]
    (default,) = pod.json("route show vrf red default")
    assert (default["gateway"], default["dev"]) == ("192.168.2.1", "net1")


@pytest.mark.parametrize(
    ("end", "more"),
    [
        ("returned", {}),
        ("its namespace destroyed first", {"sysctls": {"net.ipv4.conf.rp_filter": 2}}),
    ],
)
def test_a_link_in_a_vrf(guest: Host, end: str, more: dict[str, Any]) -> None:
    before = prepare(guest)
    pod = guest.pod()
    cni.add(pod, {**ASKED, **more}).ok()
    see_that_it_is_red(pod)
    cni.check(pod).ok()
    if end != "returned":
        pod.delete()
    else:
        pod.ip("link set net1 nomaster")
        code, told = cni.check(pod).error()
        assert (code, "net1 is not in VRF red any more" in told) == (106, True)
        cni.delete(pod).ok()
        assert pod.names() == ["lo"]
    cni.delete(pod).ok()
    assert differences(before, capture("nic1")) == []
    assert guest.left_over() == []


def test_a_vrf_of_the_pods_own_stays_and_another_link_is_refused(guest: Host) -> None:
    before = prepare(guest)
    pod = guest.pod()
    pod.ip("link add red type vrf table 10")
    cni.add(pod, ASKED).ok()
    cni.delete(pod).ok()
    assert pod.names() == ["lo", "red"]
    pod.ip("link delete red")
    pod.ip("link add red type vrf table 11")
    code, told = cni.add(pod, ASKED).error()
    assert (code, "is another link in the pod than a VRF of this table" in told) == (104, True)
    assert differences(before, capture("nic1")) == []


def test_a_failure_undoes_the_vrf_too(guest: Host) -> None:
    before = prepare(guest)
    pod = guest.pod()
    impossible = {**ASKED, "routes": [{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]}
    assert cni.add(pod, impossible).error()[0] == 104
    assert pod.names() == ["lo"]
    assert differences(before, capture("nic1")) == []


def test_everything_that_few_need_on_a_dummy(guest: Host) -> None:
    before = prepare(guest)
    pod = guest.pod()
    cni.add(
        pod,
        {
            **ASKED,
            "txqlen": 10,
            "gso_max_size": 30000,
            "gso_ipv4_max_size": 40000,
            "altnames": ["nic1"],
            "dad": "optimistic",
            "announce": True,
            "rules": [{"from": "192.168.2.2", "table": 10}],
            "neighbors": [{"address": "192.168.2.9", "mac": "02:00:00:00:00:09"}],
            "sysctls": {"net.ipv4.neigh.retrans_time_ms": 1003},
        },
    ).ok()
    see_that_it_is_red(pod)
    cni.check(pod).ok()
    cni.delete(pod).ok()
    assert pod.names() == ["lo"]
    assert differences(before, capture("nic1")) == []
