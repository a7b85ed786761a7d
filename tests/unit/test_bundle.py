"""Where a bundle is put down, and that it is whole; tests/e2e/test_bundle.py runs a real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cni_netdev import bundle, elf
from cni_netdev.core.errors import StateError
from tests.unit.test_elf import program

VERSION = "0.1.0"


def made(tree: Path, content: str = "x = 1\n") -> Path:
    """A bundle of three files, as bundling makes one."""
    loader = elf.with_loader(program(b"/", room=300), bundle.NO_LOADER)
    files = {bundle.PYTHON: loader, "lib/a.py": content.encode(), "LICENSE": b"text\n"}
    for name, data in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if name == bundle.PYTHON else 0o644)
    title = f"cni-netdev {VERSION} x86_64"
    (tree / bundle.MANIFEST).write_text(bundle.manifest(tree, title))
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return made(tmp_path / "unpacked")


def test_this_checkout_is_none() -> None:
    assert bundle.running() is None


def test_programs_and_interpreter_know_where_they_lie(tree: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        target = bundle.put_down(tree, tmp_path / "opt")
    finally:
        os.umask(before)
    assert target.parent == tmp_path / "opt"
    assert target.name.startswith(f"{VERSION}-")
    assert elf.loader((target / bundle.PYTHON).read_bytes()) == f"{target}/{bundle.LOADER}"
    for name, module in bundle.PROGRAMS.items():
        text = (target / "bin" / name).read_text()
        assert text.startswith(f"#!{target}/{bundle.PYTHON} -IS\n")
        assert f"from {module} import entry" in text
        assert os.access(target / "bin" / name, os.X_OK)
    modes = {each.stat().st_mode & 0o777 for each in (tmp_path / "opt").rglob("*")}
    assert modes == {0o755, 0o644}
    bundle.switch(target)
    assert (tmp_path / "opt/bin/netdevctl").samefile(target / "bin/netdevctl")


def test_each_version_has_a_directory_of_its_own(tree: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    first = bundle.put_down(tree, prefix)
    second = bundle.put_down(made(tmp_path / "newer", "x = 2\n"), prefix)
    bundle.switch(first)
    bundle.switch(second)
    assert bundle.versions(prefix) == sorted([first, second])
    assert bundle.default_prefix(first) == prefix
    assert bundle.default_prefix(tree) == Path(bundle.DEFAULT_PREFIX)
    bundle.remove(first)
    assert (prefix / "bin").resolve() == second / "bin"
    bundle.remove(second)
    assert not prefix.exists()


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("x" * 220, "cannot stand in a script's first line"),
        ("a place", "no white space"),
        ("a\nplace", "no white space"),
    ],
)
def test_a_place_that_a_script_cannot_name(
    tree: Path, tmp_path: Path, prefix: str, why: str
) -> None:
    with pytest.raises(StateError) as caught:
        bundle.put_down(tree, tmp_path / prefix)
    assert why in f"{caught.value.message} {caught.value.details}"
    assert not (tmp_path / prefix).exists()


@pytest.mark.parametrize("name", ["LICENSE", "lib/a.py", bundle.PYTHON])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_one_is_not_put_down(
    tree: Path, tmp_path: Path, name: str, missing: bool
) -> None:
    if missing:
        (tree / name).unlink()
    else:
        (tree / name).write_bytes(b"another")
    with pytest.raises(StateError, match=name.rpartition("/")[2]):
        bundle.put_down(tree, tmp_path / "opt")
    assert bundle.versions(tmp_path / "opt") == []


def test_what_a_killed_installation_left_is_cleared(tree: Path, tmp_path: Path) -> None:
    target = bundle.put_down(tree, tmp_path / "opt")
    bundle.remove(target)
    left = target.with_name(f".{target.name}.new")
    left.mkdir(parents=True)
    (left / "half").write_text("")
    assert bundle.put_down(tree, tmp_path / "opt") == target
    assert sorted(each.name for each in target.parent.iterdir()) == [target.name]
    assert not (target / "half").exists()


def test_who_runs_from_it(tmp_path: Path) -> None:
    assert bundle.users(tmp_path) == []
    everybody = bundle.users(Path(os.path.realpath(sys.executable)).parents[1])
    assert os.getpid() not in everybody
