"""A link's own table of MACs: what it takes in besides its own, or of a VXLAN where each one is.

Of the MACs that it takes in, a move loses all, and of a VXLAN's entries none, a pod's included.
What IP and sockets join is theirs to join again and is left out; what `bridge fdb` or `ip maddr`
put there is not.  Numbers and names: linux/neighbour.h.
"""

from __future__ import annotations

from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Forwarding
from cni_netdev.core.netlink import asked_again

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_AF_BRIDGE = 7
_NTF_SELF = 0x02
_LASTING = 0x80 | 0x40  # NUD_PERMANENT, NUD_NOARP: what is learnt has neither
_KEPT = (
    "NDA_DST",
    "NDA_LLADDR",
    "NDA_VLAN",
    "NDA_PORT",
    "NDA_VNI",
    "NDA_IFINDEX",
    "NDA_SRC_VNI",
    "NDA_NH_ID",
)
# All nodes of IPv4 and IPv6, and solicited nodes: the kernel joins these on every link.
_ALWAYS = ("01005e000001", "333300000001", "3333ff")


@asked_again
def dump(ifindex: int) -> Any:
    """RTM_GETNEIGH of one link's table."""
    return _message(ifindex)


def change(ifindex: int, entry: Forwarding) -> Any:
    """RTM_NEWNEIGH or RTM_DELNEIGH."""
    message = _message(ifindex)
    message["state"], message["flags"] = entry.state, entry.flags
    message["attrs"] = [(name, bytes.fromhex(value)) for name, value in entry.attributes]
    return message


def entries(replies: Iterable[Any], ifindex: int) -> list[Forwarding]:
    """What lasts of a dump, multicast MACs that were joined included."""
    return [
        Forwarding(reply["state"], reply["flags"], _attributes(reply))
        for reply in replies
        if reply["ifindex"] == ifindex and reply["flags"] & _NTF_SELF and reply["state"] & _LASTING
    ]


def may_be_joined(entry: Forwarding) -> bool:
    """Whether it is a multicast MAC that the link takes in, for whomever."""
    attributes = dict(entry.attributes)
    return "NDA_DST" not in attributes and bool(int(attributes["NDA_LLADDR"][:2], 16) & 1)


def is_always_joined(entry: Forwarding) -> bool:
    return may_be_joined(entry) and dict(entry.attributes)["NDA_LLADDR"].startswith(_ALWAYS)


def set_by_hand(ifindex: int, table: str) -> frozenset[str]:
    """The multicast MACs that somebody set, by the text of /proc/net/dev_mcast, in hexadecimal.

    A line: ifindex, name, users, whether it is set (`global use`), MAC.
    """
    lines = (line.split() for line in table.splitlines())
    return frozenset(line[4] for line in lines if line[0] == str(ifindex) and line[3] != "0")


def _attributes(reply: Any) -> tuple[tuple[str, str], ...]:
    found = dict(reply["attrs"])
    return tuple((name, bytes(found[name]).hex()) for name in _KEPT if name in found)


def _message(ifindex: int) -> Any:
    message = messages().forwarding()
    message["family"], message["ifindex"] = _AF_BRIDGE, ifindex
    message["attrs"] = []
    return message
