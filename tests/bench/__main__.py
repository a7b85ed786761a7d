"""Whole-process timings of the plugin beside its peers, from one run.

`python -m tests.bench` runs everything and writes docs/performance.md and its picture; with the
name of a part (one, pods, many, links, passthrough, nri) or of one row it runs and prints that.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import cni, many, nri, plot
from tests.bench.machine import machine
from tests.host import ROOT, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.table import Table

DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"
PARTS: dict[str, Callable[[Host], list[Table]]] = {
    "one": cni.one_device,
    "pods": cni.pods_at_once,
    "many": many.many_devices,
    "links": many.many_links,
    "passthrough": cni.pass_through,
    "nri": nri.by_nri,
}
VERBS = tuple(map(str.lower, cni.VERBS))
ROWS = {
    **{f"{verb}-{who}": "one" for verb in VERBS for who in ("agent", "one", "yaml")},
    **{f"{verb}-{who}": "pods" for verb in VERBS for who in ("agent-8-pods", "8-pods")},
    **{
        f"{verb}-{who}{count}": "many"
        for verb in VERBS
        for who in ("agent-", "")
        for count in many.COUNTS
    },
    **{f"{verb}-{count}-links": "links" for verb in VERBS for count in (10, 2000)},
    **dict.fromkeys(("agent-nothing", "nothing"), "passthrough"),
    **dict.fromkeys(("nri-run", "nri-stop"), "nri"),
}
HEADING = """\
# Performance

Written by `make bench`: the plugin beside its peers, started in turns in one run.
Take the ratios, not the milliseconds. `make bench ROW=add-32` times one row alone
({rows}), or a table ({parts}).

Machine: {machine}.

![How the times of ADD are distributed](performance.svg)
"""


def run(part: str, row: str = "") -> list[Table]:
    with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as host:
        host.install()
        tables = PARTS[part](host)
    for table in tables:
        if not row or row in [each.name for each in table.rows]:
            print("\n".join(table.lines(row)), flush=True)
    return tables


def write(tables: list[Table]) -> None:
    heading = HEADING.format(rows=", ".join(ROWS), parts=", ".join(PARTS), machine=machine())
    lines = [line for table in tables for line in table.lines()]
    DOCUMENT.write_text("\n".join([heading, *lines]))
    for table in tables:
        if table.plotted:
            plot.draw("ADD of one device", table.plotted, PICTURE)


def main(asked: list[str]) -> int:
    for name in asked:
        if name not in {*PARTS, *ROWS}:
            print(f"unknown row or part {name}; known are {', '.join((*PARTS, *ROWS))}")
            return 2
        run(ROWS.get(name, name), name if name in ROWS else "")
    if not asked:
        write([table for part in PARTS for table in run(part)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
