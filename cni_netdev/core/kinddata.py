"""What only links of one kind have: a macvlan's mode, a VXLAN's far end (IFLA_INFO_DATA); pure.

Kept as the bytes that the kernel told, in hexadecimal, to be told to it again: there are forty
kinds.  The kernel changes what it is told and leaves the rest as it is, but for tunnels: those are
told everything, since what is left out becomes zero.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("=HH")
_TYPE = 0x3FFF  # NLA_TYPE_MASK: without the flags for nesting and byte order
# Counts that follow others' doing: IFLA_MACVLAN_BC_QUEUE_LEN_USED; IFLA_TUN_NUM_QUEUES and
# IFLA_TUN_NUM_DISABLED_QUEUES (linux/if_link.h).
_COUNTS = {"macvlan": {8}, "macvtap": {8}, "tun": {8, 9}}
_TUNNELS = frozenset(
    ("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ipip", "sit", "ip6tnl", "vti", "vti6")
)
# IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS: lists of mappings, which the kernel adds to its own.
_MAPPINGS = {"vlan": {3, 4}}
_MAPPING = struct.Struct("=HHII")  # IFLA_VLAN_QOS_MAPPING: from, to


def changed(kind: str, before: str, after: str) -> tuple[int, ...]:
    """The numbers of the attributes that differ, but for mere counts."""
    had, has = attributes(before), attributes(after)
    numbers = (had.keys() | has.keys()) - _COUNTS.get(kind, set())
    return tuple(sorted(each for each in numbers if had.get(each) != has.get(each)))


def change(kind: str, before: str, after: str) -> bytes:
    """The attributes to tell the kernel; what is to be there no more becomes zero."""
    if kind in _TUNNELS:
        return bytes.fromhex(after) if changed(kind, before, after) else b""
    had, wanted = attributes(before), attributes(after)
    message = b""
    for number in changed(kind, before, after):
        if number in _MAPPINGS.get(kind, ()):
            value = _remapped(had.get(number, b""), wanted.get(number, b""))
        else:
            value = wanted.get(number, bytes(len(had.get(number, b""))))
        message += _HEADER.pack(_HEADER.size + len(value), number) + value
        message += bytes(-len(value) % 4)
    return message


def _remapped(had: bytes, wanted: bytes) -> bytes:
    """The mappings to tell: those wanted, and to nothing what is to be mapped no more."""
    from_to = {**dict.fromkeys(_mappings(had), 0), **_mappings(wanted)}
    return b"".join(_MAPPING.pack(_MAPPING.size, 1, *pair) for pair in from_to.items())


def _mappings(data: bytes) -> dict[int, int]:
    whole = len(data) - len(data) % _MAPPING.size
    return {before: after for _, _, before, after in _MAPPING.iter_unpack(data[:whole])}


def attributes(text: str) -> dict[int, bytes]:
    """By their numbers."""
    data, found = bytes.fromhex(text), {}
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        found[kind & _TYPE] = data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3
    return found
