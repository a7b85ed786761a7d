"""Has the agent's worker look at the records when links came or went, and every few seconds."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING, Protocol, Self

from cni_netdev.core import rounds
from cni_netdev.core.errors import NetdevError, StateError
from cni_netdev.core.watch import LinkWatch

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cni_netdev.core.logs import Log
    from cni_netdev.core.restore import Release

    class Recovers(rounds.Recovers, Protocol):
        """What is needed of core.engine.Injector."""

        def repin(self, front: str) -> tuple[str, ...]: ...


_LOOK_SECONDS = 5.0
_SETTLE_SECONDS = 0.2  # a pod's end is several link events


class LookAfter:
    """Does so while the block lasts, in a thread that mostly waits."""

    def __init__(self, engine: Recovers, worker: Executor, log: Log) -> None:
        self._worker = worker
        self._log = log
        self._engine = engine
        self._rounds = rounds.Rounds(engine, self._tell)
        self._stopped = threading.Event()
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="look-after")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._stop.close()
        self._thread.join()
        self._stopping.close()

    def _run(self) -> None:
        watch = self._watch()
        poll = select.poll()
        poll.register(self._stopping, select.POLLIN)
        if watch is not None:
            poll.register(watch, select.POLLIN)
        while not self._stopped.is_set():
            self.look()
            if poll.poll(_LOOK_SECONDS * 1000):
                self._stopped.wait(_SETTLE_SECONDS)
            if watch is not None:
                watch.drain()
        if watch is not None:
            watch.close()

    def _watch(self) -> LinkWatch | None:
        try:
            return LinkWatch()
        except OSError as error:
            self._log.warn("link events cannot be had; dead pods are noticed later", error=error)
            return None

    def look(self) -> None:
        """Now.  Returns when it is done."""
        try:
            while self._worker.submit(self._rounds.look).result() and not self._stopped.is_set():
                pass  # calls had their turn in between
        except StateError as error:
            self._log.warn("cannot look after the records", error=error)
            self._worker.submit(self._repin).result()  # the directory may have gone, pins and all
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._log.error("cannot look after the records", error=error)

    def _repin(self) -> None:
        try:
            notes = self._engine.repin("cni")
        except NetdevError as error:
            notes = (error.message,)
        for note in notes:
            self._log.warn(note)

    def _tell(self, release: Release, seconds: float) -> None:
        owner = release.owner
        if release.devices or not release.complete:
            tell = self._log.info if release.complete else self._log.warn
            what = "detached" if release.complete else "something is still away, to be tried again"
            ms = round(seconds * 1000, 1)
            tell(what, pod=owner.pod, sandbox=owner.sandbox, devices=release.devices, ms=ms)
        for note in release.notes:
            self._log.warn(note, pod=owner.pod, sandbox=owner.sandbox)
