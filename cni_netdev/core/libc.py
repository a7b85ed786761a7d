"""System calls that Python 3.11 has no function for, by libc, loaded on first use."""

from __future__ import annotations

import ctypes
import os

_opened: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _opened:
        _opened.append(ctypes.CDLL(None, use_errno=True))
    return _opened[0]


def call(function: str, *arguments: object) -> int:
    """Call a libc function that returns -1 on error.  Raises OSError with its errno."""
    result: int = getattr(_libc(), function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), function)
    return result


def syscall(number: int, *arguments: object) -> int:
    """syscall(2), for what libc itself does not wrap.  Raises OSError with its errno."""
    return call("syscall", number, *arguments)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2).  Raises OSError."""
    encoded = (source.encode(), target.encode(), kind.encode() if kind else None)
    call("mount", *encoded, ctypes.c_ulong(flags), data.encode() or None)


def umount(target: str, flags: int) -> None:
    """umount2(2).  Raises OSError."""
    call("umount2", target.encode(), flags)


_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture
_CLOEXEC, _CMD_CREATE = 1, 6


def detached_mount(kind: str) -> int:
    """A descriptor of a file system's root, mounted anew and at no place.  Raises OSError.

    It shows the namespaces of the calling thread.
    """
    context = syscall(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        syscall(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return syscall(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def setns(fd: int, kind: int) -> None:
    """setns(2) for the calling thread.  Raises OSError."""
    call("setns", fd, kind)
