"""Putting the executable `cni-netdev` where a runtime finds it, and taking it away.

The executable is shim with a call at its end: one small file that knows its interpreter, the
agent's socket and where the package and its libraries lie, because a runtime starts a plugin with
no environment but CNI's and from any directory.  It runs as ``python -IS``: isolated from the
environment and without site, which saves its start-up.  Python compiles a script at each start, a
millisecond of each pod's, so shim is in it compiled.
"""

from __future__ import annotations

import compileall
import json
import marshal
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cni_netdev import bundle, shim, source
from cni_netdev.core.errors import StateError
from cni_netdev.core.journal import AGENT_SOCKET, DEFAULT_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

PLUGIN = "cni-netdev"
EXAMPLE = "cni-netdev.conflist.example"
_LONGEST_SHEBANG = 255  # BINPRM_BUF_SIZE less the newline (linux/binfmts.h)

_EXECUTABLE = """\
#!{python} -IS
# Made by `netdevctl install`; run that again after moving or upgrading the package.
import sys

if sys.hexversion == {hexversion}:
    import marshal

    # cni_netdev/shim.py, compiled
    exec(marshal.loads({shim!r}))
else:
    sys.path += {paths!r}
    from cni_netdev.shim import run

run({socket!r}, {state_dir!r}, {version!r}, {paths!r})
"""


class Place(NamedTuple):
    """Where an executable finds what it runs with."""

    python: str
    libraries: list[str]


def here() -> Place:
    """What this process runs with, compiled while the directories can be written.

    Else every pod's start would do it again.  Raises StateError.
    """
    for package in _packages():
        compileall.compile_dir(package, quiet=2)
    return Place(_interpreter(), _library_paths())


def _interpreter() -> str:
    """Of a venv, what that links to: it reads nothing of a venv, and starts a thirtieth faster."""
    python = sys.executable
    while sys.prefix != sys.base_prefix and python.startswith(f"{sys.prefix}/"):
        try:
            target = os.readlink(python)
        except OSError:  # a copy
            return sys.executable
        python = os.path.normpath(os.path.join(os.path.dirname(python), target))
    return python


def bundled(tree: Path) -> Place:
    """A bundle that was put down."""
    return Place(str(tree / bundle.PYTHON), [str(tree / bundle.LIBRARIES)])


def install(bin_dir: Path, place: Place | None = None) -> Path:
    """Write the executable, try it, put it into ``bin_dir``, and return its path.

    place: ``here()`` unless said otherwise; of the same code and the same version of Python.
    Raises StateError when it cannot be written or does not answer CNI's VERSION; then what was
    there before is there still.
    """
    place = place or here()
    text = _EXECUTABLE.format(
        python=place.python,
        hexversion=sys.hexversion,
        shim=_compiled(Path(shim.__file__)),
        socket=f"{DEFAULT_DIRECTORY}/{AGENT_SOCKET}",
        state_dir=DEFAULT_DIRECTORY,
        version=source.version(),
        paths=place.libraries,
    )
    first_line = text.splitlines()[0]
    if len(first_line) > _LONGEST_SHEBANG or " " in place.python:
        raise StateError(
            f"interpreter {place.python!r} cannot stand in a script's first line",
            "use one whose path is shorter than 250 bytes and has no space",
        )
    target = bin_dir.absolute() / PLUGIN
    _write(target, text, 0o755, _version)
    return target


def remove(bin_dir: Path) -> bool:
    """Take the executable away; False when there was none.  Raises StateError."""
    try:
        (bin_dir / PLUGIN).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(f"cannot remove {bin_dir / PLUGIN}: {error.strerror}") from error
    return True


def example(conf_dir: Path, state_dir: str) -> Path:
    """Write a conflist to start from; its name keeps runtimes from loading it as it is."""
    conflist = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {"type": "host-local", "subnet": "10.244.0.0/24"},
            },
            {
                "type": PLUGIN,
                "capabilities": {
                    "io.kubernetes.cri.pod-annotations": True,
                    "netDevices": True,
                    "deviceID": True,
                },
                "stateDir": state_dir,
                "policy": {"default": "deny", "rules": [{"allow": {"names": ["enp*"]}}]},
            },
        ],
    }
    target = conf_dir / EXAMPLE
    _write(target, json.dumps(conflist, indent=2) + "\n", 0o644)
    return target


def _compiled(path: Path) -> bytes:
    code = compile(path.read_bytes(), PLUGIN, "exec", dont_inherit=True, optimize=2)
    return marshal.dumps(code)


def _library_paths() -> list[str]:
    """Where the packages lie; the same directory is named once."""
    return list(dict.fromkeys(str(each.parent) for each in _packages()))


def _packages() -> list[Path]:
    """The directories of the package itself, pyroute2 and yaml."""
    found = []
    for name in ("cni_netdev", "pyroute2", "yaml"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise StateError(f"the Python package {name} is not installed beside netdevctl")
        found.append(Path(spec.origin).resolve().parent)
    return found


def _write(
    target: Path, text: str, mode: int, trouble: Callable[[Path], str] = lambda _: ""
) -> None:
    """Atomically, since a runtime may start the old one at this very moment.

    trouble: says what is wrong with the new one, before it takes the old one's place.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.chmod(mode)
        if found := trouble(temporary):
            raise StateError(f"{target} would not run: {found}", "nothing there was changed")
        temporary.rename(target)
    except OSError as error:
        raise StateError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _version(target: Path) -> str:
    """What is wrong with the answer to VERSION; empty when nothing is."""
    try:
        done = subprocess.run(  # noqa: S603 - the file that was just written
            [target],
            env={"CNI_COMMAND": "VERSION"},
            cwd="/",
            input=b'{"cniVersion": "1.0.0"}',
            capture_output=True,
            check=False,
        )
    except OSError as error:
        return f"{error.strerror}; is the file system mounted noexec?"
    if done.returncode == 0 and b"supportedVersions" in done.stdout:
        return ""
    return (done.stderr or done.stdout).decode(errors="replace").strip()
