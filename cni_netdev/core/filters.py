"""tc filters of one link that are BPF programs and nothing else; pure, messages to values and back.

Numbers: linux/pkt_sched.h and linux/pkt_cls.h.
"""

from __future__ import annotations

import struct

from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Filter
from cni_netdev.core.qdisc import traffic
from cni_netdev.core.rtnl import Attributes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SIDES = (0xFFFFFFF2, 0xFFFFFFF3)  # of a clsact: TC_H_MIN_INGRESS, TC_H_MIN_EGRESS
_CLASSID, _FD, _NAME, _FLAGS, _FLAGS_GEN, _TAG, _ID = 3, 6, 7, 8, 9, 10, 11  # TCA_BPF_*
_DIRECT = 1  # TCA_BPF_FLAG_ACT_DIRECT: the program's own answer counts
_SKIPS = 0x3  # TCA_CLS_FLAGS_SKIP_HW and SKIP_SW; the others are the kernel's to tell
_ATTRIBUTE = struct.Struct("=HH")


def dump(ifindex: int, parent: int) -> Any:
    """RTM_GETTFILTER of one side."""
    return traffic(ifindex, parent, 0, [])


def filters_from(replies: Iterable[Any], ifindex: int, parent: int) -> list[Filter]:
    """Those of one side; what is more than a program is one without a program."""
    found = []
    for message in replies:
        attributes = Attributes(message)
        options = attributes.get("TCA_OPTIONS")
        ours = message["index"] == ifindex and attributes.get("TCA_KIND") == "bpf"
        if not ours or attributes.get("TCA_CHAIN", 0):
            found.append(Filter(parent, message["handle"], message["info"]))
        elif options is not None:  # else it is the head of several
            found.append(_filter(message, parent, _split(bytes(options))))
    return found


def _filter(message: Any, parent: int, told: dict[int, bytes]) -> Filter:
    flags, skips, program = (_number(told.get(each, b"")) for each in (_FLAGS, _FLAGS_GEN, _ID))
    bare = Filter(parent, message["handle"], message["info"])
    if told.keys() - {_CLASSID, _NAME, _FLAGS, _FLAGS_GEN, _TAG, _ID} or flags != _DIRECT:
        return bare
    name = told.get(_NAME, b"").rstrip(b"\0").decode(errors="surrogateescape")
    classid = _number(told.get(_CLASSID, b""))
    return bare._replace(program=program, name=name, skips=skips & _SKIPS, classid=classid)


def _split(options: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + _ATTRIBUTE.size <= len(options):
        length, kind = _ATTRIBUTE.unpack_from(options, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = options[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big")


def change(ifindex: int, value: Filter, fd: int) -> Any:
    """RTM_NEWTFILTER with the program open at ``fd``."""
    told = {_FD: struct.pack("=I", fd), _FLAGS: struct.pack("=I", _DIRECT)}
    if value.name:
        told[_NAME] = value.name.encode(errors="surrogateescape") + b"\0"
    if value.skips:
        told[_FLAGS_GEN] = struct.pack("=I", value.skips)
    if value.classid:
        told[_CLASSID] = struct.pack("=I", value.classid)
    options = b"".join(
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(each), kind) + each + bytes(-len(each) % 4)
        for kind, each in sorted(told.items())
    )
    attributes = [("TCA_KIND", "bpf"), ("TCA_OPTIONS", options)]
    return traffic(ifindex, value.parent, value.handle, attributes, value.info)
