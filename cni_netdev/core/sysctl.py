"""Per-link sysctls, in the namespace of the calling thread (Documentation/networking/ip-sysctl).

A move resets them to the target namespace's defaults.  All that can be written are kept, not a
list of them, so that a kernel's new one is kept too.
"""

from __future__ import annotations

import errno
import os

from cni_netdev.core import libc
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    Pairs = tuple[tuple[str, str], ...]

_PROC = "/proc"
_ROOT = f"{_PROC}/sys/net"
GROUPS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh")
# The same value in coarser units beside its `_ms` twin.
_TWINS = frozenset(("base_reachable_time", "retrans_time"))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITABLE = 0o200
# Written only, or hidden; and what stable_secret says until it is set.
_UNREADABLE = (errno.EACCES, errno.EIO)
_LONGEST = 4096
_proc: list[int] = []


def read(name: str) -> Pairs:
    """((``ipv4/conf/rp_filter``, value), ...) of a link; what nobody may read is left out.

    Raises KernelRefused when it cannot be told what there is: it would be lost.
    """
    return tuple(pair for group in GROUPS for pair in read_group(group, name))


def read_group(group: str, name: str, besides: frozenset[str] = frozenset()) -> Pairs:
    """The same of one group, without the entries ``besides``."""
    try:
        directory = os.open(f"{_ROOT}/{group}/{name}", _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return ()  # no IPv6, or no neighbours on this kind of link
    except OSError as error:
        raise KernelRefused(f"list {_ROOT}/{group}/{name}", error.errno or 0) from error
    try:
        entries = sorted({*os.listdir(directory)} - _TWINS - besides)
        values = [(f"{group}/{each}", _value(each, directory)) for each in entries]
    except OSError as error:
        raise KernelRefused(f"read {group} of {name}", error.errno or 0) from error
    finally:
        os.close(directory)
    return tuple((key, value) for key, value in values if value is not None)


def _value(entry: str, directory: int) -> str | None:
    """None for what nobody may write, or read.  Raises OSError."""
    try:
        fd = _open_if_writable(entry, directory)
        try:
            return os.read(fd, _LONGEST).decode(errors="surrogateescape").strip()
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return None
        raise


def _open_if_writable(entry: str, directory: int) -> int:
    """Opening for writing asks in the same call; there are 120 of them for each link."""
    try:
        return os.open(entry, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    fd = os.open(entry, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    if os.fstat(fd).st_mode & _WRITABLE:
        return fd
    os.close(fd)
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), entry)


def write(name: str, key: str, value: str) -> None:
    """Set one; ``key`` as from read().  Raises KernelRefused."""
    group, _, entry = key.rpartition("/")
    path = f"{_ROOT}/{group}/{name}/{entry}"
    try:
        fd = _open_to_write(path)
        try:
            os.write(fd, value.encode(errors="surrogateescape"))
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelRefused(f"set sysctl {key} of {name} to {value}", error.errno or 0) from error


def _open_to_write(path: str) -> int:
    """Also in a container whose /proc/sys is mounted read-only: by a proc that nobody else sees."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return os.open(path.removeprefix(f"{_PROC}/"), flags, dir_fd=_own_proc())


def _own_proc() -> int:
    if not _proc:
        _proc.append(libc.detached_mount("proc"))
    return _proc[0]
