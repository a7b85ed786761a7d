"""Fixtures for tests in the virtual machine, whose own namespaces are the host's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import STATE_DIR, Host, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Host]:
    """The guest itself, in its initial namespaces, bare again afterwards but for its hardware."""
    yield Host(tmp_path)
    for each in Path("/run/netns").iterdir():
        run("ip", "netns", "delete", each.name)
    for name in {each.name for each in Path("/sys/class/net").iterdir()} - {"lo"}:
        # Hardware stays, and some are gone with another by then.
        for command in (f"link delete {name}", f"link set {name} down", f"addr flush dev {name}"):
            subprocess.run(["ip", *command.split()], check=False, capture_output=True)
    subprocess.run(["umount", "--lazy", f"{STATE_DIR}/pins"], check=False, capture_output=True)
    run("rm", "-rf", str(STATE_DIR))
