"""`python -m tests.soak`: random pods and random kills for MINUTES, and what came of it.

MINUTES: 30 unless said otherwise; 0 is one round.  SEED and ROUND: where to begin, as an earlier
soak said.  docs/reliability.md has the table of the last one that began with round 0.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.machine import machine
from tests.reliability import write_section
from tests.soak.node import stand
from tests.soak.soak import Lost, Soak
from tests.soak.table import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping


def main(environ: Mapping[str, str]) -> int:
    if os.geteuid() != 0:
        print("the soak makes network namespaces of its own: run it as root")
        return 1
    minutes = float(environ.get("MINUTES") or 30)
    seed = environ.get("SEED") or secrets.token_hex(4)
    first = int(environ.get("ROUND") or 0)
    end = time.monotonic() + minutes * 60
    say(f"soak of {minutes:g} minutes, SEED={seed}")
    with tempfile.TemporaryDirectory() as directory, stand(Path(directory)) as node:
        soak = Soak(node, seed, say)
        try:
            soak.run(end, first)
        except Lost as lost:
            say(str(lost))
            return 1
        table = markdown(soak.chronicle, soak.samples, seed, machine())
    say(f"\n{table}")
    if not first:
        write_section("soak", table)
    return 0


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(os.environ))
