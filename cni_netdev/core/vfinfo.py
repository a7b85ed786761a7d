"""IFLA_VFINFO_LIST (linux/if_link.h) to the settings of a virtual function and back; pure."""

from __future__ import annotations

from cni_netdev.core._pyroute2 import vf_message
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.rtnl import Attributes, encoded
from cni_netdev.core.vf import LINK_STATES, PROTOCOLS

if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.vf import Pairs

_VF, _SKIP_STATS = 1 << 0, 1 << 3  # RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS
_UNSUPPORTED = 0xFFFFFFFF  # what the kernel says of what a driver has not (-1)
_ETHERTYPES = {"802.1Q": 0x8100, "802.1ad": 0x88A8}
_SWITCHES = ("off", "on")


def query(name: str) -> Any:
    """RTM_GETLINK of a physical function, with its VFs."""
    message = vf_message()
    message["attrs"] = [("IFLA_EXT_MASK", _VF | _SKIP_STATS), ("IFLA_IFNAME", encoded(name))]
    return message


def settings_from(message: Any, number: int) -> Pairs:
    """Those of one VF, in the order of vf.KEYS; empty when it is not told of."""
    listed = Attributes(message).get("IFLA_VFINFO_LIST")
    for _, entry in listed["attrs"] if listed else ():
        told = dict(entry["attrs"])
        if told["IFLA_VF_MAC"]["vf"] == number:
            return _settings(told)
    return ()


def _settings(told: dict[str, Any]) -> Pairs:
    vlan, rate = told["IFLA_VF_VLAN"], told.get("IFLA_VF_RATE")
    found = {
        "spoofchk": _named(told, "SPOOFCHK", _SWITCHES),
        "trust": _named(told, "TRUST", _SWITCHES),
        "mac": told["IFLA_VF_MAC"]["mac"],
        "vlan": str(vlan["vlan"]),
        "qos": str(vlan["qos"]),
        "proto": _protocol(told),
        "min_tx_rate": str(rate["min_tx_rate"]) if rate else None,
        "max_tx_rate": str(rate["max_tx_rate"]) if rate else None,
        "link_state": _named(told, "LINK_STATE", LINK_STATES),
    }
    return tuple((key, value) for key, value in found.items() if value is not None)


def _named(told: dict[str, Any], what: str, names: tuple[str, ...]) -> str | None:
    attribute = told.get(f"IFLA_VF_{what}")
    value = _UNSUPPORTED if attribute is None else attribute[what.lower()]
    return names[value] if value < len(names) else None


def _protocol(told: dict[str, Any]) -> str:
    """As only the list of VLANs says it, which has one entry."""
    listed = told.get("IFLA_VF_VLAN_LIST")
    for _, entry in listed["attrs"] if listed else ():
        for name, number in _ETHERTYPES.items():
            if entry["proto"] == number:
                return name
    return PROTOCOLS[0]


def change(ifindex: int, number: int, group: Pairs) -> Any:
    """RTM_SETLINK of the physical function for one of vf.GROUPS."""
    message = vf_message()
    message["index"] = ifindex
    info = {"attrs": [_attribute(number, dict(group))]}
    message["attrs"] = [("IFLA_VFINFO_LIST", {"attrs": [("IFLA_VF_INFO", info)]})]
    return message


def _attribute(number: int, group: dict[str, str]) -> tuple[str, dict[str, Any]]:
    if "vlan" in group:
        entry = {
            "vf": number,
            "vlan": int(group["vlan"]),
            "qos": int(group["qos"]),
            "proto": _ETHERTYPES[group["proto"]],
        }
        return ("IFLA_VF_VLAN_LIST", {"attrs": [("IFLA_VF_VLAN_INFO", entry)]})
    if "min_tx_rate" in group:
        rates = {key: int(value) for key, value in group.items()}
        return ("IFLA_VF_RATE", {"vf": number, **rates})
    ((key, value),) = group.items()
    if key == "mac":
        return ("IFLA_VF_MAC", {"vf": number, "mac": value})
    names = LINK_STATES if key == "link_state" else _SWITCHES
    return (f"IFLA_VF_{key.upper()}", {"vf": number, key: names.index(value)})
