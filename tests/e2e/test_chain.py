"""The main job with the real cnitool and reference plugins: chained, and home again exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host import PTP
from tests.linkstate import capture, differences, everything

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e
BOTH_WAYS = True

BRIDGE = {
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "ipam": {"type": "host-local", "subnet": "10.201.0.0/24"},
}
TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
FIREWALL = {"type": "firewall", "backend": "iptables"}
CAPABILITIES = {"netDevices": True, "deviceID": True, "io.kubernetes.cri.pod-annotations": True}
NETDEV = {"type": "cni-netdev", "capabilities": CAPABILITIES}
WISH = {
    "name": "nic1",
    "new_name": "net1",
    "address": "192.168.2.2",
    "prefix": 24,
    "addresses": ["fd99::2/64"],
    "mtu": 1400,
    "mac": "02:aa:00:00:00:01",
    "routes": [{"dst": "10.9.0.0/16", "gw": "192.168.2.1"}],
}
ASKED = {"netDevices": [WISH]}


@pytest.mark.parametrize(
    "plugins",
    [
        (PTP, NETDEV),
        (BRIDGE, NETDEV),
        (PTP, TUNING, NETDEV),
        (PTP, NETDEV, TUNING),
        (PTP, PORTMAP, NETDEV),
        (BRIDGE, NETDEV, PORTMAP),
        (PTP, NETDEV, FIREWALL),
    ],
    ids=lambda plugins: "+".join(each["type"] for each in plugins),
)
def test_a_link_is_lent_and_comes_home(cni: Host, plugins: tuple[dict[str, object], ...]) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    pod, network = cni.pod(), cni.conflist(*plugins)
    result = cni.cnitool("add", network, pod.path, cap_args=ASKED).ok()
    assert "nic1" not in cni.names()
    assert pod.names() == ["lo", "eth0", "net1"] or set(pod.names()) == {"lo", "eth0", "net1"}
    assert pod.addresses("net1") == ["192.168.2.2/24", "fd99::2/64"]
    link = pod.json("link show net1")[0]
    assert (link["mtu"], link["address"]) == (1400, "02:aa:00:00:00:01")
    assert "UP" in link["flags"]
    assert pod.json("route show 10.9.0.0/16")[0]["gateway"] == "192.168.2.1"
    ours = result["interfaces"][-1]
    assert ours == {"name": "net1", "mac": "02:aa:00:00:00:01", "sandbox": pod.path}
    assert {each["interface"] for each in result["ips"]} < set(range(len(result["interfaces"]) - 1))
    cni.cnitool("check", network, pod.path, cap_args=ASKED).ok()
    cni.cnitool("del", network, pod.path).ok()
    assert differences(before, capture("nic1")) == []
    assert pod.names() == ["lo"]
    assert cni.left_over() == []


def test_an_annotation_asks_like_a_capability(cni: Host) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    pod, network = cni.pod(), cni.conflist(PTP, NETDEV)
    text = "- name: nic1\n  new_name: eth33\n  address: 192.168.2.2\n  prefix: 24\n  mtu: 1400\n"
    asked = {"io.kubernetes.cri.pod-annotations": {"netdevices.nri.containerd.io": text}}
    cni.cnitool("add", network, pod.path, cap_args=asked).ok()
    assert pod.addresses("eth33") == ["192.168.2.2/24"]
    cni.cnitool("del", network, pod.path, cap_args=asked).ok()
    assert differences(before, capture("nic1")) == []


def test_the_third_of_three_missing_leaves_the_first_two_alone(cni: Host) -> None:
    cni.configured("nic1", 1)
    cni.configured("nic2", 2)
    before = everything()
    pod, network = cni.pod(), cni.conflist(NETDEV)
    asked = {"netDevices": [{"name": "nic1"}, {"name": "nic2"}, {"name": "nic3"}]}
    answer = cni.cnitool("add", network, pod.path, cap_args=asked)
    assert answer.code == 1
    assert "nic3" in answer.stderr + answer.stdout
    assert differences(before, everything()) == []
    assert pod.names() == ["lo"]
    assert cni.left_over() == []
