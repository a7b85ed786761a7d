"""No clock is asked what is so: neither the time of day nor how long the machine has run."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.host import ROOT, STATE_DIR
from tests.linkstate import capture, differences
from tests.unit.test_layout import uses_of

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "cni-netdev",
    "devices": [{"name": "nic1", "new_name": "net1"}],
}
# The time of day stands in log lines, and nowhere else.
LOGS = {"main.py", "logs.py"}


def test_the_time_of_day_is_for_logs_only() -> None:
    for path in (*(ROOT / "cni_netdev").rglob("*.py"), *(ROOT / "nri_plugin").glob("*.py")):
        of_day = uses_of("time", path) - {"monotonic", "sleep"}
        assert not of_day or path.name in LOGS, path
        assert not uses_of("datetime", path), path


def elsewhen(host: Host, seconds: int) -> None:
    """The plugin in a time namespace, where the machine has run so much longer."""
    real = host.bin_dir / "cni-netdev"
    offset = f"--monotonic {seconds} --boottime {seconds}"
    script = f'#!/bin/sh\nexec unshare --time {offset} {real}.real "$@"\n'
    if not (host.bin_dir / "cni-netdev.real").exists():
        real.rename(f"{real}.real")
    real.write_text(script)
    real.chmod(0o755)


@pytest.mark.parametrize("then", [0, 2**32])
def test_clocks_jump_between_add_and_del(cni: Host, then: int) -> None:
    """Both ways: the machine's uptime, and the time of day by which files were written."""
    cni.configured("nic1")
    before = capture("nic1")
    pod = cni.pod()
    elsewhen(cni, 30_000_000 - then // 200)
    cni.plugin("ADD", CONF, netns=pod.path).ok()
    for path in STATE_DIR.rglob("*"):
        if "pins" not in str(path):
            os.utime(path, (then, then))
    elsewhen(cni, then // 200)
    cni.plugin("ADD", CONF, netns=pod.path).ok()
    cni.plugin("CHECK", CONF, netns=pod.path).ok()
    cni.plugin("GC", CONF, container="", ifname="").ok()
    assert cni.netdevctl("recover").code == 0
    assert "net1" in pod.names()
    cni.plugin("DEL", CONF, netns=pod.path).ok()
    assert differences(before, capture("nic1")) == []
    assert cni.left_over() == []


def test_the_time_namespace_does_what_the_other_test_needs() -> None:
    command = ["unshare", "--time", "--monotonic", "20000000", "cat", "/proc/uptime"]
    shown = subprocess.run(
        [*command[:2], "--boottime", *command[3:]], capture_output=True, check=True
    )
    assert float(shown.stdout.split()[0]) > 20_000_000
    assert time.clock_gettime(time.CLOCK_BOOTTIME) < 20_000_000
    assert Path("/proc/self/ns/time").exists()
