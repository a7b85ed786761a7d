"""What a pod with CAP_NET_ADMIN can do to a link that it was lent, one trick each.

A trick is a shell script in the pod's network namespace.  ``$dev`` is what the link is called
there, ``$away`` the name of a further namespace, ``$py`` a Python with this project's tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.host import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod


class Trick(NamedTuple):
    """link: which of the host's it is played on.  told: what the release must tell of it."""

    script: str
    link: str = "nic1"
    told: str = ""


_IN_PYTHON = "$py -c \"from tests.tricks import {0}; {0}('$dev')\""

TRICKS = {
    # --- settings
    "name": Trick("ip link set $dev down; ip link set $dev name mine"),
    "host's name": Trick("ip link set $dev down; ip link set $dev name nic1; ip link set nic1 up"),
    "another host's link's name": Trick("ip link set $dev down; ip link set $dev name other"),
    "every fall-back name": Trick(
        "ip link add nic1 type ifb; for n in $(seq 0 99); do echo link add nic1_$n type ifb; done"
        " | ip -batch -"
    ),
    "MAC": Trick("ip link set $dev address 02:bb:00:00:00:01"),
    "MAC of another link": Trick("ip link set $dev address 02:00:00:00:0e:01"),
    "broadcast address": Trick("ip link set $dev broadcast 02:00:00:00:00:05"),
    "MTU": Trick("ip link set $dev mtu 1300"),
    "MTU without IPv6": Trick("ip link set $dev mtu 1000"),
    "alias": Trick("ip link set $dev alias other"),
    "altnames planted": Trick(
        "for n in $(seq 100); do echo property add dev $dev altname planted$n; done"
        " | sed 's/^/link /' | ip -batch -"
    ),
    "altnames taken off": Trick("ip link property del dev $dev altname nic1alt"),
    "altname of another link": Trick("ip link property add dev $dev altname other"),
    "queue and group": Trick("ip link set $dev txqueuelen 3 group 9"),
    "GSO and GRO": Trick("ip link set $dev gso_max_size 10000 gro_max_size 10000"),
    "promisc": Trick("ip link set $dev promisc on"),
    "allmulti": Trick("ip link set $dev allmulticast on"),
    "no ARP, no multicast": Trick("ip link set $dev arp off multicast off"),
    "down": Trick("ip link set $dev down"),
    "dormant": Trick("ip link set $dev mode dormant state dormant"),
    "carrier": Trick("ip link set $dev carrier off", "tap1"),
    "protodown": Trick(
        "ip link set $dev protodown on; ip link set $dev protodown_reason 3 on", "mac1"
    ),
    "offloads": Trick(_IN_PYTHON.format("switch_offloads_off")),
    "queues": Trick(_IN_PYTHON.format("halve_queues"), "many1"),
    "link modes": Trick(_IN_PYTHON.format("force_speed"), "tap1"),
    # --- what only one kind has
    "macvlan's mode": Trick("ip link set $dev type macvlan mode private", "mac1"),
    "VXLAN's far end": Trick("ip link set $dev type vxlan id 7 remote 127.0.0.9 ttl 5", "vx1"),
    "VXLAN's table": Trick(
        "bridge fdb append 02:00:00:00:00:55 dst 127.0.0.6 dev $dev;"
        "bridge fdb append 00:00:00:00:00:00 dst 127.0.0.7 dev $dev;"
        "bridge fdb replace 02:00:00:00:00:66 dst 127.0.0.8 dev $dev",
        "vx1",
    ),
    "TAP's owner": Trick(_IN_PYTHON.format("own_tap"), "tap1"),
    # --- IP
    "addresses": Trick(
        "ip addr flush dev $dev; ip addr add 6.6.6.6/32 dev $dev; ip addr add fd66::6/64 dev $dev"
    ),
    "routes": Trick(
        "ip link set $dev up; ip addr add 6.6.6.6/24 dev $dev; ip route add default dev $dev;"
        "ip route add 10.2.0.0/16 dev $dev; ip -6 route add default dev $dev;"
        "ip rule add iif $dev lookup 66"
    ),
    "thousands of addresses and routes": Trick(
        "ip link set $dev up; for n in $(seq 3000); do a=$((n/250)).$((n%250));"
        " echo addr add 10.$a.1/24 dev $dev; echo addr add fd00:$n::1/64 dev $dev;"
        " echo route add 172.$a.0/24 dev $dev; done | ip -force -batch -"
    ),
    "neighbours": Trick(
        "ip neigh add 10.1.0.7 lladdr 02:bb:00:00:00:66 dev $dev;"
        "ip neigh add proxy 6.6.6.7 dev $dev"
    ),
    "token": Trick("ip token set ::66 dev $dev"),
    "MACs": Trick(
        "bridge fdb add 02:00:00:00:00:77 dev $dev self; ip maddr add 01:02:03:04:05:07 dev $dev"
    ),
    "sysctls": Trick(
        "cd /proc/sys/net; for f in ipv4/conf/$dev/* ipv6/conf/$dev/* ipv4/neigh/$dev/*; do"
        " { read v <$f && echo $((v+1)) >$f; } 2>/dev/null || true; done"
    ),
    "sysctls for all": Trick("for f in /proc/sys/net/ipv4/conf/all/*; do echo 1 >$f || true; done"),
    # --- traffic control
    "root qdisc": Trick("tc qdisc replace dev $dev root tbf rate 1mbit burst 32kbit latency 400ms"),
    "filters": Trick(
        "tc qdisc add dev $dev clsact;"
        "tc filter add dev $dev ingress protocol ip u32 match u32 0 0 flowid 1:1;"
        "tc filter add dev $dev egress protocol ip u32 match u32 0 0 flowid 1:1"
    ),
    # --- other links
    "bridge": Trick(
        "ip link add trap type bridge; ip link set $dev master trap; ip link set trap up;"
        "bridge link set dev $dev cost 66; bridge fdb add 02:00:00:00:00:78 dev $dev master"
    ),
    "macvlan": Trick("ip link add spy link $dev type macvlan; ip link set spy up"),
    "macvlan that is down": Trick("ip link add spy link $dev type macvlan"),
    "macvlan of all traffic": Trick(
        "ip link add spy link $dev type macvlan mode passthru; ip link set spy up"
    ),
    "macvlan on macvlan": Trick(
        "ip link add spy link $dev type macvlan; ip link add spy2 link spy type macvtap"
    ),
    "VXLAN over it": Trick(
        "ip link add tunnel type vxlan id 8 group 239.1.1.1 dev $dev dstport 4790"
    ),
    "macvlan elsewhere": Trick(
        "ip link add spy link $dev type macvlan; ip link set spy netns $away",
        told="nic1: deleted what the pod had left on it: spy",
    ),
    "macvlan made elsewhere": Trick(
        "ip link add spy link $dev netns $away type macvlan",
        told="nic1: deleted what the pod had left on it: spy",
    ),
    "peer of its own": Trick(
        "ip link add $dev.1 type veth peer name $dev.2; ip link set $dev.1 up"
    ),
    # --- namespaces
    "further namespace": Trick("ip link set $dev netns $away name hidden"),
    "further namespace, another ifindex": Trick("ip link set $dev netns $away index 4711"),
    "further namespace and back": Trick(
        "ip link set $dev netns $away; ip -n $away link set $dev netns pod index 4712"
    ),
    "deleted": Trick("ip link delete $dev", "ifb1", "ifb1 is lost"),
    "deleted and made again": Trick(
        "i=$(cat /sys/class/net/$dev/ifindex); ip link delete $dev;"
        "ip link add $dev index $i address 02:00:00:00:0f:b1 type ifb;"
        "ip link set $dev alias ifb1; ip link property add dev $dev altname ifb1alt",
        "ifb1",
        "ifb1 is lost",
    ),
}

# For both front ends: many at once, none of which undoes another.
TOGETHER = (
    (
        "MAC",
        "broadcast address",
        "MTU",
        "alias",
        "altnames planted",
        "altnames taken off",
        "queue and group",
        "GSO and GRO",
        "promisc",
        "allmulti",
        "no ARP, no multicast",
        "offloads",
        "addresses",
        "sysctls",
        "root qdisc",
        "filters",
        "bridge",
    ),
    ("routes", "token", "MACs", "neighbours", "macvlan", "VXLAN over it", "name"),
    ("macvlan made elsewhere",),
    ("macvlan elsewhere", "host's name"),
    ("macvlan", "further namespace, another ifindex"),
    ("deleted and made again",),
)


def prepare(host: Host) -> None:
    """The links that tricks are played on, and others that nothing may happen to."""
    host.configured("nic1", 1)
    host.configured("other", 2)
    queues = "numtxqueues 2 numrxqueues 2"
    host.ip(f"link add many1 address 02:00:00:00:0e:01 {queues} type veth peer name many1p")
    host.ip("link add mac1 link otherp type macvlan mode bridge")
    host.ip("link add vx1 type vxlan id 7 local 127.0.0.1 remote 127.0.0.5 dstport 4789")
    host.ip("tuntap add dev tap1 mode tap user 1")
    for name in ("mac1", "vx1", "tap1"):
        host.ip(f"link set {name} up")
    for arguments in (
        "rule add iif nic1 lookup 77",
        "maddr add 01:02:03:04:05:06 dev nic1",
        "token set ::77 dev nic1p",
        "token set ::77 dev mac1",
    ):
        host.ip(arguments)
    entry = ("02:00:00:00:00:66", "dst", "127.0.0.6", "dev", "vx1")
    run("bridge", "fdb", "append", *entry)


def make_again(host: Host) -> None:
    """What some tricks destroy."""
    if "ifb1" not in host.names():
        host.ip("link add ifb1 address 02:00:00:00:0f:b1 type ifb")
        host.ip("link property add dev ifb1 altname ifb1alt")


def play(pod: Pod, trick: Trick, dev: str, away: str) -> None:
    """Raises CalledProcessError when the kernel lets no pod do it."""
    command = _command(pod, f"set -e; {trick.script}", dev, away)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _command(pod: Pod, script: str, dev: str, away: str) -> list[str]:
    set_first = f"dev={dev} away={away} py={sys.executable} PYTHONPATH={ROOT}"
    return ["ip", "netns", "exec", pod.name, "sh", "-c", f"export {set_first}; {script}"]


# --- in the pod --------------------------------------------------------------------------------


def _change(name: str, key: str, value: str) -> None:
    from cni_netdev.core import ethtool

    before = dict(ethtool.read(name))
    ethtool.write(name, key, value)
    assert dict(ethtool.read(name)) != before, "there was nothing to change"


def switch_offloads_off(name: str) -> None:
    from cni_netdev.core import ethtool

    words = dict(ethtool.read(name))["features"]
    pairs = [words[at : at + 16] for at in range(0, len(words), 16)]
    _change(name, "features", "".join(pair[:8] + "00000000" for pair in pairs))


def halve_queues(name: str) -> None:
    import struct

    from cni_netdev.core import ethtool

    counts = list(struct.unpack("=8I", bytes.fromhex(dict(ethtool.read(name))["channels"])))
    halved = [*counts[:4], *(each // 2 for each in counts[4:])]
    _change(name, "channels", struct.pack("=8I", *halved).hex())


def force_speed(name: str) -> None:
    from cni_netdev.core import ethtool

    modes = dict(ethtool.read(name))["link modes"]
    ten_megabits_half_duplex = "00" + "0a000000" + "00"
    _change(name, "link modes", ten_megabits_half_duplex + modes[12:])


def own_tap(name: str) -> None:
    """Make it a user's, who may then open it for ever."""
    import fcntl
    import struct

    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    fcntl.ioctl(fd, 0x400454CC, 1000)
    os.close(fd)


def move_to_and_fro(name: str, *paths: str) -> None:
    """From each of these namespaces to the next and back, for ever; the first has it now."""
    import socket
    import struct

    from cni_netdev.core import libc

    spaces = [os.open(path, os.O_RDONLY) for path in paths]
    links = []
    for fd in spaces:
        libc.setns(fd, 0)
        links.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
    while True:
        for at, link in enumerate(links):
            target = spaces[(at + 1) % len(spaces)]
            # RTM_NEWLINK with IFLA_IFNAME and IFLA_NET_NS_FD, packed by hand for speed.
            body = struct.pack("=16xHH16sHHI", 20, 3, name.encode(), 8, 28, target)
            link.send(struct.pack("=IHHII", 16 + len(body), 16, 5, 1, 0) + body)
            link.recv(4096)


# Each says by an empty line that it has begun; then the release begins.
RESTLESS = {
    "moves": '$py -c "from tests.tricks import move_to_and_fro as m; print(flush=True);'
    " m('$dev', '/run/netns/pod', '/run/netns/$away')\"",
    "stacks": "echo; while :; do n=$((n+1)); ip link add s$n link $dev type macvlan; done",
    "stacks elsewhere": "echo; while :; do n=$((n+1));"
    " ip link add s$n link $dev netns $away type macvlan; done",
    "names": "echo; while :; do n=$((n+1)); ip link property add dev $dev altname n$n;"
    " ip link property del dev $dev altname n$n; done",
    "settings": "echo; while :; do ip link set $dev address 02:bb:00:00:00:01 mtu 1300;"
    " ip link set $dev address 02:bb:00:00:00:02 mtu 1000 alias x up;"
    " ip addr add 6.6.6.6/32 dev $dev; ip link set $dev down; done",
    "bridges": "ip link add trap type bridge; echo; while :; do ip link set $dev master trap;"
    " ip link set $dev nomaster; done",
}


@contextmanager
def restless(pod: Pod, script: str, dev: str, away: str) -> Iterator[None]:
    """The script while the block lasts, and no longer."""
    with subprocess.Popen(
        _command(pod, script, dev, away),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        yield
        os.killpg(child.pid, signal.SIGKILL)
