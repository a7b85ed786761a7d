"""Waiting for what another process does, where there is no event to await."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# An emulated machine takes a multiple of the time: tests/vm.
PATIENCE = float(os.environ.get("TESTS_PATIENCE", "1"))


def until(done: Callable[[], object], trouble: Callable[[], Any], seconds: float = 20) -> None:
    """Return as soon as it is done; fails with the trouble when that takes too long."""
    limit = time.monotonic() + seconds * PATIENCE
    while not done():
        assert time.monotonic() < limit, trouble()
        time.sleep(0.02)
