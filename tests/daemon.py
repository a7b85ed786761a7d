"""A resident process on a test's host, and the lines that it logs, in JSON or as text."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Self

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


class Daemon:
    """Runs while the block lasts."""

    def __init__(
        self, command: Sequence[str], log_file: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log_file = log_file
        self.log_file.write_text("")
        self._command = command
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

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        """Until it ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def _end(self, number: signal.Signals) -> int:
        self.send(number)
        return self.wait()

    # --- what it says ------------------------------------------------------------------------

    def lines(self, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """Its log lines with this message and these fields, over all of its starts."""
        wanted = {**({"msg": message} if message else {}), **fields}
        decoded = map(_decoded, self.log_file.read_text().splitlines())
        return [each for each in decoded if each and wanted.items() <= each.items()]

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


def _decoded(line: str) -> dict[str, Any]:
    """Nothing for what is no whole line of a log."""
    if line.startswith("{"):
        return dict(json.loads(line)) if line.endswith("}") else {}
    pairs = ((each[1], each[2]) for each in _FIELD.finditer(line))
    return {key: json.loads(text) if text[0] == '"' else text for key, text in pairs}
