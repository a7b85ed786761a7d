"""The version of the code: the same for the same, another for any other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cni_netdev import source

PACKAGE = Path(source.__file__).parent


def told(directory: Path) -> str:
    script = "from cni_netdev import source; print(source.version())"
    command = [
        sys.executable,
        "-ISc",
        f"import sys; sys.path.insert(0, {str(directory)!r}); {script}",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_tells_code_apart(tmp_path: Path) -> None:
    copy = tmp_path / "cni_netdev"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert told(tmp_path) == source.version()
    changed = copy / "core" / "plan.py"
    changed.write_text(changed.read_text() + "\n")
    assert told(tmp_path) != source.version()
    changed.write_text((PACKAGE / "core" / "plan.py").read_text())
    changed.rename(changed.with_name("plans.py"))
    assert told(tmp_path) != source.version()
