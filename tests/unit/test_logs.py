"""Log lines: text and JSON, whatever a tenant writes into them; levels; files."""

from __future__ import annotations

import json
import os
import re
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core import logs
from cni_netdev.core.logs import Log

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

STAMP = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
# newline, carriage return, ESC, DEL, C1's CSI, a quote, a backslash, beyond ASCII, a surrogate
NASTY = 'a\nb\rc\x1b[31m\x7f\x9b"\\ü☃\U0001f600\udcff'


class Lines:
    """A log into a file, and its lines."""

    def __init__(self, path: Path, level: str = "debug", style: str = "text") -> None:
        self.path = path
        self.log = Log()
        self.log.become(str(path), level, style)

    def read(self) -> list[str]:
        return self.path.read_text("ascii").splitlines()

    def last(self) -> str:
        return self.read()[-1]


@pytest.fixture
def text(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "text")


@pytest.fixture
def as_json(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "json", style="json")


def test_a_line_of_text(text: Lines) -> None:
    text.log.info("attached", pod="solver", devices=["eth1 as net1", "eth2"], ms=16.2, count=0)
    wanted = r'level=info msg=attached pod=solver devices="eth1 as net1, eth2" ms=16.2 count=0'
    assert re.fullmatch(f"time={STAMP} {wanted}", text.last())


def test_a_line_of_json(as_json: Lines) -> None:
    as_json.log.warn(  # noqa: G010 - our own log
        "attached", pod="solver", devices=["eth1", "eth2"], error=ValueError("why")
    )
    found = json.loads(as_json.last())
    assert re.fullmatch(STAMP, found.pop("time"))
    assert found == {
        "level": "warn",
        "msg": "attached",
        "pod": "solver",
        "devices": ["eth1", "eth2"],
        "error": "why",
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_fields_that_say_nothing_are_left_out(tmp_path: Path, style: str) -> None:
    lines = Lines(tmp_path / "log", style=style)
    lines.log.info("x", a=None, b="", c=(), d=[], e=0, f=False)
    assert not re.search(r"\b[abcd]\b", lines.last())
    assert re.search(r"\be\b.*\bf\b", lines.last())


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_a_tenant_writes_stays_within_its_line(tmp_path: Path, style: str) -> None:
    lines = Lines(tmp_path / "log", style=style)
    lines.log.info(NASTY, pod=NASTY, devices=[NASTY, NASTY], error=ValueError(NASTY))
    lines.log.info("next")
    data = lines.path.read_bytes()
    assert data.count(b"\n") == 2
    assert all(each == 0x0A or 0x20 <= each < 0x7F for each in data)
    for escaped in (rb"\n", rb"\r", rb"\u001b", rb"\u007f", rb"\u009b", rb"\"", rb"\u2603"):
        assert escaped in data


@given(st.text(st.characters(), max_size=20), st.text(st.characters(), max_size=20))
def test_json_gives_back_what_was_said(message: str, value: str) -> None:
    line = logs._as_json({"msg": message, "value": value})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"msg": message, "value": value}


@given(st.text(st.characters(), max_size=20))
def test_a_text_value_has_one_field_and_gives_back_what_was_said(value: str) -> None:
    line = logs._as_text({"a": value, "b": 1})
    assert line.isascii()
    assert line.isprintable()
    match = re.fullmatch(r'a=("(?:[^"\\]|\\.)*"|[^ "=]+) b=1', line)
    assert match is not None
    assert (json.loads(match[1]) if match[1].startswith('"') else match[1]) == value


@pytest.mark.parametrize(
    ("level", "told"), [("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e")]
)
def test_levels(tmp_path: Path, level: str, told: str) -> None:
    lines = Lines(tmp_path / "log", level)
    for name in ("debug", "info", "warn", "error"):
        getattr(lines.log, name)(name[0])
    assert [line.split("msg=")[1] for line in lines.read()] == list(told)


@pytest.mark.parametrize("style", ["text", "json"])
def test_one_write_for_each_line(tmp_path: Path, style: str, mocker: MockerFixture) -> None:
    lines = Lines(tmp_path / "log", style=style)
    write = mocker.spy(os, "write")
    lines.log.info("first", pod="x" * 10_000)
    lines.log.error("second")
    assert write.call_count == 2
    assert all(call.args[1].endswith(b"\n") for call in write.call_args_list)


def test_info_to_stderr_to_begin_with(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    log.debug("too fine")
    log.info("seen")
    told = capfd.readouterr()
    assert told.out == ""
    assert re.fullmatch(rf"time={STAMP} level=info msg=seen\n", told.err)


def test_back_to_stderr(text: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    text.log.become(None, None, None)
    text.log.debug("too fine")
    text.log.info("seen")
    assert "msg=seen" in capfd.readouterr().err
    assert text.read() == []


def test_a_bad_path_changes_nothing(text: Lines, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        text.log.become(str(tmp_path / "none" / "log"), "error", "json")
    text.log.debug("still here")
    assert "level=debug" in text.last()


def test_a_file_is_appended_to_and_is_nobody_elses(text: Lines, tmp_path: Path) -> None:
    text.log.info("first")
    text.log.become(str(tmp_path / "other"), "info", "text")
    text.log.become(str(text.path), "info", "text")
    text.log.info("second")
    assert [line.split("msg=")[1] for line in text.read()] == ["first", "second"]
    assert text.path.stat().st_mode & 0o777 == 0o600


def test_no_descriptor_is_left_behind(text: Lines, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        text.log.become(str(tmp_path / "log"), None, None)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_line_that_cannot_be_written_is_lost(text: Lines, mocker: MockerFixture) -> None:
    mocker.patch("os.write", side_effect=OSError(28, "No space left on device"))
    text.log.error("lost")


def test_a_stderr_that_nobody_reads_keeps_nobody_waiting(mocker: MockerFixture) -> None:
    reader, writer = os.pipe()
    mocker.patch.object(logs, "_STDERR", writer)
    log = Log()

    def much() -> None:
        for _ in range(500):
            log.info("lost", pod="x" * 10_000)

    thread = threading.Thread(target=much, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    told = os.read(reader, 1 << 20)
    log.info("read again")
    *whole, torn, last = (told + os.read(reader, 1 << 20)).decode().splitlines()
    assert all("msg=lost" in line and len(line) > 10_000 for line in whole)
    assert len(torn) < 10_000
    assert last.endswith('msg="read again"')
    os.close(reader)
    log.info("nobody is there")
    os.close(writer)


def test_a_file_is_not_closed_while_somebody_writes(
    text: Lines, tmp_path: Path, mocker: MockerFixture
) -> None:
    """Its descriptor could be another file's by then."""
    close, write = os.close, os.write
    writing, closed = threading.Event(), threading.Event()

    def slowly(fd: int, data: bytes) -> int:
        writing.set()
        assert not closed.wait(0.1)
        return write(fd, data)

    def closing(fd: int) -> None:
        close(fd)
        if fd == first:
            closed.set()

    first = text.log._fd
    mocker.patch("os.write", slowly)
    mocker.patch("os.close", closing)
    thread = threading.Thread(target=text.log.info, args=("first",))
    thread.start()
    assert writing.wait(10)
    text.log.become(str(tmp_path / "other"), None, None)
    thread.join()
    assert text.last().endswith("msg=first")
