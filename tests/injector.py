"""The NRI plugin as a process on a test's host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.daemon import Daemon
from tests.programs import INJECTOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.host import Host

PROGRAM = INJECTOR
KEY = "netdevices.nri.containerd.io"


class NriPlugin(Daemon):
    """`network-device-injector`; its log is JSON."""

    def __init__(
        self,
        host: Host,
        socket: str | Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        program: Path | None = None,
        configuration: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ) -> None:
        config = host.directory / "injector.json"
        config.write_text(json.dumps({**(configuration or {}), "log": {"format": "json"}}))
        own = ("-idx", "10", "-socket", str(socket), "-config", str(config))
        flags = (*(("-verbose",) if verbose else ()), *flags)
        program = program or host.programs / PROGRAM.name
        super().__init__([str(program), *own, *flags], host.directory / "injector.log", env)
