"""Which state directories a node's conflists name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cni_netdev.policysource import entries
from cni_netdev.request import CniError, read_config

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = frozenset((".conf", ".conflist", ".json"))  # libcni's


def named_in(conf_dir: Path) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Those of our entries, in the order of the files; and the files that cannot be read.

    A directory that is not there has none.
    """
    named: dict[str, None] = {}
    unread = []
    for path in sorted(conf_dir.iterdir()) if conf_dir.is_dir() else ():
        if path.suffix not in _SUFFIXES:
            continue
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            unread.append(path)
            continue
        for entry in entries(document):
            try:
                named[read_config(entry, strict=False).state_dir] = None
            except CniError:
                unread.append(path)
    return tuple(named), tuple(unread)
