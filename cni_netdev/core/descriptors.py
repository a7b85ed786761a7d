"""Network namespaces that an open descriptor keeps, or a socket that was made in them.

No process need be in such a namespace, and none of its files need be mounted anywhere.  A
descriptor that is on its way through a unix socket is in nobody's table, and not found.

Nothing here may ask the file system of a tenant's open file, which could let us wait for ever.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from contextlib import ExitStack
from itertools import takewhile

from cni_netdev.core import libc, netns
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_PIDFD_GETFD = 438  # the same on every architecture
_SIOCGSKNS = 0x894C  # linux/sockios.h
_AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_TYPE = -100, 0x4000, 0x1
_STATX_SIZE, _STATX_DEVICE_AT = 256, 136  # struct statx: stx_dev_major and stx_dev_minor


class _Descriptor(NamedTuple):
    """One of another process, as proc_pid_fd(5) shows it."""

    pid: int
    number: int

    @property
    def link(self) -> str:
        return f"/proc/{self.pid}/fd/{self.number}"

    @property
    def target(self) -> str:
        """Empty when it is gone, or may not be looked at."""
        try:
            return os.readlink(self.link)
        except OSError:
            return ""


def namespaces(until: float) -> Iterator[netns.Handle]:
    """Each but the caller's own, once; those that only a socket keeps come last.

    The receiver closes them.  What cannot be looked at is left out.  until: by time.monotonic(),
    since a tenant can have a million sockets.
    """
    seen = {os.stat(netns.OWN).st_ino}
    for wanted, open_one in ((_is_namespace, _opened), (_is_socket, _of_socket)):
        descriptors = takewhile(lambda _: time.monotonic() < until, _descriptors())
        yield from _each(filter(wanted, descriptors), open_one, seen)


def _each(
    found: Iterator[_Descriptor], open_one: Callable[[_Descriptor], int], seen: set[int]
) -> Iterator[netns.Handle]:
    for descriptor in found:
        handle = _handle(descriptor, open_one, seen)
        if handle is not None:
            yield handle


def _handle(
    descriptor: _Descriptor, open_one: Callable[[_Descriptor], int], seen: set[int]
) -> netns.Handle | None:
    """None when it is seen already, was closed while we looked, or may not be looked at."""
    with ExitStack() as opened:
        try:
            fd = open_one(descriptor)
            opened.callback(os.close, fd)
            inode = os.fstat(fd).st_ino
            if inode in seen:
                return None
            cookie = netns.cookie_of(fd)
        except OSError as error:
            libc.raise_if_for_want_of_means(error)
            return None
        opened.pop_all()
    seen.add(inode)
    return netns.Handle(fd, cookie)


def _descriptors() -> Iterator[_Descriptor]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError as error:
            libc.raise_if_for_want_of_means(error)
            continue
        for number in numbers:
            yield _Descriptor(int(pid), int(number))


def _is_socket(descriptor: _Descriptor) -> bool:
    return descriptor.target.startswith("socket:[")


def _is_namespace(descriptor: _Descriptor) -> bool:
    """By its name, or by its device when it was opened at a path where it is mounted."""
    target = descriptor.target
    at_a_path = target.startswith("/") and not target.startswith("/dev/")
    return target.startswith("net:[") or (at_a_path and _is_on_nsfs(descriptor.link))


def _is_on_nsfs(path: str) -> bool:
    try:
        return _device(path) == _device(netns.OWN)
    except OSError:
        return False


def _device(path: str) -> tuple[int, int]:
    """(major, minor), as the kernel has it in memory (statx(2)).  Raises OSError."""
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    libc.call("statx", _AT_FDCWD, path.encode(), _AT_STATX_DONT_SYNC, _STATX_TYPE, answer)
    major, minor = struct.unpack_from("=II", answer.raw, _STATX_DEVICE_AT)
    return major, minor


def _opened(descriptor: _Descriptor) -> int:
    return os.open(descriptor.link, _OPEN_FLAGS)


def _of_socket(descriptor: _Descriptor) -> int:
    """The namespace that another process's socket was made in (pidfd_getfd(2), SIOCGSKNS)."""
    import fcntl

    process = os.pidfd_open(descriptor.pid)
    try:
        socket = libc.syscall(_PIDFD_GETFD, process, descriptor.number, 0)
    finally:
        os.close(process)
    try:
        return fcntl.ioctl(socket, _SIOCGSKNS)
    finally:
        os.close(socket)
