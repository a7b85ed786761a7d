"""What comes home, on the real kernel: every kind, whatever the pod did, whatever the host did."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.changes import SystemNetns
from cni_netdev.core.errors import DeviceHeld, KernelRefused, PolicyRefused
from tests import bpf_programs
from tests.host import run
from tests.lending import OWNER, Node, inside
from tests.linkstate import capture, differences, everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

    from tests.host import Host, Pod

pytestmark = pytest.mark.kernel


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    made = Node(host)
    yield made
    made.kernel.close()


MAKE: dict[str, Callable[[Host], object]] = {
    "veth": lambda host: host.veth("nic1"),
    "ifb": lambda host: host.ip("link add nic1 type ifb"),
    "macvlan": lambda host: (
        host.veth("below"),
        host.ip("link add nic1 link below type macvlan mode bridge"),
    ),
    "tun": lambda host: host.ip("tuntap add dev nic1 mode tun"),
    "tap": lambda host: host.ip("tuntap add dev nic1 mode tap"),
    "vxlan": lambda host: host.ip("link add nic1 type vxlan id 7 local 127.0.0.1 dstport 4789"),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("end", ["detach", "netns deleted", "tampered and deleted"])
def test_every_kind_comes_home(node: Node, kind: str, end: str) -> None:
    MAKE[kind](node.host)
    for arguments in ("link set nic1 mtu 1400 up", "addr add 10.0.0.1/24 dev nic1"):
        node.host.ip(arguments)
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1", "address": "192.168.2.2/24"})
    assert pod.addresses("net1") == ["192.168.2.2/24"]
    if end == "tampered and deleted":
        pod.ip("link set net1 down")
        pod.ip("link set net1 name mine alias forged mtu 1300")
    if end != "detach":
        pod.delete()
    release = node.detach()
    assert (release.devices, release.notes) == (("nic1",), ())
    assert differences(before, capture("nic1")) == []
    assert node.host.left_over() == []


def test_what_a_pod_did_is_undone(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1", "keep_addresses": True})
    for arguments in (
        "link set net1 down",
        "link set net1 name mine mtu 1300 address 02:bb:00:00:00:01 alias nic9 txqlen 3 group 9",
        "link set mine gso_max_size 10000 gro_max_size 10000 promisc on allmulticast on arp off up",
        "link property add dev mine altname planted",
        "link property del dev mine altname nic1alt",
        "addr add 6.6.6.6/32 dev mine",
        "link add bridge1 type bridge",
        "link set mine master bridge1",
    ):
        pod.ip(arguments)
    pod.run("sysctl", "-qw", "net.ipv4.conf.mine.rp_filter=0", "net.ipv6.conf.mine.disable_ipv6=1")
    release = node.detach()
    assert release.notes == ()
    assert differences(before, capture("nic1")) == []
    assert "bridge1" in pod.names()


def test_links_that_the_pod_stacked_on_it_are_gone(node: Node) -> None:
    node.host.veth("nic1", "peer1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"}, {"name": "peer1"})
    pod.ip("link add spy1 link nic1 type macvlan mode passthru")
    pod.ip("link add spy2 link peer1 type macvlan")
    node.detach()
    assert pod.names() == ["lo"]
    assert {"nic1", "peer1"} <= set(node.host.names())


def test_uppers_and_masters_of_the_host_survive_when_a_rule_lifts_the_guard(node: Node) -> None:
    node.host.veth("nic1")
    node.host.ip("link add br0 type bridge")
    node.host.ip("link set nic1 master br0")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"}, policy={"rules": [{"allow": {"names": ["nic1"]}}]})
    node.detach()
    assert before["link"]["master"] == "br0"
    assert differences(before, capture("nic1")) == []


def test_two_links_swap_names_and_swap_back(node: Node) -> None:
    for number in (1, 2):
        node.host.configured(f"nic{number}", number)
    before = everything()
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "nic2"}, {"name": "nic2", "new_name": "nic1"})
    assert set(pod.names()) == {"lo", "nic1", "nic2"}
    node.detach()
    assert differences(before, everything()) == []


@pytest.mark.parametrize("selector", ["altname", "hwaddr", "kernel_path"])
def test_selectors(node: Node, selector: str) -> None:
    node.host.configured("nic1")
    mac = node.host.json("link show nic1")[0]["address"]
    device = {
        "altname": {"name": "nic1alt"},
        "hwaddr": {"hwaddr": mac.upper()},
        "kernel_path": {"kernel_path": "/sys/devices/virtual/net/nic1"},
    }[selector]
    pod = node.host.pod()
    node.attach(pod, device)
    assert pod.names() == ["lo", "nic1"]
    other = node.host.pod("other")
    with pytest.raises(DeviceHeld, match="c1/eth0"):
        node.attach(other, device, owner=OWNER._replace(sandbox="c2"))


def test_own_altname_as_new_name_and_altname_taken_in_the_pod(node: Node) -> None:
    node.host.configured("nic1", 1)
    node.host.configured("nic2", 2)
    before = everything()
    pod = node.host.pod()
    pod.ip("link add nic2alt type ifb")
    node.attach(pod, {"name": "nic1", "new_name": "nic1alt"}, {"name": "nic2"})
    assert set(pod.names()) == {"lo", "nic1alt", "nic2alt", "nic2"}
    node.detach()
    assert differences(before, everything()) == []


def test_an_ifindex_taken_in_the_pod_does_no_harm(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    ifindex = node.host.json("link show nic1")[0]["ifindex"]
    pod.ip(f"link add blocker index {ifindex} type ifb")
    node.attach(pod, {"name": "nic1", "address": "192.168.2.2/24"})
    assert pod.addresses("nic1") == ["192.168.2.2/24"]
    node.host.ip(f"link add blocker index {ifindex} type ifb")
    node.detach()
    assert differences(before, capture("nic1")) == []


def test_the_hosts_name_taken_gives_a_fall_back(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    node.host.ip("link add nic1 type ifb")
    node.host.ip("link property add dev nic1 altname nic1alt")
    release = node.detach()
    assert release.devices == ("nic1_0",)
    assert "nic1 came home as nic1_0" in release.notes[0]
    after = capture("nic1_0")
    assert after["sysctls"] == before["sysctls"]
    assert [each["local"] for each in after["addresses"]] == [
        each["local"] for each in before["addresses"]
    ]


def test_an_address_that_another_link_has_by_now_is_left_there(node: Node) -> None:
    node.host.configured("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    node.host.ip("link add other type ifb")
    node.host.ip("addr add 10.1.0.1/24 dev other")
    node.host.ip("link set other up")
    release = node.detach()
    assert "10.1.0.1/24 is on another link by now" in " ".join(release.notes)
    assert "10.1.0.1" not in node.host.ip("addr show nic1")


def test_what_has_the_place_of_something_is_left_there_and_said(
    node: Node, mocker: MockerFixture
) -> None:
    """A daemon was there between our look and our request."""
    node.host.veth("other")
    node.host.ip("addr add 10.5.0.1/24 dev other")
    node.host.veth("nic1")
    for arguments in (
        "-6 addr add fd01::1/64 dev nic1 nodad",
        "addr add 10.1.0.1/24 dev nic1",
        "route add 172.16.0.0/16 via 10.1.0.254",
        "neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev nic1",
    ):
        node.host.ip(arguments)
    node.attach(node.host.pod(), {"name": "nic1"})
    set_address = SystemNetns.set_address
    daemon = [
        "-6 addr add fd01::1/128 dev nic1 nodad",
        "route add 172.16.0.0/16 via 10.5.0.254 dev other",
        "neigh replace 10.1.0.9 lladdr 02:00:00:00:00:88 nud reachable dev nic1",
    ]

    def with_a_daemon(self: SystemNetns, *given: Any, present: bool) -> None:
        while daemon:
            node.host.ip(daemon.pop(0))
        set_address(self, *given, present=present)

    mocker.patch.object(SystemNetns, "set_address", with_a_daemon)
    notes = node.detach().notes
    assert [each.partition(": File exists")[0] for each in notes] == [
        "nic1: add address fd01::1/64: another is in its place",
        "nic1: add route 172.16.0.0/16 via 10.1.0.254: another is in its place",
    ]
    assert "dev other" in node.host.ip("route show 172.16.0.0/16")
    (neighbour,) = node.host.json("neigh show dev nic1 nud permanent")
    assert neighbour["lladdr"] == "02:00:00:00:00:09"


def test_a_destroyed_link_made_anew_is_not_taken(node: Node) -> None:
    node.host.veth("nic1", "peer1")
    ifindex = node.host.json("link show nic1")[0]["ifindex"]
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    pod.ip("link delete net1")
    pod.ip(f"link add net1 index {ifindex} type ifb")
    release = node.detach()
    assert "nic1 is lost" in release.notes[0]
    assert pod.names() == ["lo", "net1"]
    assert node.host.left_over() == []


def test_a_link_hidden_in_a_further_namespace_comes_home(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod, further = node.host.pod(), node.host.pod("further")
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    with further.process() as pid:
        pod.ip(f"link set net1 netns {pid} name hidden")
        further.delete()
        assert node.detach().complete
    assert differences(before, capture("nic1")) == []


ROOTS = ("tbf rate 1mbit burst 32kbit latency 400ms", "pfifo limit 7", "bfifo limit 3000")


@pytest.mark.parametrize("root", ROOTS)
def test_the_hosts_own_qdisc_is_put_back(node: Node, root: str) -> None:
    node.host.veth("nic1")
    run("tc", "qdisc", "add", "dev", "nic1", "root", "handle", "7:", *root.split())
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    pod.run("tc", "qdisc", "replace", "dev", "nic1", "root", "pfifo", "limit", "3")
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_filters_of_the_host_guard_a_link_and_the_pods_are_gone(node: Node) -> None:
    node.host.veth("nic1")
    clean = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    pod.run("tc", "qdisc", "add", "dev", "nic1", "clsact")
    node.detach()
    assert differences(clean, capture("nic1")) == []
    run("tc", "qdisc", "add", "dev", "nic1", "clsact")
    with pytest.raises(PolicyRefused, match="tc filters of the host"):
        node.attach(pod, {"name": "nic1"})
    node.attach(pod, {"name": "nic1"}, policy={"rules": [{"allow": {"names": ["nic1"]}}]})
    node.detach()
    assert "clsact" in run("tc", "qdisc", "show", "dev", "nic1")


# --- hostile and odd -----------------------------------------------------------------------------

ODD = b"\xff\xfe"


@pytest.mark.parametrize(
    "command",
    [
        ["link", "set", "net1", "name", ODD],
        ["link", "property", "add", "dev", "net1", "altname", ODD],
        ["link", "set", "net1", "alias", ODD],
        ["link", "add", "link", "net1", "name", ODD, "type", "macvlan"],
    ],
    ids=["name", "altname", "alias", "upper"],
)
def test_names_that_are_no_text_keep_nothing_in_the_pod(node: Node, command: list[Any]) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    pod.ip("link set net1 down")
    subprocess.run(["ip", "-n", pod.name, *command], check=True)
    release = node.detach()
    assert (release.notes, release.complete) == ((), True)
    assert differences(before, capture("nic1")) == []


def test_a_setting_that_is_refused_keeps_no_other_back(node: Node) -> None:
    node.host.veth("below")
    node.host.ip("link add nic1 link below type macvlan")
    node.host.ip("link set nic1 alias mine group 5 txqueuelen 77")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    pod.ip("link set nic1 alias EVIL txqueuelen 9999 group 0")
    node.host.ip("link set below mtu 1400")
    release = node.detach()
    assert "mtu 1500" in " ".join(release.notes)
    link = node.host.json("link show nic1")[0]
    assert (link["ifalias"], link["txqlen"], link["group"]) == ("mine", 77, "5")


def test_macs_that_the_pod_swapped_are_swapped_back(node: Node) -> None:
    node.host.veth("below")
    for number in (1, 2):
        node.host.ip(
            f"link add nic{number} link below address 02:00:00:00:00:0{number} type macvlan"
        )
        node.host.ip(f"link set nic{number} up")
    before = everything()
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"}, {"name": "nic2"})
    for link, mac in (("nic1", "9"), ("nic2", "1"), ("nic1", "2")):
        pod.ip(f"link set {link} address 02:00:00:00:00:0{mac}")
    assert node.detach().notes == ()
    assert differences(before, everything()) == []


def test_addresses_that_links_share_come_back(node: Node) -> None:
    node.host.veth("other")
    node.host.veth("nic1")
    for link in ("other", "nic1"):
        node.host.ip(f"-6 addr add fe80::1/64 dev {link} nodad")
        node.host.ip(f"addr add 10.3.3.3/32 dev {link}")
    for address in (
        "10.0.0.1/24",
        "10.0.0.1/16",
        "10.4.4.4 peer 10.4.4.5",
        "10.4.4.4 peer 10.4.4.6",
    ):
        node.host.ip(f"addr add {address} dev nic1")
    before = capture("nic1")
    node.attach(node.host.pod(), {"name": "nic1"})
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_our_leg_of_a_multipath_route_comes_back(node: Node) -> None:
    for number, link in enumerate(("nic1", "nic2"), 1):
        node.host.veth(link)
        node.host.ip(f"-6 addr add fd0{number}::1/64 dev {link} nodad")
        node.host.ip(f"addr add 10.{number}.0.1/24 dev {link}")
    v6 = "nexthop via fd01::9 dev nic1 nexthop via fd02::9 dev nic2"
    node.host.ip(f"-6 route add fd77::/64 metric 7 {v6}")
    node.host.ip(
        "route add 10.77.0.0/16 nexthop via 10.1.0.9 dev nic1 nexthop via 10.2.0.9 dev nic2"
    )
    before = node.host.ip("-6 route show fd77::/64"), node.host.ip("route show 10.77.0.0/16")
    node.attach(node.host.pod(), {"name": "nic1"})
    assert node.detach().notes == ()
    after = node.host.ip("-6 route show fd77::/64"), node.host.ip("route show 10.77.0.0/16")
    assert [sorted(each.split()) for each in after] == [sorted(each.split()) for each in before]


def test_ipv6_that_was_off_stays_off_after_a_small_mtu(node: Node) -> None:
    """Below 1280 the kernel has no IPv6 on the link, and makes it anew with its defaults above."""
    node.host.veth("nic1")
    for key, value in (("disable_ipv6", "1"), ("accept_ra", "0")):
        Path(f"/proc/sys/net/ipv6/conf/nic1/{key}").write_text(value)
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    pod.ip("link set nic1 mtu 1000")
    pod.ip(f"link set nic1 netns {os.getpid()}")
    assert not Path("/proc/sys/net/ipv6/conf/nic1").exists()
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_a_stable_secret_and_its_address_come_back(node: Node) -> None:
    """It cannot be read until it is set, and the way of making addresses depends on it."""
    node.host.veth("nic1")
    node.host.ip("link set nic1 down")
    Path("/proc/sys/net/ipv6/conf/nic1/stable_secret").write_text("2001:db8::1")
    node.host.ip("link set nic1 up")
    before = capture("nic1")
    assert "stable-privacy" in str(before["link-local"])
    node.attach(node.host.pod(), {"name": "nic1"})
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_what_came_home_is_not_held_by_what_is_still_away(
    node: Node, mocker: MockerFixture
) -> None:
    node.host.veth("nic1")
    node.host.veth("nic2")
    pod, other = node.host.pod(), node.host.pod("other")
    node.attach(pod, {"name": "nic1"}, {"name": "nic2"})
    move = SystemNetns.move

    def stuck(self: SystemNetns, ifindex: int, target: Any, before: Any, after: Any) -> None:
        if after.name == "nic1":
            raise KernelRefused("move nic1", errno.EBUSY)
        move(self, ifindex, target, before, after)

    mocker.patch.object(SystemNetns, "move", stuck)
    release = node.detach()
    assert (release.devices, release.complete) == (("nic2",), False)
    node.attach(other, {"name": "nic2"}, owner=OWNER._replace(sandbox="c2"))
    mocker.stopall()
    assert [each.devices for each in node.engine.recover()] == [("nic1",)]
    assert other.names() == ["lo", "nic2"]


def test_from_another_namespace_nothing_is_brought_home(node: Node) -> None:
    node.host.veth("nic1")
    pod, wrong = node.host.pod(), node.host.pod("wrong")
    node.attach(pod, {"name": "nic1"})
    with inside(wrong):
        elsewhere = Node(node.host)
        release = elsewhere.detach()
        assert elsewhere.engine.recover() == ()
    assert not release.complete
    assert "another network namespace" in release.notes[0]
    assert (pod.names(), wrong.names()) == (["lo", "nic1"], ["lo"])
    assert node.detach().devices == ("nic1",)


def test_from_another_mount_namespace_no_pin_is_lost(node: Node) -> None:
    """What cannot be seen there is not called lost, and other pods' pins stay."""
    node.host.veth("nic1")
    node.host.veth("nic2")
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from cni_netdev.core.engine import Injector
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
print("ready", flush=True)
sys.stdin.readline()
engine = Injector(SystemKernel(), FileJournal())
print(engine.recover())
print(engine.detach(("cni", "c2", "eth0")))
"""
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        pod, other = node.host.pod(), node.host.pod("other")
        node.attach(pod, {"name": "nic1"})
        node.attach(other, {"name": "nic2"}, owner=OWNER._replace(sandbox="c2"))
        pod.delete()
        out, _ = child.communicate("go\n")
    assert "in the runtime's" in out or "the runtime's: run this there" in out
    assert node.journal.pinned(OWNER.key) is not None
    assert node.detach().devices == ("nic1",)


def test_a_link_hidden_in_a_namespace_without_processes_comes_home(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod, further = node.host.pod(), node.host.pod("further")
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    pod.ip(f"link set net1 netns {further.name} name hidden")
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_a_pod_that_renames_without_end_keeps_nothing(node: Node) -> None:
    """Looked at by name between two renames, a link would seem another one, or gone."""
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    script = "ip link set $0 name $1 2>/dev/null; ip link set $1 name $0 2>/dev/null"
    for _ in range(5):
        node.attach(pod, {"name": "nic1", "new_name": "aa", "up": False})
        loop = [
            "ip",
            "netns",
            "exec",
            pod.name,
            "sh",
            "-c",
            f"echo; while :; do {script}; done",
            "aa",
            "bb",
        ]
        with subprocess.Popen(loop, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            release = node.detach()
            child.kill()
        if not release.complete:
            assert "lost" not in " ".join(release.notes)
            node.engine.recover()
        assert differences(before, capture("nic1")) == []


def test_names_in_a_chain_are_put_right_on_the_host_too(node: Node) -> None:
    """As the kernel leaves hardware there whose namespace died: under the pod's names."""
    for number in (1, 2):
        node.host.configured(f"nic{number}", number)
    before = everything()
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "nic2"}, {"name": "nic2", "new_name": "nic3"})
    for name in ("nic2", "nic3"):
        pod.ip(f"link set {name} netns {os.getpid()}")
    assert node.detach().devices == ("nic1", "nic2")
    assert differences(before, everything()) == []


def test_what_a_pod_can_do_to_the_state_of_a_link_is_undone(node: Node) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    pod.ip("link set net1 mode dormant")
    pod.ip("link set net1 broadcast 02:00:00:00:00:05")
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []


def test_a_pods_own_host_end_and_a_default_route_of_the_kernels_are_guarded(node: Node) -> None:
    other = node.host.pod("other")
    node.host.ip(f"link add vethx type veth peer name eth0 netns {other.name}")
    node.host.veth("nic1")
    node.host.ip("addr add 10.5.0.1/24 dev nic1")
    node.host.ip("route add default via 10.5.0.9 proto kernel")
    pod = node.host.pod()
    for name, reason in (("vethx", "its other end"), ("nic1", "default route")):
        with pytest.raises(PolicyRefused, match=reason):
            node.attach(pod, {"name": name})


def test_two_routes_to_one_destination_are_there_for_check(node: Node) -> None:
    node.host.veth("nic1")
    pod = node.host.pod()
    routes: list[object] = [{"dst": "fd99::/64", "gw": gw} for gw in ("fd01::8", "fd01::9")]
    device: dict[str, object] = {"name": "nic1", "address": "fd01::1/64", "routes": routes}
    node.attach(pod, device)
    assert node.engine.check(OWNER.key, pod.path, {}) == ()


def test_a_route_that_cannot_be_said_in_full_is_told_not_changed(node: Node) -> None:
    node.host.veth("nic1")
    node.host.ip("-6 addr add fd01::1/64 dev nic1 nodad")
    node.host.ip("-6 route add fd99::/64 from fd01::/64 via fd01::9")
    node.attach(node.host.pod(), {"name": "nic1"})
    assert "fd99::/64 has attributes" in " ".join(node.detach().notes)
    assert "fd99::/64" not in node.host.ip("-6 route")


# --- BPF ---------------------------------------------------------------------------------------


def index_of(links: list[dict[str, int]]) -> int:
    return links[0]["ifindex"]


@pytest.mark.parametrize(
    "plant", ["xdp", "xdp link", "tcx", "tcx link", "xdp pinned", "tcx pinned"]
)
def test_programs_that_the_pod_planted_are_gone(node: Node, tmp_path: Path, plant: str) -> None:
    node.host.configured("nic1")
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    ifindex = index_of(pod.json("link show net1"))
    held = []
    with inside(pod):
        if plant == "tcx":
            bpf_programs.attach_tcx(ifindex, "ingress")
            bpf_programs.attach_tcx(ifindex, "egress")
        elif plant != "xdp":
            held.append(bpf_programs.link(ifindex, plant.split(maxsplit=1)[0]))
    if plant.endswith("pinned"):  # no process need live for it
        bpf_programs.pin(held.pop(), tmp_path)
    if plant == "xdp":
        attach_xdp(pod, ifindex)
    release = node.detach()
    assert release.notes == ()
    assert differences(before, capture("nic1")) == []
    home = index_of(node.host.json("link show nic1"))
    assert node.kernel.host.tcx(home) == ()
    link = node.kernel.host.link(ifindex=home)
    assert link is not None
    assert link.xdp == ()
    for fd in held:
        os.close(fd)


def attach_xdp(pod: Pod, ifindex: int) -> None:
    from cni_netdev.core import rtnl
    from cni_netdev.core.netlink import NLM_F_ACK, RTM_NEWLINK, Connection

    fd = bpf_programs.load("xdp")
    with inside(pod):
        connection = Connection()
    connection.request("plant", rtnl.xdp(ifindex, "skb", fd), RTM_NEWLINK, NLM_F_ACK)
    connection.close()
    os.close(fd)
    assert "xdp" in pod.ip("link show net1")


def test_programs_of_the_host_stay(node: Node) -> None:
    node.host.veth("nic1")
    ifindex = index_of(node.host.json("link show nic1"))
    bpf_programs.attach_tcx(ifindex, "ingress")
    had = node.kernel.host.tcx(ifindex)
    assert len(had) == 1
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    with inside(pod):
        bpf_programs.attach_tcx(ifindex, "ingress")
    node.detach()
    assert node.kernel.host.tcx(ifindex) == had


# --- who notices -------------------------------------------------------------------------------


def test_the_next_attach_recovers_a_dead_pods_links(node: Node) -> None:
    node.host.configured("nic1")
    node.host.veth("nic2")
    before = capture("nic1")
    pod, other = node.host.pod(), node.host.pod("other")
    node.attach(pod, {"name": "nic1"})
    pod.delete()
    node.attach(other, {"name": "nic2"}, owner=OWNER._replace(sandbox="c2"))
    assert differences(before, capture("nic1")) == []


def test_a_pin_keeps_no_other_link_of_a_dead_pod_alive(node: Node) -> None:
    node.host.veth("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    node.host.ip(f"link add uplink type veth peer name eth0 netns {pod.name}")
    pod.delete()
    assert "uplink" in node.host.names()
    node.engine.recover()
    # The kernel takes a dead namespace apart in its own time; the event of that is awaited.
    wait_for(lambda: "uplink" not in node.host.names())


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, looking again at each link event; at most ten seconds after the last."""
    command = ["ip", "monitor", "link"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as events:
        assert events.stdout is not None
        while not condition():
            assert select.select([events.stdout], [], [], 10)[0] or condition()
            events.stdout.read(4096)
        events.kill()


def test_a_live_pod_is_left_alone(node: Node) -> None:
    node.host.veth("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1"})
    with pod.process():
        pod.delete()
        assert node.engine.recover() == ()
    assert [each.devices for each in node.engine.recover()] == [("nic1",)]


def test_links_of_the_host_are_never_listed(node: Node, mocker: MockerFixture) -> None:
    """Linear cost: only hwaddr may look at every link."""
    node.host.configured("nic1")
    pod = node.host.pod()
    listed = mocker.spy(node.kernel.host, "links")
    scanned = mocker.spy(type(node.kernel.host._sysfs), "by_inode")
    node.attach(pod, {"name": "nic1"})
    node.detach()
    assert listed.call_count == 0
    assert scanned.call_count == 0
