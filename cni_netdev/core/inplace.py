"""Whether what the kernel says is there already (EEXIST) is what was to be put there.

The kernel says it of an IPv6 address with another prefix length, of an IPv4 one with another peer
in the same net, and of a route to the same destination through another link.
"""

from __future__ import annotations

from cni_netdev.core.compare import essence
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.plan import own_legs
from cni_netdev.core.steps import SetAddress, SetRoute

if TYPE_CHECKING:
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step


def is_in_place(host: Netns, ifindex: int, step: Step) -> bool:
    """Whether the link has the step's address or route; of other things, yes."""
    match step:
        case SetAddress(_, address, _):
            same = (address.address, address.prefix, address.peer)
            return same in [
                (each.address, each.prefix, each.peer) for each in host.addresses(ifindex)
            ]
        case SetRoute(_, route, _, _):
            there = {essence(leg) for each in host.routes(ifindex) for leg in own_legs(each)}
            return {essence(leg) for leg in own_legs(route)} <= there
    return True
