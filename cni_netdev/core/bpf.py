"""bpf(2), for what netlink cannot see or undo: TCX programs, and XDP programs on a bpf_link.

Numbers and layouts: linux/bpf.h.  All calls work on the calling thread's namespace.
"""

from __future__ import annotations

import errno
import os
import struct

from cni_netdev.core import libc
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_OBJ_PIN, _PROG_ATTACH, _PROG_DETACH = 6, 8, 9
_PROG_GET_FD_BY_ID, _OBJ_GET_INFO, _PROG_QUERY = 13, 15, 16
_BEFORE, _BY_ID = 1 << 3, 1 << 5  # BPF_F_BEFORE, BPF_F_ID
_LINK_GET_FD_BY_ID, _LINK_GET_NEXT_ID, _LINK_DETACH = 30, 31, 34
_ATTACH = {"ingress": 46, "egress": 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
_LINK_TYPE_XDP = 6
_MOST = 64
_ATTR_SIZE = 128
# What kernels before 6.6 (no TCX) or without bpf(2) for us answer.
_NO_TCX = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EACCES)


class _Attached(NamedTuple):
    program: int
    link: int


class _XdpLink(NamedTuple):
    program: int
    ifindex: int


def tcx(ifindex: int) -> tuple[tuple[str, int], ...]:
    """(("ingress" or "egress", program id), ...); empty where the kernel has no TCX."""
    return tuple((attach, each.program) for attach in _ATTACH for each in _query(ifindex, attach))


def detach_tcx(ifindex: int, attach: str, program: int) -> None:
    """Take a TCX program off, by its bpf_link where it hangs on one.  Raises KernelRefused."""
    for each in _query(ifindex, attach):
        if each.program != program:
            continue
        if each.link:
            _detach_link(each.link)
            return
        with opened(program) as fd:
            values = (ifindex, fd, _ATTACH[attach], 0)
            _bpf(f"detach TCX program {program}", _PROG_DETACH, "=IIII", *values)


def detach_xdp_link(ifindex: int) -> None:
    """Force off every bpf_link that holds an XDP program on this link.  Raises KernelRefused."""
    for link, fd, _ in _xdp_links(ifindex):
        _bpf(f"detach bpf_link {link}", _LINK_DETACH, "=I", fd)


@contextmanager
def opened(program: int) -> Iterator[int]:
    """A descriptor of a loaded program.  Raises KernelRefused."""
    with _by_id("program", _PROG_GET_FD_BY_ID, program) as fd:
        yield fd


def attach_tcx(ifindex: int, attach: str, program: int, before: int) -> None:
    """Put a loaded program before another one, or last if that is 0.  Raises KernelRefused."""
    flags = _BEFORE | _BY_ID if before else 0
    with opened(program) as fd:
        values = (ifindex, fd, _ATTACH[attach], flags, 0, before, 0)
        _bpf(f"attach TCX program {program}", _PROG_ATTACH, "=IIIIIIQ", *values)


def on_links(ifindex: int) -> tuple[int, ...]:
    """The programs of this link that hang on a bpf_link, which only its owner can make again."""
    found = [each.program for attach in _ATTACH for each in _query(ifindex, attach) if each.link]
    return (*found, *(program for _, _, program in _xdp_links(ifindex)))


def pin(fd: int, path: str) -> None:
    """Keep what is open at ``fd``, in a BPF file system.  Raises KernelRefused."""
    name = libc.buffer(len(path) + 1)
    name.raw = path.encode() + b"\0"
    _bpf(f"pin {path}", _OBJ_PIN, "=QII", libc.address(name), fd, 0)


def _query(ifindex: int, attach: str) -> list[_Attached]:
    programs, links = libc.buffer(4 * _MOST), libc.buffer(4 * _MOST)
    # target, attach_type, query_flags, attach_flags, prog_ids, count, pad, prog_attach_flags,
    # link_ids, link_attach_flags, revision
    layout = "=IIIIQIIQQQQ"
    values = (ifindex, _ATTACH[attach], 0, 0, libc.address(programs), _MOST, 0, 0)
    try:
        answer, _ = _bpf(
            f"query TCX {attach}", _PROG_QUERY, layout, *values, libc.address(links), 0, 0
        )
    except KernelRefused as error:
        if error.errno in _NO_TCX:
            return []
        raise
    count = struct.unpack_from(layout, answer)[5]
    ids = (struct.unpack_from(f"={count}I", each.raw) for each in (programs, links))
    return list(map(_Attached, *ids))


def _xdp_links(ifindex: int) -> Iterator[tuple[int, int, int]]:
    """(bpf_link, a descriptor of it meanwhile, program) of each that holds XDP on this link."""
    link = 0
    while link := _next_link(link):
        with _by_id("bpf_link", _LINK_GET_FD_BY_ID, link) as fd:
            seen = _xdp(fd)
            if seen.ifindex == ifindex:
                yield link, fd, seen.program


def _next_link(link: int) -> int:
    try:
        answer, _ = _bpf("list bpf_links", _LINK_GET_NEXT_ID, "=III", link, 0, 0)
    except KernelRefused as error:
        if error.errno == errno.ENOENT:
            return 0
        raise
    following: int = struct.unpack_from("=III", answer)[1]
    return following


def _xdp(fd: int) -> _XdpLink:
    """What an XDP bpf_link holds and where; 0 for another type or a link that is gone."""
    info = libc.buffer(64)
    _bpf("look at a bpf_link", _OBJ_GET_INFO, "=IIQ", fd, len(info), libc.address(info))
    kind, _, program, _, ifindex = struct.unpack_from("=IIIII", info.raw)
    return _XdpLink(program, ifindex) if kind == _LINK_TYPE_XDP else _XdpLink(0, 0)


def _detach_link(link: int) -> None:
    with _by_id("bpf_link", _LINK_GET_FD_BY_ID, link) as fd:
        _bpf(f"detach bpf_link {link}", _LINK_DETACH, "=I", fd)


@contextmanager
def _by_id(what: str, command: int, number: int) -> Iterator[int]:
    fd = _bpf(f"open BPF {what} {number}", command, "=III", number, 0, 0)[1]
    try:
        yield fd
    finally:
        os.close(fd)


def _bpf(what: str, command: int, layout: str, *values: int) -> tuple[bytes, int]:
    """One call; the attribute as the kernel left it, and the result.  Raises KernelRefused."""
    attribute = libc.buffer(_ATTR_SIZE)
    struct.pack_into(layout, attribute, 0, *values)
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise KernelRefused(what, errno.ENOSYS)
    try:
        result = libc.syscall(number, command, attribute, struct.calcsize(layout))
    except OSError as error:
        raise KernelRefused(what, error.errno or 0) from error
    return attribute.raw, result
