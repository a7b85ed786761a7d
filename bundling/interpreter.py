"""This machine's Python, with the libraries that it loads, so that it runs anywhere.

It brings its own libc and loader, so the node's may be older, or not there.  Its programs and
libraries find each other by DT_RPATH of the interpreter, which LD_LIBRARY_PATH does not override.

Rejected: a Python built for an old glibc (no registry has one that is whole); linked with musl (the
wheels of the lock are glibc's).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from cni_netdev import bundle, elf

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"

# Of the standard library: what nothing here imports, and what wants libraries beyond its worth.
_LEFT_OUT = {
    *("__pycache__", "__phello__", "config-*", "dist-packages", "site-packages", "test", "tests"),
    *("curses", "dbm", "distutils", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "msilib"),
    *("pydoc_data", "sqlite3", "tkinter", "turtle.py", "turtledemo", "EXTERNALLY-MANAGED"),
    *("*.so", "*.a", "*.txt", "LICENSE*", "sitecustomize.py"),
}
_EXTENSIONS_LEFT_OUT = (
    *("_bz2", "_codecs_", "_crypt", "_ctypes_test", "_curses", "_dbm", "_gdbm", "_lzma"),
    *("_sqlite3", "_test", "_tkinter", "_uuid", "_xx", "audioop", "nis", "ossaudiodev"),
    *("readline", "spwd", "xx"),
)
_LINE = re.compile(r"^\s*(\S+)(?: => (\S.*?))?(?: \(0x[0-9a-f]+\))$")
_ROOM = 255  # bytes for the loader's path, in place of NO_LOADER's


def copy(tree: Path, patchelf: Path) -> list[Path]:
    """Into ``tree``; gives the files of this machine that went into it, other than Python's own."""
    python = Path(sys.base_prefix, "bin", VERSION).resolve()
    extensions = _standard_library(tree)
    placed = {python: tree / bundle.PYTHON, **extensions}
    libraries = _libraries(tree, [*placed, *(tree / bundle.LIBRARIES).rglob("*.so")])
    for source, target in {**placed, **libraries}.items():
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)
    own = [target for source, target in libraries.items() if source.name.startswith("libpython")]
    for each in (tree / bundle.PYTHON, *extensions.values(), *own):
        _run("strip", "--strip-unneeded", str(each))
        _run(str(patchelf), "--remove-rpath", str(each))
    _leave_room_for_a_loader(tree / bundle.PYTHON, patchelf)
    return [python, *libraries]


def _standard_library(tree: Path) -> dict[Path, Path]:
    """The modules copied; where each extension is, and where it is to be."""
    source, target = Path(sysconfig.get_path("stdlib")), tree / "lib" / VERSION
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    extensions = Path(sysconfig.get_config_var("DESTSHARED"))
    return {
        each: target / "lib-dynload" / each.name
        for each in sorted(extensions.glob("*.so"))
        if not each.name.startswith(_EXTENSIONS_LEFT_OUT)
    }


def _libraries(tree: Path, programs: list[Path]) -> dict[Path, Path]:
    """All that they load, and where in the bundle each is to be, the loader among them."""
    found: dict[Path, str] = {}
    for program in programs:
        for line in _run("ldd", str(program)).splitlines():
            if line.strip() == "statically linked":
                continue
            match = _LINE.match(line)
            if match is None:
                raise SystemExit(f"ldd {program}: {line.strip()}")
            name, path = match.groups()
            if path is None and "/" in name:
                found[Path(name).resolve()] = bundle.LOADER
            elif path is not None:
                found[Path(path).resolve()] = f"lib/{name}"
    return {source: tree / place for source, place in found.items()}


def _leave_room_for_a_loader(python: Path, patchelf: Path) -> None:
    longest = "/".ljust(_ROOM, "x")
    libraries = "$ORIGIN/../lib"
    _run(str(patchelf), "--set-interpreter", longest, str(python))
    _run(str(patchelf), "--force-rpath", "--set-rpath", libraries, str(python))
    python.write_bytes(elf.with_loader(python.read_bytes(), bundle.NO_LOADER))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
