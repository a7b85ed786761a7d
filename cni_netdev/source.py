"""Which code this is: shim and agent work together only when it is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

_DIGITS = 16


def version() -> str:
    """The same for the same code, also between releases."""
    package = Path(__file__).parent
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:_DIGITS]
