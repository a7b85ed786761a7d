"""Per-link sysctls, in the namespace of the calling thread (Documentation/networking/ip-sysctl).

A move resets them to the target namespace's defaults.  All that can be written are kept, not a
list of them, so that a kernel's new one is kept too.
"""

from __future__ import annotations

import errno
import os

from cni_netdev.core import libc
from cni_netdev.core.errors import KernelRefused

_PROC = "/proc"
_ROOT = f"{_PROC}/sys/net"
_GROUPS = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
# The same value in coarser units beside its `_ms` twin.
_TWINS = frozenset(("base_reachable_time", "retrans_time"))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITABLE = 0o200
_LONGEST = 4096
_proc: list[int] = []


def read(name: str) -> tuple[tuple[str, str], ...]:
    """((``ipv4/conf/rp_filter``, value), ...) of a link; what cannot be read is left out."""
    found = []
    for group in _GROUPS:
        try:
            directory = os.open(f"{_ROOT}/{group}/{name}", _DIRECTORY)
        except OSError:
            continue  # no IPv6, or no neighbours on this kind of link
        try:
            for entry in sorted(os.listdir(directory)):
                value = None if entry in _TWINS else _value(entry, directory)
                if value is not None:
                    found.append((f"{group}/{entry}", value))
        finally:
            os.close(directory)
    return tuple(found)


def _value(entry: str, directory: int) -> str | None:
    fd = _open_if_writable(entry, directory)
    if fd is None:
        return None
    try:
        return os.read(fd, _LONGEST).decode(errors="surrogateescape").strip()
    except OSError:
        return None  # stable_secret says EIO until it is set
    finally:
        os.close(fd)


def _open_if_writable(entry: str, directory: int) -> int | None:
    """Opening for writing asks in the same call; there are 120 of them for each link."""
    try:
        return os.open(entry, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        pass  # or /proc/sys is mounted read-only
    try:
        fd = os.open(entry, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    if os.fstat(fd).st_mode & _WRITABLE:
        return fd
    os.close(fd)
    return None


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
