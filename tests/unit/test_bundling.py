"""`make dist`: the same files give the same bytes, and only what is locked goes in."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from bundling import archive, packages
from cni_netdev import bundle

if TYPE_CHECKING:
    from pathlib import Path


def made(directory: Path, names: tuple[str, ...], time: int) -> Path:
    tree = directory / "tree"
    tree.mkdir(parents=True)
    for name in names:
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        path.chmod(0o755 if name.startswith("bin") else 0o644)
        os.utime(path, (time, time))
    return tree


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    names = ("bin/b", "lib/a", "lib/z", "CONTENTS")
    packed = []
    for number, order in enumerate((names, names[::-1])):
        tree = made(tmp_path / str(number), order, 1 + number)
        packed.append(tmp_path / f"{number}.tar.xz")
        archive.pack(tree, packed[-1])
    assert packed[0].read_bytes() == packed[1].read_bytes()
    with tarfile.open(packed[0]) as opened:
        entries = opened.getmembers()
    assert [each.name for each in entries] == [
        "tree",
        *sorted(f"tree/{each}" for each in (*names, "bin", "lib")),
    ]
    assert {(each.uid, each.gid, each.uname, each.mtime) for each in entries} == {
        (0, 0, "root", entries[0].mtime)
    }
    assert {each.name: each.mode for each in entries}["tree/bin/b"] == 0o755


def test_a_bundles_name_says_what_is_in_it(tmp_path: Path) -> None:
    names = set()
    for number, files in enumerate((("a", "b"), ("a", "c"), ("b", "a"))):
        tree = made(tmp_path / str(number), files, 1)
        text = bundle.manifest(tree, "cni-netdev 0.1.0 x86_64")
        (tree / bundle.MANIFEST).write_text(text)
        names.add(bundle.name(tree))
    assert len(names) == 2
    assert all(each.startswith("0.1.0-") for each in names)


def test_what_runs_is_locked_and_what_only_builds_or_tests_stays_out() -> None:
    needed = packages.needed()
    assert {"pyroute2", "pyyaml", "click", "protobuf", "prometheus-client"} <= set(needed)
    assert {"pytest", "grpcio-tools", "mypy"} & set(needed) == set()
    lock = packages.lock_of(needed, packages.LOCK.read_text())
    lines = lock.splitlines()
    assert sorted(line.split("==")[0] for line in lines if not line.startswith(" ")) == needed
    assert all("--hash=sha256:" in line for line in lines if line.startswith(" "))


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(SystemExit, match=r"not in requirements.lock: b"):
        packages.lock_of(["a", "b"], "# A comment.\na==1 \\\n    --hash=sha256:0\nc==1\n")
