from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.netlink import NLM_F_DUMP, RTM_GETLINK, Connection

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.kernel

NESTED = ("IFLA_LINKINFO", "IFLA_AF_SPEC", "IFLA_XDP", "IFLA_PROP_LIST", "IFLA_PROTO_DOWN_REASON")
# Which are left undecoded, or as a number instead of a word for it.
OTHERWISE = (
    "IFLA_ADDRESS",
    "IFLA_BROADCAST",
    "IFLA_STATS",
    "IFLA_STATS64",
    "IFLA_MAP",
    "IFLA_OPERSTATE",
    "IFLA_QDISC",
)


def names(made: type) -> list[str]:
    return [each[0] if len(each) == 2 else each[1] for each in made.nla_map]  # type: ignore[attr-defined]


def test_attributes_have_pyroute2s_numbers() -> None:
    ours = messages().link
    assert names(ours)[: len(ifinfmsg.nla_map)] == names(ifinfmsg)
    for own, theirs in (
        (ours.info, ifinfmsg.ifinfo),
        (ours.xdp, ifinfmsg.xdp),
        (ours.reason, ifinfmsg.down_reason),
        (ours.names, ifinfmsg.proplist),
        (ours.families.ipv6, ifinfmsg.af_spec_inet.inet6),
    ):
        assert names(own) == names(theirs)[: len(names(own))]
        assert own.nla_flags == theirs.nla_flags
    families = enumerate(names(ours.families))
    assert {each: number for number, each in families if "INET" in each} == {
        "AF_INET": socket.AF_INET,
        "AF_INET6": socket.AF_INET6,
    }


def test_what_the_kernel_says_is_read_as_by_pyroute2s_own(host: Host) -> None:
    host.configured("nic1")
    host.ip("link add link nic1p name vl type macvlan mode bridge")
    host.ip("link set vl protodown on protodown_reason 3 on")
    connection = Connection()
    replies = connection.request("list", messages().link(), RTM_GETLINK, NLM_F_DUMP)
    connection.close()
    seen = set()
    for reply in replies:
        theirs = ifinfmsg(reply.data)
        theirs.decode()
        values = {each.name: each.value for each in theirs["attrs"]}
        for each in reply["attrs"]:
            if each.name in values and each.name not in (*NESTED, *OTHERWISE):
                seen.add(each.name)
                assert each.value == values[each.name], each.name
    assert {"IFLA_IFNAME", "IFLA_MTU", "IFLA_IFALIAS", "IFLA_LINK"} <= seen
