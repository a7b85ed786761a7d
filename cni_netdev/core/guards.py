"""Links that cannot move, and links that the node or other pods need where they are; pure."""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.model import Link, Route, Snapshot

# Also the halves that VPNs set to win over the default route, and all that IPv6 has given out.
_DEFAULT_ROUTES = frozenset(
    ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "8000::/1", "2000::/3")
)
# Before 6.15 the kernel does not say so; these it has always tied (NETIF_F_NETNS_LOCAL).
_TIED = frozenset(("bridge", "bond", "team", "vrf", "openvswitch", "batadv", "hsr"))
_WITH_FILTERS = frozenset(("clsact", "ingress"))
_WITH_CLASSES = frozenset(
    ("htb", "hfsc", "prio", "drr", "ets", "qfq", "cbq", "mqprio", "taprio", "multiq")
)
_UNICAST = 1
_PERMANENT = 0x80  # NUD_PERMANENT; a switch's port has its hosts with another state
_MOST_TOLD = 3


def always_refused(link: Link) -> str:
    """Why the link can never go; empty when it can."""
    if link.loopback:
        return "it is the loopback link, which cannot move"
    if link.phy:
        mates = _first(link.phy.mates)
        return f"{link.phy.name}, the phy that it moves with, has more links: {mates}" * bool(mates)
    if link.immutable or link.kind in _TIED:
        kind = f" of kind {link.kind}" if link.kind else ""
        return f"the kernel ties a link{kind} to its namespace"
    return ""


def guard(snapshot: Snapshot, *, overheard: bool = False) -> str:
    """Why the link is needed where it is; empty when it is not.

    Of the snapshot, routes, qdiscs and forwarding count too.  overheard: as ports.Netns has it.
    """
    link, kinds = snapshot.link, {each.kind for each in snapshot.qdiscs}
    others = _others_macs(snapshot)
    paired = link.kind == "veth" and link.lower_elsewhere
    taking_in = f"it takes in frames for {_first(others)}, most likely of links stacked on it"
    reasons = (
        (any(map(_is_default, snapshot.routes)), "it carries a default route of the node"),
        (bool(link.master), "it is a port of a bridge, bond or switch"),
        (bool(link.uppers), f"other links are stacked on it: {_first(link.uppers)}"),
        (paired, "its other end is in another namespace, most likely a pod's"),
        (bool(others), f"{taking_in} in other namespaces"),
        (overheard, "a link in another namespace is stacked on it"),
        (_has_filters(snapshot, kinds), "it has tc filters of the host, which a move would drop"),
        (bool(kinds & _WITH_CLASSES), "it has a qdisc with classes, which a move would drop"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _has_filters(snapshot: Snapshot, kinds: set[str]) -> bool:
    """But for those that are put back: of a clsact, each a program and nothing else."""
    put_back = snapshot.filters is not None and all(each.program for each in snapshot.filters)
    return bool(kinds & (_WITH_FILTERS - {"clsact"} if put_back else _WITH_FILTERS))


def _is_default(route: Route) -> bool:
    return route.dst in _DEFAULT_ROUTES and route.type == _UNICAST


def _others_macs(snapshot: Snapshot) -> list[str]:
    """The unicast MACs that the link takes in besides its own."""
    link = snapshot.link
    own = (link.settings.mac, link.identity.perm_mac)
    taken_in = [
        each.mac
        for each in snapshot.forwarding or ()
        if each.state == _PERMANENT and link.kind != "vxlan"  # whose table is of other hosts
    ]
    return [mac for mac in taken_in if mac not in own and not int(mac[:2] or "1", 16) & 1]


def _first(names: Sequence[str]) -> str:
    more = len(names) - _MOST_TOLD
    listed = ", ".join(names[:_MOST_TOLD])
    return f"{listed} and {more} more" if more > 0 else listed
