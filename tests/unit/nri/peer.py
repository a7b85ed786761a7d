"""A scripted runtime at the other end of a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from nri_plugin import mux, ttrpc
from tests import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nri_plugin.messages import PodSandbox
    from tests.wire import Sent

PATIENCE = 30  # seconds; only what is broken takes them


class Peer:
    """Calls the plugin and reads what it says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._understood = wire.Reader()
        self._unread: list[Sent] = []
        self._next = 1

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        self.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def read(self, connection: int, stream: int) -> Sent:
        """The message on this stream; others are kept for whoever asks for them."""
        while True:
            for each in self._unread:
                if (each.connection, each.stream) == (connection, stream):
                    self._unread.remove(each)
                    return each
            data = await self._reader.read(1 << 16)
            assert data, f"the plugin ended the connection; unread: {self._unread}"
            self._unread += self._understood.receive(data)

    async def at_end(self) -> bool:
        """Whether nothing came any more, once the plugin ended the connection."""
        return not await self._reader.read() and not self._unread

    def call(self, method: str, payload: bytes = b"", timeout_nano: int = 0) -> int:
        """Call without waiting; the stream's id."""
        stream = self._next
        self._next += 2
        self.send(wire.request(stream, method, payload, timeout_nano))
        return stream

    async def answer(self, stream: int) -> Sent:
        return await self.read(mux.PLUGIN_SERVICE, stream)

    async def ask(self, method: str, payload: bytes = b"", timeout_nano: int = 0) -> Sent:
        return await self.answer(self.call(method, payload, timeout_nano))

    async def accept(self) -> Sent:
        """The plugin's registration, which is granted."""
        registration = await self.read(mux.RUNTIME_SERVICE, 1)
        self.send(wire.response())
        return registration

    async def ready(self, *pods: PodSandbox, request_timeout: int = 60_000) -> None:
        """As far as to the first event."""
        await self.accept()
        for method, payload in (
            ("Configure", wire.configure(request_timeout=request_timeout)),
            ("Synchronize", wire.synchronize(*pods)),
        ):
            answer = await self.ask(method, payload)
            assert answer.code == 0, answer.text


@asynccontextmanager
async def socketpair() -> AsyncIterator[tuple[Peer, socket.socket]]:
    """A peer, and the plugin's end."""
    ours, theirs = socket.socketpair()
    peer = Peer(*await asyncio.open_unix_connection(sock=theirs))
    try:
        yield peer, ours
    finally:
        await peer.closed()
        ours.close()


class Gate:
    """Where a thread stops until it is let through."""

    def __init__(self) -> None:
        self._arrived, self._open = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self._arrived.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()

    @property
    def reached(self) -> bool:
        return self._arrived.is_set()

    def wait(self) -> None:
        """Until somebody stands before it."""
        assert self._arrived.wait(PATIENCE)

    async def arrived(self) -> None:
        """The same."""
        await asyncio.to_thread(self.wait)


def too_long() -> bytes:
    """The header of a call that no runtime may make, and its body's first bytes."""
    return wire.frame(mux.PLUGIN_SERVICE, wire.message(101, b"x", length=ttrpc.LONGEST + 1))
