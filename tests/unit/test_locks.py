from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import locks
from cni_netdev.core.errors import LockTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture


def test_many_processes_never_hold_it_together(tmp_path: Path) -> None:
    """Each adds one to a number that is read and written in two steps."""
    number, lock = tmp_path / "number", str(tmp_path / "lock")
    number.write_text("0")
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            for _ in range(30):
                held = locks.acquire(lock, 30)
                number.write_text(str(int(number.read_text()) + 1))
                locks.release(lock, held)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert number.read_text() == "180"
    assert not os.path.exists(lock)


def test_who_waited_for_a_file_that_is_gone_starts_again(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    held = locks.acquire(lock, 0)
    waiting = os.open(lock, os.O_RDWR)
    locks.release(lock, held)
    newer = locks.acquire(lock, 0)
    assert locks._try(waiting)
    assert not locks._still_at(lock, waiting)
    assert locks._still_at(lock, newer)
    locks.release(lock, newer)
    os.close(waiting)


def test_a_file_that_cannot_be_removed_holds_nobody_up(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    lock = str(tmp_path / "lock")
    mocker.patch("os.unlink", side_effect=OSError(errno.EIO, "Input/output error"))
    locks.release(lock, locks.acquire(lock, 0))
    locks.release(lock, locks.acquire(lock, 0))
    with pytest.raises(OSError, match="Input/output error"):
        locks.sweep(str(tmp_path))
    mocker.stopall()
    locks.sweep(str(tmp_path))
    assert not os.path.exists(lock)


def test_what_stands_in_the_way_of_a_sweep_is_told_when_the_rest_is_done(tmp_path: Path) -> None:
    for name in ("a", "z"):
        (tmp_path / name).touch()
    (tmp_path / "m").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        locks.sweep(str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_a_full_disk_keeps_nobody_from_a_lock(tmp_path: Path, mocker: MockerFixture) -> None:
    """A device must come home then too."""
    mocker.patch("os.write", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    lock = str(tmp_path / "lock")
    held = locks.acquire(lock, 0)
    with pytest.raises(LockTimeout, match="by process unknown"):
        locks.acquire(lock, 0)
    locks.release(lock, held)
    assert not os.path.exists(lock)
