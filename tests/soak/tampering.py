"""What pods do to the links that they have, as root of their network namespace.

Each is a shell script in the namespace; ``$dev`` is what the link is called there by now.  Some are
refused for a link of some kind, or after what the pod did before: then less is done.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import Pod
from tests.soak.places import inside

if TYPE_CHECKING:
    from tests.soak.guests import Guest

_SCRIPTS = {
    "renamed": "ip link set $dev down; ip link set $dev name mine$n; ip link set mine$n up",
    "forged": "ip link set $dev alias nic1; ip link property add dev $dev altname planted$n;"
    "ip link property del dev $dev altname $(ip -o link show $dev | sed -n 's/.*altname //p')",
    "resized": "ip link set $dev mtu 1290; ip link set $dev address 02:bb:00:00:00:0$n;"
    "ip link set $dev gso_max_size 10000 group 99",
    "deaf": "ip link set $dev arp off multicast off; ip link set $dev down",
    "listening": "ip link set $dev promisc on allmulticast on",
    "readdressed": "ip addr flush dev $dev; ip addr add 6.6.6.$n/32 dev $dev;"
    "ip link set $dev up; ip route add default dev $dev;"
    "ip neigh add 6.6.6.66 lladdr 02:bb:00:00:00:66 dev $dev",
    "stacked": "ip link add spy$n link $dev type macvlan; ip link set spy$n up",
    "filtered": "tc qdisc add dev $dev clsact;"
    "tc filter add dev $dev ingress protocol ip u32 match u32 0 0 flowid 1:1",
    "queued": "tc qdisc replace dev $dev root tbf rate 1mbit burst 32kbit latency 400ms",
    "bridged": "ip link add trap$n type bridge; ip link set $dev master trap$n",
    "sysctls": "cd /proc/sys/net; echo 1 >ipv4/conf/$dev/proxy_arp;"
    "echo 0 >ipv4/conf/$dev/rp_filter; echo 1 >ipv6/conf/$dev/disable_ipv6",
}


def tamper(guest: Guest, how: str) -> str:
    """Do it to every link that the guest has, or to one; what came of it in words."""
    if how == "swapped":
        return _swap(guest)
    if how == "hidden":
        return _hide(guest)
    said = [
        _run(guest.path, f"dev='{name}'; n={number}; {_SCRIPTS[how]}")
        for number, name in enumerate(inside(guest.path).values(), 1)
    ]
    return " ".join(said) or "done"


def _swap(guest: Guest) -> str:
    """Two links take each other's name."""
    names = list(inside(guest.path).values())[:2]
    if len(names) < 2:
        return "has no two links"
    one, other = names
    return _run(
        guest.path,
        f"ip link set '{one}' down; ip link set '{other}' down;"
        f"ip link set '{one}' name swap0; ip link set '{other}' name '{one}';"
        f"ip link set swap0 name '{other}'",
    )


def _hide(guest: Guest) -> str:
    """One link goes on into a further namespace, which outlives the pod."""
    there = inside(guest.path)
    if not there:
        return "has no link"
    link, name = next(iter(there.items()))
    further = Path(f"/run/netns/x-{guest.name}")
    if not further.exists():
        Pod(further.name)
    said = _run(guest.path, f"ip link set '{name}' netns {further.name}")
    if link in inside(str(further)):
        guest.hidden[link] = str(further)
    return said


def _run(path: str, script: str) -> str:
    """What a script in the namespace complains of."""
    command = ["nsenter", f"--net={path}", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr
