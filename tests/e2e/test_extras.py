"""What few requests ask for, through both front ends, on the real kernel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.injector import KEY, NriPlugin
from tests.linkstate import capture, differences, everything
from tests.nri_runtime import GoRuntime, pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
BASE = {"name": "nic1", "new_name": "net1", "addresses": ["192.168.2.2/24", "fd99::2/64"]}
ASKED: dict[str, Any] = {
    "txqlen": 10,
    "gso_max_size": 30000,
    "gro_max_size": 100000,
    "gso_ipv4_max_size": 32768,
    "gro_ipv4_max_size": 40000,
    "altnames": ["nic1", "solver-fast-path-of-the-first-rail"],
    "routes": [{"dst": "default", "gw": "192.168.2.1", "table": 100}],
    "rules": [
        {"from": "192.168.2.2", "table": 100},
        {"from": "192.168.2.2", "table": 100, "iif": True},
        {"to": "fd09::/64", "oif": True, "fwmark": 16, "fwmask": 255, "table": 254, "priority": 5},
    ],
    "sysctls": {
        "net.ipv4.conf.rp_filter": 2,
        "net.ipv6.conf.accept_ra": 0,
        "net.ipv4.neigh.base_reachable_time_ms": 12345,
        "net.ipv6.neigh.gc_stale_time": 61,
    },
    "dad": "off",
    "announce": True,
    "neighbors": [
        {"address": "192.168.2.9", "mac": "02:00:00:00:00:09"},
        {"address": "fd99::9", "mac": "02:00:00:00:00:0a"},
    ],
}
MAKE: dict[str, Callable[[Host], object]] = {
    "veth": lambda host: host.configured("nic1"),
    "ifb": lambda host: host.ip("link add nic1 type ifb"),
    "macvlan": lambda host: (
        host.veth("below"),
        host.ip("link add nic1 link below type macvlan mode bridge"),
    ),
}
# What somebody does in the pod, and what CHECK says of it.
TAMPERINGS = {
    "txqlen": ("ip link set net1 txqueuelen 11", "net1 has txqlen 11 instead of 10"),
    "gso": ("ip link set net1 gso_max_size 20000", "net1 has gso_max_size 20000 instead of 30000"),
    "altname": ("ip link property del dev net1 altname nic1", "net1 has lost altname nic1"),
    "neighbour": ("ip neigh del 192.168.2.9 dev net1", "net1 has lost neighbor 192.168.2.9"),
    "rule": (
        "ip rule del from 192.168.2.2 table 100 iif net1",
        "net1 has lost rule 30000 for table 100",
    ),
    "sysctl": (
        "sysctl -qw net.ipv4.conf.net1.rp_filter=1",
        "net1 has ipv4/conf/rp_filter 1 instead of 2",
    ),
    "announcing": (
        "sysctl -qw net.ipv6.conf.net1.ndisc_notify=0",
        "net1 has ipv6/conf/ndisc_notify 0 instead of 1",
    ),
    "another MAC": (
        "ip neigh replace fd99::9 lladdr 02:00:00:00:00:0b dev net1",
        "net1 has lost neighbor fd99::9 with 02:00:00:00:00:0a",
    ),
}


def with_device(**device: Any) -> dict[str, Any]:
    return {**CONF, "devices": [{**BASE, **device}]}


def see_that_it_is_as_asked(inside: Pod) -> None:
    link = inside.json("-d link show net1")[0]
    assert (link["txqlen"], link["gso_max_size"], link["gro_max_size"]) == (10, 30000, 100000)
    assert set(ASKED["altnames"]) <= set(link["altnames"])
    (found,) = inside.json("route get 10.77.0.1 from 192.168.2.2")
    assert (found["gateway"], found["table"]) == ("192.168.2.1", "100")
    rules = inside.ip("-6 -d rule show priority 5")
    assert "to fd09::/64 fwmark 0x10/0xff oif net1 lookup main proto 110" in rules
    keys = [f"net.{each}" for each in ("ipv4.conf.net1.rp_filter", "ipv6.neigh.net1.gc_stale_time")]
    assert inside.run("sysctl", "-n", *keys).split() == ["2", "61"]
    neighbours = inside.json("neigh show dev net1 nud permanent")
    assert {each["dst"]: each["lladdr"] for each in neighbours} == {
        each["address"]: each["mac"] for each in ASKED["neighbors"]
    }


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
@pytest.mark.parametrize("kind", MAKE)
def test_a_pod_has_what_it_asked_for_and_the_host_its_own(cni: Host, kind: str, end: str) -> None:
    MAKE[kind](cni)
    before = capture("nic1")
    inside, conf = cni.pod(), with_device(**ASKED)
    cni.plugin("ADD", conf, netns=inside.path).ok()
    see_that_it_is_as_asked(inside)
    cni.plugin("CHECK", conf, netns=inside.path).ok()
    if end != "returned":
        inside.delete()
    answer = cni.plugin("DEL", conf, netns=inside.path)
    assert (answer.ok(), answer.stderr) == (None, "")
    assert differences(before, capture("nic1")) == []
    assert cni.left_over() == []


@pytest.mark.parametrize("what", TAMPERINGS)
def test_check_notices(cni: Host, what: str) -> None:
    MAKE["veth"](cni)
    before = capture("nic1")
    inside, conf = cni.pod(), with_device(**ASKED)
    cni.plugin("ADD", conf, netns=inside.path).ok()
    command, said = TAMPERINGS[what]
    inside.run(*command.split())
    code, told = cni.plugin("CHECK", conf, netns=inside.path).error()
    assert (code, said in told) == (106, True), told
    cni.plugin("DEL", conf, netns=inside.path).ok()
    assert differences(before, capture("nic1")) == []


def test_the_last_device_fails_and_all_are_home(cni: Host) -> None:
    """What the others were given in the pod is taken back, too."""
    for number in (1, 2, 3):
        cni.configured(f"nic{number}", number)
    before = everything()
    inside = cni.pod()
    inside_before = see(inside)
    impossible = {"name": "nic3", "routes": [{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]}
    conf = {**CONF, "devices": [{**BASE, **ASKED}, {"name": "nic2", "txqlen": 3}, impossible]}
    code, told = cni.plugin("ADD", conf, netns=inside.path).error()
    assert (code, "10.77.0.1" in told) == (104, True)
    assert differences(before, everything()) == []
    assert see(inside) == inside_before
    assert cni.left_over() == []


def see(inside: Pod) -> list[Any]:
    """What a namespace has of its own."""
    return [inside.json(f"{family} rule show") for family in ("-4", "-6")] + [inside.names()]


def test_a_pod_that_lives_on_has_its_own_rules_back(cni: Host) -> None:
    MAKE["veth"](cni)
    inside, conf = cni.pod(), with_device(**ASKED)
    for arguments in (
        "rule add from 192.168.2.2 table 100 priority 30000",
        "rule add from 192.168.2.2 to 10.0.0.0/8 table 100 priority 30000",
        "-6 rule add to fd09::/64 table 254 priority 5",
    ):
        inside.ip(arguments)
    before = see(inside)
    cni.plugin("ADD", conf, netns=inside.path).ok()
    assert see(inside) != before
    assert cni.plugin("DEL", conf, netns=inside.path).stderr == ""
    assert see(inside) == before


def test_whatever_a_pod_did_to_it(cni: Host) -> None:
    MAKE["veth"](cni)
    before = capture("nic1")
    inside, conf = cni.pod(), with_device(**ASKED)
    inside_before = see(inside)
    cni.plugin("ADD", conf, netns=inside.path).ok()
    for command in (
        "ip rule del from 192.168.2.2 table 100 iif net1",
        "ip link property del dev net1 altname nic1",
        "ip link property add dev net1 altname planted",
        "ip link set net1 down",
        "ip link set net1 name mine txqueuelen 3 gso_max_size 20000 gro_max_size 20000",
        "ip link set mine up",
        "ip neigh add 192.168.2.10 lladdr 02:00:00:00:00:77 dev mine",
        "sysctl -qw net.ipv4.conf.mine.rp_filter=0 net.ipv4.neigh.mine.gc_stale_time=7",
    ):
        inside.run(*command.split())
    assert cni.plugin("DEL", conf, netns=inside.path).stderr == ""
    assert differences(before, capture("nic1")) == []
    assert see(inside) == inside_before


def test_two_attachments_of_a_pod_cannot_have_the_same_rule(cni: Host) -> None:
    for number in (1, 2):
        cni.configured(f"nic{number}", number)
    before = capture("nic2")
    inside = cni.pod()
    rules = [{"from": "10.0.0.0/8", "table": 7}]
    cni.plugin("ADD", with_device(rules=rules), netns=inside.path).ok()
    ruled = see(inside)
    second = {**CONF, "devices": [{"name": "nic2", "rules": rules}]}
    code, told = cni.plugin("ADD", second, netns=inside.path, ifname="eth1").error()
    assert (code, "devices[0].rules[0]: is there already" in told) == (104, True)
    assert see(inside) == ruled
    assert differences(before, capture("nic2")) == []


def test_what_this_link_cannot_do_is_said(cni: Host) -> None:
    cni.ip("tuntap add dev nic1 mode tap")  # whose frames have 64 KiB at the most
    before = capture("nic1")
    inside = cni.pod()
    code, told = cni.plugin("ADD", with_device(gso_max_size=500000), netns=inside.path).error()
    assert code == 104, told
    assert "devices[0]" in told
    assert differences(before, capture("nic1")) == []


def test_the_nri_plugin_takes_the_same(cni: Host) -> None:
    MAKE["veth"](cni)
    before = capture("nic1")
    with GoRuntime(cni.directory) as runtime, NriPlugin(cni, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = cni.pod()
        one = pod("one", {KEY: json.dumps([{**BASE, **ASKED}])}, netns=inside.path)
        runtime.run(one)
        see_that_it_is_as_asked(inside)
        runtime.stop(one)
        runtime.remove(one)
        assert differences(before, capture("nic1")) == []
