"""What a kernel told of an igb's two VFs (Linux 6.12, in an emulator), and what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni_netdev.core import _pyroute2, vfinfo
from cni_netdev.core._pyroute2 import vf_message
from cni_netdev.core.vf import GROUPS, KEYS, LINK_STATES, PROTOCOLS

RECORDED = bytes.fromhex((Path(__file__).parent / "vfinfo-igb.hex").read_text())
VF0 = (
    ("spoofchk", "on"),
    ("trust", "off"),
    ("mac", "f2:6c:03:73:b6:ca"),
    ("vlan", "0"),
    ("qos", "0"),
    ("proto", "802.1Q"),
    ("min_tx_rate", "0"),
    ("max_tx_rate", "0"),
    ("link_state", "auto"),
)


def decoded(data: bytes) -> Any:
    message = type(vf_message())(data)
    message.decode()
    return message


def sent(message: Any) -> bytes:
    message.reset()
    message.encode()
    return bytes(message.data)


def test_what_the_kernel_told() -> None:
    assert vfinfo.settings_from(decoded(RECORDED), 0) == VF0
    assert dict(vfinfo.settings_from(decoded(RECORDED), 1))["mac"] == "82:92:88:2a:ef:5f"
    assert vfinfo.settings_from(decoded(RECORDED), 2) == ()


def test_what_a_driver_has_not_is_left_out() -> None:
    trust = bytes.fromhex("0c0009000000000000000000")
    assert trust in RECORDED
    unsupported = RECORDED.replace(trust, trust[:8] + b"\xff" * 4)
    told = dict(vfinfo.settings_from(decoded(unsupported), 0))
    assert told.keys() == set(KEYS) - {"trust"}


def test_a_link_without_virtual_functions_tells_of_none() -> None:
    assert vfinfo.settings_from(decoded(sent(vfinfo.query("eth1"))), 0) == ()


def test_a_vlan_is_padded_as_the_kernels_structure_is() -> None:
    """It refuses a shorter one (net/core/rtnetlink.c, do_setvfinfo)."""
    group = (("vlan", "100"), ("qos", "3"), ("proto", "802.1ad"))
    data = sent(vfinfo.change(2, 1, group))
    # IFLA_VF_VLAN_INFO of 20 bytes: VF 1, VLAN 100, QoS 3, 0x88a8 in network order, padding.
    assert data.endswith(bytes.fromhex("1400010001000000640000000300000088a80000"))


def test_and_so_it_is_when_pyroute2_was_used_before(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"vf": 1, "vlan": 100, "qos": 3, "proto": 0x8100}
    vlans = {"attrs": [("IFLA_VF_VLAN_INFO", entry)]}
    info = {"attrs": [("IFLA_VF_VLAN_LIST", vlans)]}
    used = ifinfmsg()
    used["attrs"] = [("IFLA_VFINFO_LIST", {"attrs": [("IFLA_VF_INFO", info)]})]
    used.encode()
    monkeypatch.setattr(_pyroute2, "_loaded_vf", [])
    test_a_vlan_is_padded_as_the_kernels_structure_is()
    test_what_the_kernel_told()


_VALUES = {
    "spoofchk": st.sampled_from(("on", "off")),
    "trust": st.sampled_from(("on", "off")),
    "mac": st.just("02:00:00:00:00:55"),
    "vlan": st.integers(0, 4094).map(str),
    "qos": st.integers(0, 7).map(str),
    "proto": st.sampled_from(PROTOCOLS),
    "min_tx_rate": st.integers(0, 2**32 - 1).map(str),
    "max_tx_rate": st.integers(0, 2**32 - 1).map(str),
    "link_state": st.sampled_from(LINK_STATES),
}


@pytest.mark.parametrize("group", GROUPS)
@given(data=st.data(), number=st.integers(0, 255))
def test_what_is_sent_says_what_was_meant(
    group: tuple[str, ...], data: st.DataObject, number: int
) -> None:
    pairs = tuple((key, data.draw(_VALUES[key])) for key in group)
    message = decoded(sent(vfinfo.change(7, number, pairs)))
    assert message["index"] == 7
    ((_, entry),) = message.get_attr("IFLA_VFINFO_LIST")["attrs"]
    (attribute,) = entry["attrs"]
    told = {**dict.fromkeys(KEYS, ""), **_flat(attribute)}
    assert told["vf"] == number
    names = {"link_state": LINK_STATES, "trust": ("off", "on"), "spoofchk": ("off", "on")}
    for key, value in pairs:
        wanted = {"802.1Q": 0x8100, "802.1ad": 0x88A8}.get(value, value)
        is_ = names[key][told[key]] if key in names else told[key]
        assert str(is_) == str(wanted)


def _flat(attribute: Any) -> dict[str, Any]:
    name, value = attribute[0], attribute[1]
    return dict(value["attrs"][0][1]) if name == "IFLA_VF_VLAN_LIST" else dict(value)
