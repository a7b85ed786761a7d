"""The one thread that handlers run on, and whether it gets on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker(ThreadPoolExecutor):
    """Does one thing after the other.  What is stuck in the kernel cannot be taken from it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(1, "worker")
        self._clock = clock
        self._since: float | None = None

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        def timed() -> _T:
            self._since = self._clock()
            try:
                return fn(*args, **kwargs)
            finally:
                self._since = None

        return super().submit(timed)

    @property
    def busy(self) -> float:
        """Seconds that it has been at one thing; 0 when it waits for the next."""
        since = self._since
        return 0.0 if since is None else self._clock() - since
