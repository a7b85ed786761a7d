"""What of an attachment is no longer as the record says; for CHECK and for people."""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.plan import IP6_RT_PRIO_USER, own_legs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_netdev.core.model import Lent, Link, Record, Route
    from cni_netdev.core.ports import Netns

    Told = Mapping[str, Mapping[str, object]]


def differences(record: Record, host: Netns, pod: Netns, told: Told) -> tuple[str, ...]:
    """A sentence for each difference between the record and the pod's namespace.

    Judged: name, MTU, MAC, up, what ethtool and the physical function were to set, that the
    addresses and routes given are there, and the extras asked for.  What a later plugin added, or
    told to have set (``mac``, ``mtu`` by name), is not ours to judge (CNI spec, CHECK).
    """
    found: list[str] = []
    for lent in record.devices:
        if not lent.home.link.identity.ifindex:
            found.extend(_function(lent, host))
            found.extend(_virtual_function(lent, host))
            continue
        link = pod.find(lent.home.link.identity)
        if link is None:
            found.append(
                f"{lent.expected.name} (the host's {lent.home.link.name}) is not in the pod"
            )
        else:
            found.extend(_settings(lent, link, told.get(lent.expected.name, {})))
            found.extend(_contents(lent, link, pod))
            if lent.request.extras:
                from cni_netdev.core import outfit

                found.extend(outfit.differences(lent, link, pod))
            if lent.request.rdma and not _has_rdma(lent, link, pod):
                found.append(f"{lent.expected.name} has lost its RDMA device")
            found.extend(_virtual_function(lent, host))
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
    if lent.request.ebpf:
        own = {program for _, program in (*lent.home.link.xdp, *lent.home.tcx)}
        on_it = [program for _, program in (*link.xdp, *pod.tcx(ifindex))]
        found += [f"{name} has the host's program {each}" for each in on_it if each in own]
    if lent.request.ethtool:
        from cni_netdev.core.tuning import unmet

        tunables = pod.tunables(link.name)
        found += [f"{name}: ethtool's {each}" for each in unmet(lent.request.ethtool, tunables)]
    return found


def _function(lent: Lent, host: Netns) -> list[str]:
    home = lent.home.link
    seen = host.user_space(home.name)
    if seen is not None and seen.driver == home.driver:
        return []
    by_now = seen.driver if seen else host.driver_of_bus(home.name) or "no driver"
    return [f"{lent.expected.name}: {home.name} is bound to {by_now} instead of {home.driver}"]


def _virtual_function(lent: Lent, host: Netns) -> list[str]:
    if not lent.request.vf:
        return []
    from cni_netdev.core.vf import differing

    seen = host.virtual_function(lent.home.link.identity.bus or "")
    settings = seen.settings if seen else ()
    return [f"{lent.expected.name}: VF's {each}" for each in differing(lent.request.vf, settings)]


def _has_rdma(lent: Lent, link: Link, pod: Netns) -> bool:
    return any(map(pod.find_rdma, lent.home.rdma)) or bool(pod.rdma(link))


def essence(route: Route) -> tuple[object, ...]:
    """What makes a route another one to people: the kernel fills in the rest."""
    ipv6 = ":" in route.dst
    priority = route.priority or (IP6_RT_PRIO_USER if ipv6 else 0)
    return (route.dst, route.gateway, route.table, priority, route.prefsrc)
