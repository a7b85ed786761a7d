"""The bundle: this code with an interpreter and every library, for a node that lacks them.

`make dist` makes it (bundling/), `netdevctl install` puts it down, since it runs only where it was
made for: a program names its loader by whole path, and a script its interpreter.  Each version has
a directory of its own, which is complete from the moment that it has its name and is never changed
again: what runs from another one goes on running.

    PREFIX/0.1.0-86f7e437faa5/   a version, named after what is in it
    PREFIX/bin -> .../bin        the one that was installed last; what units name

Rejected: unpacking at a runtime's first call (slow, and a node's disk may be read-only by then).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cni_netdev import elf
from cni_netdev.core import libc
from cni_netdev.core.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PREFIX = "/opt/cni-netdev"
MANIFEST = "MANIFEST"
PYTHON, LOADER, LIBRARIES = "bin/python3", "lib/ld.so", "lib/site-packages"
NO_LOADER = "/put/down/by/netdevctl/install"  # what the interpreter names in the archive
PROGRAMS = {"netdevctl": "cni_netdev.ctl", "network-device-injector": "nri_plugin.main"}

_DIGITS = 12
_LONGEST = 230  # bytes of a version's path: for a shebang, and for what names the loader
_PROGRAM = """\
#!{python} -IS
import sys

sys.path.append({libraries!r})
from {module} import entry

entry()
"""


class File(NamedTuple):
    """A line of the manifest."""

    digest: str  # SHA-256, in hex
    mode: int
    path: str  # within the bundle


def running() -> Path | None:
    """The bundle that this very code is in."""
    here = Path(__file__).resolve().parent
    tree = here.parents[2]
    found = here.parent == tree / LIBRARIES and (tree / MANIFEST).is_file()
    return tree if found else None


def manifest(tree: Path, title: str) -> str:
    """Its text, for a bundle that has none yet; title: name, version and machine."""
    lines = [title]
    for path in sorted(each for each in tree.rglob("*") if each.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest} {path.stat().st_mode & 0o777:o} {path.relative_to(tree)}")
    return "\n".join(lines) + "\n"


def name(tree: Path) -> str:
    """Its version, and a digest of all that is in it.  Raises StateError."""
    text = _read(tree / MANIFEST)
    version = text.split(b"\n")[0].split()[1].decode()
    return f"{version}-{hashlib.sha256(text).hexdigest()[:_DIGITS]}"


def default_prefix(tree: Path) -> Path:
    """Where it lies already, if it was put down."""
    return tree.parent if tree.name == name(tree) else Path(DEFAULT_PREFIX)


def put_down(tree: Path, prefix: Path) -> Path:
    """A copy below ``prefix`` that runs there; returns its directory.

    One that is there and whole is left as it is.  Raises StateError when a file of the bundle is
    missing or is not what the manifest says, or when the copy cannot be written.
    """
    prefix = prefix.absolute()
    target = prefix / name(tree)
    if len(os.fsencode(target)) > _LONGEST or any(map(str.isspace, str(target))):
        raise StateError(
            f"{str(target)!r} cannot stand in a script's first line",
            f"use a prefix with which it has at most {_LONGEST} bytes, and no white space",
        )
    if (prefix / "bin").is_dir() and not (prefix / "bin").is_symlink():
        raise StateError(
            f"{prefix / 'bin'} is a directory, of another way of installing",
            "put the bundle elsewhere with --prefix, or take that directory away first",
        )
    try:
        _make_directory(prefix)
        with _locked(prefix):
            if not _whole(target):
                _copy(tree, target)
    except OSError as error:
        raise StateError(f"cannot put the bundle in {target}: {error.strerror}") from error
    return target


def switch(target: Path) -> None:
    """From now on ``PREFIX/bin`` is this version's.  Raises StateError."""
    link, wanted = target.parent / "bin", f"{target.name}/bin"
    if link.is_symlink() and str(link.readlink()) == wanted:
        return
    temporary = link.with_name(f".bin.{os.getpid()}")
    try:
        temporary.symlink_to(wanted)
        temporary.rename(link)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StateError(f"cannot make the link {link}: {error.strerror}") from error


def versions(prefix: Path) -> list[Path]:
    """Those that lie there."""
    return sorted(each.parent for each in prefix.absolute().glob(f"[!.]*/{MANIFEST}"))


def users(tree: Path) -> list[int]:
    """The processes that run from it, by what /proc tells; not this one."""
    found = []
    for each in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            program = os.readlink(f"/proc/{each}/exe")
            if program.startswith(f"{tree}/") and int(each) != os.getpid():
                found.append(int(each))
    return sorted(found)


def remove(tree: Path) -> None:
    """Take away a version, and the prefix with the last one.  Raises StateError."""
    prefix = tree.parent
    link = prefix / "bin"
    try:
        if link.is_symlink() and link.readlink().parts[0] == tree.name:
            link.unlink()
        gone = prefix / f".{tree.name}.gone"
        tree.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise StateError(f"cannot remove {tree}: {error.strerror}") from error
    with suppress(OSError):  # something else is in it
        prefix.rmdir()


def _copy(tree: Path, target: Path) -> None:
    temporary, gone = (target.with_name(f".{target.name}.{each}") for each in ("new", "gone"))
    for left in (temporary, gone):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    _make_directory(temporary)
    for file in _files(tree):
        data = _read(tree / file.path)
        if _digest(file, data) != file.digest:
            raise StateError(
                f"the bundle is damaged: {tree / file.path} is not what was packed",
                "unpack the archive again",
            )
        if file.path == PYTHON:
            data = elf.with_loader(data, str(target / LOADER))
        _write(temporary, file.path, data, file.mode)
    for program, text in _programs(target).items():
        _write(temporary, program, text, 0o755)
    _write(temporary, MANIFEST, _read(tree / MANIFEST), 0o644)
    _to_disk(temporary)
    if target.exists():
        target.rename(gone)
    temporary.rename(target)
    shutil.rmtree(gone, ignore_errors=True)


def _whole(target: Path) -> bool:
    """Every file of it is there as it was put down."""
    try:
        if name(target) != target.name:
            return False
        programs = {path: _read(target / path) for path in _programs(target)}
        interpreter = elf.loader(_read(target / PYTHON))
        return (
            all(_digest(file, _read(target / file.path)) == file.digest for file in _files(target))
            and programs == _programs(target)
            and interpreter == str(target / LOADER)
        )
    except (StateError, ValueError):
        return False


def _files(tree: Path) -> list[File]:
    lines = _read(tree / MANIFEST).decode().splitlines()[1:]
    parts = [line.split(" ", 2) for line in lines]
    return [File(digest, int(mode, 8), path) for digest, mode, path in parts]


def _digest(file: File, data: bytes) -> str:
    """As in the archive, wherever it was put down."""
    if file.path == PYTHON:
        try:
            data = elf.with_loader(data, NO_LOADER)
        except ValueError:
            return ""
    return hashlib.sha256(data).hexdigest()


def _programs(target: Path) -> dict[str, bytes]:
    python, libraries = str(target / PYTHON), str(target / LIBRARIES)
    return {
        f"bin/{program}": _PROGRAM.format(
            python=python, libraries=libraries, module=module
        ).encode()
        for program, module in PROGRAMS.items()
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StateError(f"cannot read {path} of the bundle: {error.strerror}") from error


def _write(tree: Path, path: str, data: bytes, mode: int) -> None:
    target = tree / path
    if not target.parent.is_dir():
        for each in reversed(target.parent.relative_to(tree).parents[:-1]):
            _make_directory(tree / each)
        _make_directory(target.parent)
    target.write_bytes(data)
    target.chmod(mode)


def _make_directory(path: Path) -> None:
    """Whatever the umask is."""
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o755)


def _to_disk(directory: Path) -> None:
    """Or a power cut could leave the name with empty files; all at once, of its file system."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.call("syncfs", fd)
    finally:
        os.close(fd)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Against another installation at the same time."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
