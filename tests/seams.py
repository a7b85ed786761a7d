"""Every request to the kernel and every file operation of the core, counted; one goes wrong.

Put in front of what the core calls (netlink requests, ``os``, ``fcntl``, ``open``, ``socket``, and
system calls by libc) in the calling process, for good: use it in a child.  Calls of other code,
the interpreter's own imports too, are not counted.

Left out, since they cannot fail in a way that Python tells: close(2), and what ``os.path`` answers
with a plain no.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import signal
import socket
import sys
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cni_netdev.core import libc, netlink, netns
from cni_netdev.core.errors import KernelRefused

if TYPE_CHECKING:
    from collections.abc import Callable

When = Literal["before", "after"]
ERRNOS = (
    errno.EBUSY,
    errno.ENODEV,
    errno.EEXIST,
    errno.EPERM,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EINTR,
    errno.ENOBUFS,
)
KILL = -1
_OF_OS = (
    *("open", "read", "pread", "write", "ftruncate", "rename", "unlink", "makedirs", "rmdir"),
    *("listdir", "stat", "lstat", "fstat", "readlink"),
)
_CHANGES = frozenset(
    ("rename", "unlink", "write", "makedirs", "rmdir", "mount", "umount2", "flock")
)
_CORE = "cni_netdev.core."
_GETS = frozenset((18, 22, 26, 30, 38, 90))  # RTM_GET*: linux/rtnetlink.h


class Fault(NamedTuple):
    """What goes wrong.  errno: an error, KILL for SIGKILL, 0 for nothing.  seconds: it takes so
    much longer.
    """

    errno: int
    when: When = "before"
    seconds: float = 0.0


class Event(NamedTuple):
    """One call.  what: ``netlink`` or as ``open``.  where: whose, as ``journal.write``.

    nth: the how-manyth of this kind from this place, from 1; it stays the same when there are more
    processes to look at elsewhere.  text: a request's.  changes: whether it does something that an
    error after it would leave done.
    """

    what: str
    where: str
    nth: int
    text: str = ""
    changes: bool = False

    @property
    def place(self) -> tuple[str, str, int]:
        return self[:3]


class Seams:
    """Counts while it is on.  chosen: what goes wrong, by the event's place; others takes any."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.on = True
        self.chosen: dict[tuple[str, str, int], Fault] = {}
        self.others: Fault | None = None
        self._counts: Counter[tuple[str, str]] = Counter()

    def restart(self) -> None:
        """Count from the beginning."""
        self.events.clear()
        self._counts.clear()

    def event(self, what: str, where: str, text: str = "", *, changes: bool) -> Event:
        self._counts[what, where] += 1
        return Event(what, where, self._counts[what, where], text, changes)

    def around(
        self, event: Event, refuse: Callable[[int], Exception], act: Callable[[], Any]
    ) -> Any:
        self.events.append(event)
        fault = self.chosen.pop(event.place, self.others)
        if fault is None:
            return act()
        time.sleep(fault.seconds)
        if fault.when == "before":
            _happen(fault, refuse)
        done = act()
        if fault.when == "after":
            _happen(fault, refuse)
        return done


def _happen(fault: Fault, refuse: Callable[[int], Exception]) -> None:
    if fault.errno == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.errno:
        raise refuse(fault.errno)


def install() -> Seams:
    """In front of everything in this process; there is no way back."""
    seams = Seams()
    for owner, name in (
        *((os, name) for name in _OF_OS),
        (fcntl, "flock"),
        (fcntl, "ioctl"),
        (builtins, "open"),
        (libc, "call"),
    ):
        setattr(owner, name, _counted(seams, owner, name))
    # Where it is used only: others derive from the class.
    sockets = SimpleNamespace(**{**vars(socket), "socket": _counted(seams, socket, "socket")})
    for module in (netns, netlink):
        setattr(module, "socket", sockets)  # noqa: B010 - mypy knows it as a module
    _count_requests(seams)
    return seams


def _counted(seams: Seams, owner: Any, name: str) -> Any:
    real = getattr(owner, name)

    def call(*given: Any, **named: Any) -> Any:
        where = _caller()
        if not seams.on or not where:
            return real(*given, **named)
        what = given[0] if owner is libc else name
        event = seams.event(what, where, changes=what in _CHANGES)
        path = given[0] if given and isinstance(given[0], str) else None

        def refuse(code: int) -> OSError:
            return OSError(code, os.strerror(code), path)

        return seams.around(event, refuse, lambda: real(*given, **named))

    return call


def _count_requests(seams: Seams) -> None:
    real = netlink.Connection.request

    def request(self: Any, what: str, message: Any, kind: int, flags: int) -> Any:
        def send() -> Any:
            return real(self, what, message, kind, flags)

        where = _caller()
        if not seams.on or not where:
            return send()
        event = seams.event("netlink", where, what, changes=kind not in _GETS)
        return seams.around(event, lambda code: KernelRefused(f"injected: {what}", code), send)

    setattr(netlink.Connection, "request", request)  # noqa: B010


def _caller() -> str:
    """The function of the core that called the one that asks; empty when it was another's."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals["__name__"] == libc.__name__:
        frame = frame.f_back
    module = frame.f_globals["__name__"]
    if not module.startswith(_CORE):
        return ""
    return f"{module.removeprefix(_CORE)}.{frame.f_code.co_qualname.rpartition('.')[2]}"
