"""A tree packed so that the same files always give the same bytes."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TIME = 1577836800  # 2020-01-01, of every file: some tools take 0 for a mistake


def pack(tree: Path, target: Path) -> None:
    """As root's, in the order of the names, below a directory of the tree's name."""
    unfinished = target.with_name(f"{target.name}.part")
    with tarfile.open(unfinished, "w:xz", format=tarfile.PAX_FORMAT, preset=6) as archive:
        for path in [tree, *sorted(tree.rglob("*"))]:
            entry = archive.gettarinfo(path, f"{tree.name}/{path.relative_to(tree)}".rstrip("/."))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = _TIME
            entry.mode = 0o755 if path.is_dir() else entry.mode & 0o777
            if path.is_file():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    unfinished.rename(target)
