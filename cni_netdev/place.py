"""Whether a shim sees what the agent sees, by descriptors of its namespaces and root directory.

While descriptors are open, device and inode of what they are open on are nobody else's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cni_netdev.core import netns
from cni_netdev.main import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Sequence

_OURS = {  # in the order in which a shim sends them
    "network namespace": netns.OWN,
    "mount namespace": "/proc/thread-self/ns/mnt",
    "root directory": "/",
}


class Place:
    """The place of the calling thread, kept for comparison."""

    def __init__(self) -> None:
        self._open = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _OURS.values()]
        self._files = [_file(each) for each in self._open]

    def close(self) -> None:
        for each in self._open:
            os.close(each)

    def see(self, descriptors: Sequence[int]) -> None:
        """Raises Elsewhere unless a shim with these descriptors is in this place."""
        if len(descriptors) < len(_OURS):
            raise Elsewhere("not known where it is called")
        for what, own, theirs in zip(_OURS, self._files, descriptors, strict=False):
            if own != _file(theirs):
                raise Elsewhere(f"called in another {what}")


def see_same_pod(path: str, descriptors: Sequence[int]) -> None:
    """Raises Elsewhere when the path leads to another file here than to the shim.

    path: CNI_NETNS; what could not be opened there was not sent, and does not matter here.
    """
    if path and not path.startswith("/"):
        raise Elsewhere("CNI_NETNS is relative to a directory")
    if len(descriptors) <= len(_OURS):
        return
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        raise Elsewhere("CNI_NETNS is gone by now") from None
    if (there.st_dev, there.st_ino) != _file(descriptors[len(_OURS)]):
        raise Elsewhere("CNI_NETNS is another namespace here")


def _file(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
