"""Our packages and what they need, from requirements.lock, by its hashes."""

from __future__ import annotations

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from cni_netdev import bundle

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def needed() -> list[str]:
    """The names of the packages that ours need when they run, as they are normalised."""
    found: set[str] = set()
    waiting = [_name(each) for each in PROJECT["project"]["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            wanted = metadata.requires(name) or []
            waiting += [_name(each) for each in wanted if ";" not in each]
    return sorted(found)


def lock_of(names: list[str], text: str) -> str:
    """The part of a lock file that is about these packages.  Raises SystemExit."""
    parts = {_name(part): part for part in re.split(r"\n(?=\S)", text) if part[:1] not in "#\n"}
    if missing := set(names) - set(parts):
        raise SystemExit(f"not in requirements.lock: {', '.join(sorted(missing))}")
    return "".join(f"{parts[name].rstrip()}\n" for name in names)


def install(lock: str, target: Path) -> None:
    """From the registry, every file checked by its hash; wheels only."""
    target.mkdir(parents=True)
    file = target.with_name("needed.lock")
    file.write_text(lock)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    options += ["--require-hashes", "--only-binary", ":all:", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, "-r", str(file)]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - pip
        raise SystemExit("pip could not install what the bundle needs")


def copy(tree: Path, installed: Path) -> None:
    """What ``install`` installed, and ours from the checkout."""
    target = tree / bundle.LIBRARIES
    ignore = shutil.ignore_patterns("bin", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    shutil.copytree(installed, target, ignore=ignore)
    for name in PROJECT["tool"]["setuptools"]["packages"]:
        place = Path(*name.split("."))
        (target / place).mkdir()
        for each in (ROOT / place).glob("*.proto"):
            if not each.with_name(f"{each.stem}_pb2.py").exists():
                raise SystemExit(f"{each} is not compiled: run `make setup`")
        for each in sorted((ROOT / place).glob("*.py")):
            shutil.copyfile(each, target / place / each.name)
    version = PROJECT["project"]["version"]
    information = target / f"network_device_injector-{version}.dist-info"
    information.mkdir()
    text = metadata.distribution("network-device-injector").read_text("METADATA")
    (information / "METADATA").write_text(text or "")


def compile_all(tree: Path) -> None:
    """Every module, so that nothing is written when it runs, and whatever times the files get."""
    done = compileall.compile_dir(
        tree / "lib",
        quiet=1,
        stripdir=str(tree),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not done:
        raise SystemExit("a module of the bundle does not compile")


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""
