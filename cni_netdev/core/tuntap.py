"""TUN and TAP links: whether a process has one open, and what only such a process can set.

Whoever has it open reads what is sent on the link and sends what is received there, also when the
link has long been in another namespace (drivers/net/tun.c, linux/if_tun.h).
"""

from __future__ import annotations

import errno
import os
import struct
import sys

from cni_netdev.core import kinddata
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import Link

_DEVICE = "/dev/net/tun"
_REQUEST = struct.Struct("16sH22x")  # struct ifreq: name and flags
_SETIFF, _SETPERSIST, _SETOWNER, _SETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_NO_PI, _VNET_HDR, _MULTI_QUEUE = 0x1000, 0x4000, 0x0100
# IFLA_TUN_*, linux/if_link.h
_OWNER, _GROUP, _TYPE, _PI, _HAS_VNET_HDR, _PERSIST, _HAS_QUEUES, _QUEUES, _DISABLED = range(1, 10)


def is_open(name: str, link: Link) -> bool:
    """Whether a process has it open; found out by opening it, which makes its carrier come and go.

    What may have several queues tells by itself.  Raises KernelRefused.
    """
    queues = _number(link.data, _QUEUES) + _number(link.data, _DISABLED)
    if queues or link.opened or _number(link.data, _HAS_QUEUES):
        return bool(queues) or link.opened
    try:
        with _opened(name, link.data):
            return False
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        if error.errno in (errno.ENOENT, errno.EPERM, errno.EACCES):
            return False  # no such device here to ask by
        raise KernelRefused(f"open {name}", error.errno or 0) from error


def restore(name: str, before: str, after: str) -> None:
    """Owner, group, persistence and the like from ``before`` to ``after``; see kinddata.

    Where there was no owner or group, it is root's: the kernel has no way back to none.
    Raises KernelRefused.
    """
    import fcntl

    requests = {_OWNER: _SETOWNER, _GROUP: _SETGROUP, _PERSIST: _SETPERSIST}
    try:
        with _opened(name, after) as fd:
            for number in kinddata.changed("tun", before, after):
                if number in requests:
                    fcntl.ioctl(fd, requests[number], _number(after, number))
    except OSError as error:
        raise KernelRefused(f"set who may open {name}", error.errno or 0) from error


@contextmanager
def _opened(name: str, data: str) -> Iterator[int]:
    import fcntl

    flags = _number(data, _TYPE)
    flags |= 0 if _number(data, _PI) else _NO_PI
    flags |= _VNET_HDR if _number(data, _HAS_VNET_HDR) else 0
    flags |= _MULTI_QUEUE if _number(data, _HAS_QUEUES) else 0
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _SETIFF, _REQUEST.pack(name.encode(errors="surrogateescape"), flags))
        yield fd
    finally:
        os.close(fd)


def _number(data: str, attribute: int) -> int:
    """0 when there is no such attribute."""
    return int.from_bytes(kinddata.attributes(data).get(attribute, b""), sys.byteorder)
