"""The machine's cgroups, seen from a test's own mount namespace, and a place in them for a test."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.host import run

ROOT = Path("/sys/fs/cgroup")


def unified() -> bool:
    """Whether ``mount`` mounts version 2.  Its controllers may be out of reach: set no limits."""
    return not _legacy()


def mount() -> None:
    """Mount them on /sys/fs/cgroup, whose sysfs is fresh, as the machine has them there."""
    legacy = _legacy()
    if not legacy:
        run("mount", "-t", "cgroup2", "cgroup2", str(ROOT))
        return
    run("mount", "-t", "tmpfs", "cgroup", str(ROOT))
    for target, options in legacy.items():
        Path(target).mkdir()
        run("mount", "-t", "cgroup", "-o", options, "cgroup", target)


def unmount() -> None:
    run("umount", "--recursive", str(ROOT))


def _legacy() -> dict[str, str]:
    """The mounts of version 1, with their controllers: they are still listed beneath our sysfs."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _source, options = after.split(" ")
        if kind == "cgroup":
            wanted = [each for each in options.split(",") if each not in {"rw", "ro"}]
            found[before.split(" ")[4]] = ",".join(wanted)
    return found


def remove(name: str, seconds: float = 10) -> None:
    """Kill whatever runs in the cgroups of this name, and remove them."""
    until = time.monotonic() + seconds
    while left := [each for each in (ROOT, *ROOT.iterdir()) if (each / name).is_dir()]:
        for hierarchy in left:
            _remove_tree(hierarchy / name)
        assert time.monotonic() < until, f"cgroups that stay: {left}"
        time.sleep(0.005)


def _remove_tree(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            for pid in (Path(directory) / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            os.rmdir(directory)
