"""Smallest BPF programs, loaded and attached as a pod could: by netlink, by TCX, by bpf_link."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from pathlib import Path

from cni_netdev.core import bpf, libc

_PROG_LOAD, _OBJ_PIN, _PROG_ATTACH, _LINK_CREATE = 5, 6, 8, 28
_SCHED_CLS, _XDP = 3, 6  # program types
_XDP_ATTACH, _TCX = 37, {"ingress": 46, "egress": 47}
# mov r0, 2 (XDP_PASS); exit
_INSTRUCTIONS = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)


def load(kind: str) -> int:
    """A descriptor of a program; kind is xdp or tcx."""
    code = ctypes.create_string_buffer(_INSTRUCTIONS)
    name = ctypes.create_string_buffer(b"GPL")
    return bpf._bpf(
        "load a program",
        _PROG_LOAD,
        "=IIQQ",
        _XDP if kind == "xdp" else _SCHED_CLS,
        len(_INSTRUCTIONS) // 8,
        ctypes.addressof(code),
        ctypes.addressof(name),
    )[1]


def number(fd: int) -> int:
    """The id of the program open at ``fd``."""
    told = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return int(re.search(r"^prog_id:\s*(\d+)$", told, re.MULTILINE)[1])  # type: ignore[index]


def attach_tcx(ifindex: int, where: str) -> None:
    fd = load("tcx")
    bpf._bpf("attach", _PROG_ATTACH, "=IIIIIIQ", ifindex, fd, _TCX[where], 0, 0, 0, 0)
    os.close(fd)


def link(ifindex: int, kind: str) -> int:
    """A bpf_link: the program stays as long as the descriptor is open.  kind: xdp or tcx."""
    fd = load(kind)
    attach = _XDP_ATTACH if kind == "xdp" else _TCX["ingress"]
    values = (fd, ifindex, attach, 2 if kind == "xdp" else 0, 0, 0, 0)
    created = bpf._bpf("create a bpf_link", _LINK_CREATE, "=IIIIIIQ", *values)[1]
    os.close(fd)
    return created


def pin(fd: int, directory: Path) -> None:
    """Keep what is open at ``fd`` in a BPF file system, made here, and close it."""
    libc.mount("bpf", str(directory), "bpf", 0)
    path = ctypes.create_string_buffer(str(directory / "pinned").encode())
    bpf._bpf("pin", _OBJ_PIN, "=QII", ctypes.addressof(path), fd, 0)
    os.close(fd)
