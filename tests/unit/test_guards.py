from __future__ import annotations

import pytest

from cni_netdev.core.guards import always_refused, guard
from cni_netdev.core.model import (
    Forwarding,
    Identity,
    Link,
    LinkSettings,
    NextHop,
    Qdisc,
    Route,
    Snapshot,
)

OWN, PERMANENT, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:77"
NIC = Link(Identity(3, 9, PERMANENT, "0000:3b:02.1"), LinkSettings("nic", 1500, OWN, "", 0, 0, 0))


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (Snapshot(NIC._replace(master=4)), "it is a port of a bridge, bond or switch"),
        (Snapshot(NIC._replace(uppers=("a", "b"))), "other links are stacked on it: a, b"),
        (Snapshot(NIC._replace(uppers=tuple("abcdef"))), "stacked on it: a, b, c and 3 more"),
        (Snapshot(NIC._replace(kind="veth", lower_elsewhere=True)), "its other end is in another"),
        (Snapshot(NIC, qdiscs=(Qdisc("clsact", 1, 2, ""),)), "it has tc filters of the host"),
        (Snapshot(NIC, qdiscs=(Qdisc("ingress", 1, 2, ""),)), "it has tc filters of the host"),
        (Snapshot(NIC, qdiscs=(Qdisc("htb", 1, 2, ""),)), "it has a qdisc with classes"),
    ],
)
def test_guarded(snapshot: Snapshot, reason: str) -> None:
    assert reason in guard(snapshot)


@pytest.mark.parametrize(
    "route",
    [
        Route(2, "0.0.0.0/0", gateway="10.0.0.1"),
        Route(2, "0.0.0.0/0", scope=253),
        Route(2, "0.0.0.0/0", gateway="10.0.0.1", table=99, priority=4000, protocol=16),
        Route(2, "0.0.0.0/0", nexthops=(NextHop(7, None, 0, 0), NextHop(0, "10.0.0.1", 0, 0))),
        Route(2, "0.0.0.0/0", gateway="fd00::1", tos=4),
        Route(2, "0.0.0.0/0", partial=True),
        Route(10, "::/0", gateway="fe80::1", protocol=9),
        Route(10, "::/0", partial=True),
        Route(2, "0.0.0.0/1", gateway="10.8.0.1"),
        Route(2, "128.0.0.0/1", gateway="10.8.0.1"),
        Route(10, "2000::/3", gateway="fe80::1"),
        Route(10, "::/1"),
        Route(10, "8000::/1"),
    ],
)
def test_a_default_route_in_any_shape(route: Route) -> None:
    found = (Route(2, "10.9.0.0/16"), route)
    assert guard(Snapshot(NIC, routes=found)) == "it carries a default route of the node"


@pytest.mark.parametrize(
    "route",
    [
        Route(2, "0.0.0.0/0", type=6),
        Route(2, "0.0.0.0/0", type=2, table=100),
        Route(2, "10.0.0.0/8", gateway="10.0.0.1"),
        Route(10, "fd00::/8"),
        Route(10, "fc00::/7"),
    ],
)
def test_no_default_route(route: Route) -> None:
    assert guard(Snapshot(NIC, routes=(route,))) == ""


def taking_in(*macs: str, state: int = 0x80) -> Snapshot:
    table = [Forwarding(state, 2, (("NDA_LLADDR", mac.replace(":", "")),)) for mac in macs]
    return Snapshot(NIC, forwarding=tuple(table))


@pytest.mark.parametrize(
    ("macs", "told"),
    [
        ([OTHER], f"frames for {OTHER}, most likely of links stacked on it in other namespaces"),
        ([OWN, OTHER, PERMANENT], f"frames for {OTHER}, most"),
        ([f"02:00:00:00:01:{n:02x}" for n in range(9)], "02:00:00:00:01:02 and 6 more, most"),
    ],
)
def test_macs_of_links_elsewhere(macs: list[str], told: str) -> None:
    assert told in guard(taking_in(*macs))


def test_a_link_elsewhere_that_has_no_mac_of_its_own_there() -> None:
    said = guard(Snapshot(NIC), overheard=True)
    assert said == "a link in another namespace is stacked on it"
    assert "a bridge" in guard(Snapshot(NIC._replace(master=4)), overheard=True)


def test_a_quiet_link_is_not_guarded() -> None:
    quiet = Snapshot(NIC, qdiscs=(Qdisc("fq_codel", 1, 2, ""),))
    assert guard(taking_in(OWN, PERMANENT, "01:00:5e:00:00:09")) == ""
    assert guard(quiet) == ""
    assert guard(taking_in(OTHER, state=0x40)) == ""
    tunnel = taking_in(OTHER, "00:00:00:00:00:00")._replace(link=NIC._replace(kind="vxlan"))
    assert guard(tunnel) == ""
    assert guard(Snapshot(NIC._replace(kind="veth"))) == ""
    assert guard(Snapshot(NIC._replace(kind="macvlan", lower_elsewhere=True))) == ""


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (NIC._replace(loopback=True), "the loopback link"),
        (NIC._replace(immutable=True), "ties a link to its namespace"),
        *((NIC._replace(kind=kind), f"ties a link of kind {kind} to") for kind in ("bond", "vrf")),
        (NIC._replace(kind="openvswitch"), "of kind openvswitch"),
    ],
)
def test_some_links_never_go(link: Link, reason: str) -> None:
    assert reason in always_refused(link)
    assert always_refused(NIC) == ""
