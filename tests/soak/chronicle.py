"""What was done and what came of it: numbers for the table, and a history for whoever must look."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Line(NamedTuple):
    """One thing that happened.  at: seconds since the round began.  links: whom it concerns."""

    at: float
    who: str
    text: str
    links: tuple[str, ...]


class Chronicle:
    """Kept by all lanes at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lines: list[Line] = []
        self._began = time.monotonic()
        self._round = self._began

    def count(self, what: str, kind: str = "", number: int = 1) -> None:
        with self._lock:
            self._counts[what, kind] += number

    def tell(self, who: str, text: str, links: Iterable[str] = ()) -> None:
        line = Line(time.monotonic() - self._round, who, " ".join(text.split()), tuple(links))
        with self._lock:
            self._lines.append(line)

    def next_round(self) -> None:
        """Forget the last one's history; its numbers stay."""
        with self._lock:
            self._lines.clear()
            self._round = time.monotonic()

    # --- reading -----------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def total(self, what: str) -> int:
        with self._lock:
            return sum(n for (each, _), n in self._counts.items() if each == what)

    def kinds(self, what: str) -> dict[str, int]:
        with self._lock:
            return {kind: n for (each, kind), n in sorted(self._counts.items()) if each == what}

    def history(self, link: str) -> list[str]:
        """What concerns a link, or everybody; everything for a link that nobody knows."""
        with self._lock:
            lines = list(self._lines)
        known = any(link in line.links for line in lines)
        return [
            f"{line.at:7.3f} {line.who}: {line.text}"
            for line in lines
            if not known or not line.links or link in line.links
        ]
