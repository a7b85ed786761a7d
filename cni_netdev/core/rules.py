"""Policy routing rules; pure, pyroute2 messages to the model's values and back.

Those that we set are marked by their protocol (`ip rule` shows ``proto 110``), so that they are
found again among a pod's own.  Numbers: linux/fib_rules.h.
"""

from __future__ import annotations

from cni_netdev.core._pyroute2 import message_class
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Rule
from cni_netdev.core.rtnl import Attributes, decoded, encoded

if TYPE_CHECKING:
    from typing import Any

OUR_PROTOCOL = 110  # in none of iproute2's lists
_TO_TABLE = 1  # FR_ACT_TO_TBL
_WHOLE_MARK = 0xFFFFFFFF
_FIELDS = (
    ("family", "B"),
    ("dst_len", "B"),
    ("src_len", "B"),
    ("tos", "B"),
    ("table", "B"),
    ("pad", "2x"),
    ("action", "B"),
    ("flags", "I"),
)
_ATTRIBUTES = (
    ("FRA_UNSPEC", "none"),
    ("FRA_DST", "ipaddr"),
    ("FRA_SRC", "ipaddr"),
    ("FRA_IIFNAME", "asciiz"),
    ("FRA_GOTO", "uint32"),
    ("FRA_UNUSED2", "hex"),
    ("FRA_PRIORITY", "uint32"),
    ("FRA_UNUSED3", "hex"),
    ("FRA_UNUSED4", "hex"),
    ("FRA_UNUSED5", "hex"),
    ("FRA_FWMARK", "uint32"),
    ("FRA_FLOW", "uint32"),
    ("FRA_TUN_ID", "hex"),
    ("FRA_SUPPRESS_IFGROUP", "uint32"),
    ("FRA_SUPPRESS_PREFIXLEN", "uint32"),
    ("FRA_TABLE", "uint32"),
    ("FRA_FWMASK", "uint32"),
    ("FRA_OIFNAME", "asciiz"),
    ("FRA_PAD", "hex"),
    ("FRA_L3MDEV", "uint8"),
    ("FRA_UID_RANGE", "hex"),
    ("FRA_PROTOCOL", "uint8"),
)


def _message(fields: dict[str, int], attributes: list[tuple[str, Any]]) -> Any:
    message = message_class("rulemsg", "FRA_", _FIELDS, _ATTRIBUTES)()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    return message


def dump(family: int) -> Any:
    """RTM_GETRULE of all rules of a family."""
    return _message({"family": family}, [])


def rule(value: Rule) -> Any:
    """RTM_NEWRULE or RTM_DELRULE.  The kernel deletes the first that has at least what is said."""
    attributes: list[tuple[str, Any]] = [
        ("FRA_TABLE", value.table),
        ("FRA_PRIORITY", value.priority),
        ("FRA_PROTOCOL", OUR_PROTOCOL),
    ]
    lengths = {}
    for key, length, network in (
        ("FRA_DST", "dst_len", value.dst),
        ("FRA_SRC", "src_len", value.src),
    ):
        if network:
            address, _, bits = network.partition("/")
            attributes.append((key, address))
            lengths[length] = int(bits)
    for key, name in (("FRA_IIFNAME", value.iif), ("FRA_OIFNAME", value.oif)):
        if name:
            attributes.append((key, encoded(name)))
    if value.mark:
        attributes += [("FRA_FWMARK", value.mark), ("FRA_FWMASK", value.mask or _WHOLE_MARK)]
    return _message({"family": value.family, "action": _TO_TABLE, **lengths}, attributes)


def rule_from(message: Any) -> Rule | None:
    """The rule; None when it is not one of ours."""
    attributes = Attributes(message)
    if attributes.get("FRA_PROTOCOL") != OUR_PROTOCOL or message["action"] != _TO_TABLE:
        return None
    mask = attributes.get("FRA_FWMASK", 0)
    return Rule(
        family=message["family"],
        table=attributes.get("FRA_TABLE", message["table"]),
        priority=attributes.get("FRA_PRIORITY", 0),
        src=_network(attributes.get("FRA_SRC"), message["src_len"]),
        dst=_network(attributes.get("FRA_DST"), message["dst_len"]),
        iif=decoded(attributes.get("FRA_IIFNAME", "")),
        oif=decoded(attributes.get("FRA_OIFNAME", "")),
        mark=attributes.get("FRA_FWMARK", 0),
        mask=0 if mask == _WHOLE_MARK else mask,
    )


def _network(address: str | None, bits: int) -> str | None:
    return f"{address}/{bits}" if address else None
