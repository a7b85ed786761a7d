from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import LockTimeout, RecordUnreadable, StateError
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.model import NetnsRef, Owner, Record

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

KEY = ("cni", "c1", "eth0")


def record(sandbox: str = "c1", ifname: str = "eth0", network: str = "net") -> Record:
    return Record(Owner("cni", network, sandbox, ifname), NetnsRef("/p", 1), "boot", True, ())


@pytest.fixture
def journal(tmp_path: Path) -> FileJournal:
    return FileJournal(str(tmp_path / "state"), lock_timeout=0.2)


def files(tmp_path: Path) -> list[str]:
    return sorted(each.name for each in tmp_path.rglob("*") if each.is_file())


def test_records_are_written_read_replaced_and_forgotten(
    journal: FileJournal, tmp_path: Path
) -> None:
    assert journal.read(KEY) is None
    assert journal.records() == ()
    journal.write(record())
    journal.write(record(network="other"))
    journal.write(record("c0"))
    assert journal.read(KEY) == record(network="other")
    assert [each.owner.sandbox for each in journal.records()] == ["c0", "c1"]
    journal.forget(KEY)
    journal.forget(KEY)
    assert files(tmp_path) == ["cni@c0@eth0.json"]


def test_a_record_that_another_process_replaced_is_read_anew(
    journal: FileJournal, tmp_path: Path
) -> None:
    journal.write(record())
    assert journal.records() == (record(),)
    FileJournal(str(tmp_path / "state")).write(record(network="other"))
    assert journal.records() == (record(network="other"),)
    journal.forget(KEY)
    assert journal.records() == ()


def test_a_record_replaced_while_the_clock_stood_still_is_read_anew(
    journal: FileJournal, tmp_path: Path
) -> None:
    """Or was set back: that it is another file tells."""
    journal.write(record(network="one"))
    assert journal.records() == (record(network="one"),)
    path = tmp_path / "state/records/cni@c1@eth0.json"
    then = path.stat().st_mtime_ns
    FileJournal(str(tmp_path / "state")).write(record(network="two"))
    os.utime(path, ns=(then, then))
    assert journal.records() == (record(network="two"),)


def test_what_another_process_forgot_is_not_kept_in_memory(
    journal: FileJournal, tmp_path: Path
) -> None:
    other = FileJournal(str(tmp_path / "state"))
    other.write(record())
    other.write(record("c2"))
    assert len(journal.records()) == 2
    other.forget(KEY)
    assert journal.records() == (record("c2"),)
    assert list(journal._files._known) == ["cni@c2@eth0"]


def test_the_directory_is_for_root_alone(journal: FileJournal, tmp_path: Path) -> None:
    journal.write(record())
    modes = [
        (tmp_path / "state").stat().st_mode & 0o777,
        (tmp_path / "state/records").stat().st_mode & 0o777,
    ]
    assert modes == [0o700, 0o700]


def test_a_directory_that_others_may_write_is_refused(journal: FileJournal, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StateError, match="others may write it"):
        journal.write(record())
    with pytest.raises(StateError, match="others may write it"):
        journal.probe()
    with pytest.raises(StateError, match="others may write it"), journal.lock("x"):
        pass


def test_a_symbolic_link_is_refused(journal: FileJournal, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        journal.probe()


@pytest.mark.parametrize("ifname", ["a@b", "../x", "%41", "é", "a b", "A"])
def test_odd_names_give_files_of_their_own_in_the_directory(
    journal: FileJournal, tmp_path: Path, ifname: str
) -> None:
    others = ["a", "@b", "x", "A" if ifname != "A" else "%41"]
    for each in (*others, ifname):
        journal.write(record(ifname=each))
    assert len(files(tmp_path)) == len(others) + 1
    assert {each.parent.name for each in tmp_path.rglob("*.json")} == {"records"}
    assert journal.read(("cni", "c1", ifname)) == record(ifname=ifname)


def test_a_container_id_too_long_for_a_file_is_an_error(journal: FileJournal) -> None:
    with pytest.raises(StateError, match="too long"):
        journal.write(record("x" * 300))


@pytest.mark.parametrize("where", ["os.write", "os.rename", "os.open"])
def test_a_failed_write_keeps_the_old_record(
    journal: FileJournal, tmp_path: Path, mocker: MockerFixture, where: str
) -> None:
    journal.write(record())
    mocker.patch(where, side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StateError, match="No space left"):
        journal.write(record(network="other"))
    mocker.stopall()
    assert journal.read(KEY) == record()
    assert files(tmp_path) == ["cni@c1@eth0.json"]


def test_an_unreadable_record_is_told_and_can_be_set_aside(
    journal: FileJournal, tmp_path: Path
) -> None:
    journal.write(record())
    journal.write(record("c2"))
    path = tmp_path / "state/records/cni@c1@eth0.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(RecordUnreadable, match=r"cni@c1@eth0\.json"):
        journal.read(KEY)
    assert [each.owner.sandbox for each in journal.records()] == ["c2"]
    assert journal.unreadable()[0][0] == path.name
    assert journal.set_aside(KEY) == f"{path}.unreadable"
    assert journal.read(KEY) is None
    assert "set aside" in journal.unreadable()[0][1]
    assert journal.set_aside(KEY) is None


def test_what_a_killed_writer_left_is_swept(journal: FileJournal, tmp_path: Path) -> None:
    journal.write(record())
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    records, locks = tmp_path / "state/records", tmp_path / "state/locks"
    (records / f"cni@c2@eth0.json.{child}.tmp").write_text("")
    (records / f"cni@c3@eth0.json.{os.getpid()}.tmp").write_text("")
    locks.mkdir()
    (locks / "left.lock").write_text("1")
    with journal.lock("held"):
        journal.sweep()
        assert files(tmp_path) == sorted(
            ["cni@c1@eth0.json", f"cni@c3@eth0.json.{os.getpid()}.tmp", "held.lock"]
        )
    journal.forget(("cni", "c3", "eth0"))
    assert files(tmp_path) == ["cni@c1@eth0.json"]


def pinned(journal: FileJournal, mocker: MockerFixture, *names: str) -> None:
    mocker.patch.object(journal._pins, "names", return_value=list(names))


def test_a_pin_made_in_the_same_moment_is_no_orphan(
    journal: FileJournal, mocker: MockerFixture
) -> None:
    """Pins are listed before records, since a record stands before its pin is made."""
    order: list[str] = []

    def list_pins() -> list[str]:
        order.append("pins")
        return ["cni@c1@eth0"]

    mocker.patch.object(journal._pins, "names", list_pins)
    listed = journal._files.listed

    def list_records() -> list[str]:
        order.append("records")
        journal.write(record())
        return listed()

    mocker.patch.object(journal._files, "listed", list_records)
    assert journal.orphans() == ()
    assert order == ["pins", "records"]


def test_an_unreadable_record_keeps_its_pin(journal: FileJournal, mocker: MockerFixture) -> None:
    journal.write(record())
    journal.set_aside(KEY)
    pinned(journal, mocker, "cni@c1@eth0", "cni@c2@eth0")
    assert journal.orphans() == (("cni", "c2", "eth0"),)


@pytest.mark.parametrize("sandbox", ["c1.json.x", "a@b", "%41", "é", "../x", "", "a\ud800"])
def test_a_container_id_like_a_file_name_keeps_its_pin(
    journal: FileJournal, mocker: MockerFixture, sandbox: str
) -> None:
    journal.write(record(sandbox))
    (name,) = (each.removesuffix(".json") for each in journal._files.listed())
    pinned(journal, mocker, name)
    assert journal.orphans() == ()
    journal.forget(("cni", sandbox, "eth0"))
    assert journal.orphans() == (("cni", sandbox, "eth0"),)


@pytest.mark.parametrize("name", ["x", "a@b@c", "cni@c1", "cni@c1@eth0@x", "cni@%4@x", "cni@%ff@x"])
def test_a_pin_that_is_nobodys_is_swept(
    journal: FileJournal, mocker: MockerFixture, name: str
) -> None:
    pinned(journal, mocker, name, "cni@c1@eth0")
    dropped = mocker.patch.object(journal._pins, "drop")
    assert journal.orphans() == (KEY,)
    journal.sweep()
    assert [call.args[0] for call in dropped.call_args_list] == [name]


def test_probe_leaves_nothing(journal: FileJournal, tmp_path: Path) -> None:
    journal.probe()
    assert files(tmp_path) == []
    with pytest.raises(StateError):
        FileJournal(f"{Path(__file__)}/x").probe()


def test_a_lock_is_held_by_one_and_leaves_no_file(journal: FileJournal, tmp_path: Path) -> None:
    with journal.lock("link/7"):
        for wait in (True, False):
            with (
                pytest.raises(LockTimeout, match=f"process {os.getpid()}"),
                journal.lock("link/7", wait=wait),
            ):
                pass
        with journal.lock("another"):
            pass
    assert files(tmp_path) == []
    with journal.lock("link/7"):
        pass


def test_a_dead_holders_lock_is_free(journal: FileJournal, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        manager = journal.lock("x")
        manager.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert files(tmp_path) == ["x.lock"]
    with journal.lock("x", wait=False):
        pass
    assert files(tmp_path) == []
