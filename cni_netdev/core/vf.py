"""What the host sets of an SR-IOV virtual function through its physical one; pure.

Settings are pairs of text, as ``ip link show`` has them: vlan, qos, proto (``802.1Q`` or
``802.1ad``), mac, min_tx_rate and max_tx_rate (Mbit/s, 0 is none), spoofchk and trust (``on`` or
``off``), link_state (``auto``, ``enable`` or ``disable``).  Some go together: what a message does
not name of a VLAN or of the rates it would clear.
"""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.errors import Fault
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.model import VirtualFunction
    from cni_netdev.core.objects import Object

    Pairs = tuple[tuple[str, str], ...]

PROTOCOLS = ("802.1Q", "802.1ad")
LINK_STATES = ("auto", "enable", "disable")  # IFLA_VF_LINK_STATE_AUTO, ENABLE, DISABLE
# In the order in which they are set, each group by one message.
GROUPS = (
    ("spoofchk",),
    ("trust",),
    ("mac",),
    ("vlan", "qos", "proto"),
    ("min_tx_rate", "max_tx_rate"),
    ("link_state",),
)
KEYS = tuple(key for group in GROUPS for key in group)
_MOST_VLAN, _MOST_QOS = 4094, 7


# --- what is asked for -----------------------------------------------------------------------


def parse(given: Object) -> Pairs:
    """The pairs in their order.  given: the object under ``vf``; its faults get what is wrong."""
    given.refuse_unknown(KEYS)
    number = _decimal(values.U32[1])
    convert: dict[str, Callable[[object], str]] = {
        "spoofchk": values.as_on_or_off,
        "trust": values.as_on_or_off,
        "mac": values.as_mac,
        "vlan": _decimal(_MOST_VLAN),
        "qos": _decimal(_MOST_QOS),
        "proto": _one_of(PROTOCOLS),
        "min_tx_rate": number,
        "max_tx_rate": number,
        "link_state": _one_of(LINK_STATES),
    }
    found = {key: given.take(key, convert[key]) for key in KEYS}
    asked = {key: value for key, value in found.items() if value is not None}
    for key in ("qos", "proto"):
        if given.has(key) and not given.has("vlan"):
            given.fault(f".{key}", "belongs to a vlan, and there is none")
    least, most = int(asked.get("min_tx_rate", 0)), int(asked.get("max_tx_rate", 0))
    if most and least > most:
        given.fault(".min_tx_rate", f"{least} is above max_tx_rate {most}")
    return tuple(asked.items())


def _decimal(most: int) -> Callable[[object], str]:
    between = values.between(0, most)
    return lambda value: str(between(value))


def _one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    def convert(value: object) -> str:
        lowered = value.lower() if isinstance(value, str) else None
        for each in known:
            if each.lower() == lowered:
                return each
        raise ValueError(f"{values.shown(value)} is none of {', '.join(known)}")

    return convert


# --- against what there is -------------------------------------------------------------------


def touched(asked: Pairs, settings: Pairs) -> Pairs:
    """Of all settings those that what is asked for may change: whole groups."""
    names = dict(asked)
    keys = {key for group in GROUPS if names.keys() & set(group) for key in group}
    return tuple(pair for pair in settings if pair[0] in keys)


def wanted(asked: Pairs, settings: Pairs) -> Pairs:
    """The settings with what is asked for; a VLAN asked for is plain unless it says otherwise."""
    plain = {"qos": "0", "proto": PROTOCOLS[0]} if "vlan" in dict(asked) else {}
    changed = {**plain, **dict(asked)}
    return tuple((key, changed.get(key, value)) for key, value in settings)


def changes(before: Pairs, after: Pairs) -> tuple[Pairs, ...]:
    """What differs, in whole groups, one for each message."""
    old, new = dict(before), dict(after)
    differing = [
        group for group in GROUPS if any(key in new and old.get(key) != new[key] for key in group)
    ]
    return tuple(tuple((key, new[key]) for key in group if key in new) for group in differing)


def differing(asked: Pairs, settings: Pairs) -> tuple[str, ...]:
    """A few words for each setting that is not as it was asked for."""
    have = dict(settings)
    return tuple(
        f"{key} is {have.get(key, 'not told')} instead of {value}"
        for key, value in asked
        if have.get(key) != value
    )


def faults(asked: Pairs, found: VirtualFunction | None, link: str, where: str) -> list[Fault]:
    """What of it cannot be set of this link, looked at before anything is.  where: the device."""
    if found is None:
        reason = f"{link} is no SR-IOV virtual function, only those have such settings"
        return [Fault(f"{where}.vf", reason)]
    if not found.settings:
        reason = f"{link}'s physical function {found.pf} has no link here that tells of its VFs"
        return [Fault(f"{where}.vf", reason)]
    told = dict(found.settings)
    return [
        Fault(f"{where}.vf.{key}", f"the driver of {link}'s physical function {found.pf} has none")
        for key, _ in asked
        if key not in told
    ]
