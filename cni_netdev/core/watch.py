"""Tells when links of the host come and go, which is when a pod may have died.

The events themselves are not read: whoever is woken looks at the records and the kernel.
"""

from __future__ import annotations

import socket
from contextlib import suppress

_RTMGRP_LINK = 1
_LARGEST = 1 << 16


class LinkWatch:
    """A descriptor that is readable when a link of this network namespace came, went or changed."""

    def __init__(self) -> None:
        """Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Throw away what came, so that the next event makes it readable again."""
        # ENOBUFS says that events were lost, which is news enough.
        with suppress(OSError):
            while self._socket.recv(_LARGEST):
                pass

    def close(self) -> None:
        self._socket.close()
