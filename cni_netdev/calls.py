"""A shim's connection to the agent: its request comes in, its answer goes out."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

from cni_netdev.wire import DESCRIPTORS, Incoming, Refused, Request

_PORTION = 1 << 16
_UCRED, _INT = 12, 4  # bytes: of pid, uid and gid (unix(7)), and of each


class Call:
    """One connection.  Owns it, and the descriptors that came by it."""

    def __init__(self, connection: socket.socket, version: str, deadline: float) -> None:
        """deadline: on the monotonic clock, for what is awaited of the shim next."""
        connection.setblocking(False)
        self.connection = connection
        self.deadline = deadline
        self.request = Request({}, b"")
        self.descriptors: list[int] = []
        self.is_done = False
        self._incoming = Incoming(version)
        self._unsent = b""

    @property
    def user(self) -> int:
        """Whose process it is."""
        peer = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED)
        return int.from_bytes(peer[_INT : 2 * _INT], sys.byteorder)

    @property
    def container(self) -> str:
        """The sandbox that it is about; empty when it is about none."""
        return self.request.environ.get("CNI_CONTAINERID", "")

    @property
    def size(self) -> int:
        """Bytes of its request, as soon as they are known."""
        return self._incoming.size

    @property
    def is_sent(self) -> bool:
        """Whether all that was to be sent is."""
        return not self._unsent

    def receive(self) -> bool:
        """Take what is there; True when the request is whole.

        Raises Refused, and OSError when there is nothing or the shim has gone.
        """
        room = socket.CMSG_SPACE(_INT * DESCRIPTORS)
        data, ancillary, flags, _ = self.connection.recvmsg(_PORTION, room, socket.MSG_CMSG_CLOEXEC)
        for _, _, rights in ancillary:
            self.descriptors += memoryview(rights[: len(rights) // _INT * _INT]).cast("i")
        if flags & socket.MSG_CTRUNC or len(self.descriptors) > DESCRIPTORS:
            raise Refused("too many descriptors")
        if not data:
            raise ConnectionResetError
        request = self._incoming.receive(data)
        self.request = request or self.request
        return request is not None

    def send(self, data: bytes = b"") -> None:
        """Send this, and what could not be sent before, as far as that goes.  Raises OSError."""
        self._unsent += data
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]

    def is_deserted(self) -> bool:
        """Whether the shim has gone, as when its runtime gave up."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self) -> None:
        """Tell the shim that this was all."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.connection.close()
        for each in self.descriptors:
            os.close(each)
        self.descriptors = []
