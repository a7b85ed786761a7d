"""How the times of each contender are distributed, as a picture (SVG).

matplotlib is not in .venv: `make bench` has it on the path, from tests/plot.lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.turns import Samples

_SIZE = (7, 3.6)  # inches


def draw(title: str, samples: dict[str, Samples], target: Path) -> None:
    """Of each contender, the share of its runs that took at most so long."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    # Text stays text, and the same samples give the same file.
    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for what, times in samples.items():
        axes.ecdf([each.ms for each in times], label=what)
    axes.set_title(title)
    axes.set_xlabel("ms, from start to end of the process")
    axes.set_ylabel("share of the runs")
    axes.set_xlim(left=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(target, metadata={"Date": None})
