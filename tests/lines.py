"""A program that is asked by JSON lines on its stdin and answers by JSON lines on its stdout."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType


class Ended(Exception):
    """The program ended without an answer."""


class Lines:
    """Such a program, while it runs.  Several threads may ask at once.

    Answers echo the request's ``seq``; a line without one is an event.
    """

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env
            )
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._last = 0
        self._open = True
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, **request: Any) -> int:
        """Ask without waiting; gives the number by which ``answer`` knows the request."""
        assert self.process.stdin is not None
        with self._changed:
            self._last += 1
            number = self._last
            try:
                self.process.stdin.write(json.dumps({**request, "seq": number}).encode() + b"\n")
                self.process.stdin.flush()
            except (OSError, ValueError) as error:  # ValueError: closed by another thread
                raise Ended(self.log.read_text()) from error
        return number

    def answer(self, number: int, timeout: float = 60) -> dict[str, Any]:
        """The answer to what was sent.  TimeoutError if there is none in these seconds."""
        with self._changed:
            self._wait(lambda: number in self._answers, timeout)
            return self._answers.pop(number)

    def ask(self, patience: float = 60, **request: Any) -> dict[str, Any]:
        return self.answer(self.send(**request), patience)

    def wait_for(self, event: str, timeout: float = 10, **fields: Any) -> dict[str, Any]:
        """The first event of this name with these fields, taken off ``events``."""
        wanted = {"event": event, **fields}

        def matching() -> list[dict[str, Any]]:
            return [each for each in self.events if wanted.items() <= each.items()]

        with self._changed:
            self._wait(lambda: bool(matching()), timeout)
            found = matching()[0]
            self.events.remove(found)
            return found

    def close(self) -> None:
        """Let the program end; kill it if it does not within ten seconds."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _wait(self, done: Any, timeout: float) -> None:
        until = time.monotonic() + timeout
        while not done():
            if not self._open:
                raise Ended(self.log.read_text())
            if not self._changed.wait(until - time.monotonic()):
                raise TimeoutError(f"no answer; events: {self.events}; {self.log.read_text()}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            document = json.loads(line)
            number = document.pop("seq", None)
            with self._changed:
                if number is None:
                    self.events.append(document)
                else:
                    self._answers[number] = document
                self._changed.notify_all()
        with self._changed:
            self._open = False
            self._changed.notify_all()
