from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cni_netdev.statedirs import named_in

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def test_what_our_entries_name(tmp_path: Path) -> None:
    ours = {"type": "cni-netdev"}
    write(tmp_path / "20.conflist", {"plugins": [{"type": "ptp"}, {**ours, "stateDir": "/run/b"}]})
    write(tmp_path / "10.conf", {**ours, "stateDir": "/run/a"})
    write(tmp_path / "30.json", {**ours, "logLevel": "wrong, which is another matter"})
    write(tmp_path / "40.conflist", {"plugins": [{**ours, "stateDir": "/run/a"}]})
    write(tmp_path / "50.conflist", {"plugins": [{"type": "ptp", "stateDir": "/run/c"}]})
    write(tmp_path / "60.conflist.example", {**ours, "stateDir": "/run/d"})
    assert named_in(tmp_path) == (("/run/a", "/run/b", "/run/cni-netdev"), ())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    torn, deep, odd, folder = (tmp_path / f"{each}.conflist" for each in "abcd")
    torn.write_text("{")
    deep.write_text("[" * 100_000)
    write(odd, {"type": "cni-netdev", "stateDir": 5})
    folder.mkdir()
    others: tuple[Any, ...] = (None, [], {"plugins": 5}, {"plugins": [5]})
    for number, document in enumerate(others):
        write(tmp_path / f"{number}.conf", document)
    assert named_in(tmp_path) == ((), (torn, deep, odd, folder))


def test_a_directory_that_is_not_there_names_none(tmp_path: Path) -> None:
    assert named_in(tmp_path / "none") == ((), ())
