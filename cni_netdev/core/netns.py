"""Network namespaces: open, identify, enter.

A namespace is told by its SO_NETNS_COOKIE, which is never used again while the kernel runs; the
inode of its file is reused at once, and a path can be mounted over.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import sys

from cni_netdev.core import libc
from cni_netdev.core.errors import NetnsError
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
OWN = "/proc/thread-self/ns/net"
_SO_NETNS_COOKIE = 71
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
# The inode of the initial namespace since Linux 6.18 (PROC_NET_INIT_INO, uapi/linux/nsfs.h).
_INITIAL_INODE = 0xEFFFFFF9
_RETURN_TRIES = 3  # setns(2) needs memory
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC
# What opening a path, and asking what is there, answers when that is no namespace.
_NO_NAMESPACE = (errno.ENOTTY, errno.EINVAL)
_NOTHING_THERE = (
    *_NO_NAMESPACE,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENAMETOOLONG,
)


class Handle(NamedTuple):
    """An open namespace; whoever has it closes it."""

    fd: int
    cookie: int

    def close(self) -> None:
        os.close(self.fd)


def current() -> Handle:
    """The calling thread's namespace.  Raises OSError."""
    cookie = _own_cookie()
    return Handle(os.open(OWN, _OPEN_FLAGS), cookie)


def cookie_at(path: str) -> int:
    """The cookie of the namespace at a path; 0 when none is there.

    Raises NetnsError when that cannot be told: what cannot be seen is not gone.
    """
    try:
        handle = open_namespace(path)
    except NetnsError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in _NOTHING_THERE:
            raise
        return 0
    handle.close()
    return handle.cookie


def open_namespace(path: str) -> Handle:
    """The namespace at a path.  Raises NetnsError when there is none, or it cannot be opened."""
    import fcntl

    try:
        # O_NONBLOCK: a tenant's FIFO in this place must not hold us up.
        fd = os.open(path, _OPEN_FLAGS | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NetnsError(
            f"network namespace {path!r} cannot be opened: {reason}",
            "the runtime must pass the path of the pod's namespace, as /var/run/netns/NAME",
        ) from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
        cookie = cookie_of(fd) if kind == CLONE_NEWNET else 0
    except OSError as error:
        os.close(fd)
        trouble = "is no network namespace" if error.errno in _NO_NAMESPACE else "cannot be entered"
        raise NetnsError(f"{path!r} {trouble}: {error.strerror}") from error
    if not cookie:
        os.close(fd)
        raise NetnsError(f"{path!r} is a namespace of another type, not a network namespace")
    return Handle(fd, cookie)


def cookie_of(fd: int) -> int:
    """SO_NETNS_COOKIE of the namespace open at ``fd``.  Raises OSError if it cannot be entered."""
    with inside(fd):
        return _own_cookie()


def _own_cookie() -> int:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        cookie = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    finally:
        probe.close()
    return int.from_bytes(cookie, sys.byteorder)


@contextmanager
def inside(fd: int, *, needed: bool = True) -> Iterator[None]:
    """The calling thread inside the namespace for the time of the block.

    needed: False when the thread is there already.  If the way back fails the process ends: its
    next request would change the pod instead of the host.
    """
    if not needed:
        yield
        return
    home = os.open(OWN, _OPEN_FLAGS)
    try:
        libc.setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


def _return(home: int) -> None:
    for attempt in range(_RETURN_TRIES):
        try:
            libc.setns(home, CLONE_NEWNET)
        except OSError as error:
            if attempt == _RETURN_TRIES - 1:
                os.write(2, f"cni-netdev: no way back from a namespace: {error}\n".encode())
                os._exit(70)
        else:
            return


def is_initial(fd: int) -> bool:
    """Whether it is the machine's initial namespace, where hardware returns to by itself.

    Before Linux 6.18 that has no inode of its own, but the kernel's threads live in it.  When they
    cannot be seen the answer is no, which costs a pin that was not needed.
    """
    inode = os.fstat(fd).st_ino
    if inode == _INITIAL_INODE:
        return True
    return sees_the_kernels_threads() and os.stat("/proc/2/ns/net").st_ino == inode


def sees_the_kernels_threads() -> bool:
    """Whether /proc is that of the first PID namespace: only there is PID 2 kthreadd."""
    try:
        os.readlink("/proc/2/exe")
    except OSError as error:
        # A kernel thread has no executable; a process that merely took its name has one.
        return error.errno == errno.ENOENT and os.path.exists("/proc/2/comm")
    return False
