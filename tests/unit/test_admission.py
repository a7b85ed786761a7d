"""Which links of real hosts' stacks may go, asked by every source through both front ends."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cni_netdev import main as module
from cni_netdev.core import policy as rules
from cni_netdev.core.admission import look
from cni_netdev.core.errors import PolicyRefused
from cni_netdev.core.model import IFF_UP, Forwarding, NextHop, Route
from tests.bad_inputs import CONF, ENV
from tests.unit.nri.bench import Nri, pod
from tests.workbench import OTHER_PATH, PATH, Bench, new_bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes import FakeLink

DEFAULT = Route(2, "0.0.0.0/0", gateway="10.0.0.254")
BUS = "0000:3b:02.1"
TIED = "the kernel ties a link of kind"
PORT = "it is a port of a bridge, bond or switch"
UPLINK = "it carries a default route of the node"
NIC = "enp1s0"


class Stack(NamedTuple):
    """A host with more links; those that may not go, each with why."""

    build: Callable[[Bench], None]
    refused: dict[str, str]


def add(bench: Bench, name: str, lower: FakeLink | None = None, **fields: Any) -> FakeLink:
    """A link, with its lower one's number and as that one's upper."""
    kind = fields.pop("kind", None)
    fake = bench.world.add_link(name, kind=kind, bus=None if kind else BUS)
    settings = fake.link.settings._replace(flags=fake.link.settings.flags | IFF_UP)
    fake.link = fake.link._replace(settings=settings, **fields)
    if lower is not None:
        fake.link = fake.link._replace(lower=lower.ifindex)
        lower.link = lower.link._replace(uppers=(*lower.link.uppers, name))
    return fake


def port(fake: FakeLink, master: FakeLink) -> None:
    above = (*fake.link.uppers, master.link.name)
    fake.link = fake.link._replace(master=master.ifindex, uppers=above)


def vlan_on_bond(bench: Bench) -> None:
    bond = add(bench, "bond0", kind="bond")
    port(add(bench, NIC, altnames=("uplink-port-0",)), bond)
    add(bench, "bond0.7", bond, kind="vlan").routes = [DEFAULT]


def vlan_on_nic(bench: Bench) -> None:
    nic = add(bench, NIC)
    add(bench, "vlan7", nic, kind="vlan").routes = [DEFAULT._replace(table=99)]


def bridge_on_vlan(bench: Bench) -> None:
    nic = add(bench, NIC)
    bridge = add(bench, "br0", kind="bridge", immutable=True)
    port(add(bench, "vlan7", nic, kind="vlan"), bridge)
    bridge.routes = [DEFAULT]


def ovs(bench: Bench) -> None:
    system = add(bench, "ovs-system", kind="openvswitch", immutable=True)
    port(add(bench, NIC), system)
    add(bench, "br-int", kind="openvswitch").routes = [DEFAULT]


def legs(bench: Bench) -> None:
    first, second = add(bench, NIC), add(bench, "enp2s0")
    first.routes = [DEFAULT._replace(gateway=None, nexthops=(NextHop(0, "10.0.0.254", 0, 0),))]
    second.routes = [Route(10, "::/0", gateway="fe80::1", protocol=9, partial=True)]


def macvlan_elsewhere(bench: Bench) -> None:
    nic = add(bench, NIC)
    nic.forwarding = [Forwarding(0x80, 2, (("NDA_LLADDR", "020000000077"),))]


def macvlan_elsewhere_that_is_down(bench: Bench) -> None:
    nic = add(bench, NIC)
    bench.world.add_link("mv0", namespace=bench.world.paths[OTHER_PATH], kind="macvlan").on = nic


STACKS = {
    "VLAN on bond on NIC": Stack(
        vlan_on_bond, {NIC: PORT, "bond0": f"{TIED} bond", "bond0.7": UPLINK}
    ),
    "VLAN on NIC": Stack(
        vlan_on_nic, {NIC: "other links are stacked on it: vlan7", "vlan7": UPLINK}
    ),
    "bridge on VLAN on NIC": Stack(
        bridge_on_vlan,
        {NIC: "other links are stacked on it: vlan7", "vlan7": PORT, "br0": f"{TIED} bridge"},
    ),
    "OVS": Stack(
        ovs,
        {NIC: PORT, "ovs-system": f"{TIED} openvswitch", "br-int": f"{TIED} openvswitch"},
    ),
    "legs": Stack(legs, {NIC: UPLINK, "enp2s0": UPLINK}),
    "macvlan of another pod": Stack(macvlan_elsewhere, {NIC: "frames for 02:00:00:00:00:77"}),
    "macvlan of another pod, down": Stack(
        macvlan_elsewhere_that_is_down, {NIC: "a link in another namespace is stacked on it"}
    ),
}
CASES = [(stack, name) for stack, found in STACKS.items() for name in found.refused]


def by_config(devices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"devices": devices}


def by_capability(devices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"runtimeConfig": {"netDevices": devices}}


def by_annotation(devices: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = {"netdevices.nri.containerd.io": json.dumps(devices)}
    return {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}}


@pytest.fixture
def cni(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Any]:
    """ADD on the bench's engine: the document."""
    monkeypatch.setattr(module, "_engine", lambda _: bench.engine)

    def call(conf: dict[str, Any]) -> Any:
        stdout = io.BytesIO()
        stdin = io.BytesIO(json.dumps({**CONF, **conf}).encode())
        module.main({**ENV, "CNI_NETNS": PATH}, stdin, stdout)
        return json.loads(stdout.getvalue())

    return call


def see_that_nothing_moved(bench: Bench) -> None:
    assert bench.world.events == []
    bench.nothing_left()


def wished(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "new_name": "net1"}]


@pytest.mark.parametrize(("stack", "name"), CASES)
@pytest.mark.parametrize("source", [by_config, by_capability, by_annotation])
def test_no_link_of_a_stack_goes_by_cni(
    bench: Bench, cni: Callable[[dict[str, Any]], Any], source: Any, stack: str, name: str
) -> None:
    STACKS[stack].build(bench)
    document = cni({**source(wished(name)), "policy": {"rules": [{"allow": {"names": ["*"]}}]}})
    assert document["code"] == 102
    assert f"link {name} stays on the host: " in document["msg"]
    assert STACKS[stack].refused[name] in document["msg"]
    see_that_nothing_moved(bench)


@pytest.mark.parametrize(("stack", "name"), CASES)
def test_no_link_of_a_stack_goes_by_nri(bench: Bench, stack: str, name: str) -> None:
    STACKS[stack].build(bench)
    error = Nri(bench).refused(pod(*wished(name)), PolicyRefused)
    assert STACKS[stack].refused[name] in error.message
    see_that_nothing_moved(bench)


@pytest.mark.parametrize(("stack", "name"), CASES)
@pytest.mark.parametrize("source", [by_config, by_capability, by_annotation])
def test_the_very_name_lifts_a_guard_but_nothing_moves_what_is_tied(
    bench: Bench, cni: Callable[[dict[str, Any]], Any], source: Any, stack: str, name: str
) -> None:
    STACKS[stack].build(bench)
    policy = {"default": "deny", "rules": [{"allow": {"names": [name]}}]}
    document = cni({**source(wished(name)), "policy": policy})
    if STACKS[stack].refused[name].startswith(TIED):
        assert document["code"] == 102
    else:
        assert [each["name"] for each in document["interfaces"]] == ["net1"]


@pytest.mark.parametrize(
    "selector",
    [
        {"name": "uplink-port-0"},
        {"pci_address": BUS},
        {"kernel_path": f"/sys/devices/pci0000:3b/net/{NIC}"},
        {"hwaddr": "MAC"},
    ],
)
@pytest.mark.parametrize("source", [by_config, by_capability, by_annotation])
def test_no_selector_goes_round_a_guard(
    bench: Bench, cni: Callable[[dict[str, Any]], Any], source: Any, selector: dict[str, str]
) -> None:
    vlan_on_bond(bench)
    nic = bench.kernel.host.link(name=NIC)
    assert nic is not None
    wish = {key: nic.settings.mac if value == "MAC" else value for key, value in selector.items()}
    assert PORT in cni(source([wish]))["msg"]
    see_that_nothing_moved(bench)


def test_the_runtimes_device_id_is_guarded_too(
    bench: Bench, cni: Callable[[dict[str, Any]], Any]
) -> None:
    vlan_on_bond(bench)
    assert PORT in cni({"runtimeConfig": {"deviceID": BUS}})["msg"]
    see_that_nothing_moved(bench)


def test_one_that_may_not_go_keeps_the_others(
    bench: Bench, cni: Callable[[dict[str, Any]], Any]
) -> None:
    vlan_on_bond(bench)
    document = cni(by_annotation([{"name": "eth1"}, {"name": "bond0.7"}, {"name": NIC}]))
    assert document["code"] == 102
    assert document["msg"].count("stays on the host") == 2
    see_that_nothing_moved(bench)


@pytest.mark.parametrize(("stack", "name"), CASES)
def test_a_look_beforehand_says_the_same(stack: str, name: str) -> None:
    bench = new_bench()
    STACKS[stack].build(bench)
    host = bench.kernel.host
    link = host.link(name=name)
    assert link is not None
    verdict = look(host, link, "annotation", rules.Pod(), rules.Policy())
    assert not verdict.allowed
    assert STACKS[stack].refused[name] in verdict.reason
