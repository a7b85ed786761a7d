"""pyroute2 messages to the model's values and back; pure, no socket.

Attribute numbers and meanings: linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h,
linux/neighbour.h.  What the kernel itself makes (link-local prefixes, local routes, learnt
neighbours) is filtered out here, since it makes them again by itself.
"""

from __future__ import annotations

from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import (
    AF_INET,
    AF_INET6,
    SETTABLE_FLAGS,
    Address,
    Identity,
    Link,
    LinkSettings,
    Neighbour,
    NextHop,
    Route,
)
from cni_netdev.core.netlink import asked_again

if TYPE_CHECKING:
    from collections.abc import Iterable, KeysView
    from typing import Any

IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x08, 0x20, 0x40, 0x80
_FOREVER = 0xFFFFFFFF  # INFINITY_LIFE_TIME
# IFA_F_SECONDARY/TEMPORARY 0x01, DADFAILED 0x08, DEPRECATED 0x20, TENTATIVE 0x40, PERMANENT 0x80
# and STABLE_PRIVACY 0x800 are the kernel's to set; the others are the administrator's.
_ADDRESS_FLAGS_OF_KERNEL = 0x01 | 0x08 | 0x20 | 0x40 | 0x80 | 0x800
IFLA_PROTO_KERNEL_LL = 3  # IFAPROT_KERNEL_LL: the link-local address that IFF_UP makes
NUD_PERMANENT = 0x80
NTF_PROXY = 0x08
RTM_F_CLONED = 0x200
RTNH_F_ONLINK = 0x4
# RTPROT_UNSPEC, REDIRECT and KERNEL: made by the kernel, which makes those to links again.
_KERNEL_PROTOCOLS = frozenset((0, 1, 2))
RTN_LOCAL = 2
_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
# Of a route, what the model has no field for; UNKNOWN is what pyroute2 has no name for either.
_UNSAID = frozenset(("RTA_ENCAP", "RTA_FLOW", "RTA_NEWDST", "RTA_MARK", "UNKNOWN"))
_SIZES = (
    "IFLA_GSO_MAX_SEGS",
    "IFLA_GSO_MAX_SIZE",
    "IFLA_GRO_MAX_SIZE",
    "IFLA_GSO_IPV4_MAX_SIZE",
    "IFLA_GRO_IPV4_MAX_SIZE",
)
_BOTH = {
    "IFLA_GSO_IPV4_MAX_SIZE": "IFLA_GSO_MAX_SIZE",
    "IFLA_GRO_IPV4_MAX_SIZE": "IFLA_GRO_MAX_SIZE",
}
_XDP_MODES = {
    "skb": "IFLA_XDP_SKB_PROG_ID",
    "drv": "IFLA_XDP_DRV_PROG_ID",
    "hw": "IFLA_XDP_HW_PROG_ID",
}
XDP_MODE_FLAGS = {"skb": 2, "drv": 4, "hw": 8}
_IFF_LOOPBACK = 0x8
_ARPHRD_ETHER = 1
_NO_ATTRIBUTES: dict[str, list[Any]] = {"attrs": []}
_NO_TOKEN = "::"  # noqa: S105 - an address


def decoded(value: str | bytes) -> str:
    """A name as text.  The kernel takes any bytes in one, and pyroute2 leaves odd ones as such."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def encoded(text: str) -> bytes:
    """A name as the kernel has it; pyroute2 encodes plain UTF-8 only."""
    return text.encode(errors="surrogateescape")


class Attributes:
    """Those of a received message by name; pyroute2 decodes each only when it is asked for.

    A link comes with forty, most of which nobody reads.
    """

    def __init__(self, message: Any) -> None:
        self._slots = {slot.name: slot for slot in message["attrs"]}

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def __getitem__(self, name: str) -> Any:
        return self._slots[name].value

    def get(self, name: str, default: Any = None) -> Any:
        return self._slots[name].value if name in self._slots else default

    def keys(self) -> KeysView[str]:
        return self._slots.keys()


def _fill(message: Any, fields: dict[str, int], attributes: Iterable[tuple[str, Any]] = ()) -> Any:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    return message


# --- links -----------------------------------------------------------------------------------


@asked_again
def link_query(*, name: str = "", ifindex: int = 0) -> Any:
    """RTM_GETLINK for one link; names cover altnames, since the kernel keeps both in one table."""
    attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _SKIP_STATS)]
    if name:
        short = len(encoded(name)) < 16  # noqa: PLR2004 - IFNAMSIZ
        attributes.append(("IFLA_IFNAME" if short else "IFLA_ALT_IFNAME", encoded(name)))
    return _fill(messages().link(), {"index": ifindex}, attributes)


def link_dump() -> Any:
    return _fill(messages().link(), {}, [("IFLA_EXT_MASK", _SKIP_STATS)])


def link_from(message: Any) -> Link:
    """A link as one reply tells it; inode, bus, driver and uppers are sysfs's to add."""
    attributes = Attributes(message)
    info = Attributes(attributes.get("IFLA_LINKINFO") or _NO_ATTRIBUTES)
    flags = message["flags"]
    return Link(
        identity=Identity(message["index"], 0, attributes.get("IFLA_PERM_ADDRESS")),
        settings=LinkSettings(
            name=decoded(attributes["IFLA_IFNAME"]),
            mtu=attributes.get("IFLA_MTU", 0),
            mac=_hardware(attributes.get("IFLA_ADDRESS")),
            alias=decoded(attributes.get("IFLA_IFALIAS", "")),
            txqlen=attributes.get("IFLA_TXQLEN", 0),
            group=attributes.get("IFLA_GROUP", 0),
            flags=flags & SETTABLE_FLAGS,
            sizes=tuple((key, attributes[key]) for key in _SIZES if key in attributes),
            broadcast=_hardware(attributes.get("IFLA_BROADCAST")),
            linkmode=attributes.get("IFLA_LINKMODE", 0),
            protodown_reason=_reason(attributes.get("IFLA_PROTO_DOWN_REASON")),
            protodown=attributes.get("IFLA_PROTO_DOWN", 0),
            token=_token(attributes.get("IFLA_AF_SPEC")),
        ),
        altnames=_altnames(attributes.get("IFLA_PROP_LIST")),
        kind=info.get("IFLA_INFO_KIND"),
        min_mtu=attributes.get("IFLA_MIN_MTU", 0),
        max_mtu=attributes.get("IFLA_MAX_MTU", 0),
        master=attributes.get("IFLA_MASTER", 0),
        lower=attributes.get("IFLA_LINK", 0),
        lower_elsewhere="IFLA_LINK_NETNSID" in attributes,
        immutable=bool(attributes.get("IFLA_NETNS_IMMUTABLE", 0)),
        loopback=bool(flags & _IFF_LOOPBACK),
        ethernet=message["ifi_type"] == _ARPHRD_ETHER,
        xdp=_xdp(attributes.get("IFLA_XDP")),
        data=bytes(info.get("IFLA_INFO_DATA", b"")).hex(),
        opened=info.get("IFLA_INFO_KIND") != "tun" or bool(attributes.get("IFLA_CARRIER", 1)),
    )


def _hardware(address: bytes | None) -> str | None:
    """Six bytes of Ethernet, four of a tunnel, twenty of InfiniBand."""
    return None if address is None else bytes(address).hex(":")


def _bytes(address: str | None) -> bytes:
    return bytes.fromhex((address or "").replace(":", ""))


def _token(families: Any) -> str:
    ipv6 = _family(families, "AF_INET6")
    token: str = ipv6.get("IFLA_INET6_TOKEN", _NO_TOKEN)
    return "" if token == _NO_TOKEN else token


def _family(families: Any, name: str) -> Attributes:
    return Attributes(Attributes(families or _NO_ATTRIBUTES).get(name) or _NO_ATTRIBUTES)


def devconf(message: Any) -> dict[str, bytes]:
    """The values of a link's sysctls, which the kernel tells along with the link.

    By group (``ipv4/conf``): an array in the kernel's order; absent for what the link lacks.
    """
    families = Attributes(message).get("IFLA_AF_SPEC")
    ipv4 = _family(families, "AF_INET").get("IFLA_INET_CONF")
    ipv6 = _family(families, "AF_INET6").get("IFLA_INET6_CONF")
    return {group: bytes(of) for group, of in (("ipv4/conf", ipv4), ("ipv6/conf", ipv6)) if of}


def _reason(nested: Any) -> int:
    """Who holds a link down, a bit each (/etc/iproute2/protodown_reasons.d)."""
    value: int = Attributes(nested or _NO_ATTRIBUTES).get("IFLA_PROTO_DOWN_REASON_VALUE", 0)
    return value


def _altnames(properties: Any) -> tuple[str, ...]:
    return tuple(map(decoded, properties.altnames())) if properties is not None else ()


def _xdp(nested: Any) -> tuple[tuple[str, int], ...]:
    if nested is None:
        return ()
    found = Attributes(nested)
    return tuple((mode, found[key]) for mode, key in _XDP_MODES.items() if found.get(key))


def kind_of(attributes: Attributes) -> str | None:
    """What kind a link is, by the attributes of a reply; None for hardware."""
    kind: str | None = Attributes(attributes.get("IFLA_LINKINFO") or _NO_ATTRIBUTES).get(
        "IFLA_INFO_KIND"
    )
    return kind


def link_settings(ifindex: int, before: LinkSettings, after: LinkSettings) -> Any:
    """RTM_NEWLINK with what differs.  The order inside the kernel is its own (do_setlink)."""
    attributes: list[tuple[str, Any]] = []
    if after.name != before.name:
        attributes.append(("IFLA_IFNAME", encoded(after.name)))
    if after.mac != before.mac and after.mac:
        attributes.append(("IFLA_ADDRESS", _bytes(after.mac)))
    for key, old, new in (
        ("IFLA_MTU", before.mtu, after.mtu),
        ("IFLA_GROUP", before.group, after.group),
        ("IFLA_IFALIAS", encoded(before.alias), encoded(after.alias)),
        ("IFLA_TXQLEN", before.txqlen, after.txqlen),
        ("IFLA_BROADCAST", _bytes(before.broadcast), _bytes(after.broadcast or before.broadcast)),
        ("IFLA_LINKMODE", before.linkmode, after.linkmode),
        ("IFLA_PROTO_DOWN", before.protodown, after.protodown),
    ):
        if new != old:
            attributes.append((key, new))
    reasons = before.protodown_reason ^ after.protodown_reason
    if reasons:
        mask = ("IFLA_PROTO_DOWN_REASON_MASK", reasons)
        value = ("IFLA_PROTO_DOWN_REASON_VALUE", after.protodown_reason & reasons)
        attributes.append(("IFLA_PROTO_DOWN_REASON", {"attrs": [mask, value]}))
    if after.token != before.token:
        token = ("IFLA_INET6_TOKEN", after.token or _NO_TOKEN)
        spec = {"attrs": [("AF_INET6", {"attrs": [token]})]}
        attributes.append(("IFLA_AF_SPEC", spec))
    attributes.extend(_sizes(dict(before.sizes), after.sizes))
    changed = before.flags ^ after.flags
    return _fill(
        messages().link(),
        {"index": ifindex, "flags": after.flags & changed, "change": changed},
        attributes,
    )


def _sizes(before: dict[str, int], after: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    """Those that differ, and the IPv4 twin of each: the kernel sets a small one for both."""
    changed = {key for key, size in after if before.get(key) != size}
    return [pair for pair in after if pair[0] in changed or _BOTH.get(pair[0]) in changed]


def link_move(ifindex: int, fd: int, before: LinkSettings, after: LinkSettings) -> Any:
    """RTM_NEWLINK into the namespace open at ``fd``, with what differs.

    The name goes along even when it stays: the kernel falls back on it if the old one is taken.
    IFF_UP goes along whenever wanted, since the move takes it away.
    """
    message = link_settings(ifindex, before._replace(name=""), after)
    message["attrs"].append(("IFLA_NET_NS_FD", fd))
    if after.up:
        message["flags"] |= 1
        message["change"] |= 1
    return message


def link_only(ifindex: int, *attributes: tuple[str, Any]) -> Any:
    """A message about one link with just these attributes."""
    return _fill(messages().link(), {"index": ifindex}, attributes)


def kind_data(ifindex: int, kind: str, data: bytes) -> Any:
    """RTM_NEWLINK with what only this kind of link has."""
    info = [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", data)]
    return link_only(ifindex, ("IFLA_LINKINFO", {"attrs": info}))


def altname(ifindex: int, name: str) -> Any:
    """RTM_NEWLINKPROP or RTM_DELLINKPROP."""
    return link_only(ifindex, ("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", encoded(name))]}))


def xdp(ifindex: int, mode: str, fd: int) -> Any:
    """RTM_NEWLINK that puts the program open at ``fd`` in this mode, or none when fd is -1."""
    inner = [("IFLA_XDP_FD", fd), ("IFLA_XDP_FLAGS", XDP_MODE_FLAGS[mode])]
    return link_only(ifindex, ("IFLA_XDP", {"attrs": inner}))


# --- addresses -------------------------------------------------------------------------------


@asked_again
def address_dump(ifindex: int) -> Any:
    return _fill(messages().address(), {"index": ifindex})


@asked_again
def address_lookup(address: str) -> Any:
    """RTM_GETADDR for one IPv6 address, on whichever link it is."""
    return _fill(messages().address(), {"family": AF_INET6}, [("IFA_ADDRESS", address)])


@asked_again
def address_family_dump(family: int) -> Any:
    """Of every link; only to find out where an address is that is known to be somewhere."""
    return _fill(messages().address(), {"family": family})


def has_address(message: Any, address: str) -> bool:
    """Whether the reply tells of this address, as the link's own or its peer's."""
    attributes = Attributes(message)
    return address in (attributes.get("IFA_LOCAL"), attributes.get("IFA_ADDRESS"))


def address_from(message: Any) -> Address | None:
    """The address, or None when it is not permanent or the kernel's own link-local one."""
    attributes = Attributes(message)
    flags = attributes.get("IFA_FLAGS", message["flags"])
    proto = attributes.get("IFA_PROTO", 0)
    if not flags & IFA_F_PERMANENT or proto == IFLA_PROTO_KERNEL_LL:
        return None
    other = attributes["IFA_ADDRESS"]
    local: str = attributes.get("IFA_LOCAL") or other
    return Address(
        family=message["family"],
        address=local,
        prefix=message["prefixlen"],
        peer=other if other != local else None,
        broadcast=attributes.get("IFA_BROADCAST"),
        label=decoded(attributes["IFA_LABEL"]) if "IFA_LABEL" in attributes else None,
        flags=flags & ~_ADDRESS_FLAGS_OF_KERNEL,
        scope=message["scope"],
        priority=attributes.get("IFA_RT_PRIORITY", 0),
        proto=proto,
        deprecated=bool(flags & IFA_F_DEPRECATED),
    )


def dad_state(message: Any) -> tuple[str, str]:
    """(address, state): ``failed`` when another host has it, ``tentative``, or empty."""
    attributes = Attributes(message)
    flags = attributes.get("IFA_FLAGS", message["flags"])
    state = "failed" if flags & IFA_F_DADFAILED else "tentative" if flags & IFA_F_TENTATIVE else ""
    return f"{attributes['IFA_ADDRESS']}/{message['prefixlen']}", state


def address(ifindex: int, value: Address) -> Any:
    """RTM_NEWADDR or RTM_DELADDR.  An IPv4 label must begin with the link's present name."""
    attributes: list[tuple[str, Any]] = [
        ("IFA_LOCAL", value.address),
        ("IFA_ADDRESS", value.peer or value.address),
    ]
    for key, optional in (
        ("IFA_BROADCAST", value.broadcast),
        ("IFA_LABEL", encoded(value.label) if value.label else None),
        ("IFA_FLAGS", value.flags),
        ("IFA_RT_PRIORITY", value.priority),
        ("IFA_PROTO", value.proto),
    ):
        if optional:
            attributes.append((key, optional))
    if value.deprecated:
        attributes.append(("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": _FOREVER}))
    fields = {
        "family": value.family,
        "prefixlen": value.prefix,
        "scope": value.scope,
        "index": ifindex,
    }
    return _fill(messages().address(), fields, attributes)


# --- routes ----------------------------------------------------------------------------------


@asked_again
def route_dump(family: int, ifindex: int) -> Any:
    return _fill(messages().route(), {"family": family}, [("RTA_OIF", ifindex)])


@asked_again
def route_lookup(destination: str) -> Any:
    """RTM_GETROUTE for one IPv4 destination; the reply's type tells whether it is local."""
    fields = {"family": AF_INET, "dst_len": 32}
    return _fill(messages().route(), fields, [("RTA_DST", destination)])


def route_from(message: Any, ifindex: int) -> Route | None:
    """The route, or None when the kernel made it (and makes it again)."""
    attributes = Attributes(message)
    table = attributes.get("RTA_TABLE", message["table"])
    remade = (
        message["proto"] in _KERNEL_PROTOCOLS and message["dst_len"] and not _gateway(attributes)
    )
    if remade or message["flags"] & RTM_F_CLONED:
        return None
    family = message["family"]
    anywhere = "0.0.0.0" if family == AF_INET else "::"  # noqa: S104 - a destination, no listener
    return Route(
        family=family,
        dst=f"{attributes.get('RTA_DST', anywhere)}/{message['dst_len']}",
        gateway=_gateway(attributes),
        prefsrc=attributes.get("RTA_PREFSRC"),
        priority=attributes.get("RTA_PRIORITY", 0),
        table=table,
        scope=message["scope"],
        type=message["type"],
        protocol=message["proto"],
        tos=message["tos"],
        flags=message["flags"] & RTNH_F_ONLINK,
        pref=attributes.get("RTA_PREF", 0),
        metrics=_metrics(attributes.get("RTA_METRICS")),
        nexthops=tuple(_nexthop(hop, ifindex) for hop in attributes.get("RTA_MULTIPATH", ())),
        partial=bool(message["src_len"] or _UNSAID & attributes.keys()),
    )


def _gateway(attributes: Attributes) -> str | None:
    via = attributes.get("RTA_VIA")
    gateway: str | None = via["addr"] if via else attributes.get("RTA_GATEWAY")
    return gateway


def _metrics(nested: Any) -> tuple[tuple[str, int], ...]:
    if nested is None:
        return ()
    return tuple(
        (key.removeprefix("RTAX_").lower(), value)
        for key, value in nested["attrs"]
        if isinstance(value, int)
    )


def _nexthop(hop: Any, ifindex: int) -> NextHop:
    through = hop["oif"]
    return NextHop(
        ifindex=0 if through == ifindex else through,
        gateway=_gateway(Attributes(hop)),
        weight=hop["hops"],
        flags=hop["flags"] & RTNH_F_ONLINK,
    )


def route(ifindex: int, value: Route) -> Any:
    """RTM_NEWROUTE or RTM_DELROUTE of a route through this link."""
    destination, _, bits = value.dst.partition("/")
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", value.table)]
    if bits != "0":
        attributes.append(("RTA_DST", destination))
    if value.nexthops:
        hops = [_hop_attributes(ifindex, value.family, hop) for hop in value.nexthops]
        attributes.append(("RTA_MULTIPATH", hops))
    else:
        attributes.append(("RTA_OIF", ifindex))
        attributes.extend(_via(value.family, value.gateway))
    for key, optional in (("RTA_PREFSRC", value.prefsrc), ("RTA_PRIORITY", value.priority)):
        if optional:
            attributes.append((key, optional))
    if value.pref:
        attributes.append(("RTA_PREF", value.pref))
    if value.metrics:
        metrics = [(f"RTAX_{name.upper()}", size) for name, size in value.metrics]
        attributes.append(("RTA_METRICS", {"attrs": metrics}))
    fields = {
        "family": value.family,
        "dst_len": int(bits),
        "tos": value.tos,
        "table": value.table if value.table < 256 else 252,  # noqa: PLR2004 - RT_TABLE_COMPAT
        "proto": value.protocol,
        "scope": value.scope,
        "type": value.type,
        "flags": value.flags,
    }
    return _fill(messages().route(), fields, attributes)


def _hop_attributes(ifindex: int, family: int, hop: NextHop) -> dict[str, Any]:
    return {
        "oif": hop.ifindex or ifindex,
        "hops": hop.weight,
        "flags": hop.flags,
        "attrs": _via(family, hop.gateway),
    }


def _via(family: int, gateway: str | None) -> list[tuple[str, Any]]:
    if gateway is None:
        return []
    if family == AF_INET and ":" in gateway:
        return [("RTA_VIA", {"family": AF_INET6, "addr": gateway})]
    return [("RTA_GATEWAY", gateway)]


# --- neighbours ------------------------------------------------------------------------------


@asked_again
def neighbour_dump(ifindex: int, *, proxies: bool) -> Any:
    return _fill(
        messages().neighbour(),
        {"flags": NTF_PROXY if proxies else 0},
        [] if proxies else [("NDA_IFINDEX", ifindex)],
    )


def neighbour_from(message: Any, ifindex: int) -> Neighbour | None:
    """The neighbour, or None when it is learnt, the kernel's own, or another link's."""
    proxy = bool(message["flags"] & NTF_PROXY)
    if message["ifindex"] != ifindex or not (proxy or message["state"] & NUD_PERMANENT):
        return None
    attributes = Attributes(message)
    return Neighbour(
        family=message["family"],
        address=attributes["NDA_DST"],
        mac=None if proxy else attributes.get("NDA_LLADDR"),
        state=0 if proxy else NUD_PERMANENT,
        flags=message["flags"],
    )


def neighbour(ifindex: int, value: Neighbour) -> Any:
    """RTM_NEWNEIGH or RTM_DELNEIGH."""
    attributes: list[tuple[str, Any]] = [("NDA_DST", value.address)]
    if value.mac:
        attributes.append(("NDA_LLADDR", value.mac))
    fields = {
        "family": value.family,
        "ifindex": ifindex,
        "state": value.state,
        "flags": value.flags,
    }
    return _fill(messages().neighbour(), fields, attributes)
