"""What few requests ask for, read from a device object; pure.

Not in ``devices``, so that the others need not load it.  ``outfit`` says what it means in the pod.
"""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import AF_INET, AF_INET6, Extras, Neighbour
from cni_netdev.core.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST_ALTNAMES = 16
MOST_NEIGHBOURS = 256
NUD_PERMANENT = 0x80  # linux/neighbour.h
_NEIGHBOUR_KEYS = ("address", "mac")
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
    extras = Extras(
        txqlen=device.take("txqlen", values.between(*TXQLEN)),
        sizes=tuple((name, size) for name, size in sizes if size is not None),
        neighbours=_neighbours(device),
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
