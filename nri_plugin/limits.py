"""The time that one request may take.

The runtime closes the connection and starts the pod without its device when an answer comes too
late (containerd/nri, pkg/adaptation/plugin.go), so that two times stand before its own:
    the last start  no further step is begun after it, so that there is time to undo
    the answer      the caller is answered at it, whatever the kernel is doing
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from cni_netdev.core.errors import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable

_FOR_STEPS = 0.7
_MARGIN, _LONGEST_MARGIN = 0.1, 0.5


class Limit:
    """Of one request.  Its worker and whoever answers for it may be different threads."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """seconds: what the runtime gives, from now."""
        self._clock = clock
        now = clock()
        self._last_start = now + seconds * _FOR_STEPS
        self._answer = now + seconds - min(seconds * _MARGIN, _LONGEST_MARGIN)
        self._lock = threading.Lock()
        self._over = ""
        self._why = f"the runtime's {seconds:g} s did not suffice"

    @property
    def left(self) -> float:
        """Seconds until the answer must be given; not below 0."""
        return max(0.0, self._answer - self._clock())

    def check(self) -> None:
        """Raises OutOfTime when no further step may be begun."""
        if self._over == "given up" or self._clock() > self._last_start:
            raise self.error()

    def finish(self) -> bool:
        """The work is done; False when its caller was told otherwise already."""
        return self._end("finished")

    def give_up(self, why: str = "") -> bool:
        """The caller is told that time ran out; False when the work was just done."""
        self._why = why or self._why
        return self._end("given up")

    def error(self) -> OutOfTime:
        return OutOfTime(self._why, "nothing is left half done")

    def _end(self, how: str) -> bool:
        with self._lock:
            if not self._over:
                self._over = how
            return self._over == how
