"""The NRI plugin as a process on a test's host."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.host import Host

PROGRAM = Path(sys.executable).parent / "network-device-injector"
KEY = "netdevices.nri.containerd.io"


class NriPlugin(Daemon):
    """`network-device-injector`; its log is JSON."""

    def __init__(
        self,
        host: Host,
        socket: str | Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        program: Path = PROGRAM,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        config = host.directory / "injector.json"
        config.write_text(json.dumps({**(configuration or {}), "log": {"format": "json"}}))
        own = ("-idx", "10", "-socket", str(socket), "-config", str(config), "-verbose")
        super().__init__([str(program), *own, *flags], host.directory / "injector.log", env)
