"""The plugin's life: one connection after the other, and a look at the records in between."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_netdev.core.errors import NetdevError
from nri_plugin.session import Session
from nri_plugin.transport import Connection, adopt, connect
from nri_plugin.watch import LinkWatch
from nri_plugin.worker import Worker

if TYPE_CHECKING:
    from nri_plugin.assembly import Assembly
    from nri_plugin.identity import Identity
    from nri_plugin.logs import Log

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between tries to connect
_LOOK_SECONDS = 5.0
_SETTLE_SECONDS = 0.2  # a pod's end is several link events
_STUCK_SECONDS = 30.0  # at one thing; the longest are a synchronization with hundreds of pods
_STOP_SECONDS = 5.0  # calls under way take up to two more; the unit's TimeoutStopSec= is 10


class Service:
    """Keeps a connection to the runtime, and looks after the records meanwhile."""

    def __init__(self, who: Identity, path: str, assembly: Assembly, log: Log) -> None:
        self._who = who
        self._path = path
        self._assembly = assembly
        self._log = log
        self._worker = Worker()
        self._stuck = False
        self._trouble = ""
        self._look: asyncio.Future[bool] | None = None
        self._settling: asyncio.TimerHandle | None = None

    async def run(self) -> bool:
        """Until SIGTERM or SIGINT; what was begun is finished first.

        A launched plugin also ends with its connection.  False: the worker is stuck, so that the
        process must be ended by force.  What it was doing is on record, as when it is killed.
        """
        loop = asyncio.get_running_loop()
        serving = asyncio.current_task()
        assert serving is not None  # noqa: S101 - a coroutine runs in a task
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _cancel_once, serving)
        watch = self._watch(loop)
        looking = loop.create_task(self._look_now_and_then())
        try:
            await self._warm(loop)
            await self._serve()
        except asyncio.CancelledError:
            self._log.info("stopped by a signal")
        finally:
            looking.cancel()
            if watch is not None:
                loop.remove_reader(watch)
                watch.close()
        return await self._finished(loop)

    async def _finished(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the worker came to its end within the time for it."""
        last = loop.run_in_executor(self._worker, _nothing)
        with suppress(asyncio.CancelledError):  # a signal after the connection's end
            await asyncio.wait({last}, timeout=_STOP_SECONDS)
        finished = last.done()
        self._worker.shutdown(wait=finished, cancel_futures=True)
        if not finished:
            seconds = round(self._worker.busy)
            self._log.error("ended while the worker is stuck; its work is on record", busy=seconds)
        return finished

    async def _warm(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await loop.run_in_executor(self._worker, self._assembly.warm)
        except (NetdevError, OSError) as error:
            details = getattr(error, "details", "")
            self._log.error("links cannot be looked at", error=error, details=details)

    async def _serve(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if await self._connection():
                pause = _FIRST_PAUSE
            if self._who.descriptor is not None:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - to spread load
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _connection(self) -> bool:
        """One of them, from beginning to end; whether it came to be of use."""
        useful = False

        def ready() -> None:
            nonlocal useful
            useful = True
            self._assembly.metrics.ready(True)
            self._look_after()

        try:
            descriptor = self._who.descriptor
            streams = await (connect(self._path) if descriptor is None else adopt(descriptor))
        except OSError as error:
            self._tell_once(str(error))
            return False
        self._trouble = ""
        session = Session(self._who.name, self._who.idx)
        connection = Connection(
            session,
            self._worker,
            self._assembly.configure,
            self._log,
            ready,
            launched=descriptor is not None,
        )
        try:
            reason = await connection.run(*streams)
        finally:
            self._assembly.metrics.ready(False)
        self._log.warn("connection ended", reason=reason)
        self._assembly.metrics.reconnected()
        return useful

    def _tell_once(self, trouble: str) -> None:
        """The same is not told at every try."""
        tell = self._log.debug if trouble == self._trouble else self._log.warn
        tell("no connection to the runtime, trying on", socket=self._path, error=trouble)
        self._trouble = trouble

    # --- looking after the records -----------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop) -> LinkWatch | None:
        try:
            watch = LinkWatch()
        except OSError as error:
            self._log.warn("link events cannot be had; dead pods are noticed later", error=error)
            return None
        loop.add_reader(watch, self._link_changed, watch)
        return watch

    def _link_changed(self, watch: LinkWatch) -> None:
        watch.drain()
        if self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(_SETTLE_SECONDS, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self._look_after()

    async def _look_now_and_then(self) -> None:
        while True:
            self._assembly.metrics.alive(self._what_is_stuck())
            self._look_after()
            await asyncio.sleep(_LOOK_SECONDS)

    def _what_is_stuck(self) -> str:
        """Empty when nothing is.  Logged once."""
        seconds = round(self._worker.busy)
        was_stuck, self._stuck = self._stuck, seconds > _STUCK_SECONDS
        if self._stuck and not was_stuck:
            self._log.error("the worker is stuck", busy=seconds)
        return f"the worker has been at one thing for {seconds} s" if self._stuck else ""

    def _look_after(self) -> None:
        if self._look is None or self._look.done():
            handlers, loop = self._assembly.handlers, asyncio.get_running_loop()
            self._look = loop.run_in_executor(self._worker, handlers.look_after)
            self._look.add_done_callback(self._looked)

    def _looked(self, look: asyncio.Future[bool]) -> None:
        if not look.cancelled() and look.exception() is None and look.result():
            self._look_after()


def _nothing() -> None: ...


def _cancel_once(task: asyncio.Task[None]) -> None:
    """A second signal must not keep the first from letting calls be answered."""
    if not task.cancelling():
        task.cancel()
