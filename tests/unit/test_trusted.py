"""Which files are read, and that none makes the reader wait."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import trusted
from cni_netdev.core.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir(0o755)
    made = directory / "policy.yaml"
    made.write_text("default: deny\n")
    made.chmod(0o644)
    return made


def refusal(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        trusted.read(str(path))
    (fault,) = caught.value.faults
    assert fault.path == str(path)
    return fault.message


def belongs_to_nobody(path: Path, mocker: MockerFixture) -> None:
    """As chown(1), which needs root, would have it."""
    inode = path.stat().st_ino

    def changed(found: os.stat_result) -> os.stat_result:
        if found.st_ino != inode:
            return found
        fields = list(found)
        fields[4] = NOBODY
        return os.stat_result(fields)

    stat, fstat = os.stat, os.fstat
    mocker.patch("os.stat", lambda *args, **more: changed(stat(*args, **more)))
    mocker.patch("os.fstat", lambda fd: changed(fstat(fd)))


def test_a_file_of_ones_own(file: Path) -> None:
    assert trusted.read(str(file)) == "default: deny\n"
    file.chmod(0o600)
    file.parent.chmod(0o700)
    assert trusted.read(str(file)) == "default: deny\n"


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o664, 0o602])
def test_others_may_write_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert refusal(file) == "must be root's and not writable by others"


def test_it_is_another_users(file: Path, mocker: MockerFixture) -> None:
    belongs_to_nobody(file, mocker)
    assert refusal(file) == "must be root's and not writable by others"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o1757])
def test_others_may_put_another_in_its_place(file: Path, mode: int) -> None:
    file.parent.chmod(mode)
    assert f"its directory {file.parent} must be root's and not writable" in refusal(file)


def test_its_directory_is_another_users(file: Path, mocker: MockerFixture) -> None:
    belongs_to_nobody(file.parent, mocker)
    assert f"its directory {file.parent} must be root's" in refusal(file)


def test_a_link_is_followed_and_what_it_leads_to_is_judged(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    assert trusted.read(str(link)) == "default: deny\n"
    file.chmod(0o666)
    assert refusal(link) == "must be root's and not writable by others"
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert f"its directory {file.parent} must be root's" in refusal(link)


def test_a_config_map(tmp_path: Path) -> None:
    """As the kubelet lays it out: the volume is everybody's, what the files are in is not."""
    volume = tmp_path / "volume"
    (volume / "..2026_01_30").mkdir(parents=True)
    volume.chmod(0o777)
    (volume / "..2026_01_30").chmod(0o755)
    (volume / "..2026_01_30" / "policy.yaml").write_text("{}")
    (volume / "..data").symlink_to("..2026_01_30")
    (volume / "policy.yaml").symlink_to("..data/policy.yaml")
    assert trusted.read(str(volume / "policy.yaml")) == "{}"


def test_a_fifo_or_device_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    said: list[str] = []

    def read() -> None:
        said.extend((refusal(fifo), refusal(fifo.parent), refusal(fifo.parent.with_name("none"))))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(20)
    assert said[:2] == ["must be a regular file", "must be a regular file"]
    assert "cannot be read: [Errno 2]" in said[2]
    with pytest.raises(RequestError, match="must be a regular file"):
        trusted.read("/dev/zero")


def test_a_link_to_nowhere_or_to_itself(tmp_path: Path) -> None:
    for target in ("nowhere", "round"):
        (tmp_path / target[:1]).symlink_to(target)
    (tmp_path / "round").symlink_to("round")
    for name in ("n", "r"):
        assert "cannot be read" in refusal(tmp_path / name)


def test_size(file: Path) -> None:
    file.write_bytes(b"#" * trusted.MOST_BYTES)
    assert len(trusted.read(str(file))) == trusted.MOST_BYTES
    file.write_bytes(b"#" * (trusted.MOST_BYTES + 1))
    assert refusal(file) == "has more than 1048576 bytes"
    os.truncate(file, 1 << 40)  # sparse: reading it whole would take all memory
    assert refusal(file) == "has more than 1048576 bytes"


def test_no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read: 'utf-8' codec" in refusal(file)


def test_no_descriptor_is_left(file: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    trusted.read(str(file))
    file.chmod(0o666)
    refusal(file)
    assert len(os.listdir("/proc/self/fd")) == before
