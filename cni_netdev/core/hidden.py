"""Where a pod can hide a link: every namespace that can be found, and what hangs on ours there."""

from __future__ import annotations

import time
from itertools import chain

from cni_netdev.core import descriptors, netns, processes, stacked
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.netlink import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A namespace whose last process has ended is taken apart in 7 to 40 ms when the kernel is idle.
_DYING_SECONDS, _LOOK_AGAIN_SECONDS = 0.5, 0.02
_SEARCH_SECONDS = 2.0


def namespaces() -> Iterator[netns.Handle]:
    """Each but the caller's own, once; the cheaper to find, the earlier.

    The receiver closes them.  The search ends after two seconds, found or not.
    """
    seen = set()
    until = time.monotonic() + _SEARCH_SECONDS
    for handle in chain(processes.namespaces(mounted=True), descriptors.namespaces(until)):
        if handle.cookie in seen:
            handle.close()
        else:
            seen.add(handle.cookie)
            yield handle


def delete_stacked(ifindex: int, home: int, overheard: Callable[[], bool]) -> tuple[str, ...]:
    """Delete what hangs on the link with this ifindex; gives the names.

    home: a descriptor of the link's namespace, which is the caller's.  overheard: whether
    something still hangs there; asked again until it is not, or a moment is over.
    """
    deleted: list[str] = []
    for handle in namespaces():
        names = _deleted_in(handle, ifindex, home)
        deleted += names
        if names and not overheard():
            break
    deadline = time.monotonic() + _DYING_SECONDS
    while overheard() and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_SECONDS)
    return tuple(deleted)


def _deleted_in(handle: netns.Handle, ifindex: int, home: int) -> tuple[str, ...]:
    try:
        with netns.inside(handle.fd):
            connection = Connection()
        try:
            return stacked.delete(connection, ifindex, home)
        finally:
            connection.close()
    except KernelRefused:
        return ()  # what is left is heard of
    finally:
        handle.close()
