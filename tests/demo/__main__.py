"""The main job, shown: links of a host go to a pod and come home, by each of the front ends.

Runs in network and mount namespaces of its own; nothing of the machine is touched.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.demo import cni, nri
from tests.demo.telling import say
from tests.host import Host


def main() -> int:
    if os.geteuid() != 0:
        print("the demo makes network namespaces of its own: run it as root")
        return 1
    parts = {"The CNI plugin, through cnitool": cni.demo, "The NRI plugin, on containerd": nri.demo}
    well = []
    for number, (title, demo) in enumerate(parts.items(), 1):
        say(f"=== {number}. {title} ===")
        with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as host:
            well.append(demo(host))
    say("All came home exactly as it was." if all(well) else "Not all came home as it was.")
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
