"""Which namespaces running processes are in, and what is mounted there, by /proc.

Only a complete scan can say that nobody is inside: a container without hostPID or
CAP_SYS_PTRACE sees some processes or none, and then the answer is ``unknown``.
"""

from __future__ import annotations

import os
from itertools import chain

from cni_netdev.core import netns
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.libc import raise_if_for_want_of_means

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.ports import Occupancy

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC


def find_namespace(cookie: int) -> netns.Handle | None:
    """The namespace with this cookie if some process is in it.  The caller closes it."""
    for handle in namespaces():
        if handle.cookie == cookie:
            return handle
        handle.close()
    return None


def occupancy(cookie: int) -> Occupancy:
    """Whether some process is in the namespace with this cookie."""
    refused: list[str] = []
    found = False
    for handle in namespaces(refused):
        found = found or handle.cookie == cookie
        handle.close()
    if found:
        return "occupied"
    return "unknown" if refused or not netns.sees_the_kernels_threads() else "empty"


def namespaces(
    refused: list[str] | None = None, *, mounted: bool = False
) -> Iterator[netns.Handle]:
    """Each network namespace of some process or thread but the caller's own, once.

    The receiver closes them.  refused: gets the paths that could not be looked at.  mounted: those
    too that only a bind mount holds.  Raises OSError when there are no means to look.
    """
    seen = {os.stat(netns.OWN).st_ino}
    for path in chain(_namespace_files(), _mounted_files() if mounted else ()):
        try:
            inode = os.stat(path).st_ino
            if inode in seen:
                continue
            seen.add(inode)
            fd = os.open(path, _OPEN_FLAGS)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        except OSError as error:
            raise_if_for_want_of_means(error)
            if refused is not None:
                refused.append(path)
            continue
        try:
            cookie = netns.cookie_of(fd)
        except OSError as error:
            os.close(fd)
            raise_if_for_want_of_means(error)
            if refused is not None:
                refused.append(path)
            continue
        yield netns.Handle(fd, cookie)


def mounted_in(mount_namespace: int, ending: str) -> bool:
    """Whether something is mounted at a path with this ending in another mount namespace.

    mount_namespace: its inode.  When that cannot be told the answer is yes.
    """
    refused = False
    for task in _tasks():
        try:
            inside = os.stat(f"{task}/ns/mnt").st_ino == mount_namespace
            if inside and _is_mounted(f"{task}/mountinfo", ending):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        except OSError:
            refused = True
    return refused or not netns.sees_the_kernels_threads()


def _is_mounted(table: str, ending: str) -> bool:
    with open(table, encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split()[4].endswith(ending) for line in file)


def _mounted_files() -> Iterator[str]:
    """The network namespaces in this mount namespace's table (proc_pid_mountinfo(5))."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[3].startswith("net:["):
                yield fields[4].encode("latin-1", "ignore").decode("unicode_escape")


def _namespace_files() -> Iterator[str]:
    """One for each thread of each process."""
    return (f"{task}/ns/net" for task in _tasks())


def _tasks() -> Iterator[str]:
    """The directory of each thread of each process.

    The machine's init is left out: it is never in a pod, and hardened systems let nobody look.
    """
    init = "1" if netns.sees_the_kernels_threads() else ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if pid == init:
            continue
        tasks = f"/proc/{pid}/task"
        try:
            threads = os.listdir(tasks)
        except OSError as error:
            raise_if_for_want_of_means(error)
            threads = [pid]
        for thread in threads:
            yield f"{tasks}/{thread}"
