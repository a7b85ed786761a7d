"""The resident agent as a process on a test's host."""

from __future__ import annotations

import json
import os
import posix
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cni_netdev import shim, source
from cni_netdev.core.journal import AGENT_SOCKET
from tests.daemon import Daemon
from tests.host import STATE_DIR
from tests.programs import NETDEVCTL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.host import Host

PROGRAM = NETDEVCTL
SOCKET = STATE_DIR / AGENT_SOCKET


class CniAgent(Daemon):
    """`netdevctl agent`, ready for the first shim when the block begins."""

    def __init__(
        self,
        host: Host,
        *options: str,
        env: Mapping[str, str] | None = None,
        program: Path | None = None,
        verbose: bool = True,
    ) -> None:
        options = (*(("--verbose",) if verbose else ()), *options)
        command = [str(program or host.programs / "netdevctl"), "agent", *options]
        super().__init__(command, host.directory / "agent.log", env)
        self._starts = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.ready()
        return self

    def ready(self) -> None:
        """Once it listens."""
        self._starts += 1
        self.wait_for("started", count=self._starts)

    def answered(self) -> int:
        """How many calls it answered by now."""
        return len(self.lines("answered"))

    @property
    def memory(self) -> int:
        """KiB that it has in memory (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def ask(environ: Mapping[str, str], conf: Mapping[str, Any]) -> int:
    """The exit code of a call by the shim's own code, without its process."""
    ours = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    before, posix.environ = posix.environ, ours
    opened = set(os.listdir("/proc/self/fd"))
    try:
        return shim._ask(str(SOCKET), source.version(), json.dumps(conf).encode())[0]
    finally:
        posix.environ = before
        for each in set(os.listdir("/proc/self/fd")) - opened:
            with suppress(OSError):  # the listing's own
                os.close(int(each))
