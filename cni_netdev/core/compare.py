"""What of an attachment is no longer as the record says; for CHECK and for people."""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.plan import IP6_RT_PRIO_USER, own_legs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_netdev.core.model import Lent, Link, Record, Route
    from cni_netdev.core.ports import Netns

    Told = Mapping[str, Mapping[str, object]]


def differences(record: Record, pod: Netns, told: Told) -> tuple[str, ...]:
    """A sentence for each difference between the record and the pod's namespace.

    Judged: name, MTU, MAC, up, and that the addresses and routes given are there.  What a later
    plugin added, or told to have set (``mac``, ``mtu`` by name), is not ours to judge (CNI spec,
    CHECK).
    """
    found: list[str] = []
    for lent in record.devices:
        link = pod.find(lent.home.link.identity)
        if link is None:
            found.append(
                f"{lent.expected.name} (the host's {lent.home.link.name}) is not in the pod"
            )
        else:
            found.extend(_settings(lent, link, told.get(lent.expected.name, {})))
            found.extend(_contents(lent, link, pod))
            if lent.request.rdma and not _has_rdma(lent, link, pod):
                found.append(f"{lent.expected.name} has lost its RDMA device")
    return tuple(found)


def _settings(lent: Lent, link: Link, told: Mapping[str, object]) -> list[str]:
    want, have = lent.expected, link.settings
    found = []
    if have.name != want.name:
        found.append(f"{want.name} is called {have.name}")
    if have.mtu not in (want.mtu, told.get("mtu")):
        found.append(f"{want.name} has MTU {have.mtu} instead of {want.mtu}")
    if have.mac not in (want.mac, told.get("mac")):
        found.append(f"{want.name} has MAC {have.mac} instead of {want.mac}")
    if have.up != want.up:
        found.append(f"{want.name} is {'up' if have.up else 'down'}")
    return found


def _contents(lent: Lent, link: Link, pod: Netns) -> list[str]:
    name, ifindex = lent.expected.name, link.identity.ifindex
    found = []
    if lent.addresses:
        there = {each.cidr for each in pod.addresses(ifindex)}
        found += [
            f"{name} has lost address {each.cidr}"
            for each in lent.addresses
            if each.cidr not in there
        ]
    if lent.routes:
        routes = {essence(leg) for each in pod.routes(ifindex) for leg in own_legs(each)}
        found += [
            f"{name} has lost route {each.dst}" + (f" via {each.gateway}" if each.gateway else "")
            for each in lent.routes
            if essence(each) not in routes
        ]
    return found


def _has_rdma(lent: Lent, link: Link, pod: Netns) -> bool:
    return any(map(pod.find_rdma, lent.home.rdma)) or bool(pod.rdma(link))


def essence(route: Route) -> tuple[object, ...]:
    """What makes a route another one to people: the kernel fills in the rest."""
    ipv6 = ":" in route.dst
    priority = route.priority or (IP6_RT_PRIO_USER if ipv6 else 0)
    return (route.dst, route.gateway, route.table, priority, route.prefsrc)
