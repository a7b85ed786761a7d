"""The licences of what is in the bundle, and what that is."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bundling.packages import ROOT
from cni_netdev import bundle


class Part(NamedTuple):
    """Something that has a licence of its own."""

    what: str
    version: str
    texts: list[Path]


def collect(tree: Path, files: list[Path]) -> None:
    """Into ``tree``: a directory of licences, and a list of the parts.

    files: those of this machine that went into it.  Raises SystemExit when a licence is not found.
    """
    target = tree / "LICENSES"
    target.mkdir()
    shutil.copyfile(ROOT / "LICENSE", tree / "LICENSE")
    lines = []
    for part in sorted([_python(), *_wheels(tree), *_libraries(files)]):
        if not part.texts:
            raise SystemExit(f"no licence found of {part.what} {part.version}")
        lines.append(f"{part.what} {part.version}\n")
        for number, text in enumerate(part.texts):
            name = f"{part.what}{f'.{number}' if number else ''}.txt"
            shutil.copyfile(text, target / name)
    (tree / "CONTENTS").write_text("".join(lines))


def _python() -> Part:
    places = [
        Path(sysconfig.get_path("stdlib"), "LICENSE.txt"),
        Path(f"/usr/share/doc/python{sysconfig.get_python_version()}/copyright"),
        *Path("/usr/share/licenses").glob("python3*/LICENSE"),
    ]
    return Part(
        "CPython", platform.python_version(), [each for each in places if each.is_file()][:1]
    )


def _wheels(tree: Path) -> list[Part]:
    parts = []
    for found in metadata.distributions(path=[str(tree / bundle.LIBRARIES)]):
        name = found.metadata["Name"]
        if name != "network-device-injector":
            start = f"{name.replace('-', '_')}-".lower()
            (place,) = (
                each
                for each in (tree / bundle.LIBRARIES).glob("*.dist-info")
                if each.name.lower().startswith(start)
            )
            texts = [
                each
                for each in sorted(place.rglob("*"))
                if each.is_file() and each.name.upper().startswith(("LICEN", "COPYING", "NOTICE"))
            ]
            parts.append(Part(name, found.version, texts))
    return parts


def _libraries(files: list[Path]) -> list[Part]:
    """The packages of this machine's that they are from."""
    found = {_package(each) for each in files if not each.is_relative_to(sys.base_prefix)}
    named = Path(sys.base_prefix) == Path("/usr")
    found |= {_package(each) for each in files if named}
    parts = []
    for name, version in sorted(found):
        texts = [Path(f"/usr/share/doc/{name}/copyright")]
        texts += sorted(Path(f"/usr/share/licenses/{name}").glob("*"))
        parts.append(Part(name, version, [each for each in texts if each.is_file()]))
    return parts


def _package(path: Path) -> tuple[str, str]:
    """Name and version of the package that a file is of."""
    for place in (path, Path("/", *path.parts[2:])):  # dpkg knows /lib where /usr/lib is meant
        if shutil.which("dpkg-query"):
            name = _said("dpkg-query", "--search", str(place)).partition(":")[0]
            if name:
                return name, _said("dpkg-query", "-W", "-f=${Version}", name)
        elif said := _said("rpm", "-qf", "--qf", "%{NAME} %{VERSION}-%{RELEASE}", str(place)):
            name, _, version = said.partition(" ")
            return name, version
    raise SystemExit(f"no package of this machine has {path}: its licence is not known")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.stdout if done.returncode == 0 else ""
