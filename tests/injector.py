"""The NRI plugin as a process on a test's host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.host import Host

PROGRAM = Path(sys.executable).parent / "network-device-injector"
KEY = "netdevices.nri.containerd.io"


class NriPlugin:
    """`network-device-injector` while the block lasts; its log is JSON, in a file."""

    def __init__(
        self,
        host: Host,
        socket: str | Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        program: Path = PROGRAM,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self.log_file = host.directory / "injector.log"
        self.log_file.write_text("")
        config = host.directory / "injector.json"
        config.write_text(json.dumps({**(configuration or {}), "log": {"format": "json"}}))
        own = ("-idx", "10", "-socket", str(socket), "-config", str(config), "-verbose")
        self._command = [str(program), *own, *flags]
        self._env = {"PATH": os.environ["PATH"], **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._process is None or self._process.poll() is not None:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if error is not None:
            print(self.log_file.read_text())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, **env: str) -> None:
        """Returns at once; see wait_for."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._env, **env},
            )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        """Until it ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    # --- what it says ------------------------------------------------------------------------

    def lines(self, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """Its log lines with this message and these fields, over all of its starts."""
        wanted = {**({"msg": message} if message else {}), **fields}
        decoded = [
            json.loads(line)
            for line in self.log_file.read_text().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]
        return [each for each in decoded if wanted.items() <= each.items()]

    def wait_for(
        self, message: str, count: int = 1, seconds: float = 20, **fields: Any
    ) -> dict[str, Any]:
        """The count-th such line, once it is there."""

        def found() -> list[dict[str, Any]]:
            return self.lines(message, **fields)

        until(
            lambda: len(found()) >= count,
            lambda: f"no {message!r}: {self.log_file.read_text()}",
            seconds,
        )
        return found()[count - 1]
