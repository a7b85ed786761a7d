"""A stream proxy between two unix sockets that cuts what passes into odd pieces."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_LARGEST = 1 << 16


class OddPieces:
    """Listens at ``path`` and passes on to ``target``, in pieces of 1 to ``most`` bytes."""

    def __init__(self, path: Path, target: Path, most: int) -> None:
        self.path = path
        self._target = target
        self._most = most
        self._random = random.Random(1)  # noqa: S311 - the same pieces every time
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._target))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_LARGEST):
                while data:
                    size = self._random.randint(1, self._most)
                    target.sendall(data[:size])
                    data = data[size:]
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
