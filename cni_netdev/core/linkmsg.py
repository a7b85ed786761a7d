"""rtnetlink's link message (linux/if_link.h), with no more of it decoded than somebody reads.

pyroute2's own, ``ifinfmsg``, knows all kinds of links: 1.2 ms of each pod's start.  So of this one
message only the machinery is pyroute2's.  As the kernel's bytes are left what is special to a kind
of link (IFLA_INFO_DATA) and the arrays of sysctls (IFLA_INET_CONF, IFLA_INET6_CONF).
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_FIELDS = (
    ("family", "B"),
    ("__align", "x"),
    ("ifi_type", "H"),
    ("index", "i"),
    ("flags", "I"),
    ("change", "I"),
)
# By number; how each is written and read, by pyroute2's names for that.
_ATTRIBUTES = """
    UNSPEC:none ADDRESS:cdata BROADCAST:cdata IFNAME:asciiz MTU:uint32 LINK:uint32 QDISC:asciiz
    STATS:hex COST:hex PRIORITY:hex MASTER:uint32 WIRELESS:hex PROTINFO:hex TXQLEN:uint32 MAP:hex
    WEIGHT:hex OPERSTATE:uint8 LINKMODE:uint8 LINKINFO:info NET_NS_PID:uint32 IFALIAS:asciiz
    NUM_VF:uint32 VFINFO_LIST:hex STATS64:hex VF_PORTS:hex PORT_SELF:hex AF_SPEC:families
    GROUP:uint32 NET_NS_FD:uint32 EXT_MASK:uint32 PROMISCUITY:uint32 NUM_TX_QUEUES:uint32
    NUM_RX_QUEUES:uint32 CARRIER:uint8 PHYS_PORT_ID:hex CARRIER_CHANGES:uint32 PHYS_SWITCH_ID:hex
    LINK_NETNSID:int32 PHYS_PORT_NAME:asciiz PROTO_DOWN:uint8 GSO_MAX_SEGS:uint32
    GSO_MAX_SIZE:uint32 PAD:hex XDP:xdp EVENT:uint32 NEW_NETNSID:hex IF_NETNSID:uint32
    CARRIER_UP_COUNT:uint32 CARRIER_DOWN_COUNT:uint32 NEW_IFINDEX:uint32 MIN_MTU:uint32
    MAX_MTU:uint32 PROP_LIST:names ALT_IFNAME:asciiz PERM_ADDRESS:hex PROTO_DOWN_REASON:reason
    PARENT_DEV_NAME:asciiz PARENT_DEV_BUS_NAME:asciiz GRO_MAX_SIZE:uint32 TSO_MAX_SIZE:uint32
    TSO_MAX_SEGS:uint32 ALLMULTI:uint32 DEVLINK_PORT:hex GSO_IPV4_MAX_SIZE:uint32
    GRO_IPV4_MAX_SIZE:uint32 DPLL_PIN:hex MAX_PACING_OFFLOAD_HORIZON:uint32 NETNS_IMMUTABLE:uint8
"""
_INFO = "UNSPEC:none KIND:asciiz DATA:cdata XSTATS:hex SLAVE_KIND:asciiz SLAVE_DATA:hex"
_XDP = """
    UNSPEC:none FD:int32 ATTACHED:uint8 FLAGS:uint32 PROG_ID:uint32 DRV_PROG_ID:uint32
    SKB_PROG_ID:uint32 HW_PROG_ID:uint32 EXPECTED_FD:int32
"""
_REASON = "UNSPEC:none MASK:uint32 VALUE:uint32"
_IPV4 = "UNSPEC:none CONF:cdata"
_IPV6 = """
    UNSPEC:none FLAGS:uint32 CONF:cdata STATS:cdata MCAST:cdata CACHEINFO:cdata ICMP6STATS:cdata
    TOKEN:ip6addr
"""
_ALT_IFNAME = 53
_NESTED = 0x8000  # NLA_F_NESTED


def link_message(nlmsg: Any, nla: Any) -> Any:
    """The class.  nlmsg, nla: pyroute2's."""

    def nest(prefix: str, text: str, **further: Any) -> Any:
        body = {"prefix": "IFLA_", "nla_map": _map(prefix, text), **further}
        return type(prefix.strip("_").lower(), (nla,), body)

    names = {
        "nla_flags": _NESTED,
        "nla_map": ((_ALT_IFNAME, "IFLA_ALT_IFNAME", "asciiz"),),
        "altnames": _altnames,
    }
    body = {
        "prefix": "IFLA_",
        "fields": _FIELDS,
        "nla_map": _map("IFLA_", _ATTRIBUTES),
        "info": nest("IFLA_INFO_", _INFO),
        "xdp": nest("IFLA_XDP_", _XDP, nla_flags=_NESTED),
        "reason": nest("IFLA_PROTO_DOWN_REASON_", _REASON, nla_flags=_NESTED),
        "names": type("names", (nla,), names),
        "families": _families(nla, nest("IFLA_INET_", _IPV4), nest("IFLA_INET6_", _IPV6)),
    }
    return type("linkmsg", (nlmsg,), body)


def _map(prefix: str, text: str) -> tuple[tuple[str, str], ...]:
    pairs = (each.partition(":") for each in text.split())
    return tuple((prefix + name, kind) for name, _, kind in pairs)


def _altnames(properties: Any) -> list[Any]:
    return [each.value for each in properties["attrs"] if each.name == "IFLA_ALT_IFNAME"]


def _families(nla: Any, ipv4: Any, ipv6: Any) -> Any:
    """Of a link that is no bridge's port; the numbers are those of linux/socket.h."""
    known = {2: ("AF_INET", "ipv4"), 10: ("AF_INET6", "ipv6")}
    numbers = range(max(known) + 1)
    body = {
        "nla_map": tuple(known.get(each, (f"AF_{each}", "none")) for each in numbers),
        "ipv4": ipv4,
        "ipv6": ipv6,
    }
    return type("families", (nla,), body)
