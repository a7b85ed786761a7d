"""What is installed is what the lock names, and nothing comes without its hash.

Whether a version has a known hole is asked by `make audit`: that needs the network.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
LOCKS = (ROOT / "requirements.lock", *sorted((ROOT / "tests").rglob("*.lock")))
HASHED = re.compile(
    r"(?P<requirement>[^\\#]+?)\s*\\\n(?P<hashes>(\s+--hash=sha256:[0-9a-f]{64}\s*\\?\n?)+)"
)
# What a virtual environment brings itself.
GIVEN = frozenset(("pip", "network-device-injector"))


def entries(lock: Path) -> list[str]:
    """The logical lines of a lock, comments aside."""
    text = "".join(line for line in lock.read_text().splitlines(keepends=True) if line[0] != "#")
    return [each.replace("\0", "\\\n") for each in text.replace("\\\n", "\0").splitlines()]


def locked(lock: Path) -> dict[str, Requirement]:
    """Each requirement by its normalised name."""
    found = (Requirement(each.split("\\\n")[0].strip()) for each in entries(lock))
    return {canonical(each.name): each for each in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version(requirement: Requirement) -> str:
    (only,) = requirement.specifier
    assert only.operator == "==", requirement
    return only.version


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": "dev"})


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_has_one_version_and_its_hashes(lock: Path) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert HASHED.fullmatch(entry + "\n"), entry
    assert all(map(version, locked(lock).values()))


def test_the_lock_answers_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = locked(ROOT / "requirements.lock")
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        asked = Requirement(text)
        assert version(pinned[canonical(asked.name)]) in asked.specifier


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {canonical(each.name): each.version for each in metadata.distributions()}
    pinned = locked(ROOT / "requirements.lock")
    expected = {name: version(each) for name, each in pinned.items() if applies(each)}
    assert {name: installed[name] for name in installed.keys() - GIVEN} == expected


def test_what_is_installed_has_all_that_it_needs() -> None:
    installed = {canonical(each.name): each.version for each in metadata.distributions()}
    for each in metadata.distributions():
        for needed in map(Requirement, each.requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert installed[canonical(needed.name)] in needed.specifier, (each.name, needed)
