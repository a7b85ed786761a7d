"""The bundle on a node that has nothing else: no Python, no libc, no shell."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cni_netdev import bundle
from cni_netdev.install import PLUGIN
from tests.host import PEERS, ROOT, answer_of, mount, run

if TYPE_CHECKING:
    from tests.host import Answer, Host

UNPACKED = "/unpacked"
BIN_DIR = "/opt/cni/bin"
_PLACE = Path("/var/lib/node")  # in a test's host
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SHARED = 1, 0x20, 0x1000, 0x4000, 0x100000


def build() -> Path:
    """The bundle of this checkout, as it lies in the archive."""
    directory = ROOT / ".build" / "dist"
    for old in directory.glob(f"*/{bundle.MANIFEST}"):
        shutil.rmtree(old.parent)
    run(sys.executable, "-m", "bundling", "--tree-only", str(directory))
    (tree,) = directory.glob(f"*/{bundle.MANIFEST}")
    return tree.parent


class Node:
    """A directory to be a root file system; what is run in it sees nothing else."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self.directory = directory
        self._place: Path | None = None
        for each in ("proc", "sys", "dev", "run", "tmp", "etc/cni/net.d"):
            (directory / each).mkdir(parents=True)
        shutil.copytree(tree, directory / UNPACKED[1:])

    def run(self, *command: str) -> Answer:
        """A program in it; before it is a host's root it has nothing but /proc."""
        if self._place:
            return answer_of([_chroot(), str(self._place), *command], {}, "")
        script = f'mount --bind /proc "$0/proc" && exec {_chroot()} "$0" "$@"'
        shell = ["unshare", "--mount", "sh", "-c", script, str(self.directory), *command]
        return answer_of(shell, {"PATH": os.environ["PATH"]}, "")

    def unpacked(self, *arguments: str) -> Answer:
        """netdevctl as it was unpacked, where there is no shell for its script."""
        places = (bundle.LOADER, bundle.PYTHON, "lib/netdevctl")
        loader, python, script = (f"{UNPACKED}/{each}" for each in places)
        return self.run(loader, python, "-IS", script, *arguments)

    def become_root_of(self, host: Host, *, writable: bool = False) -> None:
        """From now on the host's programs and its plugin run in it, and it is read-only.

        It has the host's /run, /proc and /sys, and the test's directory, all in their places.
        """
        _PLACE.mkdir()
        mount("/run", "/run", _MS_BIND)
        mount("", "/run", _MS_SHARED)  # so that pods' namespaces appear in it
        mount(str(self.directory), str(_PLACE), _MS_BIND)
        if not writable:
            mount("", str(_PLACE), _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
        for each in ("/proc", "/sys", "/dev", "/run"):
            mount(each, f"{_PLACE}{each}", _MS_BIND | _MS_REC)
        mount("tmpfs", f"{_PLACE}/tmp", 0, "tmpfs")
        seen = Path(f"{_PLACE}{host.directory}")
        seen.mkdir(parents=True)
        mount(str(host.directory), str(seen), _MS_BIND)
        _stand_in(host)
        self._place = _PLACE if writable else None


def _stand_in(host: Host) -> None:
    """Scripts that enter it, for what is started from without."""
    host.programs = host.directory / "programs"
    host.programs.mkdir()
    own = [*bundle.PROGRAMS, Path(bundle.PYTHON).name]
    places = {host.programs / each: f"{bundle.DEFAULT_PREFIX}/bin" for each in own}
    for path, directory in {**places, host.bin_dir / PLUGIN: BIN_DIR}.items():
        path.write_text(f'#!/bin/sh\nexec {_chroot()} {_PLACE} {directory}/{path.name} "$@"\n')
        path.chmod(0o755)
    for peer in PEERS.iterdir():
        (host.bin_dir / peer.name).symlink_to(peer)


def _chroot() -> str:
    found = shutil.which("chroot")
    assert found
    return found
