"""The resident agent as a process on a test's host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cni_netdev.core.journal import AGENT_SOCKET
from tests.daemon import Daemon
from tests.host import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.host import Host

PROGRAM = Path(sys.executable).parent / "netdevctl"
SOCKET = STATE_DIR / AGENT_SOCKET


class CniAgent(Daemon):
    """`netdevctl agent`, ready for the first shim when the block begins."""

    def __init__(
        self,
        host: Host,
        *options: str,
        env: Mapping[str, str] | None = None,
        program: Path = PROGRAM,
    ) -> None:
        command = [str(program), "agent", "--verbose", *options]
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
