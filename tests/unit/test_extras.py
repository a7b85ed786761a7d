"""What few requests ask for; tests/unit/test_devices.py reads them with everything else."""

from __future__ import annotations

from typing import Any

import pytest

from cni_netdev.core import extras
from cni_netdev.core.devices import EXTRA_KEYS, parse_devices
from cni_netdev.core.errors import RequestError
from cni_netdev.core.model import THIS_LINK, Extras, Neighbour, Rule, Vrf


def one(**device: Any) -> Extras | None:
    return parse_devices([{"name": "nic1", **device}], "annotation", "")[0].extras


def refusal(**device: Any) -> list[str]:
    with pytest.raises(RequestError) as caught:
        one(**device)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("nothing", [{}, {"altnames": []}, {"txqlen": None}])
def test_nothing_asked_for_is_the_same_as_no_key(nothing: dict[str, Any]) -> None:
    assert one(**nothing) is None


def neighbor(**other: str) -> dict[str, str]:
    return {"address": "10.0.0.9", "mac": "02:00:00:00:00:01", **other}


def rule(**other: object) -> dict[str, object]:
    return {"from": "10.0.0.9", "table": 100, **other}


def sysctl(name: str, value: object = 1) -> dict[str, object]:
    return {f"net.ipv4.conf.{name}": value}


RIGHT: list[tuple[dict[str, Any], Extras]] = [
    ({"txqlen": "0"}, Extras(txqlen=0)),
    ({"gso_max_size": 65536}, Extras(sizes=(("IFLA_GSO_MAX_SIZE", 65536),))),
    ({"gro_max_size": 65536}, Extras(sizes=(("IFLA_GRO_MAX_SIZE", 65536),))),
    ({"gso_ipv4_max_size": "512"}, Extras(sizes=(("IFLA_GSO_IPV4_MAX_SIZE", 512),))),
    ({"gro_ipv4_max_size": 524280}, Extras(sizes=(("IFLA_GRO_IPV4_MAX_SIZE", 524280),))),
    ({"altnames": ["b", "a" * 127]}, Extras(altnames=("b", "a" * 127))),
    (
        {
            "neighbors": [
                {"address": "10.0.0.9", "mac": "02-00-00-00-00-AA"},
                {"address": "FD00::0:9", "mac": "01:00:5e:00:00:01"},
            ]
        },
        Extras(
            neighbours=(
                Neighbour(2, "10.0.0.9", "02:00:00:00:00:aa", 0x80, 0),
                Neighbour(10, "fd00::9", "01:00:5e:00:00:01", 0x80, 0),
            )
        ),
    ),
    ({"vrf": {"name": "red", "table": "10"}}, Extras(vrf=Vrf("red", 10))),
    ({"dad": "off", "announce": "false"}, Extras(dad="off")),
    ({"dad": "optimistic"}, Extras(dad="optimistic")),
    ({"dad": {"wait": "30"}, "announce": True}, Extras(dad="wait", dad_seconds=30, announce=True)),
    (
        {"sysctls": {"net.ipv6.neigh.gc_stale_time": "61", "net.ipv4.conf.rp_filter": 2}},
        Extras(sysctls=(("ipv4/conf/rp_filter", "2"), ("ipv6/neigh/gc_stale_time", "61"))),
    ),
    ({"rules": [rule()]}, Extras(rules=(Rule(2, 100, 30000, src="10.0.0.9/32"),))),
    (
        {"rules": [{"to": "fd09::/64", "iif": "true", "table": "7", "priority": 5}]},
        Extras(rules=(Rule(10, 7, 5, dst="fd09::/64", iif=THIS_LINK),)),
    ),
    (
        {"rules": [{"oif": True, "fwmark": 16, "fwmask": 255, "family": "ipv6", "table": 254}]},
        Extras(rules=(Rule(10, 254, 30000, oif=THIS_LINK, mark=16, mask=255),)),
    ),
]


@pytest.mark.parametrize(("device", "read"), RIGHT)
def test_what_is_read(device: dict[str, Any], read: Extras) -> None:
    assert one(**device) == read


def test_every_key_is_read() -> None:
    """One that is known but not read would be ignored without a word."""
    assert {key for device, _ in RIGHT for key in device} == set(EXTRA_KEYS)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"txqlen": -1}, ".txqlen: -1 is below 0"),
    ({"gro_max_size": 524281}, ".gro_max_size: 524281 is above 524280"),
    ({"altnames": ["x"] * 17}, ".altnames: 17 entries are more than 16"),
    ({"altnames": ["a" * 128]}, ".altnames[0]: 'aaa"),
    ({"altnames": ["eth%d"]}, ".altnames[0]: 'eth%d' has a %"),
    ({"altnames": ["a", "b", "a"]}, ".altnames: a is given more than once"),
    ({"neighbors": [neighbor()] * 257}, ".neighbors: 257 entries are more than 256"),
    ({"neighbors": ["10.0.0.9"]}, ".neighbors[0]: must be an object"),
    ({"neighbors": [{"mac": "02:00:00:00:00:01"}]}, ".neighbors[0].address: is needed"),
    ({"neighbors": [{"address": "10.0.0.9"}]}, ".neighbors[0].mac: is needed"),
    ({"neighbors": [neighbor(dst="x")]}, ".neighbors[0].dst: unknown key"),
    ({"neighbors": [neighbor(address="10.0.0.9/24")]}, ".neighbors[0].address: '10.0.0.9/24' must"),
    ({"neighbors": [neighbor(address="224.0.0.1")]}, ".neighbors[0].address: 224.0.0.1 cannot"),
    ({"neighbors": [neighbor(address="fe80::1%eth0")]}, ".neighbors[0].address: 'fe80::1%eth0' is"),
    ({"neighbors": [neighbor(mac="02:00")]}, ".neighbors[0].mac: '02:00' is no hardware address"),
    ({"neighbors": [neighbor(), neighbor(mac="02:00:00:00:00:02")]}, ".neighbors: 10.0.0.9 is"),
    ({"vrf": "red"}, ".vrf: must be an object"),
    ({"vrf": {"table": 10}}, ".vrf.name: is needed"),
    ({"vrf": {"name": "red"}}, ".vrf.table: is needed"),
    ({"vrf": {"name": "red", "table": 254}}, ".vrf.table: 254 is one of the kernel's own tables"),
    ({"vrf": {"name": "lo", "table": 10}}, ".vrf.name: 'lo' means something else"),
    ({"vrf": {"name": "r", "table": 10, "x": 1}}, ".vrf.x: unknown key"),
    ({"dad": "wait"}, ".dad: 'wait' is none of off, optimistic, or an object with wait"),
    ({"dad": False}, ".dad: False is none of off, optimistic"),
    ({"dad": {"wait": 31}}, ".dad.wait: 31 is above 30"),
    ({"dad": {"wait": 0}}, ".dad.wait: 0 is below 1"),
    ({"dad": {"wait": 5}, "up": False}, ".dad: cannot be waited for on a link that stays down"),
    ({"dad": {}}, ".dad.wait: is needed"),
    ({"dad": {"wait": 1, "x": 1}}, ".dad.x: unknown key"),
    ({"announce": "loud"}, ".announce: 'loud' is neither true nor false"),
    ({"sysctls": ["net.ipv4.conf.rp_filter=1"]}, ".sysctls: must be an object"),
    ({"sysctls": sysctl("rp_filter", 3)}, ".sysctls.net.ipv4.conf.rp_filter: 3 is above 2"),
    ({"sysctls": sysctl("rp_filter", "x")}, ".sysctls.net.ipv4.conf.rp_filter: 'x' is no whole"),
    ({"sysctls": sysctl("eth0.rp_filter")}, ".sysctls.net.ipv4.conf.eth0.rp_filter: is no sysctl"),
    ({"sysctls": sysctl("proxy_arp")}, ".sysctls.net.ipv4.conf.proxy_arp: is no sysctl of a link"),
    ({"sysctls": sysctl("log_martians")}, ".sysctls.net.ipv4.conf.log_martians: is no sysctl of"),
    ({"sysctls": sysctl("../all/rp_filter")}, ".sysctls.net.ipv4.conf.../all/rp_filter: is no"),
    ({"sysctls": {"net.core.somaxconn": 1}}, ".sysctls.net.core.somaxconn: is no sysctl of a link"),
    ({"sysctls": {"\x1b" * 5000: 1}}, ".sysctls.\\x1b\\x1b"),
    ({"rules": [rule()] * 65}, ".rules: 65 entries are more than 64"),
    ({"rules": [[]]}, ".rules[0]: must be an object"),
    ({"rules": [rule(), rule(priority=30000)]}, ".rules[1]: is given more than once"),
    ({"rules": [{"from": "10.0.0.9"}]}, ".rules[0].table: is needed"),
    ({"rules": [{"table": 7, "family": "ipv4"}]}, ".rules[0]: needs one of from, to, iif, oif"),
    ({"rules": [{"table": 7, "iif": True}]}, ".rules[0].family: is needed without from and to"),
    ({"rules": [rule(family="ipv6")]}, ".rules[0].family: ipv6 is not that of 10.0.0.9/32"),
    ({"rules": [rule(family="inet")]}, ".rules[0].family: 'inet' is none of ipv4, ipv6"),
    ({"rules": [rule(to="fd00::/64")]}, ".rules[0].to: fd00::/64 is of another family"),
    ({"rules": [{"from": "0.0.0.0/0", "table": 7}]}, ".rules[0].from: '0.0.0.0/0' is everything"),
    ({"rules": [{"to": "default", "table": 7}]}, ".rules[0].to: 'default' is everything"),
    ({"rules": [rule(to="10.0.0.1/8")]}, ".rules[0].to: '10.0.0.1/8' has bits behind its prefix"),
    ({"rules": [rule(iif="eth0")]}, ".rules[0].iif: 'eth0' is neither true nor false"),
    ({"rules": [rule(table=0)]}, ".rules[0].table: 0 is below 1"),
    ({"rules": [rule(priority=0)]}, ".rules[0].priority: 0 is below 1"),
    ({"rules": [rule(priority=32766)]}, ".rules[0].priority: 32766 is above 32765"),
    ({"rules": [rule(fwmark="0x10")]}, ".rules[0].fwmark: '0x10' is no whole number"),
    ({"rules": [rule(fwmask=1)]}, ".rules[0].fwmask: belongs to a fwmark"),
    ({"rules": [rule(fwmark=2, fwmask=1)]}, ".rules[0].fwmask: leaves out bits of fwmark"),
    ({"rules": [rule(goto=7)]}, ".rules[0].goto: unknown key"),
]


@pytest.mark.parametrize(("device", "said"), WRONG)
def test_what_is_refused(device: dict[str, Any], said: str) -> None:
    (fault,) = refusal(**device)
    assert fault.startswith(f"[0]{said}")


def test_all_faults_at_once() -> None:
    found = refusal(txqlen="x", altnames=[1, ""], gso_max_size=0, mtu=1)
    assert [each.partition(":")[0] for each in found] == [
        "[0].mtu",
        "[0].gso_max_size",
        "[0].txqlen",
        "[0].altnames[0]",
        "[0].altnames[1]",
    ]


def test_the_most_of_each() -> None:
    many = [f"a{number}" for number in range(extras.MOST_ALTNAMES)]
    assert one(altnames=many) == Extras(altnames=tuple(many))
    macs = [neighbor(address=f"10.0.{number}.9") for number in range(extras.MOST_NEIGHBOURS)]
    found = one(neighbors=macs)
    assert found is not None
    assert len(found.neighbours) == len(macs)
    ruled = one(rules=[rule(priority=number + 1) for number in range(extras.MOST_RULES)])
    assert ruled is not None
    assert len(ruled.rules) == extras.MOST_RULES


def test_the_name_of_a_sysctl_has_no_link_in_it() -> None:
    (fault,) = refusal(sysctls=sysctl("eth0.rp_filter"))
    assert fault.endswith("; did you mean net.ipv4.conf.rp_filter?")
    (far,) = refusal(sysctls={"x" * 5000: 1})
    assert far.endswith(", which the README lists")
    assert len(far) < 250
