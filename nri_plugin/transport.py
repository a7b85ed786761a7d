"""A connection to the runtime: the session's bytes over a unix socket, its calls to the handlers.

The handlers run on one worker thread; every call is answered within its time limit, whatever the
worker is doing, and what was begun is then ended by the worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_netdev.core.errors import NetdevError
from nri_plugin import messages
from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.limits import Limit
from nri_plugin.messages import Configure, CreateContainer, PodEvent, Synchronize
from nri_plugin.session import Session, State
from nri_plugin.statuses import refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from nri_plugin.handlers import Handlers, Log
    from nri_plugin.session import Wanted

REQUEST_SECONDS = 2.0  # the runtime's default, before it says otherwise
_REGISTRATION_SECONDS = 15.0
_PORTION = 1 << 16


class Connection:
    """One connection, from registration to its end."""

    def __init__(
        self,
        session: Session,
        worker: Executor,
        configure: Callable[[str], Handlers],
        log: Log,
        on_ready: Callable[[], None],
        *,
        launched: bool = False,
    ) -> None:
        """configure: from the text in Configure to the handlers; raises RequestError.

        launched: the runtime started us; before NRI 0.7 it does not synchronize us then, and we
        are ready when we are configured.
        """
        self._session = session
        self._worker = worker
        self._configure = configure
        self._log = log
        self._on_ready = on_ready
        self._enough = {State.READY, State.CONFIGURED} if launched else {State.READY}
        self._handlers: Handlers | None = None
        self._request_seconds = REQUEST_SECONDS
        self._calls: dict[asyncio.Task[None], Limit] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def run(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        registration_seconds: float = _REGISTRATION_SECONDS,
    ) -> str:
        """Serve until the peer ends the connection; why it ended.

        Then the runtime has gone on without us: what is still being attached is taken back.
        Cancelled, it takes no more calls, answers those that it has, and ends the connection.
        """
        self._writer = writer
        late = asyncio.get_running_loop().call_later(registration_seconds, self._not_ready)
        try:
            reason = await self._until_it_ends(reader)
            for limit in self._calls.values():
                limit.give_up(f"{reason}: nobody waits for it any more")
            return reason
        finally:
            late.cancel()
            if self._calls:
                await asyncio.wait(self._calls)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _until_it_ends(self, reader: asyncio.StreamReader) -> str:
        try:
            self._session.register()
            await self._flush()
            return await self._serve(reader)
        except (PeerError, OSError) as error:
            return str(error)

    async def _serve(self, reader: asyncio.StreamReader) -> str:
        while data := await reader.read(_PORTION):
            try:
                wanted = self._session.receive(data)
            finally:
                await self._flush()  # what was refused, also when this is the end
            for call in wanted:
                limit = Limit(call.timeout or self._request_seconds)
                task = asyncio.create_task(self._answer(call, limit))
                self._calls[task] = limit
                task.add_done_callback(self._calls.pop)
        return self._session.end() or "the runtime closed the connection"

    def _not_ready(self) -> None:
        if self._session.state not in self._enough and self._writer is not None:
            self._log.error("the runtime did not register and synchronize us in time")
            self._writer.transport.abort()

    async def _flush(self) -> None:
        data = self._session.data_to_send()
        if data and self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)
            with suppress(ConnectionError):
                await self._writer.drain()

    # --- one call ----------------------------------------------------------------------------

    async def _answer(self, call: Wanted, limit: Limit) -> None:
        try:
            self._session.answer(call.stream, await self._done(call, limit))
        except Exception as error:  # noqa: BLE001 - whatever happens, the caller gets a status
            if not isinstance(error, NetdevError | Refusal):
                self._log.error("a call failed", error="".join(traceback.format_exception(error)))
            self._session.refuse(call.stream, refusal_of(error))
        await self._flush()

    async def _done(self, call: Wanted, limit: Limit) -> bytes:
        """The answer's payload."""
        match call.request:
            case Configure() as request:
                return self._configured(request)
            case Synchronize():
                handlers = self._ready()
                await self._even_if_late(lambda: handlers.synchronize(call.pods), limit)
                self._log.info("synchronized", pods=len(call.pods))
                self._on_ready()
                return messages.synchronized(more=False)
            case PodEvent("run", pod) if self._ready().asks(pod):
                await self._in_time(lambda: self._ready().run(pod, limit), limit)
            case CreateContainer(pod, name) if self._ready().asks(pod):
                await self._in_time(lambda: self._ready().create(pod, name), limit)
            case PodEvent("stop" | "remove", pod) if self._ready().holds(pod):
                await self._even_if_late(lambda: self._ready().release(pod), limit)
            case other:
                self._log.debug("nothing to do", **_brief(other))
        return messages.EMPTY

    def _ready(self) -> Handlers:
        if self._handlers is None:
            raise Refusal(Code.UNAVAILABLE, "the configuration is still being read")
        return self._handlers

    def _configured(self, request: Configure) -> bytes:
        """Not on the worker: one that is stuck must not keep us from refusing containers."""
        self._request_seconds = request.request_timeout or REQUEST_SECONDS
        self._handlers = self._configure(request.config)
        self._log.info(
            "configured",
            runtime=request.runtime_name,
            version=request.runtime_version,
            nri=request.nri_version,
            seconds=self._request_seconds,
        )
        if self._session.state in self._enough:
            self._on_ready()
        return messages.configured()

    async def _in_time(self, work: Callable[[], None], limit: Limit) -> None:
        """Done, or OutOfTime; the work is told by its limit that nobody waits any more."""
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        await asyncio.wait({future}, timeout=limit.left)
        if not future.done() and limit.give_up():
            future.add_done_callback(_read)
            raise limit.error()
        await future

    async def _even_if_late(self, work: Callable[[], None], limit: Limit) -> None:
        """Done, or still being done: the runtime need not wait for it."""
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        await asyncio.wait({future}, timeout=limit.left)
        if future.done():
            await future
        else:
            future.add_done_callback(_read)
            self._log.warn("the time limit ran out; it is finished in the background")


def _brief(request: messages.Request) -> dict[str, str]:
    """For a log line: what a pod's annotations say is nobody's business there."""
    pod = getattr(request, "pod", None)
    what = getattr(request, "what", type(request).__name__)
    return {"call": what, "sandbox": pod.id if pod else ""}


def _read(future: asyncio.Future[None]) -> None:
    """Its outcome was told elsewhere; asyncio complains of those that nobody read."""
    if not future.cancelled():
        future.exception()


async def connect(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the runtime's socket.  Raises OSError."""
    return await asyncio.open_unix_connection(path)


async def adopt(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The socket that a launched plugin inherits.  Raises OSError when it is none."""
    os.set_inheritable(descriptor, False)
    return await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
