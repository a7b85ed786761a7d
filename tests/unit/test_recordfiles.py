"""What is done when the directory of records is taken away below a process that read it.

How single records are read and written is tested through the journal.
"""

from __future__ import annotations

import gc
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import StateError
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.model import NetnsRef, Owner, Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(sandbox: str) -> Record:
    return Record(Owner("cni", "net", sandbox, "eth0"), NetnsRef("/p", 1), "boot", True, ())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def resident(state: Path) -> FileJournal:
    """One that has read two records, c1 and c2."""
    journal = FileJournal(str(state), resident=True)
    journal.write(record("c1"))
    journal.write(record("c2"))
    assert len(journal.records()) == 2
    return journal


def removed(state: Path) -> None:
    shutil.rmtree(state)


def renamed(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))


def replaced(state: Path) -> None:
    renamed(state)
    FileJournal(str(state)).write(record("c3"))


def without_its_records(state: Path) -> None:
    """As `rm -rf` does where pins are mounted: they and what they are in stay."""
    shutil.rmtree(state / "records")


@pytest.mark.parametrize("accident", [removed, renamed, replaced, without_its_records])
def test_what_is_remembered_is_put_back_and_that_is_said_once(
    resident: FileJournal, state: Path, accident: Callable[[Path], None]
) -> None:
    accident(state)
    with pytest.raises(StateError, match="removed or replaced: 2 records") as caught:
        resident.records()
    assert "nothing else may touch" in caught.value.details
    expected = {"c1", "c2"} | ({"c3"} if accident is replaced else set())
    for journal in (resident, FileJournal(str(state))):
        assert {each.owner.sandbox for each in journal.records()} == expected
    assert resident.unreadable() == ()


def test_what_was_only_written_is_remembered_too(state: Path) -> None:
    journal = FileJournal(str(state), resident=True)
    journal.write(record("c1"))
    removed(state)
    with pytest.raises(StateError, match="removed or replaced: 1 records"):
        journal.records()
    assert journal.records() == (record("c1"),)


def test_what_another_put_there_meanwhile_stays(resident: FileJournal, state: Path) -> None:
    removed(state)
    newer = record("c1")._replace(boot_id="newer")
    FileJournal(str(state)).write(newer)
    with pytest.raises(StateError, match="1 records"):
        resident.records()
    assert newer in resident.records()


def test_what_was_forgotten_stays_so(resident: FileJournal, state: Path) -> None:
    """By this process or another, as long as the directory is the same."""
    FileJournal(str(state)).forget(("cni", "c1", "eth0"))
    assert [each.owner.sandbox for each in resident.records()] == ["c2"]
    resident.forget(("cni", "c2", "eth0"))
    removed(state)
    assert resident.records() == ()
    assert not state.exists()


def test_as_long_as_nothing_can_be_put_back_it_is_tried_again(
    resident: FileJournal, state: Path
) -> None:
    removed(state)
    state.write_text("a file")
    for _ in range(2):
        with pytest.raises(StateError, match="cannot make"):
            resident.records()
    state.unlink()
    with pytest.raises(StateError, match="2 records"):
        resident.records()
    assert len(resident.records()) == 2


def test_what_another_process_does_to_a_record_is_seen(resident: FileJournal, state: Path) -> None:
    other = FileJournal(str(state))
    key = ("cni", "c1", "eth0")
    for complete in (False, True):
        newer = record("c1")._replace(complete=complete)
        other.write(newer)
        assert resident.read(key) == newer
    text = (path := next((state / "records").glob("*c1*"))).read_text()
    path.write_text(text.replace('"boot"', '"root"'))
    assert resident.read(key) == record("c1")._replace(boot_id="root")
    other.forget(key)
    assert resident.read(key) is None
    removed(state)
    with pytest.raises(StateError, match="1 records"):
        resident.records()
    assert [each.owner.sandbox for each in resident.records()] == ["c2"]


def test_the_accident_may_happen_again(resident: FileJournal, state: Path) -> None:
    for _ in range(3):
        replaced(state) if state.exists() else None
        shutil.rmtree(state.with_name("elsewhere"))
        with pytest.raises(StateError, match="removed or replaced"):
            resident.records()


def test_a_process_that_does_not_stay_puts_nothing_back(state: Path) -> None:
    journal = FileJournal(str(state))
    journal.write(record("c1"))
    assert len(journal.records()) == 1
    removed(state)
    assert journal.records() == ()


def test_no_descriptor_is_left_open(state: Path) -> None:
    """A new journal is made at each Configure."""
    gc.collect()  # what other tests left
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        journal = FileJournal(str(state), resident=True)
        journal.write(record("c1"))
        assert len(journal.records()) == 1
        del journal
    assert os.listdir("/proc/self/fd") == before
