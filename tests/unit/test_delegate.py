"""Other plugins' programs: found, fed, and stopped when they say too much or take too long."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cni_netdev import delegate
from cni_netdev.core.errors import LeaseRefused

if TYPE_CHECKING:
    from pathlib import Path

ENVIRON = {"PATH": os.environ["PATH"], "CNI_COMMAND": "ADD"}


def program(directory: Path, text: str, name: str = "plugin") -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_the_first_in_the_path_that_is_a_file(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "plugin").mkdir()
    program(tmp_path / "two", "")
    program(tmp_path / "three", "")
    path = f"{tmp_path}/none:{tmp_path}/one::relative:{tmp_path}/two:{tmp_path}/three"
    assert delegate.find("plugin", path) == f"{tmp_path}/two/plugin"
    with pytest.raises(LeaseRefused, match=r"no such plugin in /.*three"):
        delegate.find("other", path)


@pytest.mark.parametrize("path", ["", "bin", ".:bin"])
def test_nothing_is_found_by_where_we_happen_to_be(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "")
    program(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LeaseRefused, match="which is empty"):
        delegate.find("plugin", path)


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_it_gets_stdin_and_environment_and_its_answer_comes_back(tmp_path: Path, size: int) -> None:
    before = descriptors()
    echo = program(tmp_path, 'printf "%s " "$CNI_COMMAND"; exec cat')
    assert delegate.run(echo, ENVIRON, b"x" * size) == (0, b"ADD " + b"x" * size)
    assert descriptors() == before


def test_how_it_ended(tmp_path: Path) -> None:
    assert delegate.run(program(tmp_path, "echo no; exit 3"), ENVIRON, b"") == (3, b"no\n")
    assert delegate.run(program(tmp_path, "kill -9 $$"), ENVIRON, b"") == (-9, b"")


def test_it_has_none_of_our_descriptors(tmp_path: Path) -> None:
    (tmp_path / "ours").touch()
    with (tmp_path / "ours").open():
        status, listed = delegate.run(program(tmp_path, "exec ls -l /proc/self/fd"), ENVIRON, b"")
    assert status == 0
    assert b"cni-stdin" in listed
    assert b"ours" not in listed


def test_too_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegate, "MOST_BYTES", 100_000)
    before = descriptors()
    with pytest.raises(LeaseRefused, match="more than 100000 bytes"):
        delegate.run(program(tmp_path, "exec cat /dev/zero"), ENVIRON, b"")
    assert descriptors() == before


def test_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    """They would hold the FIFO open, and go on with what they were at."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    slow = program(tmp_path, f"sleep 1000 > {fifo} & echo so far; exec sleep 1000")
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(LeaseRefused, match=r"took more than 0\.3 s and was killed"):
        delegate.run(slow, ENVIRON, b"", seconds=0.3)
    os.set_blocking(reading, True)
    assert os.read(reading, 1) == b"", "nobody has it open any more"
    os.close(reading)


def test_a_child_that_stays_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    daemon = program(tmp_path, f"(exec cat {fifo}) & echo done")
    assert delegate.run(daemon, ENVIRON, b"") == (0, b"done\n")
    os.close(os.open(fifo, os.O_WRONLY))


def test_what_cannot_be_run(tmp_path: Path) -> None:
    before = descriptors()
    path = program(tmp_path, "")
    os.chmod(path, 0o644)
    with pytest.raises(LeaseRefused, match="plugin cannot be run: Permission denied"):
        delegate.run(path, ENVIRON, b"")
    assert descriptors() == before
