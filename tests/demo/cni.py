"""The CNI plugin: links of a host go to a pod through cnitool and come home."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.demo.telling import compare, say, show
from tests.host import PTP
from tests.linkstate import capture

if TYPE_CHECKING:
    from tests.host import Host, Pod

LINKS = ("fast0", "storage0")
NETDEV = {
    "type": "cni-netdev",
    "capabilities": {"io.kubernetes.cri.pod-annotations": True},
    "policy": {"default": "deny", "rules": [{"allow": {"names": ["fast*", "storage*"]}}]},
}
ANNOTATION = """\
- name: fast0
  new_name: eth33
  address: 192.168.2.2
  prefix: 24
  mtu: 1500
- name: storage0
  addresses: ["192.168.3.2/24", "fd00:3::2/64"]
  mac: 02:00:5e:10:00:01
  routes: [{dst: 10.9.0.0/16, gw: 192.168.3.1}]
"""


def show_host(host: Host) -> None:
    show(host.ip("-br link"))
    show(host.ip("-br addr show to 10.0.0.0/8"))


def show_pod(pod: Pod) -> None:
    show(pod.ip("-br link"))
    show(pod.ip("-br addr"))
    show(pod.ip("route"))


def prepare(host: Host) -> dict[str, Any]:
    host.install()
    for number, name in enumerate(LINKS, 1):
        host.configured(name, number)
    return {name: capture(name) for name in LINKS}


def demo(host: Host) -> bool:
    """Whether all came home as it was."""
    before = prepare(host)
    pod = host.pod("pod")
    network = host.conflist(PTP, NETDEV, name="pods")
    asked = {"io.kubernetes.cri.pod-annotations": {"netdevices.nri.containerd.io": ANNOTATION}}

    say("A host with two links of its own, each with addresses, routes, an alias, an MTU of 1450")
    show_host(host)
    say("The conflist: ptp makes the pod's main interface, cni-netdev is chained behind it")
    show(json.dumps(json.loads((host.conf_dir / "pods.conflist").read_text()), indent=2))
    say("The pod asks for both links by its annotation netdevices.nri.containerd.io")
    show(ANNOTATION)

    say("cnitool add pods /run/netns/pod")
    show(json.dumps(host.cnitool("add", network, pod.path, cap_args=asked).ok(), indent=2))
    say("Now the host is without them ...")
    show_host(host)
    say("... and the pod has them, under its names, with its addresses")
    show_pod(pod)
    say("netdevctl attachments")
    show(host.netdevctl("attachments").stdout)

    say("The pod misbehaves: it renames a link, changes MTU and MAC, forges an alias, listens in")
    for arguments in (
        "link set eth33 down",
        "link set eth33 name mine mtu 1300 address 02:bb:00:00:00:01 alias lo promisc on up",
        "link add spy link storage0 type macvlan",
    ):
        show(f"ip {arguments}")
        pod.ip(arguments)

    say("cnitool del pods /run/netns/pod")
    host.cnitool("del", network, pod.path).ok()
    show_host(host)
    say("Each link compared with what it was: settings, addresses, routes, neighbours, sysctls")
    return compare(host, before)
