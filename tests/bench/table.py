"""Rows of figures beside their limits, as Markdown."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.turns import middle

if TYPE_CHECKING:
    from tests.bench.turns import Samples


class Row(NamedTuple):
    """One contender beside what it is compared with.

    name: by which it is asked for alone; empty for a peer.  limit: of the ratio of the medians;
    None: there is none.  beyond: the figure is the difference in ms instead.
    """

    what: str
    samples: Samples
    against: Samples
    name: str = ""
    limit: float | None = None
    beyond: bool = False

    @property
    def figure(self) -> float:
        own, other = middle(self.samples), middle(self.against)
        return own - other if self.beyond else own / other

    def line(self) -> str:
        times = [each.ms for each in self.samples]
        used = [each.cpu for each in self.samples if each.cpu is not None]
        figure = f"{self.figure:+.1f} ms" if self.beyond else f"{self.figure:.2f}"
        cells = (
            self.what,
            f"{middle(self.samples):.1f}",
            f"{min(times):.1f}",
            f"{max(times):.1f}",
            f"{median(used):.1f}" if used else "",
            figure,
            self._limit(),
        )
        return f"| {' | '.join(cells)} |"

    def _limit(self) -> str:
        if self.limit is None:
            return ""
        unit = " ms" if self.beyond else ""
        return f"{self.limit:g}{unit}, {'kept' if self.figure <= self.limit else 'missed'}"


class Table(NamedTuple):
    """against: what the figures say, as "x host-device".  plotted: distributions worth a look."""

    title: str
    against: str
    rows: list[Row]
    kind: str = "whole process"
    plotted: dict[str, Samples] = {}  # noqa: RUF012 - never changed

    def lines(self, only: str = "") -> list[str]:
        """only: the one row to show, by its name."""
        rows = [row for row in self.rows if only in ("", row.name)]
        runs = f"{self.kind}, {len(rows[0].samples)} runs"
        return [
            f"## {self.title}",
            "",
            f"| {runs} | median ms | least | most | CPU | {self.against} | limit |",
            "|---|---|---|---|---|---|---|",
            *(row.line() for row in rows),
            "",
        ]
