"""Waiting for what another process does, where there is no event to await."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def until(done: Callable[[], object], trouble: Callable[[], Any], seconds: float = 20) -> None:
    """Return as soon as it is done; fails with the trouble when that takes too long."""
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, trouble()
        time.sleep(0.02)
