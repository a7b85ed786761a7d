"""Log lines with fields, as text (logfmt) or JSON, to stderr or a file.

A line in a file is one write(2), so that lines of several processes do not mix.  stderr may be a
pipe or socket that nobody empties (a logger that hangs, a runtime that is down): nothing waits
for that longer than a moment.  Everything in a line may be a tenant's text, so all but printable
ASCII is escaped.
"""

from __future__ import annotations

import json
import os
import re
import select
import threading
import time
from contextlib import suppress
from typing import Any

LEVELS = ("debug", "info", "warn", "error")
_STDERR = 2
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
_PATIENCE_MS = 50
_PLAIN = re.compile(r"[!#-<>-~]+")  # no space, quote or equals sign


class Log:
    """Writes lines of ``level`` and above.  Loses a line rather than a pod when it cannot."""

    def __init__(self, level: str = "info") -> None:
        self._fd = _STDERR
        self._torn = b""  # ends the line that was not written to its end
        self._patience = _PATIENCE_MS
        self._writing = threading.Lock()  # a descriptor that is closed meanwhile may be another's
        self._least = LEVELS.index(level)
        self._format = _as_text

    def become(self, path: str | None, level: str | None, style: str | None) -> None:
        """Write to this file from now on (None: stderr), in this way.

        Raises OSError when the file cannot be opened; then nothing has changed.
        """
        fd = os.open(path, _APPEND, 0o600) if path else _STDERR
        with self._writing:
            old, self._fd = self._fd, fd
        if old != _STDERR:
            os.close(old)
        self._least = LEVELS.index(level or "info")
        self._format = _as_json if style == "json" else _as_text

    def debug(self, message: str, **fields: Any) -> None:
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._write("warn", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if LEVELS.index(level) < self._least:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        head = {"time": f"{stamp}.{int(now * 1000) % 1000:03}Z", "level": level, "msg": message}
        said = {key: value for key, value in fields.items() if value not in (None, "", (), [])}
        line = f"{self._format(head | said)}\n".encode("ascii")
        with self._writing, suppress(OSError):  # nobody listens
            if self._fd == _STDERR:
                self._to_stderr(line)
            else:
                os.write(self._fd, line)

    def _to_stderr(self, line: bytes) -> None:
        """In pieces of a size that is sure not to block where there is room at all (pipe(7))."""
        line = self._torn + line
        room = select.poll()
        room.register(_STDERR, select.POLLOUT)
        for start in range(0, len(line), select.PIPE_BUF):
            if not room.poll(self._patience):
                self._patience = 0  # waited once, that is enough until it is read again
                return
            os.write(_STDERR, line[start : start + select.PIPE_BUF])
            self._torn = b"\n"
        self._torn, self._patience = b"", _PATIENCE_MS


def _as_json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=str)


def _as_text(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
