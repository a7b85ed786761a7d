"""Hypothesis strategies for the model's values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import strategies as st

from cni_netdev.core.model import (
    Address,
    DeviceRequest,
    Filter,
    Identity,
    Lent,
    Link,
    LinkSettings,
    Neighbour,
    NetnsRef,
    NextHop,
    Owner,
    Qdisc,
    Record,
    Route,
    RouteRequest,
    Selector,
    Snapshot,
    VirtualFunction,
)

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
        ethtool=draw(st.sampled_from(((), _TUNED))),
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
links = st.builds(Link, identity=st.builds(Identity), settings=settings)
snapshots = st.builds(
    Snapshot,
    link=links,
    addresses=st.lists(addresses, max_size=3).map(tuple),
    routes=st.lists(routes, max_size=2).map(tuple),
    neighbours=st.lists(st.builds(Neighbour), max_size=2).map(tuple),
    qdiscs=st.lists(st.builds(Qdisc), max_size=2).map(tuple),
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
)
