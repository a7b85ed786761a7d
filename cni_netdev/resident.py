"""`netdevctl agent`: the agent as a process, and a look at the records while nobody asks."""

from __future__ import annotations

import gc
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from cni_netdev import source
from cni_netdev.agent import Agent
from cni_netdev.answerer import LOCK_SECONDS, Answerer
from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import NetdevError, StateError
from cni_netdev.core.journal import AGENT_SOCKET, FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.logs import Log
from cni_netdev.core.warm import warm
from cni_netdev.listener import Listener, from_systemd
from cni_netdev.lookafter import LookAfter


def serve(state_dir: str, path: str | None, level: str) -> None:
    """Until SIGTERM or SIGINT, or until somebody takes the socket away.

    path: of the socket; None: in the state directory.  systemd may have made one already.
    Raises StateError when it cannot begin or go on.
    """
    log = Log(level)
    kernel = SystemKernel()
    engine = Injector(kernel, FileJournal(state_dir, LOCK_SECONDS, resident=True), resident=True)
    with ExitStack() as stack:
        stack.callback(kernel.close)
        door = from_systemd() or Listener(path or f"{state_dir}/{AGENT_SOCKET}")
        stack.callback(door.close)
        worker = stack.enter_context(ThreadPoolExecutor(1, "worker"))
        _warm(kernel, log)
        answerer = Answerer(state_dir, engine)
        agent = Agent(door, source.version(), answerer, worker.submit, log)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        looks = stack.enter_context(LookAfter(engine, worker, log))
        where = door.socket.getsockname()
        log.info("started", socket=where, state_dir=state_dir, pid=os.getpid())
        notify("READY=1")
        in_place = agent.run()
        notify("STOPPING=1")
        if not in_place:
            looks.look()  # the whole directory may have been taken away, with the records
            raise StateError(f"{where} was taken away", "start the agent again")
    log.info("stopped by a signal")


def notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)


def _warm(kernel: SystemKernel, log: Log) -> None:
    try:
        warm(kernel)
    except (NetdevError, OSError) as error:
        details = getattr(error, "details", "")
        log.error("links cannot be looked at", error=error, details=details)  # noqa: TRY400
    gc.collect()
    gc.freeze()  # what is loaded by now stays, and is not gone through again and again
