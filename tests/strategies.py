"""Hypothesis strategies for the model's values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import strategies as st

from cni_netdev.core.extras import SIZE, SIZES
from cni_netdev.core.model import (
    THIS_LINK,
    Address,
    DeviceRequest,
    Extras,
    Filter,
    Identity,
    Lease,
    Lent,
    Link,
    LinkSettings,
    Neighbour,
    NetnsRef,
    NextHop,
    Owner,
    Phy,
    Qdisc,
    Rdma,
    Record,
    Route,
    RouteRequest,
    Rule,
    Selector,
    Snapshot,
    VirtualFunction,
    Vrf,
)
from cni_netdev.core.tunables import TUNABLES

_U32 = st.integers(0, 2**32 - 1)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=15).filter(
    lambda name: name not in (".", "..", "lo", "all", "default")
)
macs = (
    st.integers(1, 2**47 - 1)
    .map(lambda number: ":".join(f"{byte:02x}" for byte in (number << 1).to_bytes(6, "big")))
    .filter(lambda mac: int(mac[:2], 16) % 2 == 0 and mac.strip("0:"))
)
v4 = st.integers(0x01000000, 0xDFFFFFFF).map(IPv4Address)
v6 = st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(IPv6Address)
cidrs = st.one_of(
    st.builds("{}/{}".format, v4, st.integers(0, 32)),
    st.builds("{}/{}".format, v6, st.integers(0, 128)),
)
networks = cidrs.map(lambda cidr: str(ip_network(cidr, strict=False)))


def _maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


@st.composite
def route_requests(draw: st.DrawFn) -> RouteRequest:
    dst = draw(networks)
    family = v6 if ":" in dst else v4
    return RouteRequest(
        dst=dst,
        gw=draw(_maybe(family.map(str))),  # type: ignore[arg-type]
        src=draw(_maybe(family.map(str))),  # type: ignore[arg-type]
        priority=draw(_maybe(_U32)),  # type: ignore[arg-type]
        table=draw(_maybe(st.integers(1, 2**32 - 1))),  # type: ignore[arg-type]
        scope=draw(_maybe(st.integers(0, 255))),  # type: ignore[arg-type]
        mtu=draw(_maybe(st.integers(68, 65535))),  # type: ignore[arg-type]
        advmss=draw(_maybe(st.integers(1, 65535))),  # type: ignore[arg-type]
    )


@st.composite
def neighbours(draw: st.DrawFn) -> Neighbour:
    address = draw(v4 | v6)
    return Neighbour({4: 2, 6: 10}[address.version], str(address), draw(macs), 0x80, 0)


sysctls = st.lists(st.sampled_from(sorted(TUNABLES.values())), max_size=3, unique=True).flatmap(
    lambda chosen: st.fixed_dictionaries(
        {key: st.integers(*limits).map(str) for key, limits in chosen}
    )
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """As a request has it: for one of this link or none, by address, link or mark."""
    version = draw(st.sampled_from((4, 6)))
    bits = st.integers(1, 32 if version == 4 else 128)
    cidr = st.builds("{}/{}".format, v4 if version == 4 else v6, bits)
    network = cidr.map(lambda each: str(ip_network(each, strict=False)))
    mark = draw(st.just(0) | st.integers(1, 2**32 - 1))
    link = st.sampled_from(("", THIS_LINK))
    src, dst, iif = draw(_maybe(network)), draw(_maybe(network)), draw(link)
    return Rule(
        family={4: 2, 6: 10}[version],
        table=draw(st.integers(1, 2**32 - 1)),
        priority=draw(st.integers(1, 32765)),
        src=src,  # type: ignore[arg-type]
        dst=dst,  # type: ignore[arg-type]
        iif=iif,
        oif=draw(link) if src or dst or iif or mark else THIS_LINK,
        mark=mark,
        mask=draw(_U32) | mark if mark else 0,
    )


@st.composite
def extras(draw: st.DrawFn, *, up: bool) -> Extras | None:
    dad = draw(st.sampled_from(("", "off", "optimistic", "wait") if up else ("", "off")))
    sizes = draw(st.dictionaries(st.sampled_from(sorted(SIZES.values())), st.integers(*SIZE)))
    asked = Extras(
        txqlen=draw(_maybe(st.integers(0, 65535))),  # type: ignore[arg-type]
        sizes=tuple((each, sizes[each]) for each in SIZES.values() if each in sizes),
        altnames=tuple(draw(st.lists(names, max_size=3, unique=True))),
        vrf=draw(st.none() | st.builds(Vrf, names, st.integers(256, 2**32 - 1))),
        dad=dad,
        dad_seconds=draw(st.integers(1, 30)) if dad == "wait" else 0,
        announce=draw(st.booleans()),
        sysctls=tuple(sorted(draw(sysctls).items())),
        rules=tuple(draw(st.lists(rules(), max_size=3, unique=True))),
        neighbours=tuple(draw(st.lists(neighbours(), max_size=3, unique_by=lambda n: n.address))),
    )
    return asked if asked != Extras() else None


_TUNED = (("coalesce.adaptive-rx", "on"), ("features.rx-gro", "on"), ("features.tso", "off"))
_OF_VF = (("trust", "on"), ("vlan", "100"), ("link_state", "auto"))
selectors = st.one_of(
    st.builds(Selector, st.just("name"), names),
    st.builds(Selector, st.just("hwaddr"), macs),
    st.builds(
        Selector,
        st.just("pci_address"),
        st.builds(
            "{:04x}:{:02x}:{:02x}.{}".format, *(st.integers(0, top) for top in (65535, 255, 31, 7))
        ),
    ),
    st.builds(Selector, st.just("kernel_path"), names.map("/sys/devices/virtual/net/{}".format)),
)


@st.composite
def requests(draw: st.DrawFn) -> DeviceRequest:
    up = draw(st.booleans())
    routes = draw(st.lists(route_requests(), max_size=3)) if up else []
    return DeviceRequest(
        selector=draw(selectors),
        new_name=draw(_maybe(names)),  # type: ignore[arg-type]
        addresses=tuple(draw(st.lists(cidrs, max_size=4, unique=True))),
        mtu=draw(_maybe(st.integers(68, 65535))),  # type: ignore[arg-type]
        mac=draw(_maybe(macs)),  # type: ignore[arg-type]
        routes=tuple(routes),
        up=up,
        keep_addresses=draw(st.booleans()),
        extras=draw(extras(up=up)),
        ethtool=draw(st.sampled_from(((), _TUNED))),
        rdma=draw(_maybe(st.booleans())),  # type: ignore[arg-type]
        vf=draw(st.sampled_from(((), _OF_VF))),
        ebpf=draw(st.sampled_from(("", "detach"))),
    )


numbers = st.lists(st.tuples(st.text(max_size=8), _U32), max_size=3).map(tuple)
settings = st.builds(LinkSettings, name=names, mtu=_U32, mac=_maybe(macs), sizes=numbers)
addresses = st.builds(
    Address, family=st.sampled_from((2, 10)), address=v4.map(str), prefix=st.integers(0, 32)
)
routes = st.builds(
    Route,
    family=st.sampled_from((2, 10)),
    dst=networks,
    metrics=numbers,
    nexthops=st.lists(st.builds(NextHop), max_size=2).map(tuple),
)
phys = st.builds(Phy, number=_U32, name=names, type=_U32, mates=st.just(()))
links = st.builds(Link, identity=st.builds(Identity), settings=settings, phy=_maybe(phys))
snapshots = st.builds(
    Snapshot,
    link=links,
    addresses=st.lists(addresses, max_size=3).map(tuple),
    routes=st.lists(routes, max_size=2).map(tuple),
    neighbours=st.lists(st.builds(Neighbour), max_size=2).map(tuple),
    qdiscs=st.lists(st.builds(Qdisc), max_size=2).map(tuple),
    rdma=st.lists(st.builds(Rdma), max_size=2).map(tuple),
    vf=_maybe(st.builds(VirtualFunction, settings=st.sampled_from(((), _OF_VF)))),
    filters=_maybe(st.lists(st.builds(Filter, name=st.text(max_size=8)), max_size=2).map(tuple)),
)
lents = st.builds(
    Lent,
    request=requests(),
    home=snapshots,
    expected=settings,
    addresses=st.lists(addresses, max_size=2).map(tuple),
    routes=st.lists(routes, max_size=2).map(tuple),
)
owners = st.builds(Owner, st.sampled_from(("cni", "nri")), st.text(), st.text(), st.text())
records = st.builds(
    Record,
    owner=owners,
    netns=st.builds(NetnsRef),
    devices=st.lists(lents, max_size=2).map(tuple),
    leases=st.lists(
        st.builds(
            Lease,
            ifname=names,
            gateways=st.lists(st.tuples(cidrs, v4.map(str)), max_size=2).map(tuple),
            dns=st.text(max_size=8),
        ),
        max_size=2,
    ).map(tuple),
)
