"""What few requests ask for, read from a device object; pure.

Not in ``devices``, so that the others need not load it.  ``outfit`` says what it means in the pod.
"""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import AF_INET, AF_INET6, THIS_LINK, Extras, Neighbour, Rule, Vrf
from cni_netdev.core.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST_ALTNAMES = 16
MOST_NEIGHBOURS = 256
MOST_RULES = 64
# Between the kernel's own rules, for the tables local (0) and main (32766).
PRIORITY, USUAL_PRIORITY = (1, 32765), 30000
NUD_PERMANENT = 0x80  # linux/neighbour.h
_NEIGHBOUR_KEYS = ("address", "mac")
_RULE_SELECTORS = ("from", "to", "iif", "oif", "fwmark")
_RULE_KEYS = (*_RULE_SELECTORS, "fwmask", "family", "table", "priority")
_VRF_KEYS = ("name", "table")
_KERNELS_TABLES = (253, 254, 255)  # default, main, local
_FAMILIES = {"ipv4": AF_INET, "ipv6": AF_INET6}
_LONGEST_SYSCTL = 64
_WAIT = "wait"
DAD_SECONDS = (1, 30)
TXQLEN = (0, 65535)  # a queue has room for as many pointers, in each of its bands
# Beside the headers that the kernel makes room for, and its GSO_MAX_SIZE and GRO_MAX_SIZE.
SIZE = (512, 8 * 65535)
SIZES = {
    "gso_max_size": "IFLA_GSO_MAX_SIZE",
    "gro_max_size": "IFLA_GRO_MAX_SIZE",
    "gso_ipv4_max_size": "IFLA_GSO_IPV4_MAX_SIZE",
    "gro_ipv4_max_size": "IFLA_GRO_IPV4_MAX_SIZE",
}


def parse_extras(device: Object) -> Extras | None:
    """Those of a device; its faults go to the object's.  None when nothing is asked for."""
    sizes = [(name, device.take(key, values.between(*SIZE))) for key, name in SIZES.items()]
    dad, seconds = _dad(device)
    extras = Extras(
        vrf=_vrf(device),
        dad=dad,
        dad_seconds=seconds,
        announce=bool(device.take("announce", values.as_boolean)),
        txqlen=device.take("txqlen", values.between(*TXQLEN)),
        sizes=tuple((name, size) for name, size in sizes if size is not None),
        neighbours=_neighbours(device),
        rules=_rules(device),
        sysctls=_sysctls(device),
        altnames=_texts(device, "altnames", MOST_ALTNAMES, values.as_new_altname),
    )
    return extras if extras != Extras() else None


def _neighbours(device: Object) -> tuple[Neighbour, ...]:
    given = device.take_list("neighbors", MOST_NEIGHBOURS)
    found = [
        _neighbour(Object(each, f"{device.where}.neighbors[{number}]", device.faults))
        for number, each in enumerate(given)
    ]
    addresses = [each.address for each in found if each.address]
    for each in dict.fromkeys(each for each in addresses if addresses.count(each) > 1):
        device.fault(".neighbors", f"{each} is given more than once")
    return tuple(found)


def _neighbour(given: Object) -> Neighbour:
    given.refuse_unknown(_NEIGHBOUR_KEYS)
    for key in _NEIGHBOUR_KEYS:
        if given.readable and not given.has(key):
            given.fault(f".{key}", "is needed")
    address = given.take("address", values.as_host) or ""
    mac = given.take("mac", values.as_hwaddr)
    return Neighbour(AF_INET6 if ":" in address else AF_INET, address, mac, NUD_PERMANENT, 0)


def _rules(device: Object) -> tuple[Rule, ...]:
    given = device.take_list("rules", MOST_RULES)
    found = [
        _rule(Object(each, f"{device.where}.rules[{number}]", device.faults))
        for number, each in enumerate(given)
    ]
    for number, each in enumerate(found):
        if each in found[:number]:
            device.fault(f".rules[{number}]", "is given more than once")
    return tuple(found)


def _rule(given: Object) -> Rule:
    given.refuse_unknown(_RULE_KEYS)
    src, dst = given.take("from", values.as_network), given.take("to", values.as_network)
    rule = Rule(
        family=_family(given, [each for each in (src, dst) if each]),
        table=given.take("table", values.between(1, values.U32[1])) or 0,
        priority=given.take("priority", values.between(*PRIORITY)) or USUAL_PRIORITY,
        src=src,
        dst=dst,
        iif=THIS_LINK if given.take("iif", values.as_boolean) else "",
        oif=THIS_LINK if given.take("oif", values.as_boolean) else "",
        mark=given.take("fwmark", values.between(1, values.U32[1])) or 0,
        mask=given.take("fwmask", values.between(1, values.U32[1])) or 0,
    )
    if given.readable and not given.has("table"):
        given.fault(".table", "is needed: where to look")
    if given.readable and not any(map(given.has, _RULE_SELECTORS)):
        given.fault("", f"needs one of {', '.join(_RULE_SELECTORS)}, or it is for all of the pod's")
    if rule.mask and (rule.mark & rule.mask) != rule.mark:
        given.fault(".fwmask", "leaves out bits of fwmark, so that nothing can have it")
    if rule.mask and not given.has("fwmark"):
        given.fault(".fwmask", "belongs to a fwmark, and there is none")
    return rule


def _family(given: Object, networks: list[str]) -> int:
    told = given.take("family", values.one_of(*_FAMILIES))
    families = {AF_INET6 if ":" in each else AF_INET for each in networks}
    if len(families) > 1:
        given.fault(".to", f"{networks[1]} is of another family than {networks[0]}")
    elif families and told and _FAMILIES[told] not in families:
        given.fault(".family", f"{told} is not that of {networks[0]}")
    elif given.readable and not (families or told or given.has("from") or given.has("to")):
        given.fault(".family", f"is needed without from and to: {' or '.join(_FAMILIES)}")
    return next(iter(families), _FAMILIES.get(told, AF_INET))


def _vrf(device: Object) -> Vrf | None:
    if not device.has("vrf"):
        return None
    given = device.nested("vrf")
    given.refuse_unknown(_VRF_KEYS)
    for key in _VRF_KEYS:
        if given.readable and not given.has(key):
            given.fault(f".{key}", "is needed")
    table = given.take("table", values.between(1, values.U32[1])) or 0
    if table in _KERNELS_TABLES:
        given.fault(".table", f"{table} is one of the kernel's own tables")
    return Vrf(given.take("name", values.as_new_name) or "", table)


def _sysctls(device: Object) -> tuple[tuple[str, str], ...]:
    if not device.has("sysctls"):
        return ()
    from cni_netdev.core.tunables import TUNABLES

    given, found = device.nested("sysctls"), []
    for name in given.names:
        if name not in TUNABLES:
            given.fault(f".{values.shown(name)[1:-1]}", _not_tunable(name, tuple(TUNABLES)))
        elif given.has(name):
            key, limits = TUNABLES[name]
            found.append((key, str(given.take(name, values.between(*limits)))))
    return tuple(sorted(found))


def _not_tunable(name: str, known: tuple[str, ...]) -> str:
    close = values.nearest(name, known) if len(name) < _LONGEST_SYSCTL else ""
    hint = close if "did you mean" in close else ", which the README lists"
    return f"is no sysctl of a link that may be asked for{hint}"


def _dad(device: Object) -> tuple[str, int]:
    if not device.has("dad"):
        return "", 0
    word = device.take("dad", _dad_word)
    if word != _WAIT:
        return word or "", 0
    given = device.nested("dad")
    given.refuse_unknown(("wait",))
    seconds = given.take("wait", values.between(*DAD_SECONDS)) or 0
    if not given.has("wait"):
        given.fault(".wait", "is needed: for how many seconds at the most")
    return _WAIT, seconds


def _dad_word(value: object) -> str:
    if isinstance(value, dict):
        return _WAIT
    if isinstance(value, str) and value in ("off", "optimistic"):
        return value
    raise ValueError(f"{values.shown(value)} is none of off, optimistic, or an object with wait")


def _texts(
    device: Object, key: str, most: int, convert: Callable[[object], str]
) -> tuple[Any, ...]:
    """A list's entries, each once."""
    given = device.take_list(key, most)
    converted = [
        device.convert(f".{key}[{number}]", each, convert) for number, each in enumerate(given)
    ]
    found = [each for each in converted if each is not None]
    for each in dict.fromkeys(each for each in found if found.count(each) > 1):
        device.fault(f".{key}", f"{each} is given more than once")
    return tuple(found)
