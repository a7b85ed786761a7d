"""The host's side of the virtual machine, with a script in the emulator's place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.vm import __main__ as cli
from tests.vm import boot

if TYPE_CHECKING:
    from pathlib import Path

# What it is given: the directory for both, and where the output goes.
_GIVEN = """\
#!/bin/bash
for word; do
    case $word in
    *mount_tag=job*) job=${word#local,path=} job=${job%%,*} ;;
    fd=*) output=${word#fd=} output=${output%%,*} ;;
    esac
done
"""


def machine(directory: Path, script: str) -> boot.Machine:
    emulator = directory / "emulator"
    emulator.write_text(_GIVEN + script)
    emulator.chmod(0o755)
    return boot.Machine((str(emulator),), dict(os.environ))


def test_output_and_exit_code_come_through(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = machine(tmp_path, 'cat "$job/command" "$job/project" >&"$output"; echo 3 >"$job/code"')
    assert boot.run(["echo", "a b"], made) == 3
    assert capfd.readouterr().out == f"exec echo 'a b'\n{boot.ROOT}"


@pytest.mark.parametrize("code", ["", "echo >$job/code;", "echo nonsense >$job/code;"])
def test_a_guest_that_dies_is_a_failure_with_its_last_words(tmp_path: Path, code: str) -> None:
    made = machine(
        tmp_path, f'{code} seq 999 >"$job/console"; echo "Kernel panic" >>"$job/console"; exit 0'
    )
    with pytest.raises(boot.GuestDied, match="ended without a result") as died:
        boot.run(["true"], made)
    assert str(died.value).endswith("    999\n    Kernel panic\n")
    assert " 899\n" not in str(died.value)


def test_an_emulator_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(boot.GuestDied, match=r"(?s)ended with code 1.*no such device"):
        boot.run(["true"], machine(tmp_path, "echo no such device >&2; exit 1"))


@pytest.mark.parametrize("begun", [False, True])
def test_an_emulator_that_crashes_while_it_boots_is_started_once_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, begun: bool
) -> None:
    crash = 'touch "$0.crashed"; echo Assertion >&2; kill -ABRT $$'
    mark = 'touch "$job/begun";' if begun else ""
    made = machine(tmp_path, f'[ -e "$0.crashed" ] || {{ {mark} {crash}; }}; echo 3 >"$job/code"')
    if begun:
        with pytest.raises(boot.GuestDied, match="ended with code -6"):
            boot.run(["true"], made)
        return
    assert boot.run(["true"], made) == 3
    assert "Assertion\n\nonce more" in capfd.readouterr().out


def test_an_emulator_that_crashes_again_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(boot.GuestDied, match="ended with code -6"):
        boot.run(["true"], machine(tmp_path, "kill -ABRT $$"))


def test_a_guest_that_hangs_is_ended(tmp_path: Path) -> None:
    made = machine(tmp_path, 'echo here >"$job/console"; echo $$ >"$0.pid"; exec sleep 600')
    with pytest.raises(boot.GuestDied, match=r"(?s)was ended after 1 s .*here"):
        boot.run(["true"], made, limit=1)
    pid = int((tmp_path / "emulator.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_is_run_in_the_guest() -> None:
    test = cli.command(["test", "-x"])
    assert test is not None
    assert test[1:3] == ["-m", "pytest"]
    assert test[-1] == "-x"
    assert cli.command(["demo"]) == [cli.PYTHON, "-m", "tests.demo.dummy0"]
    assert cli.command(["run", "ip", "link"]) == ["ip", "link"]
    assert cli.command(["run"]) is cli.command([]) is cli.command(["demo", "x"]) is None
