"""The agent inside another resident process: on a thread of its own and that process's worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cni_netdev import source
from cni_netdev.agent import Agent
from cni_netdev.answerer import LOCK_SECONDS, Answerer
from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.journal import FileJournal
from cni_netdev.listener import Listener

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cni_netdev.agent import Limits
    from cni_netdev.core.logs import Log
    from cni_netdev.core.ports import Kernel

_PAUSE = 5.0  # seconds until it is tried again to have the socket


class Hosted:
    """Serves shims until stop(), as far as the socket can be had.

    Another agent may have it, which is as good: then it is waited for its end.
    """

    def __init__(
        self,
        path: str,
        state_dir: str,
        kernel: Kernel,
        worker: Executor,
        log: Log,
        limits: Limits | None = None,
    ) -> None:
        """path: of the socket.  kernel: only used on the worker."""
        journal = FileJournal(state_dir, LOCK_SECONDS, resident=True)
        self._answerer = Answerer(state_dir, Injector(kernel, journal, resident=True))
        self._path = path
        self._worker = worker
        self._log = log
        self._limits = limits
        self._trouble = ""
        self._agent: Agent | None = None
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent")
        self._thread.start()

    def stop(self) -> None:
        """Begin no more; what was begun is finished, without waiting for it."""
        with self._changing:
            self._closed.set()
            if self._agent is not None:
                self._agent.stop()

    def _run(self) -> None:
        version = source.version()
        while not self._closed.is_set():
            try:
                self._serve(version)
            except (NetdevError, OSError) as error:
                self._tell_once(getattr(error, "message", str(error)))
                self._closed.wait(_PAUSE)

    def _serve(self, version: str) -> None:
        door = Listener(self._path)
        with self._changing:
            if self._closed.is_set():
                door.close()
                return
            self._agent = Agent(
                door, version, self._answerer, self._worker.submit, self._log, self._limits
            )
        self._trouble = ""
        self._log.info("answering the CNI plugin", socket=self._path)
        self._agent.run()

    def _tell_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._log.warn("not answering the CNI plugin", socket=self._path, error=trouble)
        self._trouble = trouble
