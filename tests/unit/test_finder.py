"""What is found is what the import system would have found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHOW = "print(module.answer(), module.__spec__.loader.__module__)\n"
QUICK, SYSTEM = "cni_netdev.core.finder", "_frozen_importlib_external"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A pyroute2 with one module, which has run once, so that its .pyc is there."""
    made = tmp_path / "pyroute2"
    (made / "inner").mkdir(parents=True)
    (made / "__init__.py").write_text("")
    (made / "inner" / "__init__.py").write_text("def answer():\n    return 'one'\n")
    (made / "module.py").write_text("def answer():\n    return 'one'\n")
    assert run(tmp_path) == ["one", SYSTEM, "one", SYSTEM]
    return made


def run(directory: Path, before: str = "") -> list[str]:
    script = (
        f"import sys\nsys.path[:0] = [{str(directory)!r}, {str(ROOT)!r}]\n"
        f"from cni_netdev.core import finder\nfinder.install()\n{before}"
        f"from pyroute2 import module\n{SHOW}import pyroute2.inner as module\n{SHOW}"
    )
    command = [sys.executable, "-IS", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_modules_and_packages_are_found_with_their_code(package: Path) -> None:
    assert run(package.parent) == ["one", QUICK, "one", QUICK]


def test_a_changed_source_is_never_run_from_an_old_pyc(package: Path) -> None:
    source = package / "module.py"
    source.write_text("def answer():\n    return 'two'\n")
    os.utime(source, (1, 1))
    assert run(package.parent) == ["two", SYSTEM, "one", QUICK]
    assert run(package.parent) == ["two", QUICK, "one", QUICK]
    source.write_text("def answer():\n    return 'three'\n")
    os.utime(source, (1, 1))
    assert run(package.parent)[0] == "three"


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 40])
def test_a_torn_or_foreign_pyc_is_passed_over(package: Path, content: bytes) -> None:
    cached = next((package / "__pycache__").glob("module.*"))
    cached.write_bytes(content)
    assert run(package.parent) == ["one", SYSTEM, "one", QUICK]


def test_a_pyc_that_is_checked_by_hash_is_left_to_the_import_system(package: Path) -> None:
    mode = "py_compile.PycInvalidationMode.CHECKED_HASH"
    source = str(package / "module.py")
    script = f"import py_compile; py_compile.compile({source!r}, invalidation_mode={mode})"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert run(package.parent)[1] == SYSTEM


def test_a_pyc_that_needs_no_look_at_its_source_is_taken(package: Path) -> None:
    """As the bundle's, whose files may have got other times by being copied."""
    source = package / "module.py"
    mode = "py_compile.PycInvalidationMode.UNCHECKED_HASH"
    script = f"import py_compile; py_compile.compile({str(source)!r}, invalidation_mode={mode})"
    subprocess.run([sys.executable, "-c", script], check=True)
    os.utime(source, (1, 1))
    assert run(package.parent) == ["one", QUICK, "one", QUICK]


def test_what_is_not_there_is_missed_as_always(package: Path) -> None:
    before = "try: import pyroute2.none\nexcept ModuleNotFoundError as error: print(error.name)\n"
    assert run(package.parent, before)[0] == "pyroute2.none"


def test_an_error_tells_the_line(package: Path) -> None:
    script = "import traceback\ntry: import pyroute2.bad\nexcept ZeroDivisionError: "
    (package / "bad.py").write_text("x = 1\nx / 0\n")
    for _ in range(2):  # by the import system, and then from its .pyc
        told = run(package.parent, f"{script}print(traceback.format_exc())\n")
        assert f'"{package / "bad.py"}",' in told
        assert {"line", "2,"} <= set(told)


def test_others_modules_are_not_looked_for() -> None:
    script = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from cni_netdev.core import finder\nfinder.install()\nimport json, cni_netdev.main\n"
        "print(json.__spec__.loader.__class__.__module__)"
    )
    command = [sys.executable, "-IS", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{SYSTEM}\n"
