"""System calls that Python 3.11 has no function for, by libc, loaded on first use.

By ``_ctypes``, the C half of ``ctypes``: the other half costs 0.9 ms of each pod's start.
"""

from __future__ import annotations

import _ctypes
import errno
import os

from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_NO_MEANS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_C: Any = _ctypes
_RTLD_LOCAL = 0


def _simple(code: str) -> Any:
    """A C type by its letter, made as ctypes makes its own (see struct)."""
    return type(f"Simple_{code}", (_C._SimpleCData,), {"_type_": code})  # noqa: SLF001


_INT, _UNSIGNED_LONG, _CHAR = map(_simple, "iLc")
_CONVENTION = _C.FUNCFLAG_CDECL | _C.FUNCFLAG_USE_ERRNO
_Function: Any = type("Function", (_C.CFuncPtr,), {"_flags_": _CONVENTION, "_restype_": _INT})
_functions: dict[str, Any] = {}
_buffers: dict[int, Any] = {}


def call(function: str, *arguments: object) -> int:
    """Call a libc function that returns -1 on error.  Raises OSError with its errno."""
    if function not in _functions:
        _functions[function] = _Function(_C.dlsym(_C.dlopen(None, _RTLD_LOCAL), function))
    result: int = _functions[function](*arguments)
    if result < 0:
        number = _C.get_errno()
        raise OSError(number, os.strerror(number), function)
    return result


def buffer(size: int) -> Any:
    """Zeros that a call may write to; ``raw`` has them as bytes."""
    if size not in _buffers:
        _buffers[size] = type("Buffer", (_C.Array,), {"_type_": _CHAR, "_length_": size})
    return _buffers[size]()


def address(made: Any) -> int:
    """Of such a buffer, for where a call takes a number."""
    number: int = _C.addressof(made)
    return number


def raise_if_for_want_of_means(error: OSError) -> None:
    """Raises the error again if it tells of the caller, not of what it wanted to look at.

    Without descriptors or memory nothing is seen: nothing may be taken for absent then.
    """
    if error.errno in _NO_MEANS:
        raise error


def syscall(number: int, *arguments: object) -> int:
    """syscall(2), for what libc itself does not wrap.  Raises OSError with its errno."""
    return call("syscall", number, *arguments)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2).  Raises OSError."""
    encoded = (source.encode(), target.encode(), kind.encode() if kind else None)
    call("mount", *encoded, _UNSIGNED_LONG(flags), data.encode() or None)


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
